"""Training rows with passages before the question, as `evaluate` and `jangin ask` put them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from jangin.core.config import Config
from jangin.core.errors import SettingsError
from jangin.core.records import SplitExample
from jangin.documents.index import open_passages
from jangin.documents.passages import PassagePrompt, Passages, TaughtPassages

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from jangin.core.prompts import Prompts
    from jangin.core.stage import StageContext

SPLITS = ("train", "validation")


class PassagesConfig(Config):
    """Passages before each question: those that the stage `index` finds for it."""

    count: int = Field(default=3, ge=1, le=50)
    """Passages of a row; `evaluate` and `jangin ask` then put as many before a question."""
    gold: float = Field(default=1.0, ge=0, le=1)
    """Share of the rows that have the passage that they were written from, where that is known. The
    others have only similar ones."""


@dataclass(frozen=True, slots=True)
class PassageRows:
    """Rows of a split with passages before their questions."""

    rows: "Sequence[SplitExample]"
    passage_prompt: PassagePrompt
    figures: dict[str, int]
    """Rows of the train split: with their own passage, and of unknown or missing passage."""

    @classmethod
    def of(
        cls,
        rows: "Sequence[SplitExample]",
        config: PassagesConfig,
        seed: int,
        passages: Passages,
        prompts: "Prompts",
        *,
        searched: bool = True,
    ) -> "PassageRows":
        """The rows, those that are trained on with passages.

        Not `searched`: with passages of the usual lengths, which is enough for an estimate.
        """
        template = prompts.find("retrieval", passages.language)
        passage_prompt = PassagePrompt(count=config.count, template=template)
        taught = TaughtPassages(passages, passage_prompt, config.gold, seed)
        chosen = [row.example for row in rows if row.split in SPLITS]
        examples = iter(taught.rows(chosen) if searched else taught.rows_unsearched(chosen))
        trained = [row.example for row in rows if row.split == "train"]
        unknown = sum(not taught.own(example) for example in trained)
        own = sum(bool(taught.own(each)) and taught.has_own(each) for each in trained)
        return cls(
            [
                row.model_copy(update={"example": next(examples)}) if row.split in SPLITS else row
                for row in rows
            ],
            passage_prompt,
            {"with_own_passage": own, "unknown_passage": unknown},
        )

    def keep(self, context: "StageContext[Any]") -> None:
        """Record with the model how it is asked, and what its rows had."""
        self.passage_prompt.write(context.workspace)
        context.summary.update(self.figures)


def passage_rows(
    context: "StageContext[Any]", rows: "Sequence[SplitExample]", *, searched: bool = True
) -> PassageRows | None:
    """The rows of a stage with passages; None where its settings have none."""
    config = context.config
    if config.passages is None:
        return None
    services = context.services
    passages = open_passages(context.folder("index"), services)
    return PassageRows.of(
        rows, config.passages, config.seed, passages, services.prompts, searched=searched
    )


def check_start(tuned: "Path | None", config: Any) -> None:
    """Refuse to train a model on without the passages that it was trained with.

    Raises: SettingsError.
    """
    if config.passages is None and tuned is not None and PassagePrompt.read(tuned) is not None:
        raise SettingsError(
            "the model was trained with passages, and would forget to read them. Set `passages` "
            "here, too."
        )
