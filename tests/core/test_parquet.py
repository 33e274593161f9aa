import contextlib
import tempfile
import typing
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from jangin.core import parquet
from jangin.core import records as types
from jangin.core.errors import StoreError
from jangin.core.parquet import (
    RowsDigest,
    TableWriter,
    arrow_schema,
    count_rows,
    digest_parts,
    digest_table,
    part_path,
    part_paths,
    read_batches,
    read_columns,
    read_rows,
    read_table,
    write_table,
)
from jangin.core.reasons import Reason

RECORDS = [
    record
    for record in vars(types).values()
    if isinstance(record, type) and issubclass(record, types.Record) and record is not types.Record
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
st.register_type_strategy(str, TEXT)
st.register_type_strategy(
    Reason, TEXT.map(Reason.said) | TEXT.map(lambda words: Reason("pointer", words=words))
)
some = settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def rows_of(record):
    """Strategy of a record: every field from its annotation, numbers as a table can hold them."""
    fields = {}
    for name, field in record.model_fields.items():
        if name == "value":
            fields[name] = st.floats(0, 1)
        elif field.annotation is int:
            fields[name] = st.integers(-(2**63), 2**63 - 1)
        elif field.annotation is float:
            fields[name] = st.floats(allow_nan=False, allow_infinity=False)
        elif float in typing.get_args(field.annotation):
            fields[name] = st.none() | st.floats(allow_nan=False)
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            fields[name] = rows_of(field.annotation)
        elif typing.get_origin(field.annotation) is tuple:
            inner = typing.get_args(field.annotation)[0]
            record_inside = issubclass(inner, BaseModel)
            one = rows_of(inner) if record_inside else st.integers(0, 1) if inner is int else TEXT
            fields[name] = st.lists(one, max_size=3).map(tuple)
        else:
            fields[name] = st.from_type(field.annotation)
    return st.builds(record, **fields)


def test_the_records_are_found():
    assert {"Document", "Chunk", "Example", "Score", "Message"} <= {r.__name__ for r in RECORDS}


@pytest.mark.slow
@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_record_type_comes_back_from_parquet_as_it_was(tmp_path, record):
    @some
    @given(st.lists(rows_of(record), max_size=4))
    def check(rows):
        path = tmp_path / "rows.parquet"
        write_table(path, record, rows)
        assert read_table(path, record) == rows
        assert count_rows(path) == len(rows)

    check()


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_an_empty_table_keeps_its_columns(tmp_path, record):
    path = tmp_path / "empty.parquet"
    write_table(path, record, [])
    assert read_table(path, record) == []
    assert pq.read_schema(path).equals(arrow_schema(record))
    assert pq.read_schema(path).names == list(record.model_fields)


@pytest.mark.slow
@some
@given(
    st.lists(rows_of(types.Page), min_size=1, max_size=40),
    st.sampled_from(["none", "snappy", "zstd", "gzip", "lz4"]),
    st.integers(1, 50),
    st.booleans(),
    st.integers(16, 4096),
)
def test_a_digest_is_of_the_rows_and_not_of_the_file(
    tmp_path, rows, compression, group, dictionary, page
):
    path, other = tmp_path / "one.parquet", tmp_path / "other.parquet"
    write_table(path, types.Page, rows)
    table = pq.read_table(path).replace_schema_metadata({"writer": "another"})
    pq.write_table(
        table,
        other,
        compression=compression,
        row_group_size=group,
        use_dictionary=dictionary,
        data_page_size=page,
        version="1.0",
    )
    assert digest_table(other) == digest_table(path)


@pytest.mark.slow
@some
@given(st.lists(rows_of(types.Example), min_size=1, max_size=12), st.integers(1, 5))
def test_a_digest_of_nested_rows_does_not_see_row_groups(tmp_path, rows, group):
    path, other = tmp_path / "one.parquet", tmp_path / "other.parquet"
    write_table(path, types.Example, rows)
    pq.write_table(pq.read_table(path), other, row_group_size=group, compression="none")
    assert digest_table(other) == digest_table(path)


@pytest.mark.slow
@some
@given(st.lists(rows_of(types.Page), max_size=5), st.lists(rows_of(types.Page), max_size=5))
def test_other_rows_or_another_order_have_another_digest(tmp_path, one, other):
    for name, rows in (("one", one), ("other", other)):
        write_table(tmp_path / name, types.Page, rows)
    same = digest_table(tmp_path / "one") == digest_table(tmp_path / "other")
    assert same == (repr(one) == repr(other))


class FirstPage(types.Record):
    """A page as the first stores have it: fields that `Page` got since are columns of their own."""

    number: int
    start: int
    end: int
    method: Literal["text", "ocr", "vision"]
    confidence: float | None = None
    reason: str = ""


def test_the_digest_of_a_table_is_the_same_in_every_release(tmp_path):
    page = FirstPage(number=1, start=0, end=3, method="ocr", confidence=88.5, reason="빈 쪽")
    path = tmp_path / "pages.parquet"
    write_table(path, FirstPage, [page, FirstPage(number=2, start=3, end=4, method="text")])
    assert digest_table(path) == "345dfdb3ecc542a1cba793303f6090cf3c2c977a8c47becb8a6de72e2619347b"


@pytest.mark.parametrize("cut", [0, 10, -30, -1])
def test_a_cut_table_is_one_sentence_and_one_remedy(tmp_path, cut):
    path = tmp_path / "pages.parquet"
    write_table(path, types.Page, [types.Page(number=1, start=0, end=3, method="text")])
    path.write_bytes(path.read_bytes()[:cut])
    for read in (lambda: read_table(path, types.Page), lambda: count_rows(path)):
        with pytest.raises(StoreError, match="Delete its folder and run again") as caught:
            read()
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@some
@given(st.integers(0, 10_000), st.integers(0, 7))
def test_a_table_with_a_flipped_bit_is_read_or_refused_but_never_a_traceback(tmp_path, at, bit):
    path = tmp_path / "pages.parquet"
    rows = [types.Page(number=n, start=0, end=n, method="text") for n in range(20)]
    write_table(path, types.Page, rows)
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1 << bit
    path.write_bytes(data)
    with contextlib.suppress(StoreError):
        assert len(read_table(path, types.Page)) == 20


def test_rows_of_another_record_type_are_refused(tmp_path):
    path = tmp_path / "pages.parquet"
    write_table(path, types.Page, [types.Page(number=1, start=0, end=3, method="text")])
    with pytest.raises(StoreError, match="Delete its folder"):
        read_table(path, types.Message)


def test_a_path_that_looks_like_a_partition_adds_no_column(tmp_path):
    folder = tmp_path / "year=2026" / "_한글"
    folder.mkdir(parents=True)
    write_table(folder / "t.parquet", types.Message, [types.Message(role="user", content="b")])
    assert read_table(folder / "t.parquet", types.Message) == [
        types.Message(role="user", content="b")
    ]


def test_what_a_table_cannot_hold_is_named_with_its_field():
    class Loose(BaseModel):
        """A record with a field of no fixed type."""

        anything: dict[str, int]

    with pytest.raises(TypeError, match=r"Loose.anything: a table cannot hold dict\[str, int\]"):
        arrow_schema(Loose)


def test_the_schema_says_what_may_be_empty():
    schema = arrow_schema(types.Page)
    assert schema.field("confidence") == pa.field("confidence", pa.float64(), nullable=True)
    assert not schema.field("reason").nullable


def write_parts(table, record, rows, cuts):
    """The rows as a table in parts that end before these rows."""
    for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(rows)], strict=True)):
        with TableWriter(part_path(table, number), record, part=True) as writer:
            writer.add(rows[start:end])


