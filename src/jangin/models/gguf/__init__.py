"""GGUF files: the word splitting that they name, and unpacking of one as a base model."""
