"""Tables that are far larger inside than outside, read in a process of their own."""

import io

import pyarrow
import pytest
from pyarrow.parquet import read_table, write_table
from xlsxwriter import Workbook

from jangin.core.errors import DataError
from jangin.prepare.tables.readers import table_as_parquet
from jangin.serving.files import check_process
from jangin.serving.files.check_process import elsewhere

MB = 10**6


def spreadsheet(rows):
    """An XLSX whose sheet is some 100 bytes a row, packed to almost nothing."""
    out = io.BytesIO()
    with Workbook(out, {"in_memory": True}) as book:
        sheet = book.add_worksheet()
        for row, cells in enumerate([("question", "answer"), *[("x" * 50, "y" * 50)] * rows]):
            sheet.write_row(row, 0, cells)
    return out.getvalue()


def parquet(rows):
    """Some thousand bytes with rows of 40 kB."""
    texts = pyarrow.DictionaryArray.from_arrays([0] * rows, ["x" * 20_000])
    out = io.BytesIO()
    write_table(pyarrow.table({"question": texts, "answer": texts}), out, compression="zstd")
    return out.getvalue()


@pytest.fixture
def unpack(tmp_path):
    """Unpack a table in a process of its own."""

    def unpack_table(name, data, most=2 * MB):
        (tmp_path / name).write_bytes(data)
        elsewhere(table_as_parquet, tmp_path / name, tmp_path / "out", most, limited=True)
        return read_table(tmp_path / "out").to_pylist()

    return unpack_table


@pytest.mark.parametrize(("name", "make"), [("a.xlsx", spreadsheet), ("a.parquet", parquet)])
def test_a_table_that_is_far_larger_inside_is_refused(unpack, name, make):
    data = make(30_000)
    assert len(data) < 1_500_000
    with pytest.raises(DataError, match=f"{name} takes more than 2 MB"):
        unpack(name, data)
    rows = unpack(name, make(3))
    assert len(rows) == 3
    assert set(rows[0]["question"]) == {"x"}


def test_a_table_that_takes_too_much_memory_ends_its_process_only(unpack, monkeypatch):
    monkeypatch.setattr(check_process, "MEMORY", 10 << 20)
    monkeypatch.setattr(check_process, "_TICK_SECONDS", 0.01)
    with pytest.raises(DataError, match="Split it"):
        unpack("a.xlsx", spreadsheet(3))
