"""Headings of a text, whatever its language: what opens a section, and what that closes."""
