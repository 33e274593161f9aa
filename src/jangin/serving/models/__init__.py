"""Names of models: what each stands for, and its routes."""
