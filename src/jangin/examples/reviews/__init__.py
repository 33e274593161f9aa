"""Decisions of people about examples: the queue, the log, files for colleagues, agreement."""
