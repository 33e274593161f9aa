"""torch.compile in training: on the layers, measured, and kept where it is faster."""
