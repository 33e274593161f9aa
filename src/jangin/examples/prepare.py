"""From a table to files that can be trained on, in one pass with bounded memory.

    table -> steps by row -> spool on disk -> steps over all rows, on hashes -> shares -> files

Texts are only streamed; in memory stand two hashes and a few columns of each row. What is not
taken goes to a file of its own with its line and the reason.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from jangin.core.config import Config
from jangin.core.digest import digest_file
from jangin.core.errors import DataError
from jangin.examples.cells import RAW, REASON, ROW
from jangin.examples.columns import step_of
from jangin.examples.conversations import SPREAD, spread_messages
from jangin.examples.same_prompt import ANSWER, KEY, PROMPT
from jangin.examples.shares import SPLITS, share_out
from jangin.examples.steps import (
    Step,
    WholeStep,
    begin,
    decide,
    fill,
    key_of,
    matching,
    needed,
    split_steps,
)
from jangin.examples.tables import Table, TableSettings, open_table

if TYPE_CHECKING:
    import polars as pl

    from jangin.examples.columns import Columns

COMPLETION, SYSTEM, REJECTED, GROUP, SPLIT = (
    *("__completion", "__system", "__rejected", "__group", "__split"),
)
ASIDE = "aside"
MOST_NAMED = 5
ROWS_AT_ONCE = 100_000
OutputFormat = Literal["chat", "completion", "preference"]


class AsGiven(Config):
    """Rows stand as in the file."""

    type: Literal["as_given"] = "as_given"


class Shuffled(Config):
    """Rows stand in a drawn order; they are held in memory for that."""

    type: Literal["shuffled"]
    seed: int = Field(default=0, ge=0)


class Sorted(Config):
    """Training rows stand by answer, numbers by size; they are held in memory for that."""

    type: Literal["sorted"]


Order = Annotated[AsGiven | Shuffled | Sorted, Field(discriminator="type")]


class Plan(Config):
    """All that decides what comes out: the same plan on the same file gives the same files."""

    table: TableSettings = TableSettings()
    source: Literal["columns", "messages"] = "columns"
    """`messages`: the file holds chats, which become the columns system, prompt and completion."""
    prompt: str = "{prompt}"
    """Pattern of the prompt; `{column}` is filled in."""
    completion: str = "{completion}"
    """Pattern of the answer; of the better one, for preference."""
    rejected: str = ""
    """Pattern of the worse answer, for preference."""
    system: str = ""
    """Pattern of a system message; none where it comes out empty."""
    steps: tuple[Step, ...] = ()
    """Steps by row, then those over all rows."""
    format: OutputFormat = "chat"
    validation: float = Field(default=0.1, ge=0, lt=1)
    """Share of rows that measure the loss during training."""
    test: float = Field(default=0.1, ge=0, lt=1)
    """Share of rows that nothing is trained on."""
    group: str = ""
    """Column whose equal values never fall into different splits, such as a document's id."""
    order: Order = AsGiven()
    """Of the training rows; `sorted` leaves the other splits as given."""
    seed: int = Field(default=42, ge=0)
    """Draws the splits."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must be below 1")
        if (self.format == "preference") != bool(self.rejected):
            raise ValueError("`rejected` belongs to the format preference, which needs it")
        return self


@dataclass(frozen=True, slots=True)
class Reason:
    """Why rows were set aside."""

    reason: str
    rows: int
    lines: tuple[int, ...]
    """The first few, as the file counts."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out."""

    rows: int
    read_as: str
    splits: dict[str, int]
    changed: dict[str, int]
    """{step: rows that it changed}."""
    reasons: tuple[Reason, ...]
    answers: dict[str, dict[str, int]]
    """{split: {answer: rows}} where answers look like labels."""
    files: dict[str, Path]
    digests: dict[str, str]


def draft(table: Table, plan: Plan, project_folder: Path) -> "Columns":
    """The table after its steps by row, with prompt and answer, nothing computed yet."""
    import polars as pl

    by_row, _ = split_steps(plan.steps)
    columns = begin(table, project_folder)
    if plan.source == "messages":
        columns.need("messages", "messages")
        columns.frame = spread_messages(columns.frame)
        columns.names += [name for name in SPREAD if name not in columns.names]
    for step in by_row:
        step.apply(columns)
    made = {PROMPT: fill(plan.prompt, columns, "prompt")}
    made[COMPLETION] = fill(plan.completion, columns, "completion")
    if plan.system:
        made[SYSTEM] = fill(plan.system, columns, "system")
    if plan.rejected:
        made[REJECTED] = fill(plan.rejected, columns, "rejected")
    columns.frame = columns.frame.with_columns(**made)
    for name, word in ((PROMPT, "prompt"), (COMPLETION, "answer"), (REJECTED, "rejected answer")):
        if name in made:
            columns.set_aside(pl.col(name).str.strip_chars() == "", f"the {word} is empty")
    if plan.rejected:
        columns.set_aside(
            pl.col(COMPLETION) == pl.col(REJECTED), "chosen and rejected answer are the same"
        )
    return columns


