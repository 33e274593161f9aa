"""The workbench: pages about a project and its server, for people without a terminal."""
