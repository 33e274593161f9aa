"""Fixes that are offered for a table, each with the evidence for it."""
