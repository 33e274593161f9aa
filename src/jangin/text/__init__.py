"""Pure functions on text, used by every room above; no stage."""
