"""The modes of `synthesize`."""
