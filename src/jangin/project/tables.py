"""Tables, prompts and token rows as `jangin show` prints them."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jangin.core.errors import ConfigError, DataError
from jangin.core.ledger import Ledger
from jangin.core.prompts import Prompt, Prompts, Wording
from jangin.core.reasons import Reason
from jangin.core.records import earlier_turns
from jangin.core.store import Artifact
from jangin.evaluation.stored import current_table
from jangin.project.file import Project, open_project
from jangin.project.stages import STAGES

if TYPE_CHECKING:
    import pyarrow as pa

    from jangin.models.tokens.preview import PreviewRow


# Conditions of `jangin show --where`, such as `page > 3` or `question contains 휴가`.


EXAMPLES = "such as --where 'page >= 3' or --where 'question contains 휴가'"
_CONDITION = re.compile(r"\s*(\w+)\s*(==|!=|>=|<=|=|>|<|\bcontains\b|\blacks\b)\s*(.*?)\s*", re.S)


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison of a column with a value."""

    column: str
    operator: str
    """One of = != < <= > >= contains lacks."""
    value: str

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """The condition in a text; raises `DataError` if it is none."""
        parts = _CONDITION.fullmatch(text)
        if parts is None:
            raise DataError(
                f"{text!r} is no condition. Write a column, one of = != < <= > >= contains lacks, "
                f"and a value, {EXAMPLES}."
            )
        column, operator, value = parts.groups()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        return cls(column, "=" if operator == "==" else operator, value)

    def check(self, columns: Collection[str]) -> None:
        """Raise `DataError` if the table has no such column."""
        if self.column not in columns:
            known = ", ".join(columns)
            raise DataError(f"there is no column {self.column!r}. Known columns: {known}.")

    def holds(self, row: Mapping[str, Any]) -> bool:
        """True if the row fits; texts are compared without case, numbers by value."""
        given = row.get(self.column)
        text, wanted = _text(given), self.value.lower()
        if self.operator in ("contains", "lacks"):
            return (wanted in text) == (self.operator == "contains")
        left, right = _number(text), _number(wanted)
        if left is None or right is None:
            return _compare(self.operator, text, wanted)
        return _compare(self.operator, left, right)


def _compare(operator: str, left: Any, right: Any) -> bool:
    return bool(
        {
            "=": left == right,
            "!=": left != right,
            "<": left < right,
            "<=": left <= right,
            ">": left > right,
            ">=": left >= right,
        }[operator]
    )


def _text(value: object) -> str:
    return "" if value is None else str(value).lower()


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


# `jangin show prompts`: the wordings that teachers are asked with.


def prompts(project: Path, variant: str | None = None) -> Iterator[tuple[str, str]]:
    """(heading, full text) of the prompts that a variant uses, by default the first.

    All shipped wordings if no project file is named and the working directory has none.
    """
    own: Mapping[str, Mapping[str, Wording]] = {}
    asked_by: dict[str, list[str]] = {}
    if project.exists() or project != Path("project.yaml"):
        loaded = open_project(project)
        if variant is not None and variant not in loaded.variants:
            known = ", ".join(loaded.variants)
            raise ConfigError(f"{loaded.path} has no variant {variant!r}. Known variants: {known}.")
        chosen = loaded.variants[variant or next(iter(loaded.variants))]
        own = chosen.prompts
        for stage in STAGES:
            config = chosen.stage_config(stage.name)
            for name in stage.prompts(config) if config is not None else ():
                asked_by.setdefault(name, []).append(stage.name)
    for prompt in Prompts(own).all():
        if asked_by and prompt.name not in asked_by:
            continue
        wording = "your own" if prompt.language in own.get(prompt.name, {}) else "shipped"
        stages = f", used by {', '.join(asked_by[prompt.name])}" if prompt.name in asked_by else ""
        parts = [f"{part}:\n{_indented(text)}" for part, text in _prompt_texts(prompt) if text]
        yield f"{prompt.label}  {wording}{stages}", "\n".join(parts)


def _prompt_texts(prompt: Prompt) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("system", prompt.system), ("user", prompt.user)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())


# `jangin show KIND`: rows of any table of a stage, flattened for a terminal.


