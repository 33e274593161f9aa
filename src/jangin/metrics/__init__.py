"""Pure functions on answers: scores, statistics, contamination; no torch."""
