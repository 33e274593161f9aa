"""Evals: graders over the rows of a file and the answers of a model, run in the background."""
