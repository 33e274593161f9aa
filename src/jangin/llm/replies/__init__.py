"""Replies of a teacher: parsed, validated, refusals and truncated JSON recognised."""
