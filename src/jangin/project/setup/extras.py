"""Which pip extra of jangin brings a package that is not installed."""

import importlib.metadata
import re

_DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn", "llama_cpp": "llama-cpp-python"}
"""{top-level module: its distribution}, where the names differ in more than `-` and `_`."""
_REQUIREMENT = re.compile(r"""^([\w.-]+).*;.*extra == ["']([\w-]+)["']""")
_DEVELOPMENT = frozenset({"dev", "parity"})


def extra_of(module: str) -> str:
    """The first extra that installs this module; empty if none does."""
    top = module.partition(".")[0]
    wanted = _normal(_DISTRIBUTIONS.get(top, top))
    for line in importlib.metadata.requires("jangin") or ():
        match = _REQUIREMENT.match(line)
        if match and _normal(match[1]) == wanted and match[2] not in _DEVELOPMENT:
            return match[2]
    return ""


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")
