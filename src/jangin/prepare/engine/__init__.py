"""Plan, build, split and profile a table."""