FAILED = "failed"
"""The table that several stages write: their rows are shown together."""
REPLIES = "replies"
"""What teachers replied, also where no table was made of it; from the ledger."""
KIND_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "documents": ("source", "language", "pages", "text"),
    "doubtful": ("source", "page", "doubt", "confidence", "text", "second"),
    "chunks": ("source", "page", "section", "text"),
    "examples": ("kind", "earlier_turns", "question", "answer", "source", "page", "section"),
    "splits": ("split", "kind", "earlier_turns", "question", "answer", "source", "page"),
    "queries": ("seed_word", "text"),
    "ranked": ("query_id", "rank", "score", "ranker", "title", "text"),
    "snippets": ("query_id", "place", "engine", "title", "text"),
    "choices": ("earlier_turns", "question", "answer", "distractors", "source", "page", "section"),
    "pairs": (
        "origin", "earlier_turns", "question", "chosen", "rejected", "source", "page",
    ),
    "dropped_pairs": ("rule", "reason", "earlier_turns", "question", "chosen", "rejected"),
    "failed": ("kind", "rule", "reason", "about", "reply"),
    "replies": ("stage", "about", "problem", "prompt", "reply"),
    "dropped": ("rule", "reason", "earlier_turns", "question", "answer", "twin"),
    "conflicts": ("question", "difference", "sides"),
    "eliminated": (
        "rule", "reason", "operation", "round", "earlier_turns", "question", "answer",
    ),
    "predictions": (
        "evidence_set", "system", "right", "reason", "form", "question", "gold", "prediction",
    ),
    "opinions": (
        "evidence_set", "system", "differs", "right", "opinion", "question", "gold", "answer",
        "reason_reference_first", "reason_answer_first",
    ),
    "comparisons": (
        "evidence_set", "a", "b", "n", "right_a", "right_b", "only_a", "only_b", "p_value",
        "form_a", "form_b", "score_gain", "score_p",
    ),
}  # fmt: skip
"""{table: columns to show}; every other table shows all its fields."""
EARLIER = "earlier_turns"
"""Column of what was said before the question; only shown where a row has such turns."""

MAKERS: Mapping[str, tuple[str, ...]] = {
    "documents": ("load",), "doubtful": ("load",), "unreadable": ("load",), "unread": ("read",),
    "chunks": ("chunk",), "queries": ("queries",), "snippets": ("search",), "ranked": ("rank",),
    "coverage": ("synthesize",), "choices": ("synthesize",), "eliminated": ("evolve",),
    "failed": ("synthesize", "paraphrase", "evolve", "judge", "evaluate"), "agreement": ("judge",),
    "examples": ("read", "synthesize"), "rejected": ("review",), "dropped": ("curate",),
    "unapplied": ("curate",), "conflicts": ("curate",), "splits": ("split",),
    "candidates": ("select",),
    "pairs": ("preferences",), "validation_pairs": ("preferences",),
    "dropped_pairs": ("preferences", "dpo"),
    "predictions": ("evaluate",), "results": ("evaluate",), "comparisons": ("evaluate",),
    "slices": ("evaluate",), "leaks": ("evaluate",), "forgetting": ("evaluate",),
    "judgements": ("evaluate",), "pairwise": ("evaluate",), "confidence": ("evaluate",),
    "opinions": ("evaluate",), "recall": ("evaluate",), "passages": ("index",),
    "limits": ("evaluate",), "grounding": ("evaluate",),
}  # fmt: skip
"""{table: stages that write it, where they have such rows}."""

SPREAD = ("example", "snippet", "pair", "choice")
"""Records inside a row whose fields become columns; those of the row itself take precedence."""
NAMES = {"prompt": "question", "completion": "answer"}
"""{field: column} of conversations."""
_ID = re.compile(r"(^|_)(id|ids)$|^(subject|family|parent|request|twin|digest)$")
_DIGEST = re.compile(r"\b[0-9a-f]{16}\b")


def is_id(column: str) -> bool:
    """True for columns of ids and digests, which people do not read."""
    return _ID.search(column) is not None


def kinds(artifacts: Mapping[str, Artifact]) -> Iterator[tuple[str, str, Artifact]]:
    """(kind, stage, artifact) of every table, the newest stage of a kind last."""
    for stage in STAGES:
        artifact = artifacts.get(stage.name)
        if artifact is not None:
            for path in sorted(artifact.path.glob("*.parquet")):
                yield path.stem, stage.name, artifact


