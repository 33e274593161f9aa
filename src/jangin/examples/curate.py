"""Stage `curate`: drop bad and duplicate examples, each with its reason.

Rules, in order; each sees what the ones before it left:

    review              a person rejected it, a paraphrase; see the stage `review`
    empty               no question or no answer
    score               a scorer gave less than `min_score`, to it or to the question it rewords
    characters          question or answer too short or too long
    tokens              prompt and answer together too short or too long for the base model
    replaced            a person decided that another document replaces its document
    contradiction       documents, or one in two places, answer it differently; see `contradictions`
    exact_duplicate     same prompt, same answer
    conflicting_answer  same prompt, another answer; wordings of two questions are both dropped
    near_duplicate      nearly the same question after the same context
    semantic_duplicate  question and answer similar to an encoder; off by default
    family              a paraphrase of a question that one of the four rules above dropped in
                        favour of another family

An example that evolved from a dropped question has a question and an answer of its own: it is kept
and joins the family of the twin, so that a split keeps the two together.
Of two twins the one that a person accepted or added is kept, then the original before the evolved
one and that before the paraphrase, then the one with the better score, then the earlier row.
Rows of different documents are ordered by the ids of these, never by the names of files. The rule
`score` drops nothing that a person accepted.
Every row ends in exactly one of the tables `examples` and `dropped`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from jangin.core.config import Advanced, Config, StageConfig
from jangin.core.errors import MachineError, SettingsError, StageError, all_counted
from jangin.core.model_protocols import TextEncoder, encoder_files
from jangin.core.parquet import batches_of, count_rows, read_as
from jangin.core.reasons import Reason
from jangin.core.records import Dropped, Example, Score
from jangin.core.stage import Stage, StageContext, always
from jangin.core.store import JOURNAL
from jangin.documents.versions import SuspectedVersions, versions_of
from jangin.examples.checks.decision import Decision
from jangin.examples.curation.contradictions import (
    Conflict,
    find_contradictions,
    replaced_rows,
    sourced_rows,
    why,
)
from jangin.examples.curation.filters import (
    ColumnTexts,
    ExampleColumns,
    ExampleReason,
    FilterState,
    Rule,
    curated,
    duplicate,
    equal_groups,
    read_example_columns,
)
from jangin.examples.curation.semantic_dedup import (
    EncoderSemantic,
    NoSemantic,
    Semantic,
    SemanticRow,
    encode_rows,
    find_semantic_twins,
)
from jangin.examples.formats.additions import FILES
from jangin.examples.reviews.log import (
    LOG,
    ReviewDecision,
    Reviewed,
    UnappliedReview,
    apply_reviews,
    collect_reviews,
    document_decisions,
    read_log,
    unapplied,
)
from jangin.text.contradiction import difference, said

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from jangin.examples.curation.filters import Indices, Keys
    from jangin.text.dedup.spread import Spread

    Batches = Callable[[Sequence[str]], Iterable[pa.RecordBatch]]

REMEDIES: dict[Rule, str] = {
    "review": "withdraw decisions with `jangin review`",
    "empty": "look at the replies they were made from",
    "score": "lower min_score under curate, or look at the judge's reasons",
    "characters": "widen question_characters or answer_characters under curate",
    "tokens": "widen tokens under curate, or choose a base model with a longer context",
    "replaced": "withdraw the decision with `jangin review --undo`",
    "contradiction": "decide between the answers with `jangin review`, or set conflicts: keep",
    "exact_duplicate": "add other source documents",
    "conflicting_answer": "set conflicts: keep under curate",
    "near_duplicate": "raise threshold under curate, or set guard: true",
    "semantic_duplicate": "raise semantic.min_cosine under curate",
    "family": "raise threshold under curate, or set guard: true",
}


class LengthRange(Config):
    """Allowed lengths, both ends included."""

    minimum: int = Field(ge=0)
    maximum: int = Field(ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError("minimum must not be above maximum")
        return self

    def holds(self, figure: int) -> bool:
        """True if the figure is in the range."""
        return self.minimum <= figure <= self.maximum


class CurateConfig(StageConfig):
    """Which examples are bad, too short, too long, or duplicates."""

    min_score: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    """Least score of each scorer, such as `{judge: 0.75}`; a row without that score is kept."""
    question_characters: LengthRange = LengthRange(minimum=2, maximum=2000)
    """Length of the last user message."""
    answer_characters: LengthRange = LengthRange(minimum=1, maximum=8000)
    """Length of the answer."""
    tokens: LengthRange = LengthRange(minimum=1, maximum=2048)
    """Length of prompt and answer together in tokens of the base model, without the chat template.
    Not applied where the project has no base model."""
    conflicts: Literal["keep", "drop"] = "drop"
    """Several answers to one prompt: `drop` keeps one of them, but none where two documents, or two
    places of one, contradict each other, until a person decides; `keep` keeps all."""
    threshold: float = Field(default=0.75, ge=0.6, le=1)
    """Two questions are near-duplicates from this normalised Levenshtein similarity on."""
    guard: bool = True
    """Keep near-duplicates whose content words differ, such as two fillings of one template."""
    sibling_threshold: Advanced[float] = Field(default=0.95, ge=0.6, le=1)
    """Threshold within a family, whose questions are similar on purpose; without the guard."""
    semantic: Semantic = NoSemantic()
    """Whether an encoder looks for questions with the same meaning in other words."""


@dataclass(frozen=True, slots=True)
class Curation:
    """The kept rows, the dropped rows, and figures for the report."""

    kept: list[Example]
    dropped: list[Dropped]
    tokens: list[int] | None
    """Length of each kept row; None where there was no tokenizer."""
    moved: int = 0
    """Number of kept rows that joined the family of a twin of what they evolved from."""
    conflicts: tuple[Conflict, ...] = ()
    """Questions that two documents answer differently."""


def curate(
    rows: Sequence[Example],
    config: CurateConfig,
    tokenizer: Path | None = None,
    spread: "Spread | None" = None,
    encoder: TextEncoder | None = None,
    decisions: Sequence[ReviewDecision] = (),
    versions: Sequence[SuspectedVersions] = (),
) -> Curation:
    """Apply every rule to the rows; `tokenizer` is a tokenizer.json.

    `decisions` are those of people between documents; `versions` are what these have otherwise.

    Raises `MachineError` when a tokenizer or the guard needs a package that is not installed.
    """

    def batches(names: Sequence[str]) -> "Iterator[pa.RecordBatch]":
        return batches_of(rows, Example, names)

    columns = _columns(batches, config, tokenizer)
    state = decide(columns, config, spread, encoder, batches, (decisions, versions))
    left = state.left().tolist()
    return Curation(
        [state.moved_row(index, rows[index]) for index in left],
        [state.dropped(index, rows[index]) for index in sorted(state.decisions)],
        None if columns.tokens is None else columns.tokens[left].tolist(),
        len(state.moved.keys() & set(left)),
        tuple(state.conflicts),
    )


def decide(
    rows: ExampleColumns,
    config: CurateConfig,
    spread: "Spread | None" = None,
    encoder: TextEncoder | None = None,
    batches: "Batches | None" = None,
    documents: tuple[Sequence[ReviewDecision], Sequence[SuspectedVersions]] = ((), ()),
) -> FilterState:
    """The decisions of every rule; raises as `curate`.

    `batches` reads the rows again, to compare what documents say; None compares nothing.
    `documents` are the decisions of people between documents, and what these have otherwise.
    """
    state = FilterState(rows)
    state.apply("empty", rows.reasons["empty"])
    state.apply("score", rows.reasons["score"])
    state.drop_paraphrases("score")
    state.apply("characters", rows.reasons["characters"])
    if rows.tokens is not None:
        state.apply("tokens", _token_reasons(rows.tokens, config))
    if batches is not None:
        _contradicting(state, batches, *documents, drops=config.conflicts == "drop")
    state.drop_duplicates(lambda left: _exact(rows, left))
    if config.conflicts == "drop":
        state.apply("conflicting_answer", _too_broad(state))
        state.drop_duplicates(lambda left: _conflicting(rows, left))
    state.drop_duplicates(lambda left: _near(state, left, config, spread))
    if encoder is not None and isinstance(config.semantic, EncoderSemantic):
        least, texts = config.semantic.min_cosine, _semantic_rows(state)
        vectors = encode_rows(texts, encoder)
        state.drop_duplicates(
            lambda left: find_semantic_twins(
                _semantic_rows(state) if state.moved else texts, left.tolist(), vectors, least
            )
        )
    return state


def _columns(
    batches: "Callable[[Sequence[str]], Iterable[pa.RecordBatch]]",
    config: CurateConfig,
    tokenizer: Path | None,
) -> ExampleColumns:
    """The columns of the rows that `batches` reads, with the reasons of rules for single rows."""
    rules: dict[Rule, ExampleReason] = {
        "empty": lambda question, answer, _scores, accepted: (  # noqa: ARG005  passed by name
            _empty(question, answer)
        ),
        "score": lambda _question, _answer, scores, accepted: (
            Reason() if accepted else _low_score(scores, config.min_score)
        ),
        "characters": lambda question, answer, _scores, accepted: (  # noqa: ARG005  passed by name
            _characters(question, answer, config)
        ),
    }
    count = None if tokenizer is None else _token_counter(tokenizer)
    return read_example_columns(batches, rules, count)


def _semantic_rows(state: FilterState) -> list[SemanticRow]:
    import numpy as np

    rows, every = state.rows, np.arange(len(state.rows))
    answers = [text for piece in rows.answers() for text in piece.to_pylist()]
    columns = (
        rows.ids.to_pylist(),
        state.families(every),
        rows.questions.to_pylist(),
        answers,
        rows.preference.tolist(),
    )
    return [SemanticRow(*row) for row in zip(*columns, strict=True)]


def _empty(question: str, answer: str) -> Reason:
    if question.strip():
        return Reason() if answer.strip() else Reason("no_answer_text")
    return Reason("no_question" if answer.strip() else "no_text_of_both")


def _low_score(scores: Iterable[Score], least: Mapping[str, float]) -> Reason:
    return Reason.joined(
        _below(score, least[score.scorer])
        for score in scores
        if score.value < least.get(score.scorer, 0)
    )


def _below(score: Score, limit: float) -> Reason:
    values = {"scorer": score.scorer, "share": score.value, "limit": float(limit)}
    if not score.reason:
        return Reason("low_score", **values)
    return Reason("low_score_said", **values, why=score.reason)


def _characters(question: str, answer: str, config: CurateConfig) -> Reason:
    return Reason.joined(
        (
            _outside("question_characters", len(question), config.question_characters),
            _outside("answer_characters", len(answer), config.answer_characters),
        )
    )


def _token_reasons(tokens: "NDArray[np.int32]", config: CurateConfig) -> dict[int, Reason]:
    outside = (tokens < config.tokens.minimum) | (tokens > config.tokens.maximum)
    return {
        index: _outside("tokens", int(tokens[index]), config.tokens)
        for index in outside.nonzero()[0].tolist()
    }


def _outside(key: str, figure: int, window: LengthRange) -> Reason:
    """The reason to drop a row whose figure is not in the range; empty where it is."""
    if window.holds(figure):
        return Reason()
    return Reason(key, figure=figure, low=window.minimum, high=window.maximum)


def _token_counter(path: Path) -> Callable[[Sequence[str]], list[int]]:
    """Counts the tokens of texts."""
    try:
        from tokenizers import Tokenizer  # an extra
    except ImportError as error:
        raise MachineError(
            "counting tokens needs the package tokenizers. "
            "Install it with `pip install 'jangin[train]'`."
        ) from error
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda texts: [
        len(encoding.ids)
        for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    ]


def _grouped(rows: ExampleColumns, left: "Indices", keys: "Keys") -> Iterator[list[int]]:
    """Groups of at least two rows with equal keys, the preferred row first."""
    for group in equal_groups(keys, left):
        yield sorted(group.tolist(), key=lambda index: (-rows.preference[index], rows.rank[index]))


def _exact(rows: ExampleColumns, left: "Indices") -> dict[int, Decision]:
    return {
        index: duplicate("exact_duplicate", Reason("same_row", id=rows.id(best)), best)
        for best, *others in _grouped(rows, left, rows.whole)
        for index in others
    }


def _conflicting(rows: ExampleColumns, left: "Indices") -> dict[int, Decision]:
    from rapidfuzz.distance import Levenshtein

    decisions = {}
    groups = list(_grouped(rows, left, rows.prompt))
    answers = rows.answers_of([index for group in groups for index in group])
    for best, *others in groups:
        for index in others:
            similarity = Levenshtein.normalized_similarity(answers[index], answers[best])
            reason = Reason("other_answer", id=rows.id(best), share=similarity)
            decisions[index] = duplicate("conflicting_answer", reason, best)
    return decisions


def _too_broad(state: FilterState) -> dict[int, Reason]:
    """Wordings of two questions on documents with other answers: they ask for neither of them."""
    rows = state.rows
    groups = [
        group
        for group in _grouped(rows, state.left(), rows.prompt)
        if state.kind(group[0]) == "paraphrase"
        and rows.origin[group].all()
        and len({state.family(index) for index in group}) > 1
    ]
    answers = rows.answers_of([index for group in groups for index in group])
    reasons: dict[int, Reason] = {}
    for group in groups:
        first, *others = (said(answers[index]) for index in group)
        if any(difference(first, each, same_question=True) for each in others):
            names = ", ".join(sorted({str(rows.parents[index].as_py()) for index in group}))
            reasons |= dict.fromkeys(group, Reason("wording_of_many", list=names))
    return reasons


def _contradicting(
    state: FilterState,
    batches: "Batches",
    decisions: Sequence[ReviewDecision],
    versions: Sequence[SuspectedVersions],
    *,
    drops: bool,
) -> None:
    """Drop the rows of replaced documents; note the conflicts of the others.

    Every row of the families of a conflict is dropped, if wanted.
    """
    rows = sourced_rows(batches, lambda index: index not in state.decisions)
    state.apply("replaced", replaced_rows(rows, decisions))
    rows = [row for row in rows if row.row not in state.decisions]
    result = find_contradictions(rows, decisions, versions)
    state.conflicts = result.conflicts
    if drops:
        state.apply(
            "contradiction",
            {
                row.row: why(result.of_family[row.family], row.document)
                for row in rows
                if row.family in result.of_family
            },
        )


def _near(
    state: FilterState, left: "Indices", config: CurateConfig, spread: "Spread | None"
) -> dict[int, Decision]:
    """Near-duplicate questions among rows whose prompts are the same up to the question.

    The two rules before have dropped equal questions, so exact matches are ignored.
    """
    import numpy as np

    from jangin.text.dedup.near_duplicates import DuplicateRules, find_duplicates

    rows = state.rows
    rules = DuplicateRules(config.threshold, config.guard, config.sibling_threshold)
    decisions = {}
    for unordered in equal_groups(rows.context, left):
        group = unordered[np.argsort(rows.rank[unordered])]
        duplicates = find_duplicates(
            ColumnTexts(rows.questions, group),
            rules,
            scores=rows.preference[group],
            groups=state.family_keys(group),
            spread=spread,
        )
        for match in duplicates:
            if match.match == "near":
                index, twin = int(group[match.row]), int(group[match.twin])
                related = state.family(index) == state.family(twin)
                limit = config.sibling_threshold if related else config.threshold
                key = "like_sibling" if related else "like"
                reason = Reason(key, id=rows.id(twin), share=match.similarity, limit=float(limit))
                decisions[index] = duplicate("near_duplicate", reason, twin)
    return decisions


def _percentiles(figures: "NDArray[np.int32]") -> dict[str, int]:
    """Nearest-rank percentiles of a non-empty sequence."""
    import numpy as np

    ordered = np.sort(figures)
    return {
        f"p{percent}": int(ordered[max(-(-percent * len(ordered) // 100), 1) - 1])
        for percent in (5, 50, 95, 100)
    }


def run(context: StageContext[CurateConfig]) -> None:
    """Write the tables `examples` and `dropped`, in parts where the examples are.

    Raises `StageError` without examples, `SettingsError` when none is left or no example has a
    score that `min_score` names, and `MachineError` like `curate`.
    """
    parts = context.parts("examples")
    sizes = [count_rows(path) for path in parts.values()]
    if not sum(sizes):
        raise StageError(
            "curate: there are no examples. "
            "`jangin report` shows what earlier stages dropped and why."
        )
    config = context.config
    from jangin.text.dedup.spread import Spread

    tokenizer = None
    if context.has("base"):
        tokenizer = context.folder("base") / "model" / "tokenizer.json"
    encoder = None
    if isinstance(config.semantic, EncoderSemantic):
        encoder = context.services.open_encoder(config.semantic.encoder)
    reviewed = _reviewed(context)

    def batches(names: Sequence[str] | None = None) -> "Iterator[pa.RecordBatch]":
        if reviewed is not None:
            return batches_of(reviewed.rows, Example, names)
        return (batch for path in parts.values() for batch in read_as(path, Example, names))

    rows = _columns(batches, config, tokenizer)
    _check_scorers(rows.scorers, config.min_score)
    spread = Spread(context.services.executor, context.workspace / JOURNAL)
    state = decide(rows, config, spread, encoder, batches, _documents(context))
    if state.conflicts:  # no empty table: artifacts without conflicts stay what they were
        context.write("conflicts", Conflict, state.conflicts)
    rejected = reviewed.rejected if reviewed is not None else []
    counts = Counter(decision.rule for decision in state.decisions.values())
    counts.update(row.rule for row in rejected)
    left = state.left()
    if not len(left):
        raise SettingsError(_nothing_left(counts))
    cuts = dict(zip(parts, accumulate(sizes), strict=True))
    _name_dropped_additions(context, _write(context, state, batches(), cuts, rejected))
    context.summary.update(
        read=sum(sizes),
        kept=len(left),
        dropped={
            rule: counts[rule] for rule in REMEDIES if counts[rule] or _is_shown(rule, context)
        },
        moved=len(state.moved.keys() & set(left.tolist())) if state.moved else 0,
        question_characters=_percentiles(rows.question_length[left]),
        answer_characters=_percentiles(rows.answer_length[left]),
    )
    if state.conflicts:
        context.summary["contradictions"] = len(state.conflicts)
    if rows.tokens is not None:
        context.summary["tokens"] = _percentiles(rows.tokens[left])


def _documents(
    context: StageContext[CurateConfig],
) -> tuple[list[ReviewDecision], list[SuspectedVersions]]:
    """The decisions of people between documents, and what these have otherwise."""
    log = read_log(context.folder("reviews") / LOG) if context.has("reviews") else []
    versions = versions_of(context.inputs["chunks"]) if context.has("chunks") else []
    return document_decisions(log), versions


def _is_shown(rule: Rule, context: StageContext[CurateConfig]) -> bool:
    """Whether a rule that dropped nothing is listed."""
    return context.has("reviews") if rule == "review" else rule not in ("replaced", "contradiction")


def _write(
    context: StageContext[CurateConfig],
    state: FilterState,
    batches: "Iterator[pa.RecordBatch]",
    cuts: Mapping[int | None, int],
    rejected: Sequence[Dropped],
) -> list[Dropped]:
    """Write both tables from all rows; returns the dropped rows that a person saved.

    `cuts` are the parts of the examples, with the number of rows up to the end of each.
    """
    saved = [row for row in rejected if row.example.source in FILES.values()]
    first, waiting = 0, next(batches, None)
    for part, end in cuts.items():
        with (
            context.writer("examples", Example, part) as kept,
            context.writer("dropped", Dropped, part) as dropped,
        ):
            dropped.add([] if part else rejected)
            while waiting is not None and first < end:
                batch = waiting.slice(0, end - first)
                stays, gone = curated(state, batch, first)
                kept.add_batch(stays)
                dropped.add_batch(gone)
                saved += [
                    Dropped.model_validate(row)
                    for row in gone.to_pylist()
                    if row["example"]["source"] in FILES.values()
                ]
                first += batch.num_rows
                rest = waiting.slice(batch.num_rows)
                waiting = rest if rest.num_rows else next(batches, None)
    return saved


def _reviewed(context: StageContext[CurateConfig]) -> Reviewed | None:
    """The rows with the decisions about paraphrases applied; names those that apply to no row.

    None without a review.
    """
    if not context.has("reviews"):
        return None
    reviews = collect_reviews(read_log(context.folder("reviews") / LOG))
    result = apply_reviews(context.read("examples", Example), reviews)
    context.write("unapplied", UnappliedReview, unapplied(result.unmatched))
    if result.unmatched:
        context.services.progress.message(
            f"curate: {len(result.unmatched):,} decisions of the review apply to no example any "
            "more, as it was rewritten or is gone. `jangin show unapplied` lists them."
        )
    return result


def _name_dropped_additions(
    context: StageContext[CurateConfig], dropped: Sequence[Dropped]
) -> None:
    """Say which rows that a person saved are dropped, and why; every later run shows the number."""
    added = [row for row in dropped if row.example.kind == "original"]
    if added:
        first = added[0]
        many = (
            "1 row that you saved is"
            if len(added) == 1
            else f"{len(added):,} rows that you saved are"
        )
        context.summary["saved_rows_left_out"] = len(added)
        context.services.progress.message(
            f"curate: {many} left out, such as {first.example.question!r} of "
            f"{first.example.source}: {first.rule}, {first.reason}. `jangin show dropped` lists "
            "what is left out."
        )


def _check_scorers(known: Sequence[str], least: Mapping[str, float]) -> None:
    for name in least:
        if name not in known:
            raise SettingsError(
                f"curate.min_score: no example has a score of {name!r}. Scorers of these examples: "
                f"{', '.join(known) or 'none'}. Remove the key, or turn on the stage that scores."
            )


def _nothing_left(counts: Counter[str]) -> str:
    by_rule = ", ".join(f"{count:,} {rule}" for rule, count in counts.most_common())
    remedy = next(text for rule, text in REMEDIES.items() if rule == counts.most_common(1)[0][0])
    every = all_counted(counts.total(), "example", "examples")
    return f"curate dropped {every} ({by_rule}). To keep some, {remedy}."


def _sources(config: CurateConfig, folder: Path) -> Mapping[str, Path]:
    if not isinstance(config.semantic, EncoderSemantic):
        return {}
    setting = "examples: curate: semantic: encoder: path"
    return encoder_files(config.semantic.encoder, folder, setting)


STAGE = Stage(
    name="curate",
    version=4,
    reads=("examples",),
    may_read=("base", "reviews", "chunks"),
    makes=("examples", "dropped"),
    run=run,
    maps=always,
    sources=_sources,
)
