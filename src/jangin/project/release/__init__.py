"""Releasing a model: the final one on all rows, and what its export costs in points."""
