"""Generation and embedding."""
