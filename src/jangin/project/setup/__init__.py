"""Before the first run: this machine, a project folder to start from, and what a run would cost."""
