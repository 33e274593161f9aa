"""Headings of a text in any language: what opens a section, and what that closes."""
