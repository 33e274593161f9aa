"""Run a plan over a table with bounded memory and write the training files.

    table -> row steps -> spill file -> table steps, on hashes -> splits -> files

Texts are streamed and hashes are held bucket by bucket; per row, one or two bytes stay in memory.
Dropped rows go to a file of their own, each with its line and the reason.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING

from jangin.core.errors import DataError, all_counted
from jangin.prepare.engine.assignment import (
    DROPPED,
    DropReason,
    RowAssignment,
    apply_table_steps,
    assign_splits,
    drop_reasons,
)
from jangin.prepare.engine.plan import Order, PreparePlan, Shuffled, Sorted
from jangin.prepare.engine.spill import SpillFile
from jangin.prepare.engine.stratified_split import MAX_STRATA, SPLITS
from jangin.prepare.tables.csv import CACHE_BYTES, prefetch, thread_map
from jangin.prepare.tables.readers import OpenTable, open_table
from jangin.prepare.tables.schema import RAW, REASON, ROW
from jangin.prepare.transforms.chats import (
    CHAT_COLUMNS,
    chat_column,
    history_text,
    unpack_messages,
)
from jangin.prepare.transforms.columns import Columns, step_name
from jangin.prepare.transforms.deduplicate import ANSWER, KEY, PROMPT
from jangin.prepare.transforms.pairs import PAIR_COLUMNS, pair_by_label, unpack_pairs
from jangin.prepare.transforms.steps import (
    TableStep,
    fill_template,
    key_of,
    match_mode,
    required_columns,
    split_steps,
)

if TYPE_CHECKING:
    import polars as pl

COMPLETION, SYSTEM, REJECTED = "__completion", "__system", "__rejected"
HISTORY, QUESTION = "__history", "__question"
"""The turns before the last question as JSON objects, and that question. `PROMPT` holds the texts
of both, as chats with different turns before the same question differ."""
GROUP, SPLIT = "__group", "__split"
DROPPED_FILE = "aside"
"""Key of the file of dropped rows, beside the names of the splits; also part of its file name."""


@dataclass(frozen=True, slots=True)
class PreparedData:
    """Counts and files of a finished run."""

    rows: int
    """Rows that were read."""
    read_as: str
    """Format of the source file in words."""
    splits: dict[str, int]
    """{split: rows}."""
    changed: dict[str, int]
    """{row step: rows that it changed}."""
    reasons: tuple[DropReason, ...]
    answers: dict[str, dict[str, int]]
    """{split: {answer: rows}} if the answers look like labels, else empty."""
    files: dict[str, Path]
    digests: dict[str, str]
    """{file: sha256}."""


def apply_row_steps(table: OpenTable, plan: PreparePlan, project_folder: Path) -> Columns:
    """The table after its row steps, with prompt and answer; lazy, nothing is computed yet.

    Raises `SettingsError` if a step or a template names a column that does not exist, or the steps
    are in the wrong order.
    """
    import polars as pl

    row_steps, _ = split_steps(plan.steps)
    columns = Columns(table.frame, list(table.columns), project_folder)
    _unpack(columns, plan)
    for step in row_steps:
        step.apply(columns)
    filled = {PROMPT: fill_template(plan.prompt, columns, "prompt")}
    filled[COMPLETION] = fill_template(plan.completion, columns, "completion")
    if plan.system:
        filled[SYSTEM] = fill_template(plan.system, columns, "system")
    if plan.rejected:
        filled[REJECTED] = fill_template(plan.rejected, columns, "rejected")
    columns.frame = columns.frame.with_columns(**filled)
    if plan.source != "columns":
        history = pl.col("history").fill_null("")
        texts = history.map_batches(_history_texts, return_dtype=pl.String, is_elementwise=True)
        context = pl.concat_str(texts, pl.lit("\n\n"), PROMPT)
        columns.frame = columns.frame.with_columns(
            history.alias(HISTORY),
            pl.col(PROMPT).alias(QUESTION),
            pl.when(history == "").then(PROMPT).otherwise(context).alias(PROMPT),
        )
        if plan.format == "completion":
            columns.mark_dropped(pl.col(HISTORY) != "", "a conversation of several turns")
    for name, word in ((PROMPT, "prompt"), (COMPLETION, "answer"), (REJECTED, "rejected answer")):
        if name in filled:
            columns.mark_dropped(~pl.col(name).str.contains(r"\S"), f"the {word} is empty")
    if plan.rejected:
        columns.mark_dropped(
            pl.col(COMPLETION) == pl.col(REJECTED), "chosen and rejected answer are the same"
        )
    return columns


def _unpack(columns: Columns, plan: PreparePlan) -> None:
    """Add the columns of chats, pairs or labelled answers."""
    names: tuple[str, ...] = ()
    if plan.source == "messages":
        chats = chat_column(columns.names)
        columns.require("messages", chats)
        system = next((n for n in columns.names if n.lower() in ("system", "system_prompt")), "")
        columns.frame = unpack_messages(columns.frame, chats, system)
        names = CHAT_COLUMNS
    elif plan.source == "pairs":
        columns.frame, names = unpack_pairs(columns.frame, columns.names), PAIR_COLUMNS
    elif plan.source == "labels":
        columns.frame, names = pair_by_label(columns.frame, columns.names), PAIR_COLUMNS
    columns.turns = "history" if names else ""
    columns.names += [name for name in names if name not in columns.names]


def _history_texts(cells: "pl.Series") -> "pl.Series":
    import polars as pl

    return pl.Series(cells.name, [history_text(cell or "") for cell in cells], dtype=pl.String)


def build_files(
    source: Path,
    plan: PreparePlan,
    files: Mapping[str, Path],
    work: Path,
    project_folder: Path = Path(),
) -> PreparedData:
    """Write the file of each split in `files` and, if it is named, that of `DROPPED_FILE`.

    `work` is an empty folder for the spill file.

    Raises `DataError` if the file cannot be read, no row is left, or all rows have the same answer.
    Raises `SettingsError` if the plan does not fit the table, or a requested split is empty.
    """
    table = open_table(source, plan.table, work)
    columns = apply_row_steps(table, plan, project_folder)
    _, steps = split_steps(plan.steps)
    spill = SpillFile(work)
    _spill_rows(columns, plan, steps, spill)
    assignment = apply_table_steps(spill, steps)
    _refuse_untrainable(spill, assignment, source)
    unit = GROUP if plan.group else KEY
    shares = (plan.validation, plan.test, plan.seed)
    assign_splits(spill, assignment, unit, steps, *shares, plan.near_copies)
    answers, digests = _write_files(spill, assignment, plan, files)
    return PreparedData(
        rows=spill.rows,
        read_as=table.read_as,
        splits={n: int((assignment.codes == code).sum()) for code, n in enumerate(SPLITS)},
        files={name: path for name, path in files.items() if name in digests},
        digests=digests,
        reasons=drop_reasons(spill, assignment),
        changed={step_name(name): spill.changed[name] for name in columns.changes},
        answers=_label_counts(answers),
    )


def _spill_rows(
    columns: Columns, plan: PreparePlan, steps: list[TableStep], spill: SpillFile
) -> None:
    """Run the row steps over the file and store the columns that the later passes need."""
    import polars as pl

    required = (name for step in steps for name in required_columns(step))
    extra = dict.fromkeys(name for name in required if name != PROMPT)
    columns.require("steps", *extra)
    chosen = [pl.col(ROW).cast(pl.UInt32)]
    chosen += [pl.col(name) for name in (REASON, RAW, PROMPT, COMPLETION, *_optional(plan))]
    chosen += [pl.col(name) for name in (*extra, *columns.changes)]
    chosen.append(key_of(PROMPT, match_mode(plan.steps)))
    answer = pl.col(COMPLETION).str.strip_chars()
    if plan.source != "columns":  # a conversation is more than its last reply
        turns = pl.col(HISTORY)
        answer = pl.when(turns == "").then(answer).otherwise(turns + "\n" + answer)
    chosen.append(answer.hash(13).alias(ANSWER))
    if plan.group:
        columns.require("group", plan.group)
        chosen.append(pl.col(plan.group).hash(11).alias(GROUP))
    spill.write(columns.frame.select(chosen), columns.changes)


def _optional(plan: PreparePlan) -> list[str]:
    """Columns that only some plans have."""
    chats = [HISTORY, QUESTION] if plan.source != "columns" else []
    return [SYSTEM] * bool(plan.system) + [REJECTED] * bool(plan.rejected) + chats


def _refuse_untrainable(spill: SpillFile, assignment: RowAssignment, source: Path) -> None:
    """Raise `DataError` if no row is left, or only one answer."""
    kept = assignment.kept
    rows = int(kept.sum())
    if not rows:
        reasons = drop_reasons(spill, assignment)
        most = f" (most frequent reason: {reasons[0].reason})" if reasons else ""
        raise DataError(
            f"{source}: {all_counted(spill.rows, 'row was', 'rows were')} dropped{most}. Change "
            "the steps or the columns of question and answer."
        )
    if rows > 1 and len(assignment.answers) == 1:
        line = spill.line_of(int(kept.argmax()))
        raise DataError(
            f"{source}: {all_counted(rows, 'remaining row has', 'remaining rows have')} the "
            f"same answer as line {line}, so a model "
            "cannot learn to choose. Add rows with other answers."
        )


def _label_counts(counts: Counter[tuple[int, str]]) -> dict[str, dict[str, int]]:
    """{split: {answer: rows}} if there are few answers, else empty."""
    answers = {text for _, text in counts}
    if counts.total() < 5 * len(answers):
        return {}
    labels: dict[str, dict[str, int]] = {name: {} for name in SPLITS}
    for split, text in sorted(counts, key=lambda key: _numeric_order(key[1])):
        labels[SPLITS[split]][text] = counts[split, text]
    return {name: rows for name, rows in labels.items() if rows}


def _numeric_order(text: str) -> tuple[float, str]:
    """Sort key: numbers by size, then other texts."""
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text


def _write_files(
    spill: SpillFile, assignment: RowAssignment, plan: PreparePlan, files: Mapping[str, Path]
) -> tuple[Counter[tuple[int, str]], dict[str, str]]:
    """Write one file for each requested split, and one for the dropped rows.

    Returns ({(index of split, answer): rows}, {file: sha256}); the first is empty if there are
    many different answers. A thread hashes each file while the next rows are written.
    """
    requested = [name for name in SPLITS if name == "train" or getattr(plan, name)]
    paths = {name: files[name] for name in (*requested, DROPPED_FILE) if name in files}
    answers: Counter[tuple[int, str]] = Counter()
    with ExitStack() as stack:
        targets = {name: stack.enter_context(path.open("wb")) for name, path in paths.items()}
        written = {name: stack.enter_context(path.open("rb")) for name, path in paths.items()}
        digests = {name: sha256() for name in paths}

        def update_digests(_: int) -> None:
            for name, stream in written.items():
                while data := stream.read(CACHE_BYTES):
                    digests[name].update(data)

        portions = _write_portions(spill, assignment, plan, targets, answers)
        deque(thread_map(update_digests, portions, workers=1), maxlen=0)
    return answers, {name: digest.hexdigest() for name, digest in digests.items()}


def _write_portions(
    spill: SpillFile,
    assignment: RowAssignment,
    plan: PreparePlan,
    targets: Mapping[str, IO[bytes]],
    answers: Counter[tuple[int, str]],
) -> Iterator[int]:
    """Write portion by portion, then the splits that are reordered; number of rows each time."""
    import polars as pl

    line = output_line(plan)
    held: dict[str, list[pl.DataFrame]] = {n: [] for n in targets if _is_reordered(plan, n)}
    for portion in prefetch(_by_file(spill, assignment, plan, list(targets), answers)):
        for name, rows in portion.items():
            if name in held:
                held[name].append(rows)
            elif name == DROPPED_FILE:
                rows.write_ndjson(targets[name])
            else:
                _write_lines(rows, line, targets[name])
        yield sum(map(len, portion.values()))
    for name, parts in held.items():
        rows = order_rows(pl.concat(parts, how="diagonal"), plan.order)
        _write_lines(rows, line, targets[name])
        yield len(rows)


def _by_file(
    spill: SpillFile, assignment: RowAssignment, plan: PreparePlan, targets: list[str],
    answers: Counter[tuple[int, str]],
) -> "Iterator[dict[str, pl.DataFrame]]":  # fmt: skip
    """{file: its rows} of each portion; adds to the counts of `answers`."""
    import polars as pl

    reasons = pl.Series([None] * (DROPPED + 1) + assignment.reasons, dtype=pl.String)
    few = len(assignment.answers) <= MAX_STRATA
    names = [ROW, REASON, RAW, PROMPT, COMPLETION, *_optional(plan), *([ANSWER] if few else [])]
    for start, texts in spill.read(*names):
        rows = texts.with_columns(pl.Series(SPLIT, assignment.codes[start : start + len(texts)]))
        if few:
            answers.update(_count_answers(rows))
        parts = {
            n: rows.filter(pl.col(SPLIT) == SPLITS.index(n)) for n in targets if n != DROPPED_FILE
        }
        if DROPPED_FILE in targets:
            parts[DROPPED_FILE] = dropped_rows(rows.filter(pl.col(SPLIT) >= DROPPED), reasons)
        yield parts


def _count_answers(rows: "pl.DataFrame") -> dict[tuple[int, str], int]:
    """{(index of split, answer): rows}."""
    import polars as pl

    text = pl.col(COMPLETION).first().str.strip_chars()
    kept = rows.filter(pl.col(SPLIT) < DROPPED).group_by(SPLIT, ANSWER).agg(text, pl.len())
    return {(split, text): count for split, _, text, count in kept.iter_rows()}


def _is_reordered(plan: PreparePlan, name: str) -> bool:
    """True if the rows of a file are held in memory to be sorted or shuffled."""
    if isinstance(plan.order, Sorted):
        return name == "train"
    return isinstance(plan.order, Shuffled) and name != DROPPED_FILE


def _write_lines(rows: "pl.DataFrame", line: "pl.Expr", target: IO[bytes]) -> None:
    """Append one line per row, without CSV quoting."""
    rows.select(line).write_csv(target, include_header=False, quote_style="never")


def dropped_rows(rows: "pl.DataFrame", reasons: "pl.Series") -> "pl.DataFrame":
    """The rows of the file of dropped rows: line, reason, text, prompt, completion.

    `reasons` are those of the table steps, indexed by the code in the column `SPLIT`.
    """
    import polars as pl

    reason = pl.coalesce(REASON, pl.lit(reasons.gather(rows[SPLIT])))
    return rows.select(line=ROW, reason=reason, text=RAW, prompt=PROMPT, completion=COMPLETION)


def output_line(plan: PreparePlan) -> "pl.Expr":
    """A line of output as JSON text.

    It is joined from strings, because encoding lists of structs takes ten times as long.
    """
    import polars as pl

    def message(role: str, content: str) -> pl.Expr:
        return pl.struct(role=pl.lit(role), content=content).struct.json_encode()

    if plan.format == "completion":
        return pl.struct(prompt=PROMPT, completion=COMPLETION).struct.json_encode()
    prompt = message("user", PROMPT)
    if plan.source != "columns":
        turns = _joined(pl.col(HISTORY), ",", message("user", QUESTION))
        prompt = pl.when(pl.col(HISTORY) != "").then(turns).otherwise(message("user", QUESTION))
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
    """The rows in the given order."""
    import numpy as np
    import polars as pl

    if isinstance(order, Sorted):
        text = pl.col(COMPLETION).str.strip_chars()
        number = text.cast(pl.Float64, strict=False)
        return rows.sort(number, text, nulls_last=True, maintain_order=True)
    if isinstance(order, Shuffled):
        return rows[np.random.default_rng(order.seed).permutation(len(rows))]
    return rows
