"""Packages without which transformers computes recurrent layers on a GPU with plain torch code."""

import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from jangin.models.shape import ModelShape

_DISTRIBUTIONS = {"fla": "flash-linear-attention"}
"""{module: its name in the package index} where that is another; `_` is written `-` there."""
_FALLS_BACK = re.compile(r"use_kernel_func_from_hub_with_fallback\(\s*\"\w+\",\s*\"(\w+)\"")


def slow_layers_note(base: Path) -> str:
    """What `jangin plan` says of a hybrid or recurrent base; empty where nothing is missing.

    Raises:
        TrainingError: the base's config.json lacks sizes.

    """
    family = ModelShape.read(base / "model" / "config.json").family
    missing = [name for name in fast_packages(family) if find_spec(name) is None]
    if not missing:
        return ""
    names = [_DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in missing]
    return (
        f"recurrent layers run as plain torch code, right but slow on a GPU, without "
        f"{' and '.join(names)}. Install with: pip install {' '.join(names)}"
    )


@lru_cache(maxsize=8)
def fast_packages(family: str) -> tuple[str, ...]:
    """Modules that the layers of a family use where they are installed, in alphabetical order.

    Read from the source of transformers, which names them there and takes seconds to import.
    """
    spec = find_spec("transformers")
    if spec is None or spec.origin is None:
        return ()
    folder = family.removesuffix("_text")
    path = Path(spec.origin).parent / "models" / folder / f"modeling_{folder}.py"
    try:
        source = path.read_text(encoding="utf-8")
    except OSError:
        return ()
    return tuple(sorted(set(_FALLS_BACK.findall(source))))
