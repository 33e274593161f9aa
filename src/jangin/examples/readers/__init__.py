"""Readers of other people's example formats."""
