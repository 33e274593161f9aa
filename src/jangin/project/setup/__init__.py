"""Before the first run: what this machine has, and a project folder to start from."""
