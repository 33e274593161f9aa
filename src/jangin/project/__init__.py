"""A project folder: its file, stages, plan and runs."""
