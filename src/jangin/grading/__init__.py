"""Floor 4: pure functions on answers: metrics, statistics, leakage. No torch."""
