"""Text to token ids, loss masks and packed batches."""
