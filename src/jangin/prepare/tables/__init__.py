"""Readers of tables: delimited text, spreadsheets, JSON, Parquet."""
