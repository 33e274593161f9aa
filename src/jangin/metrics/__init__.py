"""Pure functions on answers: measures, statistics, contamination; no torch."""
