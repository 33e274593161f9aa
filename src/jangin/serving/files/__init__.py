"""Files and uploads: streamed to storage, listed, read and deleted."""
