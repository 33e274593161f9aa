"""Preference pairs from a file of the user, in any form that `jangin prepare` knows."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from jangin.core.digest import short_digest
from jangin.core.errors import DataError
from jangin.core.records import Message, PreferencePair
from jangin.prepare.engine.build import (
    COMPLETION,
    HISTORY,
    QUESTION,
    REJECTED,
    SYSTEM,
    apply_row_steps,
)
from jangin.prepare.options import PrepareOptions
from jangin.prepare.shapes import first_plan, left_out
from jangin.prepare.tables.readers import TableSettings, open_table
from jangin.prepare.tables.schema import REASON, ROW
from jangin.prepare.transforms.chats import history_turns
from jangin.prepare.transforms.deduplicate import PROMPT


@dataclass(frozen=True, slots=True)
class PairFile:
    """What a file of preference pairs holds."""

    pairs: list[PreferencePair]
    unusable: list[tuple[int, str]]
    """(line, reason) of the rows that gave no pair."""
    left_out: tuple[str, ...]
    """Columns that are not used."""


def read_pairs(path: Path) -> PairFile:
    """The pairs of a file; their family is their prompt.

    Raises `DataError` for a file that holds no pairs.
    """
    with tempfile.TemporaryDirectory() as name:
        table = open_table(path, TableSettings(), Path(name))
        plan = first_plan(table, PrepareOptions(format="preference"), path)
        rows = apply_row_steps(table, plan, Path()).frame.collect(engine="streaming")
    pairs, unusable = [], []
    for row in rows.iter_rows(named=True):
        if row[REASON] is not None:
            unusable.append((row[ROW], str(row[REASON])))
            continue
        system = str(row.get(SYSTEM) or "")
        prompt = [Message(role="system", content=system)] if system else []
        turns = history_turns(str(row.get(HISTORY) or ""))
        prompt += [Message(role=turn["role"], content=turn["content"]) for turn in turns]
        prompt.append(Message(role="user", content=str(row.get(QUESTION) or row[PROMPT])))
        family = short_digest([message.model_dump() for message in prompt])
        pairs.append(
            PreferencePair.make(
                tuple(prompt),
                Message(role="assistant", content=str(row[COMPLETION])),
                Message(role="assistant", content=str(row[REJECTED])),
                origin="file",
                family=family,
                example_id=family,
                source=path.name,
            )
        )
    if not pairs:
        why = f" (line {unusable[0][0]}: {unusable[0][1]})" if unusable else ""
        raise DataError(
            f"{path} holds no pair of a chosen and a rejected answer{why}. Name another file under "
            "preferences."
        )
    return PairFile(pairs, unusable, left_out(table, plan))
