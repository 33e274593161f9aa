"""Writing trained models for other programs."""
