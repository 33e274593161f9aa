"""Transforms of a table, one idea per module."""
