"""Start a project in the browser: documents, choices, the project file, its plan."""
