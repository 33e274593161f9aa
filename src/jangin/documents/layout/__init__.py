"""Layout of pages with a text layer: rules, tables, columns, running heads, reading order."""
