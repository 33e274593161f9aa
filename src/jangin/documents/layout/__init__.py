"""Layout of pages: rules, tables, columns, running heads, reading order."""
