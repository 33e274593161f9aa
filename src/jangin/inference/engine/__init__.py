"""The engine of the server: one thread for each base model, adapters on one copy of it."""
