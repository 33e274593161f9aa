"""Floor 3: chunks become examples. In order: synthesize, paraphrase, curate, split, export."""
