"""Questions to snippets: BM25 index, web search engines, recorded results."""
