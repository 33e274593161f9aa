"""Search engines, recorded search results and the BM25 index."""
