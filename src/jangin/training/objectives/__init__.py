"""What a training run minimises: one file per objective, and the table of them."""
