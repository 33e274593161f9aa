"""Helpers of `curate` and `split`: filters, duplicates in meaning, groups of a split."""
