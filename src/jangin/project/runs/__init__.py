"""What a run records about itself while it lasts, and the history of runs."""
