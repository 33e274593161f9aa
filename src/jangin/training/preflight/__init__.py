"""Checks before a training run loads anything."""
