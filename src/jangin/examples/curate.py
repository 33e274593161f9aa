"""Stage `curate`: drop bad and duplicate examples, each with its reason.

Rules, in order; each sees what the ones before it left:

    review              a person rejected it, a paraphrase; see the stage `review`
    empty               no question or no answer
    score               a scorer gave less than `min_score`, to it or to the question it rewords
    characters          question or answer too short or too long
    tokens              prompt and answer together too short or too long for the base model
    exact_duplicate     same prompt, same answer
    conflicting_answer  same prompt, another answer
    near_duplicate      nearly the same question after the same context
    semantic_duplicate  question and answer similar to an encoder; off by default
    family              a paraphrase of a question that one of the four rules above dropped in
                        favour of another family

An example that evolved from a dropped question has a question and an answer of its own: it is kept
and joins the family of the twin, so that a split keeps the two together.
Of two twins the one that a person accepted or added is kept, then the original before the evolved
one and that before the paraphrase, then the one with the better score, then the earlier row. The
rule `score` drops nothing that a person accepted.
Every row ends in exactly one of the tables `examples` and `dropped`.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jangin.core.config import Advanced, Config, StageConfig
from jangin.core.encoder import TextEncoder, encoder_files
from jangin.core.errors import MachineError, SettingsError, StageError
from jangin.core.records import Dropped, Example
from jangin.core.stage import Stage, StageContext
from jangin.examples.checks.decision import Decision
from jangin.examples.curation.filters import FilterState, Rule, duplicate, preference
from jangin.examples.curation.review_effects import (
    Reviewed,
    UnappliedReview,
    apply_reviews,
    is_accepted,
    unapplied,
)
from jangin.examples.curation.review_log import LOG, collect_reviews, read_log
from jangin.examples.curation.semantic_dedup import (
    EncoderSemantic,
    NoSemantic,
    Semantic,
    encode_rows,
    find_semantic_twins,
)
from jangin.examples.readers.additions import FILES

REMEDIES: dict[Rule, str] = {
    "review": "withdraw decisions with `jangin review`",
    "empty": "look at the replies they were made from",
    "score": "lower min_score under curate, or look at the judge's reasons",
    "characters": "widen question_characters or answer_characters under curate",
    "tokens": "widen tokens under curate, or choose a base model with a longer context",
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
    """Several answers to one prompt: `drop` keeps one of them, `keep` keeps all."""
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


def curate(
    rows: Sequence[Example],
    config: CurateConfig,
    tokenizer: Path | None = None,
    threads: int = 1,
    encoder: TextEncoder | None = None,
) -> Curation:
    """Apply every rule to the rows; `tokenizer` is a tokenizer.json.

    Raises `MachineError` when a tokenizer or the guard needs a package that is not installed.
    """
    rows = list(rows)
    state = FilterState(rows)
    state.apply(lambda index: _empty(rows[index]), "empty")
    state.apply(
        lambda index: "" if is_accepted(rows[index]) else _low_score(rows[index], config.min_score),
        "score",
    )
    state.drop_paraphrases("score")
    state.apply(lambda index: _characters(rows[index], config), "characters")
    tokens = None
    if tokenizer is not None:
        left = state.left()
        counts = _count_tokens([rows[index] for index in left], tokenizer)
        tokens = dict(zip(left, counts, strict=True))
        state.apply(
            lambda index: _outside("prompt and answer", tokens[index], "tokens", config.tokens),
            "tokens",
        )
    state.drop_duplicates(lambda left: _exact(rows, left))
    if config.conflicts == "drop":
        state.drop_duplicates(lambda left: _conflicting(rows, left))
    state.drop_duplicates(lambda left: _near(rows, left, config, threads))
    if encoder is not None and isinstance(config.semantic, EncoderSemantic):
        least, vectors = config.semantic.min_cosine, encode_rows(rows, encoder)
        state.drop_duplicates(lambda left: find_semantic_twins(rows, left, vectors, least))
    left = state.left()
    return Curation(
        [rows[index] for index in left],
        state.dropped(),
        None if tokens is None else [tokens[index] for index in left],
        len(state.moved.intersection(left)),
    )


def _empty(row: Example) -> str:
    missing = [
        name
        for name, text in (("question", row.question), ("answer", row.answer))
        if not text.strip()
    ]
    return f"no {' and no '.join(missing)}" if missing else ""


def _low_score(row: Example, least: Mapping[str, float]) -> str:
    reasons = [
        f"{score.scorer} {score.value:.2f} < {least[score.scorer]:g}: {score.reason}".rstrip(": ")
        for score in row.scores
        if score.value < least.get(score.scorer, 0)
    ]
    return "; ".join(reasons)


def _characters(row: Example, config: CurateConfig) -> str:
    reasons = (
        _outside("question", len(row.question), "characters", config.question_characters),
        _outside("answer", len(row.answer), "characters", config.answer_characters),
    )
    return "; ".join(reason for reason in reasons if reason)


def _outside(what: str, figure: int, unit: str, window: LengthRange) -> str:
    """The reason to drop a row whose figure is not in the range; empty where it is."""
    if window.holds(figure):
        return ""
    return f"{what}: {figure:,} {unit}, allowed {window.minimum:,} to {window.maximum:,}"


def _count_tokens(rows: Sequence[Example], path: Path) -> list[int]:
    """Tokens of all messages of each row."""
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
    texts = ["\n".join([*(m.content for m in row.prompt), row.answer]) for row in rows]
    return [
        len(encoding.ids)
        for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    ]


def _prompt_key(row: Example) -> tuple[str, ...]:
    """Equal for prompts that differ only in whitespace, letter case and Unicode form."""
    from jangin.text.normalize import text_key

    return tuple(f"{message.role}:{text_key(message.content)}" for message in row.prompt)


def _grouped(
    rows: Sequence[Example], left: Iterable[int], key: Callable[[Example], tuple[str, ...]]
) -> list[list[int]]:
    """Groups of at least two rows with equal keys, the preferred row first."""
    groups = defaultdict(list)
    for index in left:
        groups[key(rows[index])].append(index)
    return [
        sorted(group, key=lambda index: -preference(rows[index]))
        for group in groups.values()
        if len(group) > 1
    ]


def _exact(rows: Sequence[Example], left: list[int]) -> dict[int, Decision]:
    from jangin.text.normalize import text_key

    groups = _grouped(rows, left, lambda row: (*_prompt_key(row), text_key(row.answer)))
    return {
        index: duplicate("exact_duplicate", f"same prompt and answer as {rows[best].id}", best)
        for best, *others in groups
        for index in others
    }


def _conflicting(rows: Sequence[Example], left: list[int]) -> dict[int, Decision]:
    from rapidfuzz.distance import Levenshtein

    decisions = {}
    for best, *others in _grouped(rows, left, _prompt_key):
        for index in others:
            similarity = Levenshtein.normalized_similarity(rows[index].answer, rows[best].answer)
            reason = (
                f"another answer to the prompt of {rows[best].id}; "
                f"similarity of the answers {similarity:.3f}"
            )
            decisions[index] = duplicate("conflicting_answer", reason, best)
    return decisions


def _near(
    rows: Sequence[Example], left: list[int], config: CurateConfig, threads: int
) -> dict[int, Decision]:
    """Near-duplicate questions among rows whose prompts are the same up to the question.

    The two rules before have dropped equal questions, so exact matches are ignored.
    """
    from jangin.text.dedup.near_duplicates import Rules, find_duplicates

    contexts = defaultdict(list)
    for index in left:
        contexts[_context(rows[index])].append(index)
    rules = Rules(config.threshold, config.guard, config.sibling_threshold)
    decisions = {}
    for group in (group for group in contexts.values() if len(group) > 1):
        duplicates = find_duplicates(
            [rows[index].question for index in group],
            rules,
            scores=[preference(rows[index]) for index in group],
            groups=[rows[index].family for index in group],
            threads=threads,
        )
        for match in duplicates:
            if match.match == "near":
                index, twin = group[match.row], group[match.twin]
                related = rows[index].family == rows[twin].family
                limit = config.sibling_threshold if related else config.threshold
                reason = (
                    f"question like that of {'its sibling ' * related}{rows[twin].id}; "
                    f"similarity {match.similarity:.3f}, limit {limit:g}"
                )
                decisions[index] = duplicate("near_duplicate", reason, twin)
    return decisions


def _context(row: Example) -> tuple[str, ...]:
    """Key of the prompt without the last user message: the context of the question."""
    key = _prompt_key(row)
    last = max((i for i, m in enumerate(row.prompt) if m.role == "user"), default=-1)
    return tuple(part for index, part in enumerate(key) if index != last)


def _percentiles(figures: Sequence[int]) -> dict[str, int]:
    """Nearest-rank percentiles of a non-empty sequence."""
    ordered = sorted(figures)
    return {
        f"p{percent}": ordered[max(-(-percent * len(ordered) // 100), 1) - 1]
        for percent in (5, 50, 95, 100)
    }


def run(context: StageContext[CurateConfig]) -> None:
    """Write the tables `examples` and `dropped`.

    Raises `StageError` without examples, `SettingsError` when none is left or no example has a
    score that `min_score` names, and `MachineError` like `curate`.
    """
    rows = context.read("examples", Example)
    if not rows:
        raise StageError(
            "curate: there are no examples. "
            "`jangin report` shows what earlier stages dropped and why."
        )
    config = context.config
    _check_scorers(rows, config.min_score)
    tokenizer = None
    if context.has("base"):
        tokenizer = context.folder("base") / "model" / "tokenizer.json"
    encoder = None
    if isinstance(config.semantic, EncoderSemantic):
        encoder = context.services.encoder(config.semantic.encoder)
    reviewed = _reviewed(context, rows)
    result = curate(reviewed.rows, config, tokenizer, context.services.executor.workers, encoder)
    dropped = [*reviewed.rejected, *result.dropped]
    counts = Counter(row.rule for row in dropped)
    if not result.kept:
        raise SettingsError(_nothing_left(counts))
    context.write("examples", Example, result.kept)
    context.write("dropped", Dropped, dropped)
    context.summary.update(
        read=len(rows),
        kept=len(result.kept),
        dropped={
            rule: counts[rule] for rule in REMEDIES if rule != "review" or context.has("reviews")
        },
        moved=result.moved,
        question_characters=_percentiles([len(row.question) for row in result.kept]),
        answer_characters=_percentiles([len(row.answer) for row in result.kept]),
    )
    if result.tokens is not None:
        context.summary["tokens"] = _percentiles(result.tokens)
    _name_dropped_additions(context, dropped)


def _reviewed(context: StageContext[CurateConfig], rows: list[Example]) -> Reviewed:
    """The rows with the decisions about paraphrases applied; names those that apply to no row."""
    if not context.has("reviews"):
        return Reviewed(rows)
    reviews = collect_reviews(read_log(context.folder("reviews") / LOG))
    result = apply_reviews(rows, reviews)
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
    added = [row for row in dropped if row.example.source in FILES.values()]
    added = [row for row in added if row.example.kind == "original"]
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


def _check_scorers(rows: Sequence[Example], least: Mapping[str, float]) -> None:
    known = dict.fromkeys(score.scorer for row in rows for score in row.scores)
    for name in least:
        if name not in known:
            raise SettingsError(
                f"curate.min_score: no example has a score of {name!r}. Scorers of these examples: "
                f"{', '.join(known) or 'none'}. Remove the key, or turn on the stage that scores."
            )


def _nothing_left(counts: Counter[str]) -> str:
    by_rule = ", ".join(f"{count:,} {rule}" for rule, count in counts.most_common())
    remedy = next(text for rule, text in REMEDIES.items() if rule == counts.most_common(1)[0][0])
    return f"curate dropped all {counts.total():,} examples ({by_rule}). To keep some, {remedy}."


def _sources(config: CurateConfig, folder: Path) -> Mapping[str, Path]:
    if not isinstance(config.semantic, EncoderSemantic):
        return {}
    setting = "examples: curate: semantic: encoder: path"
    return encoder_files(config.semantic.encoder, folder, setting)


STAGE = Stage(
    name="curate",
    version=2,
    reads=("examples",),
    may_read=("base", "reviews"),
    makes=("examples", "dropped"),
    run=run,
    sources=_sources,
)
