"""Sentences of the pages, in English and Korean."""
