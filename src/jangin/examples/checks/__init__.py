"""Quality gates for what a teacher writes."""
