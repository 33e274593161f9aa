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

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, Self, get_args

from pydantic import Field, model_validator

from jangin.core.config import Added, StageConfig
from jangin.core.errors import SettingsError, counted
from jangin.core.parquet import arrow_schema, batches_of, read_as
from jangin.core.records import Chunk, Example, Score, Split, SplitExample
from jangin.core.stage import Cost, Stage, StageContext

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from jangin.examples.curation.split_groups import Components, SplitColumns, SplitRow

    Indices = NDArray[np.int64]

SPLITS: tuple[Split, ...] = get_args(Split)


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
    held_out_styles: Added[Annotated[int, Field(ge=0)]] = 0
    """Number of whole styles of paraphrases (`styles` of `paraphrase`) that are kept for testing:
    of each training question as many wordings in such a style are asked as are held out of the
    others, and none is trained on. At least one style is trained on."""
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
    """Questions from this normalised Levenshtein similarity on are in one split too, even if a
    word differs, such as 0.9. By default two questions are near copies if they have the same
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
    import numpy as np

    from jangin.examples.curation.split_groups import SplitColumns, section_name

    columns = SplitColumns(partial(batches_of, examples, Example))
    names = {chunk.id: section_name(chunk.source, chunk.section) for chunk in chunks}
    source = SplitSource(
        lambda _wanted: names, lambda rows: [examples[row].answer for row in rows.tolist()]
    )
    assigned = assign(columns, np.arange(len(columns)), source, config)
    rows = [
        SplitExample(example=examples[index], split=SPLITS[split])
        for index, split in zip(assigned.indices.tolist(), assigned.splits.tolist(), strict=True)
    ]
    rows += [
        SplitExample(example=examples[index], split="validation")
        for index in assigned.validation.tolist()
    ]
    return SplitResult(rows, assigned.summary)


class SplitSource(NamedTuple):
    """What is read of examples and chunks only where it is needed."""

    section_of: Callable[[Collection[str]], Mapping[str, str]]
    """{chunk: name of its section}, of some chunks at least."""
    answers: "Callable[[Indices], list[str]]"
    """Answers of some examples."""


@dataclass(slots=True)
class Assignment:
    """Which example is in which split; examples by their numbers."""

    indices: "Indices"
    """In the order of the rows to write."""
    slots: "Indices"
    """Where each goes: its own number, or that of the first example with its id."""
    splits: "NDArray[np.int8]"
    """Indices of `SPLITS`."""
    validation: "Indices"
    """Those of `validation_sources`, which come after the others."""
    summary: dict[str, int] = field(default_factory=dict)


def assign(
    columns: "SplitColumns", rows: "Indices", source: SplitSource, config: SplitConfig
) -> Assignment:
    """The splits of the examples with these numbers, ascending.

    In validation and unseen sections only originals and evolved questions are kept: a paraphrase of
    a question that was not trained on measures nothing that the question does not.

    Raises `SettingsError` when there are too few components to hold any out.
    """
    import numpy as np

    from jangin.examples.curation.split_groups import Components

    validates = columns.is_from(config.validation_sources)[rows]
    validation, _ = columns.unique(rows[validates])
    others = rows[~validates]
    tests, ids = columns.is_from(config.test_sources)[others], columns.numbers["id"][others]
    unique, slots = columns.unique(others[~tests | ~np.isin(ids, ids[~tests])])
    del validates, others, tests, ids
    tested, drawn = _test_questions(columns, unique, config.test_sources)
    components = Components(columns, drawn, source.section_of, config.seed, config.near_copies)
    sides = _sides(_outlines(components, source), config, len(drawn))
    trained = _trained_families(components, sides, config)
    styles = _held_out_styles(columns, drawn, config)
    split_of = np.full(len(columns), -1, np.int8)
    split_of[tested] = SPLITS.index("test")
    for component, side in zip(components, sides, strict=True):
        for family in component.families:
            if side == "train" and trained is not None and family[0].family not in trained:
                continue
            for example in family:
                if example.kind != "paraphrase":
                    split_of[example.index] = SPLITS.index(side)
            if side == "train":
                for index, split in _paraphrase_splits(family, config, styles).items():
                    split_of[index] = SPLITS.index(split)
    kept = split_of[unique] >= 0
    result = Assignment(unique[kept], slots[kept], split_of[unique[kept]], validation)
    counted = _Counted(len(rows), len(unique) + len(validation), components)
    result.summary |= _summary(columns, result, counted)
    return result


def _test_questions(
    columns: "SplitColumns", unique: "Indices", sources: tuple[str, ...]
) -> "tuple[Indices, Indices]":
    """(questions that are only asked, examples of all other families)."""
    import numpy as np

    from jangin.examples.curation.split_groups import KINDS
    from jangin.text.dedup.question_copies import find_near_copies

    families = columns.numbers["family"][unique]
    asked_only = np.isin(families, families[columns.is_from(sources)[unique]])
    if not asked_only.any():
        return unique[:0], unique
    originals = columns.numbers["kind"][unique] == KINDS.index("original")
    own, others = unique[asked_only & originals], unique[~asked_only]
    copies = find_near_copies([*columns.questions(own)], [*columns.questions(others)])
    copied = np.zeros(len(own), np.bool_)
    copied[[copy.left for copy in copies]] = True
    return own[~copied], others


def _trained_families(
    components: "Components", sides: list[Split], config: SplitConfig
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


class _Outline(NamedTuple):
    """What decides about the split of a component."""

    position: float
    size: int
    """Number of examples."""
    label: str
    """The most frequent answer; empty where answers are not labels."""


def _outlines(components: "Components", source: SplitSource) -> list[_Outline]:
    labels = _labels(components, source)
    return [
        _Outline(component.position, component.size, label)
        for component, label in zip(components, labels, strict=True)
    ]


def _held_out_styles(
    columns: "SplitColumns", indices: "Indices", config: SplitConfig
) -> frozenset[str]:
    """The styles that are only tested, by a seeded draw."""
    from jangin.core.digest import seeded_rank

    if not config.held_out_styles:
        return frozenset()
    styles = columns.styles(indices)
    styles.sort(key=lambda style: seeded_rank(config.seed, "style", style))
    return frozenset(styles[: min(config.held_out_styles, len(styles) - 1)])


def _paraphrase_splits(
    family: tuple["SplitRow", ...], config: SplitConfig, styles: frozenset[str]
) -> dict[int, Split]:
    """The paraphrases of a training question: some held out, some trained on, others unused."""
    from jangin.core.digest import seeded_rank
    from jangin.examples.curation.split_groups import held_out_paraphrases, in_held_out_styles

    count, seed = config.held_out_paraphrases, config.seed
    chosen = held_out_paraphrases(family, count, seed, styles)
    held_out: dict[int, Split] = {example.index: "held_out_paraphrases" for example in chosen}
    unlike = in_held_out_styles(family, count, seed, styles)
    held_out |= {example.index: "held_out_styles" for example in unlike}
    rest = [
        e
        for e in family
        if e.kind == "paraphrase" and e.index not in held_out and e.style not in styles
    ]
    if len(rest) > config.training_paraphrases:
        rest.sort(key=lambda example: seeded_rank(seed, "trained", example.id))
    trained = [example.index for example in rest[: config.training_paraphrases]]
    return {**held_out, **dict.fromkeys(trained, "train")}


def _sides(components: list[_Outline], config: SplitConfig, examples: int) -> list[Split]:
    """The split of each component; at least one for every share that is not 0."""
    wanted = 1 + (config.unseen_sections > 0) + (config.validation > 0) + (config.test > 0)
    if len(components) < wanted:
        raise SettingsError(
            f"{counted(examples, 'example forms', 'examples form')} "
            f"{counted(len(components), 'group')} that must stay together (same section, same "
            f"chunk, near copies), but this split needs at least {wanted}. Add documents or "
            "sections, or set unseen_sections: 0 and validation: 0 under split."
        )
    if config.test or any(component.label for component in components):
        return _sides_by_answer(components, config)
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


def _labels(components: "Components", source: SplitSource) -> list[str]:
    """The most frequent answer of each component; empty texts where answers are not labels."""
    from jangin.prepare.engine.profile import MAX_LABELS, ROWS_PER_LABEL

    firsts, counts = components.family_firsts()
    few = ROWS_PER_LABEL * MAX_LABELS
    if len({answer.strip() for answer in source.answers(firsts[:few])}) > MAX_LABELS:
        return [""] * len(components)
    answers = [answer.strip() for answer in source.answers(firsts)]
    different = set(answers)
    if len(different) > MAX_LABELS or len(answers) < ROWS_PER_LABEL * len(different):
        return [""] * len(components)
    labels, first = [], 0
    for count in counts.tolist():
        mine = answers[first : first + count]
        labels.append(max(sorted(set(mine)), key=mine.count))
        first += count
    return labels


def _sides_by_answer(components: list[_Outline], config: SplitConfig) -> list[Split]:
    """The same share of every label for test and for validation, whole components at a time."""
    labels = [component.label for component in components]
    sides: list[Split] = ["train"] * len(components)
    order = sorted(range(len(components)), key=lambda i: components[i].position)
    unseen = sum(component.position < config.unseen_sections for component in components)
    unseen = max(unseen, config.unseen_sections > 0)
    unseen = min(unseen, len(order) - 1 - (config.test > 0) - (config.validation > 0))
    for i in order[:unseen]:
        sides[i] = "unseen_sections"
    rest = order[unseen:]
    size = [component.size for component in components]
    total = dict.fromkeys(labels, 0)
    for i in rest:
        total[labels[i]] += size[i]
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


class _Counted(NamedTuple):
    given: int
    unique: int
    components: "Components"


def _summary(columns: "SplitColumns", assigned: Assignment, counted: _Counted) -> dict[str, int]:
    import numpy as np

    from jangin.examples.curation.split_groups import KINDS

    counts = np.bincount(assigned.splits, minlength=len(SPLITS)).tolist()
    counts[SPLITS.index("validation")] += len(assigned.validation)
    in_train = assigned.splits == SPLITS.index("train")
    trained = columns.numbers["kind"][assigned.indices[in_train]]
    kinds = np.bincount(trained, minlength=len(KINDS)).tolist()
    return {
        **dict(zip(SPLITS, counts, strict=True)),
        "train_originals": kinds[KINDS.index("original")],
        "train_evolved": kinds[KINDS.index("evolved")],
        "train_paraphrases": kinds[KINDS.index("paraphrase")],
        "groups": len(counted.components),
        "families": counted.components.families,
        "repeated": counted.given - counted.unique,
        "unused": counted.unique - len(assigned.indices) - len(assigned.validation),
    }


def run(context: StageContext[SplitConfig]) -> None:
    """Write the table `splits`; examples that no split needs are counted as `unused`."""
    import numpy as np

    from jangin.examples.curation.split_groups import SplitColumns

    required = context.config.review == "required"
    hand, paths = _by_hand if required else None, context.parts("examples").values()
    columns = SplitColumns(lambda names: chain(*(read_as(p, Example, names) for p in paths)), hand)
    if not len(columns):
        raise SettingsError(
            "there are no examples to split: earlier stages dropped all of them. "
            "`jangin report` shows what was dropped and why."
        )
    rows = _reviewed(columns, context.config) if required else np.arange(len(columns))
    source = SplitSource(
        lambda wanted: _sections(context, wanted), lambda some: _answers(context, some)
    )
    assigned = assign(columns, rows, source, context.config)
    context.summary.update(assigned.summary)
    _name_copies(columns, rows, assigned, context)
    count = context.config.held_out_paraphrases
    if count and not assigned.summary["held_out_paraphrases"]:
        context.services.progress.message(
            "split: no paraphrase could be held out, so that test set will be missing. It needs a "
            f"training question with more than {counted(count, 'paraphrase')}."
        )
    if context.config.held_out_styles and not assigned.summary["held_out_styles"]:
        context.services.progress.message(
            "split: no style could be held out, so that test set will be missing. It needs "
            "paraphrases in two styles: set `styles` under paraphrase.source."
        )
    del columns
    _write(context, assigned)
    _tell_similarity(context)


def _tell_similarity(context: StageContext[SplitConfig]) -> None:
    """Measure how like held-out wordings are to trained ones, and say it where they are alike."""
    from dataclasses import asdict

    from jangin.examples.curation.split_groups import held_out_similarity

    known = held_out_similarity(context.workspace / "splits.parquet")
    context.summary["similarity"] = {name: asdict(each) for name, each in known.items()}
    wordings = known.get("held_out_paraphrases")
    if wordings is not None and wordings.is_alike:
        context.services.progress.message(
            f"split: {wordings.alike:.0%} of {counted(wordings.questions, 'held-out wording')} "
            "follow a pattern that is trained on, so their figures say little about users. Set "
            "`styles` under paraphrase.source and `held_out_styles: 1` under split, and write "
            "questions of users into test_questions.jsonl."
        )


def _sections(context: StageContext[SplitConfig], wanted: Collection[str]) -> dict[str, str]:
    """{chunk: name of its section} of some chunks."""
    from jangin.examples.curation.split_groups import section_name

    if not wanted or not context.has("chunks"):
        return {}
    columns = ("id", "source", "section")
    return {
        row["id"]: section_name(row["source"], row["section"])
        for path in context.parts("chunks").values()
        for batch in read_as(path, Chunk, columns)
        for row in batch.to_pylist()
        if row["id"] in wanted
    }


def _answers(context: StageContext[SplitConfig], indices: "Indices") -> list[str]:
    """Answers of some examples, equal ones as one object."""
    import numpy as np

    order = np.argsort(indices)
    ascending, first, done = indices[order], 0, 0
    answers, same = [""] * len(indices), dict[str, str]()
    for path in context.parts("examples").values():
        for batch in read_as(path, Example, ("completion",)):
            if done == len(indices):
                return answers
            end = int(np.searchsorted(ascending, first + batch.num_rows))
            texts = batch.column(0).field("content").take(ascending[done:end] - first)
            for position, text in zip(order[done:end].tolist(), texts.to_pylist(), strict=True):
                answers[position] = same.setdefault(text, text)
            first, done = first + batch.num_rows, end
    return answers


def _write(context: StageContext[SplitConfig], assigned: Assignment) -> None:
    """Write the rows in the parts of the examples, those of `validation` into the last one."""
    import numpy as np

    moved = assigned.indices[assigned.indices != assigned.slots]
    apart = _rows_apart(context, np.union1d(moved, assigned.validation))
    first, parts = 0, context.parts("examples")
    for part, path in parts.items():
        with context.writer("splits", SplitExample, part) as writer:
            for batch in read_as(path, Example):
                begin, end = np.searchsorted(assigned.slots, [first, first + batch.num_rows])
                pieces, order = [batch], []
                for slot, index in zip(
                    assigned.slots[begin:end].tolist(),
                    assigned.indices[begin:end].tolist(),
                    strict=True,
                ):
                    own = slot - first if slot == index else _appended(pieces, apart[index])
                    order.append(own)
                splits = [SPLITS[split] for split in assigned.splits[begin:end].tolist()]
                writer.add_batch(_split_rows(pieces, order, splits))
                first += batch.num_rows
            if part == [*parts][-1]:
                for index in assigned.validation.tolist():
                    writer.add_batch(_split_rows([apart[index]], [0], ["validation"]))


def _rows_apart(
    context: StageContext[SplitConfig], indices: "Indices"
) -> "dict[int, pa.RecordBatch]":
    """{number of an example: that row}, of some ascending ones."""
    import numpy as np

    rows: dict[int, pa.RecordBatch] = {}
    first = 0
    for path in context.parts("examples").values() if len(indices) else ():
        for batch in read_as(path, Example):
            begin, end = np.searchsorted(indices, [first, first + batch.num_rows])
            own = indices[begin:end].tolist()
            rows |= {index: batch.slice(index - first, 1) for index in own}
            first += batch.num_rows
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


def _by_hand(batch: "pa.RecordBatch") -> list[bool]:
    """For each example whether a person accepted, edited or added it."""
    from jangin.examples.reviews.log import is_by_hand

    return [
        is_by_hand(_Scored(tuple(Score.model_construct(**score) for score in scores or ()), source))
        for scores, source in zip(
            batch.column("scores").to_pylist(), batch.column("source").to_pylist(), strict=True
        )
    ]


class _Scored(NamedTuple):
    scores: tuple[Score, ...]
    source: str


def _name_copies(
    columns: "SplitColumns",
    rows: "Indices",
    assigned: Assignment,
    context: StageContext[SplitConfig],
) -> None:
    """Say which test questions are left out because they nearly copy another question."""
    from jangin.examples.curation.split_groups import KINDS

    if not context.config.test_sources:
        return
    tests = assigned.indices[assigned.splits == SPLITS.index("test")]
    kept = set(columns.questions(tests))
    originals = columns.numbers["kind"] == KINDS.index("original")
    given = rows[(columns.is_from(context.config.test_sources) & originals)[rows]]
    left = dict.fromkeys(columns.questions(given))
    copies = [question for question in left if question not in kept]
    if copies:
        context.services.progress.message(
            f"split: {len(copies)} of the test questions nearly copy another question, so they "
            f"would measure memory and are not asked: {copies[0]!r}. Word them differently."
        )


def _reviewed(columns: "SplitColumns", config: SplitConfig) -> "Indices":
    """The numbers of the examples that `review: required` leaves.

    They are what a person accepted, edited or added, with the paraphrases, and the rows of files
    that are only asked or only measure the loss.
    """
    import numpy as np

    from jangin.examples.curation.split_groups import KINDS

    numbers = columns.numbers
    trusted = np.unique(numbers["id"][numbers["by_hand"]])
    if not len(trusted):
        raise SettingsError(f"split.review: {_none_accepted(len(columns))}")
    kept = np.isin(numbers["id"], trusted)
    is_paraphrase = numbers["kind"] == KINDS.index("paraphrase")
    kept |= is_paraphrase & np.isin(numbers["parent"], trusted)
    kept |= columns.is_from({*config.test_sources, *config.validation_sources})
    return np.flatnonzero(kept)


def _none_accepted(count: int) -> str:
    return (
        f"required leaves none of {counted(count, 'example')} to train on, as none has been "
        "accepted. Accept some with `jangin review`, or remove the key."
    )


def accepted_so_far(context: StageContext[SplitConfig]) -> int:
    """Number of examples that a person accepted, edited or added, also before they are applied."""
    from jangin.examples.reviews.log import LOG, collect_reviews, is_by_hand, read_log

    kept = sum(is_by_hand(example) for example in context.read("examples", Example))
    log = context.services.project_folder / LOG
    reviews = collect_reviews(read_log(log)).values() if log.is_file() else ()
    return max(kept, sum(r.verdict is not None and r.verdict.decision != "reject" for r in reviews))


def forecast(context: StageContext[SplitConfig]) -> Cost:
    """How many examples are accepted, where only those are taken."""
    if context.config.review != "required":
        return Cost()
    accepted = accepted_so_far(context)
    if not accepted:
        count = len(context.read("examples", Example))
        return Cost(text=f"the split would be empty: review: {_none_accepted(count)}")
    return Cost(text=f"review: required, {counted(accepted, 'question')} accepted")


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
