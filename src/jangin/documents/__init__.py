"""Floor 2: files become documents, documents become chunks. In order: load, ocr, chunk."""
