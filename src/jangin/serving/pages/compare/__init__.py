"""Comparing systems: the report's sections, every answer, and blind judgements by people."""
