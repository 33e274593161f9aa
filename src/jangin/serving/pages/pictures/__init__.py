"""Pages of documents as pictures, with marked passages."""
