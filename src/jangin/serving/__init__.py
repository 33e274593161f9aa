"""The server: OpenAI's files, fine-tuning, models and inference API on the user's own machine."""
