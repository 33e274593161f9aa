"""Metrics of single answers: one file each, listed in `table`."""
