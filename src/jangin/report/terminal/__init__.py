"""What a terminal or a notebook shows: the console, progress bars and tables."""
