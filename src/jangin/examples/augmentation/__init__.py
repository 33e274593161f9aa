"""Helpers of `evolve` and `paraphrase`."""
