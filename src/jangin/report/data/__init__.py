"""Figures behind the pages, read from artifacts and the ledger."""
