"""File formats of examples: read, added by hand, exported."""
