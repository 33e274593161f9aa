"""Headings of a text in any language, the sections they open, and passages of sections."""
