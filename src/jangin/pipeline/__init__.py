"""Floor 6: the project file, the table of stages, the plan, the runner, the report."""
