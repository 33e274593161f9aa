"""Evaluation: systems under test, grading and comparison; independent of training."""
