"""Batches: requests of a file, answered by the server's own endpoints in the background."""