def prepare(
    source: Path, plan: Plan, files: Mapping[str, Path], work: Path, project_folder: Path = Path()
) -> Outcome:
    """Write the files of the splits and of `aside`; `work` is an empty folder for the spool.

    Raises `DataError` or `SettingsError` where nothing can be trained on what is left.
    """
    import polars as pl

    table = open_table(source, plan.table, work)
    columns = draft(table, plan, project_folder)
    _, whole = split_steps(plan.steps)
    spool = work / "rows.arrow"
    _spool(columns, plan, whole, spool)
    index = _decide_all(pl.scan_ipc(spool), plan, whole)
    _check(index, source)
    kept = index[REASON].is_null()
    unit = GROUP if plan.group else KEY
    split = share_out(index.filter(kept), unit, ANSWER, plan.validation, plan.test, plan.seed)
    fate = pl.Series(SPLIT, [len(SPLITS)], pl.UInt8).new_from_index(0, len(index))
    fate = fate.scatter(kept.arg_true(), split)
    decided = pl.DataFrame([fate, index[REASON].alias("__why")])
    _write(spool, decided, plan, files)
    return Outcome(
        rows=len(index),
        read_as=table.read_as,
        splits={name: int((fate == place).sum()) for place, name in enumerate(SPLITS)},
        files={name: path for name, path in files.items() if path.exists()},
        digests={name: digest_file(path) for name, path in files.items() if path.exists()},
        reasons=_reasons(index),
        changed=_changed(pl.scan_ipc(spool), columns.changes),
        answers=_answers(pl.scan_ipc(spool), index, fate),
    )


def _spool(columns: "Columns", plan: Plan, whole: list[WholeStep], spool: Path) -> None:
    """Run the steps by row over the file, and keep what the rest needs."""
    import polars as pl

    extra = dict.fromkeys(name for step in whole for name in needed(step) if name != PROMPT)
    columns.need("steps", *extra)
    made = [SYSTEM] * bool(plan.system) + [REJECTED] * bool(plan.rejected)
    chosen = [pl.col(name) for name in (ROW, REASON, RAW, PROMPT, COMPLETION, *made)]
    chosen += [pl.col(name) for name in (*extra, *columns.changes)]
    chosen += [key_of(PROMPT, matching(plan.steps)), _answer().alias(ANSWER)]
    if plan.group:
        columns.need("group", plan.group)
        chosen.append(pl.col(plan.group).hash(11).alias(GROUP))
    columns.frame.select(chosen).sink_ipc(spool, compression="uncompressed", engine="streaming")


def _answer() -> "pl.Expr":
    import polars as pl

    return pl.col(COMPLETION).str.strip_chars().hash(13)


def _decide_all(spool: "pl.LazyFrame", plan: Plan, whole: list[WholeStep]) -> "pl.DataFrame":
    import polars as pl

    extra = dict.fromkeys(name for step in whole for name in needed(step))
    names = [KEY, ANSWER, *([GROUP] if plan.group else []), *extra]
    short = [pl.col(ROW).cast(pl.UInt32), pl.col(REASON).cast(pl.Categorical)]
    index = spool.select(*short, *names).collect(engine="streaming")
    for step in whole:
        index = index.with_columns(decide(step, index))
    return index.drop(list(extra))


def _check(index: "pl.DataFrame", source: Path) -> None:
    """Refuse what nothing can be learned from."""
    import polars as pl

    kept = index.filter(pl.col(REASON).is_null())
    if not len(kept):
        why = index[REASON].value_counts(sort=True)
        most = f" (most often: {why[REASON][0]})" if len(why) else ""
        raise DataError(
            f"{source}: none of its {len(index)} rows is left{most}. Look at the reasons, and "
            "change the steps or the columns that are used."
        )
    if len(kept) > 1 and kept[ANSWER].n_unique() == 1:
        line = kept[ROW][0]
        raise DataError(
            f"{source}: all {len(kept)} rows that are left have the same answer as line {line}, so "
            "there is nothing to tell apart. Add rows with other answers."
        )


def _reasons(index: "pl.DataFrame") -> tuple[Reason, ...]:
    import polars as pl

    gone = index.filter(pl.col(REASON).is_not_null())
    counts = gone.group_by(REASON).agg(n=pl.len(), lines=pl.col(ROW).head(MOST_NAMED))
    counts = counts.with_columns(pl.col(REASON).cast(pl.String))
    return tuple(
        Reason(row[REASON], row["n"], tuple(sorted(row["lines"])))
        for row in counts.sort(["n", REASON], descending=[True, False]).iter_rows(named=True)
    )


def _changed(spool: "pl.LazyFrame", changes: list[str]) -> dict[str, int]:
    import polars as pl

    if not changes:
        return {}
    sums = spool.select(pl.col(name).sum() for name in changes).collect(engine="streaming")
    return {step_of(name): int(sums[name][0]) for name in changes}


