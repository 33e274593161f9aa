"""Files to documents, documents to chunks; questions to search results."""
