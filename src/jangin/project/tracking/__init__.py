"""Trackers: parameters, metrics and results of a run, sent to MLflow, W&B, TensorBoard, Trackio."""