def _answers(
    spool: "pl.LazyFrame", index: "pl.DataFrame", fate: "pl.Series"
) -> dict[str, dict[str, int]]:
    """Rows of each answer in each split, where there are few answers."""
    import polars as pl

    counts = index.select(ANSWER, fate).group_by(ANSWER, SPLIT).len()
    counts = counts.filter(pl.col(SPLIT) < len(SPLITS))
    if counts[ANSWER].n_unique() > 50 or counts["len"].sum() < 5 * counts[ANSWER].n_unique():
        return {}
    texts = (
        spool.select(ANSWER, pl.col(COMPLETION).str.strip_chars())
        .filter(pl.col(ANSWER).is_in(counts[ANSWER].unique().implode()))
        .unique(ANSWER)
        .collect(engine="streaming")
    )
    named = dict(zip(texts[ANSWER], texts[COMPLETION], strict=True))
    found: dict[str, dict[str, int]] = {}
    for answer, place, rows in sorted(counts.iter_rows(), key=lambda row: _size(named[row[0]])):
        found.setdefault(SPLITS[place], {})[named[answer]] = rows
    return {name: found[name] for name in SPLITS if name in found}


def _size(text: str) -> tuple[float, str]:
    """Numbers by size, then texts."""
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text


def _write(spool: Path, decided: "pl.DataFrame", plan: Plan, files: Mapping[str, Path]) -> None:
    """One file for each split that was asked for, and one of what was set aside."""
    import polars as pl

    aside = pl.struct(
        line=ROW, reason=pl.col("__why").cast(pl.String), text=RAW, prompt=PROMPT,
        completion=COMPLETION,
    ).struct.json_encode()  # fmt: skip
    lines = {name: (place, output_line(plan)) for place, name in enumerate(SPLITS)}
    lines[ASIDE] = (len(SPLITS), aside)
    wanted = {n: each for n, each in lines.items() if n in ("train", ASIDE) or getattr(plan, n)}
    reordered = [n for n in SPLITS if _is_reordered(plan, n)]
    with ExitStack() as stack:
        targets = {name: stack.enter_context(files[name].open("wb")) for name in wanted}
        for start in range(0, len(decided), ROWS_AT_ONCE):
            texts = pl.scan_ipc(spool).slice(start, ROWS_AT_ONCE).collect()
            rows = pl.concat([texts, decided.slice(start, ROWS_AT_ONCE)], how="horizontal")
            for name, (place, line) in wanted.items():
                if name not in reordered:
                    _append(rows.filter(pl.col(SPLIT) == place), line, targets[name])
        for name in reordered:
            place, line = lines[name]
            frame = pl.concat([pl.scan_ipc(spool), decided.lazy()], how="horizontal")
            chosen = frame.filter(pl.col(SPLIT) == place).collect(engine="streaming")
            if name in targets:
                _append(order_rows(chosen, plan.order), line, targets[name])


def _is_reordered(plan: Plan, split: str) -> bool:
    """True where the rows of a split are held in memory to be put in another order."""
    return isinstance(plan.order, Shuffled) or (isinstance(plan.order, Sorted) and split == "train")


def _append(rows: "pl.DataFrame", line: "pl.Expr", target: IO[bytes]) -> None:
    """Whole lines, written as they are."""
    rows.select(line).write_csv(target, include_header=False, quote_style="never")


def json_of(column: "pl.Expr") -> "pl.Expr":
    """Cells as JSON."""
    import polars as pl

    return pl.struct(column.alias("x")).struct.json_encode().str.slice(5).str.head(-1)


def output_line(plan: Plan) -> "pl.Expr":
    """A line of output, as JSON text: lists of structs would take ten times as long."""
    import polars as pl

    cells = {name: json_of(pl.col(name)) for name in (PROMPT, COMPLETION)}

    def message(role: str, content: pl.Expr) -> pl.Expr:
        return pl.concat_str(pl.lit(f'{{"role":"{role}","content":'), content, pl.lit("}"))

    if plan.format == "completion":
        return _joined('{"prompt":', cells[PROMPT], ',"completion":', cells[COMPLETION], "}")
    prompt = message("user", cells[PROMPT])
    if plan.system:
        system = message("system", json_of(pl.col(SYSTEM)))
        both = _joined(system, ",", prompt)
        prompt = pl.when(pl.col(SYSTEM) != "").then(both).otherwise(prompt)
    answer = message("assistant", cells[COMPLETION])
    if plan.format == "chat":
        return _joined('{"messages":[', prompt, ",", answer, "]}")
    rejected = message("assistant", json_of(pl.col(REJECTED)))
    return _joined('{"prompt":[', prompt, '],"chosen":[', answer, '],"rejected":[', rejected, "]}")


def _joined(*parts: "str | pl.Expr") -> "pl.Expr":
    import polars as pl

    return pl.concat_str(pl.lit(part) if isinstance(part, str) else part for part in parts)


def order_rows(rows: "pl.DataFrame", order: Order) -> "pl.DataFrame":
    """The rows in another order."""
    import numpy as np
    import polars as pl

    if isinstance(order, Sorted):
        text = pl.col(COMPLETION).str.strip_chars()
        number = text.cast(pl.Float64, strict=False)
        return rows.sort(number, text, nulls_last=True, maintain_order=True)
    if isinstance(order, Shuffled):
        return rows[np.random.default_rng(order.seed).permutation(len(rows))]
    return rows
