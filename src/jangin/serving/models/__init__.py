"""Model names, and the bases and fine-tuned models that they refer to."""
