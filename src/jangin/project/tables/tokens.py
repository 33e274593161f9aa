"""`jangin show tokens`: training rows as the model sees them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from jangin.core.errors import DataError
from jangin.core.store import Artifact
from jangin.project.file import Project
from jangin.project.stages import STAGES

if TYPE_CHECKING:
    from jangin.models.tokens.preview import PreviewRow


def token_rows(
    project: Project, artifacts: Mapping[str, Artifact], limit: int
) -> "list[PreviewRow]":
    """The first rows of the train split as the model is trained on them, token by token.

    Raises `DataError` where the base model or the split is missing, `TrainingError` where a row
    cannot be rendered.
    """
    from jangin.core.parquet import read_table
    from jangin.core.records import SplitExample
    from jangin.training.sft import SftConfig, preview_rows

    bases = [s.name for s in STAGES if "base" in s.makes and s.name in artifacts]
    if not bases or "split" not in artifacts:
        missing = "split" if bases else "catalog"
        raise DataError(
            f"tokens need the base model and the split, and {missing} has not run. Run it with: "
            "jangin run, with the same --project"
        )
    given = project.stage_config("sft")
    config = given if isinstance(given, SftConfig) else SftConfig()
    rows = read_table(artifacts["split"].path / "splits.parquet", SplitExample)
    return preview_rows(artifacts[bases[-1]].path, rows, config.train_on, limit)
