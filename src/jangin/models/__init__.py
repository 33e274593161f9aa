"""Everything about a model but training it: weights, tokenizers, memory."""
