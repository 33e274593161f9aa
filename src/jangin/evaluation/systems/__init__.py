"""Systems under test: a kind of system is one file here and one row in `table`."""
