"""The review pages: a queue of rows, one row beside its source, decisions as files."""
