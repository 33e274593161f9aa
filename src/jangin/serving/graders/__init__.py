"""Graders of the fine-tuning API: their types, templates, formulas, and how each is run."""
