"""From a table to files that can be trained on, in one pass with bounded memory.

    table -> steps by row -> spool on disk -> steps over all rows, on hashes -> shares -> files

Texts are only streamed, hashes are held bucket by bucket: a byte or two stand in memory for each
row. What is not taken goes to a file of its own with its line and the reason.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING

from jangin.core.errors import DataError
from jangin.prepare.engine.assignment import GONE, Fates, Reason, reasons_of, settle, share
from jangin.prepare.engine.spill import Spool
from jangin.prepare.engine.stratified_split import MOST_STRATA, SPLITS
from jangin.prepare.tables.encodings import CACHED
from jangin.prepare.tables.prefetch import ahead, mapped
from jangin.prepare.tables.readers import Table, open_table
from jangin.prepare.tables.schema import RAW, REASON, ROW
from jangin.prepare.transforms.chats import SPREAD, spread_messages
from jangin.prepare.transforms.columns import step_of
from jangin.prepare.transforms.deduplicate import ANSWER, KEY, PROMPT
from jangin.prepare.transforms.steps import (
    WholeStep,
    begin,
    fill,
    key_of,
    matching,
    needed,
    split_steps,
)

if TYPE_CHECKING:
    import polars as pl

    from jangin.prepare.transforms.columns import Columns
from jangin.prepare.engine.plan import Order, Plan, Shuffled, Sorted

COMPLETION, SYSTEM, REJECTED = "__completion", "__system", "__rejected"
GROUP, SPLIT = "__group", "__split"
ASIDE = "aside"


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
            columns.set_aside(~pl.col(name).str.contains(r"\S"), f"the {word} is empty")
    if plan.rejected:
        columns.set_aside(
            pl.col(COMPLETION) == pl.col(REJECTED), "chosen and rejected answer are the same"
        )
    return columns


def prepare(
    source: Path, plan: Plan, files: Mapping[str, Path], work: Path, project_folder: Path = Path()
) -> Outcome:
    """Write the files of the splits and, where it is named, of `aside`.

    `work` is an empty folder for the spool. Raises `DataError` or `SettingsError` where nothing
    can be trained on what is left.
    """
    table = open_table(source, plan.table, work)
    columns = draft(table, plan, project_folder)
    _, whole = split_steps(plan.steps)
    spool = Spool(work)
    _spool(columns, plan, whole, spool)
    fates = settle(spool, whole)
    _check(spool, fates, source)
    share(spool, fates, GROUP if plan.group else KEY, whole, plan.validation, plan.test, plan.seed)
    answers, digests = _write(spool, fates, plan, files)
    return Outcome(
        rows=spool.rows,
        read_as=table.read_as,
        splits={n: int((fates.codes == place).sum()) for place, n in enumerate(SPLITS)},
        files={name: path for name, path in files.items() if name in digests},
        digests=digests,
        reasons=reasons_of(spool, fates),
        changed={step_of(name): spool.changed[name] for name in columns.changes},
        answers=_named(answers),
    )


def _spool(columns: "Columns", plan: Plan, whole: list[WholeStep], spool: Spool) -> None:
    """Run the steps by row over the file, and keep what the rest needs."""
    import polars as pl

    extra = dict.fromkeys(name for step in whole for name in needed(step) if name != PROMPT)
    columns.need("steps", *extra)
    made = [SYSTEM] * bool(plan.system) + [REJECTED] * bool(plan.rejected)
    chosen = [pl.col(ROW).cast(pl.UInt32)]
    chosen += [pl.col(name) for name in (REASON, RAW, PROMPT, COMPLETION, *made)]
    chosen += [pl.col(name) for name in (*extra, *columns.changes)]
    chosen.append(key_of(PROMPT, matching(plan.steps)))
    chosen.append(pl.col(COMPLETION).str.strip_chars().hash(13).alias(ANSWER))
    if plan.group:
        columns.need("group", plan.group)
        chosen.append(pl.col(plan.group).hash(11).alias(GROUP))
    spool.fill(columns.frame.select(chosen), columns.changes)


def _check(spool: Spool, fates: Fates, source: Path) -> None:
    """Refuse what nothing can be learned from."""
    kept = fates.kept
    rows = int(kept.sum())
    if not rows:
        why = reasons_of(spool, fates)
        most = f" (most often: {why[0].reason})" if why else ""
        raise DataError(
            f"{source}: none of its {spool.rows} rows is left{most}. Look at the reasons, and "
            "change the steps or the columns that are used."
        )
    if rows > 1 and len(fates.answers) == 1:
        line = spool.line(int(kept.argmax()))
        raise DataError(
            f"{source}: all {rows} rows that are left have the same answer as line {line}, so "
            "there is nothing to tell apart. Add rows with other answers."
        )


def _named(counts: Counter[tuple[int, str]]) -> dict[str, dict[str, int]]:
    """Rows of each answer in each split, where there are few answers."""
    answers = {text for _, text in counts}
    if counts.total() < 5 * len(answers):
        return {}
    found: dict[str, dict[str, int]] = {name: {} for name in SPLITS}
    for place, text in sorted(counts, key=lambda key: _size(key[1])):
        found[SPLITS[place]][text] = counts[place, text]
    return {name: rows for name, rows in found.items() if rows}


def _size(text: str) -> tuple[float, str]:
    """Numbers by size, then texts."""
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text


def _write(
    spool: Spool, fates: Fates, plan: Plan, files: Mapping[str, Path]
) -> tuple[Counter[tuple[int, str]], dict[str, str]]:
    """One file for each split that was asked for, and one of what was set aside.

    Returns the rows of (split, answer) where there are few answers, and the files' digests, which
    are taken while the next lines are written.
    """
    wanted = [name for name in SPLITS if name == "train" or getattr(plan, name)]
    paths = {name: files[name] for name in (*wanted, ASIDE) if name in files}
    answers: Counter[tuple[int, str]] = Counter()
    with ExitStack() as stack:
        targets = {name: stack.enter_context(path.open("wb")) for name, path in paths.items()}
        written = {name: stack.enter_context(path.open("rb")) for name, path in paths.items()}
        digests = {name: sha256() for name in paths}

        def take(_: int) -> None:
            for name, stream in written.items():
                while data := stream.read(CACHED):
                    digests[name].update(data)

        deque(mapped(take, _written(spool, fates, plan, targets, answers), workers=1), maxlen=0)
    return answers, {name: digest.hexdigest() for name, digest in digests.items()}


def _written(
    spool: Spool, fates: Fates, plan: Plan, targets: Mapping[str, IO[bytes]],
    answers: Counter[tuple[int, str]],
) -> Iterator[int]:  # fmt: skip
    """Write portion by portion, then what is put in another order; the rows in hand each time."""
    import polars as pl

    line = output_line(plan)
    held: dict[str, list[pl.DataFrame]] = {n: [] for n in targets if _is_reordered(plan, n)}
    for portion in ahead(_sorted_out(spool, fates, plan, list(targets), answers)):
        for name, rows in portion.items():
            if name in held:
                held[name].append(rows)
            elif name == ASIDE:
                rows.write_ndjson(targets[name])
            else:
                _append(rows, line, targets[name])
        yield sum(map(len, portion.values()))
    for name, parts in held.items():
        rows = order_rows(pl.concat(parts, how="diagonal"), plan.order)
        _append(rows, line, targets[name])
        yield len(rows)


def _sorted_out(
    spool: Spool, fates: Fates, plan: Plan, targets: list[str], answers: Counter[tuple[int, str]]
) -> "Iterator[dict[str, pl.DataFrame]]":
    """The rows of each file, portion by portion; counts the answers on the way."""
    import polars as pl

    reasons = pl.Series([None] * (GONE + 1) + fates.reasons, dtype=pl.String)
    few = len(fates.answers) <= MOST_STRATA
    made = [SYSTEM] * bool(plan.system) + [REJECTED] * bool(plan.rejected)
    names = [ROW, REASON, RAW, PROMPT, COMPLETION, *made, *([ANSWER] if few else [])]
    for start, texts in spool.read(*names):
        rows = texts.with_columns(pl.Series(SPLIT, fates.codes[start : start + len(texts)]))
        if few:
            answers.update(_counted(rows))
        parts = {n: rows.filter(pl.col(SPLIT) == SPLITS.index(n)) for n in targets if n != ASIDE}
        if ASIDE in targets:
            parts[ASIDE] = _aside(rows.filter(pl.col(SPLIT) >= GONE), reasons)
        yield parts


def _counted(rows: "pl.DataFrame") -> dict[tuple[int, str], int]:
    """Rows of each (split, answer)."""
    import polars as pl

    text = pl.col(COMPLETION).first().str.strip_chars()
    kept = rows.filter(pl.col(SPLIT) < GONE).group_by(SPLIT, ANSWER).agg(text, pl.len())
    return {(place, text): count for place, _, text, count in kept.iter_rows()}


def _is_reordered(plan: Plan, split: str) -> bool:
    """True where the rows of a split are held in memory to be put in another order."""
    if isinstance(plan.order, Sorted):
        return split == "train"
    return isinstance(plan.order, Shuffled) and split != ASIDE


def _append(rows: "pl.DataFrame", line: "pl.Expr", target: IO[bytes]) -> None:
    """Whole lines, written as they are."""
    rows.select(line).write_csv(target, include_header=False, quote_style="never")


def _aside(rows: "pl.DataFrame", reasons: "pl.Series") -> "pl.DataFrame":
    """Rows with their line in the file and the reason."""
    import polars as pl

    why = pl.coalesce(REASON, pl.lit(reasons.gather(rows[SPLIT])))
    return rows.select(line=ROW, reason=why, text=RAW, prompt=PROMPT, completion=COMPLETION)


def output_line(plan: Plan) -> "pl.Expr":
    """A line of output, as JSON text: lists of structs would take ten times as long."""
    import polars as pl

    def message(role: str, content: str) -> pl.Expr:
        return pl.struct(role=pl.lit(role), content=content).struct.json_encode()

    if plan.format == "completion":
        return pl.struct(prompt=PROMPT, completion=COMPLETION).struct.json_encode()
    prompt = message("user", PROMPT)
    if plan.system:
        both = _joined(message("system", SYSTEM), ",", prompt)
        prompt = pl.when(pl.col(SYSTEM) != "").then(both).otherwise(prompt)
    answer = message("assistant", COMPLETION)
    if plan.format == "chat":
        return _joined('{"messages":[', prompt, ",", answer, "]}")
    rejected = message("assistant", REJECTED)
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
