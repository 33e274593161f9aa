"""Stage `split`: decide what is trained on and what is kept to prove that training worked.

The unit is the *component*: examples that share a family (a question, what evolved from it and
their paraphrases), a parent, a seed word, a section or a chunk, or whose questions are near copies,
belong together and never fall apart.
A component is wholly for training, wholly for validation, or wholly `unseen_sections`; of the
training families some paraphrases are kept back as `held_out_paraphrases`.

Every choice is a hash of the seed and a name (of the section, or of the question where there are
no sections), so that new sections do not move those that are there. Two exceptions, both so that
no evidence is lost: where chance would leave a split empty it gets the component next in line,
and a new near copy can join two components.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, get_args

from pydantic import Field, model_validator

from jangin.core.config import StageConfig
from jangin.core.errors import SettingsError
from jangin.core.stage import Stage, StageContext
from jangin.core.types import Chunk, Example, Split, SplitExample

if TYPE_CHECKING:
    from jangin.examples.components import Component


class SplitConfig(StageConfig):
    """How much is held out, and of what."""

    unseen_sections: float = Field(default=0.1, ge=0, lt=1)
    """Share of sections about which nothing is trained, for testing. 0 holds none out."""
    validation: float = Field(default=0.05, ge=0, lt=1)
    """Share of sections whose questions, not reworded, measure the loss during training."""
    held_out_paraphrases: int = Field(default=1, ge=0)
    """Paraphrases of each training question that are kept for testing."""
    training_paraphrases: int = Field(default=100, ge=0)
    """At most so many of the other paraphrases of a question are trained on; 0 for none."""
    seed: int = Field(default=0, ge=0)
    """Another seed holds out other sections and paraphrases."""

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> Self:
        if self.unseen_sections + self.validation >= 1:
            raise ValueError("unseen_sections and validation together must be below 1")
        return self


@dataclass(frozen=True, slots=True)
class SplitResult:
    """The rows of the table, in the order of the examples, and the counts for the report."""

    rows: list[SplitExample]
    summary: dict[str, int]


def split_examples(
    examples: list[Example], chunks: list[Chunk], config: SplitConfig
) -> SplitResult:
    """Split examples; raises `SettingsError` when there are too few components to hold any out.

    Of validation and unseen sections only originals and evolved questions are kept: as evidence a
    paraphrase of an untrained question says nothing that its original does not.
    """
    from jangin.examples.components import join_components

    unique = list({example.id: example for example in examples}.values())
    components = join_components(unique, chunks, config.seed)
    split_of: dict[str, Split] = {}
    for component, side in zip(components, _sides(components, config, len(unique)), strict=True):
        for family in component.families:
            split_of.update((e.id, side) for e in family if e.kind != "paraphrase")
            if side == "train":
                split_of.update(_paraphrase_splits(family, component.copied, config))
    rows = [
        SplitExample(example=example, split=split_of[example.id])
        for example in unique
        if example.id in split_of
    ]
    return SplitResult(rows, _summary(rows, components, len(examples), len(unique)))


def _paraphrase_splits(
    family: tuple[Example, ...], copied: frozenset[str], config: SplitConfig
) -> dict[str, Split]:
    """The paraphrases of a training question: some held out, some trained on, others unused."""
    from jangin.examples.components import held_out_paraphrases, rank

    chosen = held_out_paraphrases(family, copied, config.held_out_paraphrases, config.seed)
    held_out: dict[str, Split] = {example.id: "held_out_paraphrases" for example in chosen}
    rest = [e.id for e in family if e.kind == "paraphrase" and e.id not in held_out]
    rest.sort(key=lambda example_id: rank(config.seed, "trained", example_id))
    return {**held_out, **dict.fromkeys(rest[: config.training_paraphrases], "train")}


def _sides(components: list["Component"], config: SplitConfig, examples: int) -> list[Split]:
    """The split of each component; at least one for every share that is not 0."""
    wanted = 1 + (config.unseen_sections > 0) + (config.validation > 0)
    if len(components) < wanted:
        raise SettingsError(
            f"{examples} examples form {len(components)} groups that may not be torn apart (same "
            f"section, same chunk, near copies), and this split needs at least {wanted}. Add "
            "documents or sections, or set unseen_sections: 0 and validation: 0 under split."
        )
    order = sorted(range(len(components)), key=lambda i: components[i].place)
    unseen = sum(component.place < config.unseen_sections for component in components)
    validation = sum(component.place >= 1 - config.validation for component in components)
    unseen = max(unseen, config.unseen_sections > 0)
    validation = max(validation, config.validation > 0)
    while unseen + validation >= len(components):
        if unseen >= validation:
            unseen -= 1
        else:
            validation -= 1
    sides: list[Split] = ["train"] * len(components)
    for i in order[:unseen]:
        sides[i] = "unseen_sections"
    for i in order[len(order) - validation :]:
        sides[i] = "validation"
    return sides


def _summary(
    rows: list[SplitExample], components: list["Component"], given: int, unique: int
) -> dict[str, int]:
    counts = {split: sum(row.split == split for row in rows) for split in get_args(Split)}
    trained = [row.example for row in rows if row.split == "train"]
    return {
        **counts,
        "train_originals": sum(example.kind == "original" for example in trained),
        "train_evolved": sum(example.kind == "evolved" for example in trained),
        "train_paraphrases": sum(example.kind == "paraphrase" for example in trained),
        "groups": len(components),
        "families": sum(len(component.families) for component in components),
        "repeated": given - unique,
        "unused": unique - len(rows),
    }


def run(context: StageContext[SplitConfig]) -> None:
    """Write the table `splits`; examples that no split needs are counted as `unused`."""
    examples = context.read("examples", Example)
    chunks = context.read("chunks", Chunk) if context.has("chunks") else []
    if not examples:
        raise SettingsError(
            "there are no examples to split: every one was dropped before. "
            "Look at what the stages before dropped and why, with `jangin report`."
        )
    result = split_examples(examples, chunks, context.config)
    context.summary.update(result.summary)
    if context.config.held_out_paraphrases and not result.summary["held_out_paraphrases"]:
        context.services.progress.say(
            "split: no paraphrase could be held out, so that evidence will be missing. It takes "
            f"more than {context.config.held_out_paraphrases} paraphrases of a training question."
        )
    context.write("splits", SplitExample, result.rows)


STAGE = Stage(
    name="split",
    version=2,
    reads=("examples",),
    may_read=("chunks",),
    makes=("splits",),
    run=run,
)
