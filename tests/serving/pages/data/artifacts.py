"""Artifacts of a few rows, as stages write them."""

from jangin.core.digest import short_digest
from jangin.core.parquet import write_table
from jangin.core.records import Dropped, Example, Message, Score, SplitExample
from tests.conftest import cut_into_parts, make_artifact


def artifact(store, stage, *, rows_a_part=0, **tables):
    """An artifact of a stage with {name: rows}; every table has at least one row.

    With `rows_a_part`, each is a folder of parts.
    """
    folder = store / stage / "0123456789abcdef"
    folder.mkdir(parents=True)
    for name, rows in tables.items():
        write_table(folder / f"{name}.parquet", type(rows[0]), rows)
        if rows_a_part:
            cut_into_parts(folder / f"{name}.parquet", type(rows[0]), rows_a_part)
    files = {f"{name}.parquet": "" for name in tables}
    content = short_digest([stage, str(store)]) * 4
    return make_artifact(folder, stage=stage, files=files, content=content)


def example(question, answer="답", **fields):
    return Example.make(
        prompt=(Message(role="user", content=question),),
        completion=Message(role="assistant", content=answer),
        **{"kind": "original", "source": "규정.pdf", **fields},
    )


def scored(row, scorer, value):
    score = Score(scorer=scorer, kind="model", value=value, reason="")
    return row.model_copy(update={"scores": (*row.scores, score)})


def dropped(row, rule, reason, twin=""):
    return Dropped(example=row, rule=rule, reason=reason, twin=twin)


def split(row, name):
    return SplitExample(example=row, split=name)
