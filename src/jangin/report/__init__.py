"""Pages that people look at: report, comparison and data profile."""
