"""Readers of document formats: a source file to the text of its pages."""
