"""Compiled loops (numba) behind `training/kernels`."""
