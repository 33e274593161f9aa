"""Following a run: its record in the store, and trackers (MLflow, W&B, TensorBoard, Trackio)."""
