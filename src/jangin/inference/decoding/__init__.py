"""Decoders: prompts and generated tokens through a model, with the caches of attention."""
