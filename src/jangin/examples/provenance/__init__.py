"""Where an example comes from."""