@pytest.mark.parametrize("record", [types.Page, types.SplitExample])
def test_parts_hold_the_rows_of_one_file_and_their_digests_join(tmp_path, record):
    @settings(some, max_examples=8)
    @given(st.lists(rows_of(record), min_size=1, max_size=6), st.data())
    def check(rows, data):
        cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=3)))
        with tempfile.TemporaryDirectory(dir=tmp_path) as name:
            cut, whole, other = (Path(name) / f"{n}.parquet" for n in ("cut", "whole", "other"))
            write_parts(cut, record, rows, cuts)
            write_parts(whole, record, rows, [])
            turned = [*rows[1:], rows[0]]
            write_parts(other, record, turned, [])
            assert read_table(cut, record) == rows
            assert count_rows(cut) == len(rows)
            assert digest_parts(cut) == digest_parts(whole)
            assert (digest_parts(other) == digest_parts(whole)) == (turned == rows)

    check()


@settings(some, max_examples=8)
@given(st.lists(rows_of(types.Example), min_size=1, max_size=9), st.integers(1, 9))
def test_the_digest_of_a_part_is_that_of_its_rows(tmp_path, rows, size):
    path = tmp_path / "part.parquet"
    with TableWriter(path, types.Example, part=True) as writer:
        writer.add(rows)
    digest = RowsDigest()
    table = read_columns(path)
    for start in range(0, len(rows), size):
        for batch in table.slice(start, size).to_batches():
            digest.add(batch)
    assert digest.hex == digest_parts(path)


@settings(some, max_examples=8)
@given(st.lists(rows_of(types.SplitExample), max_size=9))
def test_a_large_table_has_the_digest_that_a_small_one_would_have(tmp_path, rows):
    path = tmp_path / "rows.parquet"
    write_table(path, types.SplitExample, rows)
    whole = digest_table(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "STREAMED_BYTES", 0)
        patch.setattr(parquet, "BATCH_ROWS", 2)
        assert digest_table(path) == whole


def test_columns_batches_and_rows_by_id_are_read_from_parts_in_order(tmp_path):
    rows = [types.Query(id=f"{n:02}", text=f"text {n}", seed_word="word") for n in range(30)]
    table = tmp_path / "queries.parquet"
    write_parts(table, types.Query, rows, [7, 7, 20])
    assert [path.name for path in part_paths(table)] == [f"part-{n:05}.parquet" for n in range(4)]
    assert read_columns(table, ["id"])["id"].to_pylist() == [row.id for row in rows]
    assert sum(batch.num_rows for batch in read_batches(table, ["text"])) == 30
    assert read_rows(table, types.Query, ["25", "03"]) == [rows[3], rows[25]]
    assert pq.read_table(table).num_rows == 30


def test_a_missing_part_is_one_sentence(tmp_path):
    table = tmp_path / "messages.parquet"
    write_parts(table, types.Message, [types.Message(role="user", content="a")] * 3, [1, 2])
    part_path(table, 1).unlink()
    for read in (lambda: read_table(table, types.Message), lambda: count_rows(table)):
        with pytest.raises(StoreError, match=r"part-00001\.parquet is missing") as caught:
            read()
        assert "Delete the folder" in str(caught.value)


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    table = tmp_path / "messages.parquet"
    failing, error = pytest.raises(RuntimeError), RuntimeError("the reader of a document")
    with failing, TableWriter(part_path(table, 0), types.Message, part=True) as writer:
        writer.add([types.Message(role="user", content="a")] * 2000)
        raise error
    assert not list(table.iterdir())
