"""Chunks to training examples: synthesize, evolve, paraphrase, judge, curate, split."""
