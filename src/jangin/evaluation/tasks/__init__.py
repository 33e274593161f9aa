"""Tasks: a kind of answer is one file here, with grading and report, and one row in `table`."""
