"""Checks of what a teacher writes, and the passages that it is checked against."""
