"""Helpers of `curate`, `judge` and `split`."""
