"""Parts of a project file: lines of its YAML, validation errors in words, its `teachers`."""
