"""Every call of the API by the official Python client, from 1.109 to the newest."""

from importlib import import_module

from checks import run

ORDER = ("files", "jobs", "inference", "background", "last")
"""Modules of `calls`; later ones use the job of an earlier one."""

for name in ORDER:
    import_module(f"calls.{name}")
run()
