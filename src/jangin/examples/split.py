"""Stage `split`: assign examples to training, validation and test sets without leakage.

The unit of assignment is the *component*: examples that share a family (a question, the questions
evolved from it, and their paraphrases), a parent, a seed word, a section or a chunk, or whose
questions are near copies. All examples of a component get the same split, except that some
paraphrases of training questions become `held_out_paraphrases`.

The split of a component depends only on a hash of the seed and its name (the section, or the
question where there are no sections), so that adding sections does not move existing ones. There
are two exceptions: a split that would be empty gets the component with the next hash, and a new
near copy can merge two components.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self, get_args

from pydantic import Field, model_validator

from jangin.core.config import Added, StageConfig
from jangin.core.errors import SettingsError
from jangin.core.parquet import arrow_schema, batches_of, read_as
from jangin.core.records import Chunk, Example, Score, Split, SplitExample
from jangin.core.stage import Cost, Stage, StageContext

if TYPE_CHECKING:
    import pyarrow as pa

    from jangin.examples.curation.split_groups import Component, SplitRow


class SplitConfig(StageConfig):
    """Shares of validation, test and unseen sections, and paraphrases to hold out."""

    unseen_sections: float = Field(default=0.1, ge=0, lt=1)
    """Share of sections that are held out of training, for testing. 0 holds none out."""
    validation: float = Field(default=0.05, ge=0, lt=1)
    """Share of sections whose questions measure the loss during training; their paraphrases are not
    used. Where answers are labels, the same share of every label."""
    test: float = Field(default=0, ge=0, lt=1)
    """Share of questions that are held out of training, drawn like `validation`: for rows without
    sections. Questions of one group stay in the same split."""
    held_out_paraphrases: int = Field(default=1, ge=0)
    """Number of paraphrases of each training question that are kept for testing."""
    training_paraphrases: int = Field(default=100, ge=0)
    """Maximum number of the other paraphrases of a question to train on; 0 for none."""
    training_questions: Added[Annotated[int, Field(ge=1)] | None] = None
    """Maximum number of questions to train on, with their paraphrases; default: all. Fewer are a
    subset of more, and the test sets of rows without sections stay the same: for a learning curve
    over variants."""
    test_sources: Added[tuple[str, ...]] = ()
    """Names of files of `read` whose questions are only asked: all of them are in `test`, except
    those that nearly copy another question."""
    validation_sources: Added[tuple[str, ...]] = ()
    """Names of files of `read` whose examples are all in `validation`, even those that copy a
    training question."""
    review: Added[Literal["respected", "required", "ignored"]] = "respected"
    """What decisions of people do: `respected` leaves out rejected rows and replaces edited ones,
    `required` also leaves out questions that no person accepted, edited or added, except those of
    `test_sources` and `validation_sources`; `ignored` uses all rows as they were generated."""
    near_copies: Added[Annotated[float, Field(ge=0.6, le=1)] | None] = None
    """Questions from this normalised Levenshtein similarity on are in one split too, whatever word
    is the other one, such as 0.9. By default two questions are near copies if they have the same
    words and numbers; questions from one template stay apart, as their answers differ."""
    seed: int = Field(default=0, ge=0)
    """Seed of the choice of sections and paraphrases that are held out."""

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> Self:
        if self.unseen_sections + self.validation + self.test >= 1:
            raise ValueError("unseen_sections, validation and test together must be below 1")
        return self


@dataclass(frozen=True, slots=True)
class SplitResult:
    """Rows of the table `splits` in the order of the examples, and counts for the report."""

    rows: list[SplitExample]
    summary: dict[str, int]


def split_examples(
    examples: list[Example], chunks: list[Chunk], config: SplitConfig
) -> SplitResult:
    """Split examples; raises `SettingsError` when there are too few components to hold any out."""
    from jangin.examples.curation.split_groups import COLUMNS, read_split_rows, section_name

    rows = read_split_rows(batches_of(examples, Example, COLUMNS), _is_by_hand)
    names = {chunk.id: section_name(chunk.source, chunk.section) for chunk in chunks}
    assigned = assign(rows, names, config)
    return SplitResult(
        [
            SplitExample(example=examples[row.index], split=split)
            for row, split in (*assigned.rows, *assigned.validation)
        ],
        assigned.summary,
    )


@dataclass(slots=True)
class Assignment:
    """Which example is in which split."""

    rows: list[tuple["SplitRow", Split]] = field(default_factory=list)
    """In the order of the examples."""
    validation: list[tuple["SplitRow", Split]] = field(default_factory=list)
    """Those of `validation_sources`, which come after the others."""
    firsts: dict[str, int] = field(default_factory=dict)
    """{id of an example that is there several times: number of the first, where the last goes}."""
    summary: dict[str, int] = field(default_factory=dict)


def assign(
    examples: list["SplitRow"], section_of: Mapping[str, str], config: SplitConfig
) -> Assignment:
    """The splits of examples; `section_of` is {chunk: section}.

    In validation and unseen sections only originals and evolved questions are kept: a paraphrase of
    a question that was not trained on measures nothing that the question does not.

    Raises `SettingsError` when there are too few components to hold any out.
    """
    from jangin.examples.curation.split_groups import join_components

    validation = {
        example.id: example for example in examples if example.source in config.validation_sources
    }
    given = len(examples)
    examples = [e for e in examples if e.source not in config.validation_sources]
    elsewhere = {example.id for example in examples if example.source not in config.test_sources}
    unique_of: dict[str, SplitRow] = {}
    firsts: dict[str, int] = {}
    for example in examples:
        if example.source not in config.test_sources or example.id not in elsewhere:
            if example.id in unique_of:
                firsts.setdefault(example.id, unique_of[example.id].index)
            unique_of[example.id] = example
    unique = list(unique_of.values())
    del unique_of, elsewhere
    tested, others = _test_questions(unique, config.test_sources)
    components = join_components(others, section_of, config.seed, config.near_copies)
    sides = _sides(components, config, len(others))
    trained = _trained_families(components, sides, config)
    split_of: dict[str, Split] = dict.fromkeys(tested, "test")
    for component, side in zip(components, sides, strict=True):
        for family in component.families:
            if side == "train" and trained is not None and family[0].family not in trained:
                continue
            split_of.update((e.id, side) for e in family if e.kind != "paraphrase")
            if side == "train":
                split_of.update(_paraphrase_splits(family, component.copied, config))
    rows: list[tuple[SplitRow, Split]] = [
        (example, split_of[example.id]) for example in unique if example.id in split_of
    ]
    result = Assignment(rows, [(each, "validation") for each in validation.values()], firsts)
    every = [*result.rows, *result.validation]
    result.summary |= _summary(every, components, given, len(unique) + len(validation))
    return result


def _test_questions(
    examples: list["SplitRow"], sources: tuple[str, ...]
) -> tuple[list[str], list["SplitRow"]]:
    """(ids of the questions that are only asked, examples of all other families)."""
    from jangin.text.dedup.question_copies import find_near_copies

    families = {example.family for example in examples if example.source in sources}
    if not families:
        return [], examples
    others = [example for example in examples if example.family not in families]
    own = [e for e in examples if e.family in families and e.kind == "original"]
    copies = find_near_copies([e.question for e in own], [e.question for e in others])
    copied = {copy.left for copy in copies}
    return [example.id for index, example in enumerate(own) if index not in copied], others


def _trained_families(
    components: list["Component"], sides: list[Split], config: SplitConfig
) -> set[str] | None:
    """Families of the training questions that `training_questions` draws; None for all."""
    from jangin.core.digest import seeded_rank

    if config.training_questions is None:
        return None
    families = [
        family[0].family
        for component, side in zip(components, sides, strict=True)
        if side == "train"
        for family in component.families
    ]
    families.sort(key=lambda family: seeded_rank(config.seed, "questions", family))
    return set(families[: config.training_questions])


def _paraphrase_splits(
    family: tuple["SplitRow", ...], copied: frozenset[str], config: SplitConfig
) -> dict[str, Split]:
    """The paraphrases of a training question: some held out, some trained on, others unused."""
    from jangin.core.digest import seeded_rank
    from jangin.examples.curation.split_groups import held_out_paraphrases

    chosen = held_out_paraphrases(family, copied, config.held_out_paraphrases, config.seed)
    held_out: dict[str, Split] = {example.id: "held_out_paraphrases" for example in chosen}
    rest = [e.id for e in family if e.kind == "paraphrase" and e.id not in held_out]
    rest.sort(key=lambda example_id: seeded_rank(config.seed, "trained", example_id))
    return {**held_out, **dict.fromkeys(rest[: config.training_paraphrases], "train")}


def _sides(components: list["Component"], config: SplitConfig, examples: int) -> list[Split]:
    """The split of each component; at least one for every share that is not 0."""
    wanted = 1 + (config.unseen_sections > 0) + (config.validation > 0) + (config.test > 0)
    if len(components) < wanted:
        raise SettingsError(
            f"{examples} examples form {len(components)} groups that must stay together (same "
            f"section, same chunk, near copies), but this split needs at least {wanted}. Add "
            "documents or sections, or set unseen_sections: 0 and validation: 0 under split."
        )
    labels = _labels(components)
    if config.test or any(labels):
        return _sides_by_answer(components, labels, config)
    order = sorted(range(len(components)), key=lambda i: components[i].position)
    unseen = sum(component.position < config.unseen_sections for component in components)
    validation = sum(component.position >= 1 - config.validation for component in components)
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


def _labels(components: list["Component"]) -> list[str]:
    """The most frequent answer of each component; empty texts where answers are not labels."""
    from jangin.prepare.engine.profile import MAX_LABELS, ROWS_PER_LABEL

    answers = [
        [family[0].answer.strip() for family in component.families] for component in components
    ]
    different = {answer for mine in answers for answer in mine}
    rows = sum(map(len, answers))
    if len(different) > MAX_LABELS or rows < ROWS_PER_LABEL * len(different):
        return [""] * len(components)
    return [max(sorted(set(mine)), key=mine.count) for mine in answers]


def _sides_by_answer(
    components: list["Component"], labels: list[str], config: SplitConfig
) -> list[Split]:
    """The same share of every label for test and for validation, whole components at a time."""
    sides: list[Split] = ["train"] * len(components)
    order = sorted(range(len(components)), key=lambda i: components[i].position)
    unseen = sum(component.position < config.unseen_sections for component in components)
    unseen = max(unseen, config.unseen_sections > 0)
    unseen = min(unseen, len(order) - 1 - (config.test > 0) - (config.validation > 0))
    for i in order[:unseen]:
        sides[i] = "unseen_sections"
    rest = order[unseen:]
    size = [sum(map(len, component.families)) for component in components]
    total = {label: sum(size[i] for i in rest if labels[i] == label) for label in set(labels)}
    taken = dict.fromkeys(total, 0.0)
    for i in rest:
        middle = (taken[labels[i]] + size[i] / 2) / total[labels[i]]
        taken[labels[i]] += size[i]
        if middle < config.test:
            sides[i] = "test"
        elif middle < config.test + config.validation:
            sides[i] = "validation"
    # Where labels are rare, a share of every label can round to no row: then the last one moves.
    shares: tuple[tuple[Split, float], ...] = (
        ("test", config.test),
        ("validation", config.validation),
    )
    for split, share in shares:
        if share and split not in sides and sides.count("train") > 1:
            sides[max(i for i in rest if sides[i] == "train")] = split
    return sides


def _summary(
    rows: list[tuple["SplitRow", Split]], components: list["Component"], given: int, unique: int
) -> dict[str, int]:
    counts = {split: sum(own == split for _, own in rows) for split in get_args(Split)}
    trained = Counter(row.kind for row, split in rows if split == "train")
    return {
        **counts,
        "train_originals": trained["original"],
        "train_evolved": trained["evolved"],
        "train_paraphrases": trained["paraphrase"],
        "groups": len(components),
        "families": sum(len(component.families) for component in components),
        "repeated": given - unique,
        "unused": unique - len(rows),
    }


def run(context: StageContext[SplitConfig]) -> None:
    """Write the table `splits`; examples that no split needs are counted as `unused`."""
    from jangin.examples.curation.split_groups import COLUMNS, read_split_rows

    parts = context.parts("examples")
    batches = (batch for path in parts.values() for batch in read_as(path, Example, COLUMNS))
    examples = read_split_rows(batches, _is_by_hand)
    if not examples:
        raise SettingsError(
            "there are no examples to split: earlier stages dropped all of them. "
            "`jangin report` shows what was dropped and why."
        )
    if context.config.review == "required":
        examples = _reviewed(examples, context.config)
    assigned = assign(examples, _sections(context), context.config)
    context.summary.update(assigned.summary)
    _name_copies(examples, assigned, context)
    if context.config.held_out_paraphrases and not assigned.summary["held_out_paraphrases"]:
        context.services.progress.message(
            "split: no paraphrase could be held out, so that test set will be missing. It needs a "
            f"training question with more than {context.config.held_out_paraphrases} paraphrases."
        )
    del examples
    _write(context, assigned)


def _sections(context: StageContext[SplitConfig]) -> dict[str, str]:
    """{chunk: name of its section}."""
    from jangin.examples.curation.split_groups import section_name

    if not context.has("chunks"):
        return {}
    columns = ("id", "source", "section")
    return {
        row["id"]: section_name(row["source"], row["section"])
        for path in context.parts("chunks").values()
        for batch in read_as(path, Chunk, columns)
        for row in batch.to_pylist()
    }


def _write(context: StageContext[SplitConfig], assigned: Assignment) -> None:
    """Write the rows in the parts of the examples, those of `validation` into the last one."""
    slots = [
        (assigned.firsts.get(row.id, row.index), row.index, split) for row, split in assigned.rows
    ]
    tail = [(row.index, split) for row, split in assigned.validation]
    elsewhere = {index for slot, index, _ in slots if slot != index} | {i for i, _ in tail}
    apart = _rows_apart(context, elsewhere)
    slot, first = 0, 0
    parts = context.parts("examples")
    for part, path in parts.items():
        with context.writer("splits", SplitExample, part) as writer:
            for batch in read_as(path, Example):
                pieces, order, splits = [batch], [], []
                while slot < len(slots) and slots[slot][0] < first + batch.num_rows:
                    at, index, split = slots[slot]
                    order.append(at - first if at == index else _appended(pieces, apart[index]))
                    splits.append(split)
                    slot += 1
                writer.add_batch(_split_rows(pieces, order, splits))
                first += batch.num_rows
            if part == [*parts][-1]:
                for index, split in tail:
                    writer.add_batch(_split_rows([apart[index]], [0], [split]))


def _rows_apart(
    context: StageContext[SplitConfig], indices: Collection[int]
) -> "dict[int, pa.RecordBatch]":
    """{number of an example: that row}, of those that are not written where they are read."""
    rows: dict[int, pa.RecordBatch] = {}
    ordered, first = sorted(indices), 0
    for path in context.parts("examples").values() if indices else ():
        for batch in read_as(path, Example):
            end = first + batch.num_rows
            inside = ordered[bisect_left(ordered, first) : bisect_left(ordered, end)]
            rows |= {index: batch.slice(index - first, 1) for index in inside}
            first = end
    return rows


def _appended(pieces: "list[pa.RecordBatch]", row: "pa.RecordBatch") -> int:
    """Append a row to batches; its number in all of them."""
    pieces.append(row)
    return int(sum(piece.num_rows for piece in pieces)) - 1


def _split_rows(
    pieces: "Sequence[pa.RecordBatch]", order: Sequence[int], splits: Sequence[Split]
) -> "pa.RecordBatch":
    """Examples by their numbers in the pieces, as rows of `splits`."""
    import pyarrow as pa

    whole = pieces[0] if len(pieces) == 1 else pa.concat_batches(pieces)
    rows = whole.take(pa.array(order, pa.int64()))
    example = pa.StructArray.from_arrays(rows.columns, fields=list(rows.schema))
    columns = [example, pa.array(splits, pa.string())]
    return pa.RecordBatch.from_arrays(columns, schema=arrow_schema(SplitExample))


def _is_by_hand(row: Mapping[str, Any]) -> bool:
    """True if a person accepted, edited or added the example of these columns."""
    from jangin.examples.curation.review_effects import is_by_hand

    scores = tuple(Score.model_construct(**score) for score in row["scores"] or ())
    return is_by_hand(_Scored(scores, row["source"]))


class _Scored(NamedTuple):
    scores: tuple[Score, ...]
    source: str


def _name_copies(
    examples: list["SplitRow"], assigned: Assignment, context: StageContext[SplitConfig]
) -> None:
    """Say which test questions are left out because they nearly copy another question."""
    kept = {row.question for row, split in assigned.rows if split == "test"}
    left = dict.fromkeys(
        example.question
        for example in examples
        if example.source in context.config.test_sources and example.kind == "original"
    )
    copies = [question for question in left if question not in kept]
    if copies:
        context.services.progress.message(
            f"split: {len(copies)} of the test questions nearly copy another question, so they "
            f"would measure memory and are not asked: {copies[0]!r}. Word them differently."
        )


def _reviewed(examples: list["SplitRow"], config: SplitConfig) -> list["SplitRow"]:
    """The examples that `review: required` leaves.

    They are what a person accepted, edited or added, with the paraphrases, and the rows of files
    that are only asked or only measure the loss.
    """
    asked_only = {*config.test_sources, *config.validation_sources}
    trusted = {example.id for example in examples if example.by_hand}
    if not trusted:
        raise SettingsError(f"split.review: {_none_accepted(len(examples))}")
    return [
        each
        for each in examples
        if each.id in trusted
        or (each.kind == "paraphrase" and each.parent in trusted)
        or each.source in asked_only
    ]


def _none_accepted(count: int) -> str:
    return (
        f"required leaves none of {count:,} examples to train on, as none has been accepted. "
        "Accept some with `jangin review`, or remove the key."
    )


def accepted_so_far(context: StageContext[SplitConfig]) -> int:
    """Number of examples that a person accepted, edited or added, also before they are applied."""
    from jangin.examples.curation.review_effects import is_by_hand
    from jangin.examples.curation.review_log import LOG, collect_reviews, read_log

    kept = sum(is_by_hand(example) for example in context.read("examples", Example))
    log = context.services.project_folder / LOG
    reviews = collect_reviews(read_log(log)).values() if log.is_file() else ()
    verdicts = [review.verdict.decision for review in reviews if review.verdict is not None]
    return max(kept, sum(verdict != "reject" for verdict in verdicts))


def forecast(context: StageContext[SplitConfig]) -> Cost:
    """How many examples are accepted, where only those are taken."""
    if context.config.review != "required":
        return Cost()
    accepted = accepted_so_far(context)
    if not accepted:
        count = len(context.read("examples", Example))
        return Cost(text=f"the split would be empty: review: {_none_accepted(count)}")
    return Cost(text=f"review: required, {accepted:,} questions are accepted")


def _machine(config: SplitConfig) -> Mapping[str, str]:
    """The version of `review: required`."""
    return {"review": "2"} if config.review == "required" else {}


STAGE = Stage(
    name="split",
    version=3,
    reads=("examples",),
    may_read=("chunks",),
    makes=("splits",),
    run=run,
    machine=_machine,
    cost=forecast,
)
