"""Pages of the data: tables, documents, what was dropped, and the way of one example."""