def rows(
    artifacts: Mapping[str, Artifact],
    kind: str,
    limit: int | None,
    where: Sequence[str] = (),
    *,
    ids: bool = False,
) -> tuple[list[dict[str, Any]], int, str]:
    """(first rows, number of rows that fit `where`, stage of the table).

    With `ids`, every field is shown, otherwise `KIND_COLUMNS` or all but ids and digests, which
    are replaced by the text that they refer to. Raises `DataError` for an unknown table, column
    or condition.
    """
    tables = {name: (stage, artifact) for name, stage, artifact in kinds(artifacts)}
    if kind not in tables:
        known = (
            ", ".join(sorted({*tables, "prompts", "replies", "tokens"}))
            or "none yet; start with: jangin run"
        )
        raise DataError(
            f"there is no table {kind!r}{_why_missing(kind, artifacts)}. Tables: {known}."
        )
    if kind == FAILED:
        flat, stage = _failed_rows(artifacts)
        flat, count = some_rows(flat, limit, where)
    else:
        stage, artifact = tables[kind]
        table = current_table(artifact, kind)
        first = table if where or limit is None else table.slice(0, limit)
        flat, count = some_rows([flat_row(row) for row in first.to_pylist()], limit, where)
        count = count if where else table.num_rows
    if not any(row.get(EARLIER) for row in flat):
        flat = [{name: value for name, value in row.items() if name != EARLIER} for row in flat]
    if not ids:
        flat = [_readable(row, kind) for row in _with_texts(flat, artifacts)]
    return flat, count, stage


def _why_missing(kind: str, artifacts: Mapping[str, Artifact]) -> str:
    """What would make a table that is not there; empty for a name that no stage knows."""
    makers = MAKERS.get(kind, ())
    ran = [name for name in makers if name in artifacts]
    if ran:
        return f": {' and '.join(ran)} had nothing to write there"
    if not makers:
        return ""
    stage = makers[0] if len(makers) == 1 else f"one of {', '.join(makers)}"
    return (
        f": it is made by {stage}, which is off in this project, has not run yet, or has not run "
        "since something before it changed"
    )


def _failed_rows(artifacts: Mapping[str, Artifact]) -> tuple[list[dict[str, Any]], str]:
    """(failed rows of every stage, with its name, the stages that have such a table)."""
    flat: list[dict[str, Any]] = []
    stages = [(stage, artifact) for name, stage, artifact in kinds(artifacts) if name == FAILED]
    for stage, artifact in stages:
        table = _read(artifact.path / f"{FAILED}.parquet")
        flat += [{"stage": stage, **flat_row(row)} for row in table.to_pylist()]
    return flat, ", ".join(stage for stage, _ in stages)


def reply_rows(
    ledger: Ledger,
    project: str,
    artifacts: Mapping[str, Artifact],
    limit: int | None,
    where: Sequence[str] = (),
    *,
    start: int = 0,
    ids: bool = False,
) -> tuple[list[dict[str, Any]], int, str]:
    """(replies of teachers with their prompts, number that fit `where`, stages that asked).

    Those that could not be used come first. Raises `DataError` as `some_rows`.
    """
    kept, count = ledger.kept_replies(project, None if where else limit, start)
    flat = [asdict(reply) for reply in kept]
    if where:
        flat, count = some_rows(flat, limit, where)
    if not ids:
        flat = [_readable(row, REPLIES) for row in _with_texts(flat, artifacts)]
    return flat, count, ", ".join(dict.fromkeys(reply.stage for reply in kept))


def some_rows(
    rows_: list[dict[str, Any]], limit: int | None, where: Sequence[str] = ()
) -> tuple[list[dict[str, Any]], int]:
    """(the first rows that fit all conditions, how many fit).

    Raises `DataError` for an unknown column, and for a text that is no condition.
    """
    conditions = [Condition.parse(text) for text in where]
    columns = dict.fromkeys(name for row in rows_ for name in row)
    for condition in conditions if rows_ else ():
        condition.check(columns)
    fitting = [row for row in rows_ if all(c.holds(row) for c in conditions)]
    return fitting[:limit], len(fitting)


def _read(path: Path) -> "pa.Table":
    from jangin.core.parquet import read_columns

    return read_columns(path)


