"""Start a project, follow its runs, and look back at them."""
