"""Answers: chat completions, completions, responses, embeddings, tokens."""