def flat_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with plain values: what is nested is spread out, a conversation becomes its text."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name in SPREAD and isinstance(value, dict):
            flat = {**value, **flat}
        else:
            flat[name] = value
    if isinstance(flat.get("sides"), list) and flat["sides"]:
        flat["question"] = flat["sides"][0]["question"]
    plain = {NAMES.get(name, name): _plain(name, value) for name, value in flat.items()}
    if isinstance(plain.get("reason"), str):
        plain["reason"] = _as_reason(plain["reason"])
    prompt = flat.get("prompt")
    if isinstance(prompt, list):
        plain[EARLIER] = earlier_turns((turn["role"], turn["content"]) for turn in prompt)
    return plain


def _as_reason(value: str) -> Reason:
    return value if isinstance(value, Reason) else Reason.read(value)


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        if "content" in value:
            return value["content"]
        return "; ".join(f"{key} {part}" for key, part in value.items() if part is not None)
    if not isinstance(value, list):
        return value
    if name == "sides":
        return "; ".join(f"{s['source']}, page {s['page']}: {s['answer']}" for s in value)
    if name == "pages" and value and isinstance(value[0], dict):
        methods = [page["method"] for page in value]
        return f"{len(methods)} ({methods.count('ocr')} OCR)"
    if name == "prompt" and value:
        return value[-1]["content"]
    if name == "scores":
        return "; ".join(f"{score['scorer']} {score['value']:.2f}" for score in value)
    return "; ".join(str(_plain("", part)) for part in value)


def _readable(row: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The columns that people read."""
    columns = KIND_COLUMNS.get(kind) or [name for name in row if not is_id(name)]
    columns = [name for name in columns if name != EARLIER or EARLIER in row]
    return {name: row.get(name, "") for name in columns}


def _with_texts(
    rows_: Sequence[Mapping[str, Any]], artifacts: Mapping[str, Artifact]
) -> list[dict[str, Any]]:
    """Rows with texts in place of ids: the subject of a row, and the duplicate that was kept."""
    if not any({"subject", "twin"} & row.keys() for row in rows_):
        return [dict(row) for row in rows_]
    texts = _texts(artifacts)

    def named(text: str) -> str:
        return _DIGEST.sub(lambda match: texts.get(match[0], match[0]), text)

    shown = []
    for row in rows_:
        new = dict(row)
        if "subject" in row:
            about = str(row["subject"])
            new = {"about": texts.get(about.split()[0] if about else "", about), **new}
        if row.get("twin"):
            new["twin"] = named(str(row["twin"]))
        if isinstance(row.get("reason"), str):
            new["reason"] = _as_reason(row["reason"]).mapped(named)
        shown.append(new)
    return shown


def _texts(artifacts: Mapping[str, Artifact]) -> dict[str, str]:
    """{id: question, or section and beginning of a passage} of all examples and chunks."""
    texts: dict[str, str] = {}
    for name, _, artifact in kinds(artifacts):
        if name not in ("examples", "chunks", "queries"):
            continue
        for row in map(flat_row, _read(artifact.path / f"{name}.parquet").to_pylist()):
            passage = f"{row.get('section') or row.get('source', '')}: {row.get('text', '')[:80]}"
            text = passage if name == "chunks" else row.get("question") or row.get("text", "")
            texts.setdefault(row["id"], text)
    return texts


# `jangin show tokens`: training rows as the model sees them.


def token_rows(
    project: Project, artifacts: Mapping[str, Artifact], limit: int
) -> "list[PreviewRow]":
    """The first rows of the train split as the model is trained on them, token by token.

    Passages before the question are those of BM25: an encoder of the index is not asked.

    Raises `DataError` where the base model or the split is missing, `TrainingError` where a row
    cannot be rendered.
    """
    from jangin.core.parquet import read_table
    from jangin.core.records import SplitExample
    from jangin.documents.passages import Passages
    from jangin.training.passages import PassageRows
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
    if config.passages is not None and "index" in artifacts:
        first = [row for row in rows if row.split == "train"][:limit]
        passages = Passages.open(artifacts["index"].path, None)
        prompts = Prompts(project.prompts)
        rows = [*PassageRows.of(first, config.passages, config.seed, passages, prompts).rows]
    return preview_rows(artifacts[bases[-1]].path, rows, config.train_on, limit)
