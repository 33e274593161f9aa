"""Jobs, models, files and keys of the fine-tuning API, for people."""
