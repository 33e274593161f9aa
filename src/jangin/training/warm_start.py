"""Stage `warm_start`: take a model that was tuned before, to continue training it.

The model is a folder of this machine: an artifact of a training stage, or one of its `epochs`. It
must have been tuned from the same base as `catalog` pins.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from jangin.core.config import Runtime, StageConfig
from jangin.core.digest import files_of
from jangin.core.errors import ConfigError
from jangin.core.stage import Stage, StageContext

if TYPE_CHECKING:
    import os

_PARTS = ("model", "adapter")


class WarmStartConfig(StageConfig):
    """Which tuned model to continue from."""

    path: Runtime[Path]
    """Folder with `model` or `adapter` in it, relative to the project file. Its bytes are identity,
    its path is not."""


def run(context: StageContext[WarmStartConfig]) -> None:
    """Hard-link the model's files into the artifact; files on another disk are copied.

    Raises `StoreError` on a full disk.
    """
    import shutil

    folder = context.services.project_folder / context.config.path
    part = _part(folder)
    target = context.workspace / part
    shutil.rmtree(target, ignore_errors=True)
    for each in context.track([folder / part], "tuned model"):
        shutil.copytree(each, target, copy_function=_link)
    context.summary["form"] = part


def _link(source: "os.PathLike[str] | str", target: "os.PathLike[str] | str") -> None:
    import shutil

    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)


def _part(folder: Path) -> str:
    """`model` or `adapter`; raises `ConfigError` where the folder has neither."""
    for part in _PARTS:
        if (folder / part / "config.json").is_file() or (
            folder / part / "adapter_config.json"
        ).is_file():
            return part
    raise ConfigError(
        f"{folder} holds no tuned model: it has neither `model` nor `adapter`. Name an artifact of "
        "a training stage under `models: warm_start: path`."
    )


def _sources(config: WarmStartConfig, project_folder: Path) -> Mapping[str, Path]:
    folder = project_folder / config.path
    return dict(files_of(folder / _part(folder)))


STAGE = Stage(
    name="warm_start",
    version=1,
    reads=("base",),
    makes=("model", "sft_model"),
    run=run,
    sources=_sources,
)
