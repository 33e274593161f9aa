"""Any table to clean training files; works without a project."""
