"""The forward pass: packed attention, rotary embeddings, likelihood, and checks of exactness."""
