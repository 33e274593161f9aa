"""The YAML of a project file: its lines, and what is wrong with it in words."""
