"""Compiled loops of the CPU kernels."""
