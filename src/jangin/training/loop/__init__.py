"""The training engine: loop, objectives, checkpoints."""
