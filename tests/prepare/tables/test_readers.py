import json
import tempfile
import zipfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.core.errors import DataError, MachineError, counted
from jangin.prepare.tables import csv as delimited
from jangin.prepare.tables.readers import TableSettings, open_table
from jangin.prepare.tables.schema import RAW, REASON, ROW

DEEP = b"[" * 100_000 + b"]" * 100_000
TEXT = "후기,별점\n좋아요,5\n별로예요,1\n"


@pytest.fixture
def read(tmp_path):
    """Write bytes to a file and read it; returns (table, rows as a frame)."""

    def call(name, data, **settings):
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        work = tmp_path / "work"
        work.mkdir()
        table = open_table(path, TableSettings(**settings), work)
        return table, table.frame.collect()

    return call


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp949", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_encoding_and_line_end_gives_the_same_rows(read, encoding, end):
    table, rows = read("a.csv", TEXT.rstrip("\n").replace("\n", end).encode(encoding))
    assert table.columns == ("후기", "별점")
    assert rows.select("후기", "별점").rows() == [("좋아요", "5"), ("별로예요", "1")]
    assert rows[ROW].to_list() == [2, 3]


def test_bytes_in_no_known_encoding_are_named_by_line(read):
    with pytest.raises(DataError, match=r"a\.csv:2: byte 6 "):
        read("a.csv", b"a,b\nok\xff\xfe,\xff\n")


@pytest.mark.parametrize(("start", "named"), [(b"PK\x03\x04", "a.xlsx"), (b"%PDF-1.7", "a.pdf")])
def test_a_file_that_is_no_text_in_spite_of_its_name_is_refused(read, start, named):
    with pytest.raises(DataError, match=rf"a\.csv is .*Name it {named}"):
        read("a.csv", start + b"\x00\x14,\x00\n" * 40)


@pytest.mark.parametrize(
    ("name", "delimiter"), [("a.csv", ","), ("a.csv", ";"), ("a.txt", "|"), ("a.tsv", "\t")]
)
def test_the_delimiter_is_detected(read, name, delimiter):
    table, rows = read(name, TEXT.replace(",", delimiter))
    assert table.columns == ("후기", "별점")
    assert len(rows) == 2


def test_a_ragged_line_is_dropped_with_its_number_and_never_misread(read):
    _, rows = read("a.tsv", "a\tb\n1\t2\n3\n4\t5\t6\n7\t8\n")
    assert rows.select(ROW, REASON, RAW).rows() == [
        (2, None, None),
        (3, "1 cell instead of 2", "3"),
        (4, "3 cells instead of 2", "4\t5\t6"),
        (5, None, None),
    ]


LINES = ["1\t2", "", "3", "4\t5\t6", "\t", "끝 \t8 ", "9\t10", "\u2028\t\x85"]


@pytest.mark.slow
@given(
    st.lists(st.sampled_from(LINES), min_size=1, max_size=30),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.integers(1, 40),
)
def test_rows_are_the_same_in_blocks_of_any_size(lines, end, ends, size):
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        path = Path(name) / "a.tsv"
        path.write_bytes((end.join(["a\tb", *lines]) + end * ends).encode())
        patch.setattr(delimited, "BLOCK_BYTES", size)
        frame = open_table(path, TableSettings(), Path(name)).frame
        rows = frame.collect()
        assert frame.select(pl.len()).collect().item() == len(rows)
        assert frame.select("b", ROW).head(3).collect().rows() == rows.select("b", ROW)[:3].rows()
    expected = []
    for line_number, line in enumerate(lines, start=2):
        cells = line.split("\t")
        if line and len(cells) == 2:
            expected.append((line_number, None, None, *cells))
        elif line:
            cells = [*cells, None][:2]
            said = counted(line.count("\t") + 1, "cell")
            expected.append((line_number, f"{said} instead of 2", line, *cells))
    assert rows.select(ROW, REASON, RAW, "a", "b").rows() == expected


def test_quoted_cells_hold_delimiters_and_lines_and_an_unclosed_one_drops_only_its_line(read):
    text = 'a,b\n"x,\ny","say ""hi"""\n1,2,3\n5,"open\n6,7\n8,"9"\n'
    _, rows = read("a.csv", text)
    good = rows.filter(pl.col(REASON).is_null())
    assert good.select(ROW, "a", "b").rows() == [
        (2, "x,\ny", 'say "hi"'),
        (6, "6", "7"),
        (7, "8", "9"),
    ]
    bad = rows.filter(pl.col(REASON).is_not_null()).select(ROW, RAW).rows()
    assert bad == [(4, "1\u241f2\u241f3"), (5, '5,"open')]


def test_quotation_marks_in_a_tsv_are_literal_unless_every_cell_is_properly_quoted(read, tmp_path):
    _, rows = read("a.tsv", 'a\tb\n"무법자" 영화\t5\n끝"\t1\n')
    assert rows["a"].to_list() == ['"무법자" 영화', '끝"']
    (tmp_path / "work").rmdir()
    _, rows = read("b.tsv", 'a\tb\n"say ""hi"""\t5\n')
    assert rows["a"].to_list() == ['say "hi"']


def test_names_lose_invisible_characters_and_doubles_get_a_number(read):
    table, _ = read("a.csv", "\ufeff\u200ba\u00a0,a,\n1,2,3\n")
    assert table.columns == ("a", "a_2", "column_3")


def test_columns_can_be_named_where_the_file_has_no_heading(read):
    _, rows = read("a.csv", "1,2\n3,4\n", columns=("x", "y"))
    assert rows.select(ROW, "x", "y").rows() == [(1, "1", "2"), (2, "3", "4")]


def test_mixed_types_in_json_lines_are_read_as_text(read):
    lines = ['{"price": 12.5}', '{"price": "1,299.00"}', '{"price": null}', '{"price": true}']
    _, rows = read("a.jsonl", "\n".join(lines))
    assert rows["price"].to_list() == ["12.5", "1,299.00", None, "true"]


def test_lists_in_json_lines_stay_json_whatever_they_contain(read):
    features = ['a "quoted" part', "line\nend", "한글\\"]
    _, rows = read("a.jsonl", json.dumps({"features": features}) + "\n")
    assert json.loads(rows["features"][0]) == features


def test_a_malformed_json_line_is_dropped_with_its_number(read):
    _, rows = read("a.jsonl", '{"a": 1}\n\n{broken\n[1]\n{"a": "x"}')
    assert rows.select(ROW, "a", RAW).rows() == [
        (1, "1", None),
        (3, None, "{broken"),
        (4, None, "[1]"),
        (5, "x", None),
    ]


def test_a_json_file_is_a_list_or_holds_one(read, tmp_path):
    _, rows = read("a.json", '[{"a": 1}, 7, {"b": [1]}]')
    assert rows.select(ROW, "a", "b", REASON).rows() == [
        (1, "1", None, None),
        (2, None, None, "the entry is no JSON object"),
        (3, None, "[1]", None),
    ]
    (tmp_path / "work").rmdir()
    assert read("b.json", '{"version": 1, "data": [{"a": 2.0}]}')[1]["a"].to_list() == ["2"]


def test_the_list_of_a_json_file_can_be_named_and_the_first_rows_be_enough(read, tmp_path):
    data = json.dumps({"old": [{"a": 1}], "rows": [{"a": 2}, {"a": 3}, {"a": 4}]})
    _, rows = read("a.json", data, json_rows="rows", first_rows=2)
    assert rows["a"].to_list() == ["2", "3"]
    (tmp_path / "work").rename(tmp_path / "work-of-json")
    _, rows = read("a.csv", TEXT, first_rows=1)
    assert rows["후기"].to_list() == ["좋아요"]


def test_parquet_is_read_as_text_with_lists_as_json(tmp_path):
    frame = pl.DataFrame({"a": [1, None], "b": [["x", '"'], None], "c": ["t", "u"]})
    frame.write_parquet(tmp_path / "a.parquet")
    table = open_table(tmp_path / "a.parquet", TableSettings(), tmp_path)
    rows = table.frame.collect()
    assert rows["a"].to_list() == ["1", None]
    assert [json.loads(cell) if cell else None for cell in rows["b"]] == [["x", '"'], None]


def workbook(path, rows):
    """A minimal .xlsx: numbers as numbers, everything else as inline text."""

    def cell(value):
        if isinstance(value, int | float):
            return f"<c><v>{value}</v></c>"
        return f'<c t="inlineStr"><is><t>{value}</t></is></c>'

    body = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in rows)
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    with zipfile.ZipFile(path, "w") as book:
        book.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{package}/content-types"><Default Extension="xml" '
            'ContentType="application/xml"/></Types>',
        )
        book.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
            f'Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        )
        book.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>'
            '<sheet name="가격" sheetId="1" r:id="r1"/></sheets></workbook>',
        )
        book.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
            f'Type="{office}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        )
        book.writestr(
            "xl/worksheets/sheet1.xml",
            f'<worksheet xmlns="{main}"><sheetData>{body}</sheetData></worksheet>',
        )


def test_a_workbook_gives_whole_numbers_as_people_write_them(tmp_path):
    pytest.importorskip("python_calamine")
    workbook(
        tmp_path / "a.xlsx", [["상품", "가격"], ["냄비", 12000], ["컵", "₩1,299"], ["접시", 3.5]]
    )
    table = open_table(tmp_path / "a.xlsx", TableSettings(), tmp_path)
    rows = table.frame.collect()
    assert rows.select(ROW, "상품", "가격").rows() == [
        (2, "냄비", "12000"),
        (3, "컵", "₩1,299"),
        (4, "접시", "3.5"),
    ]
    with pytest.raises(DataError, match=r"a\.xlsx .*'없음'.*가격"):
        open_table(tmp_path / "a.xlsx", TableSettings(sheet="없음"), tmp_path)


def test_a_workbook_with_one_cell_far_away_is_refused_before_it_fills_the_memory(tmp_path):
    pytest.importorskip("python_calamine")
    path = tmp_path / "a.xlsx"
    workbook(path, [["question"], ["q"]])
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    far = b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData>'
    sheet = "xl/worksheets/sheet1.xml"
    parts[sheet] = parts[sheet].replace(b"</sheetData>", far)
    with zipfile.ZipFile(path, "w") as book:
        for name, data in parts.items():
            book.writestr(name, data)
    with pytest.raises(DataError, match=r"a\.xlsx takes more than \d+ MB"):
        open_table(path, TableSettings(), tmp_path)


def test_a_workbook_without_its_package_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "python_calamine", None)
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    with pytest.raises(MachineError, match=r"jangin\[tables\]"):
        open_table(tmp_path / "a.xlsx", TableSettings(), tmp_path)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.csv", b"", r"a\.csv is empty"),
        ("a.doc", b"x", r"a\.doc: .*\.doc "),
        ("a.json", b'{"a": 1}', r"a\.json .*json_rows"),
        ("a.json", b'[{"a": 1},\n{]', r"a\.json:2: "),
        ("a.json", b"[" * 100_000, r"a\.json has .*nested too deeply"),
        ("a.json", b'[{"a": ' + DEEP + b"}]", r"a\.json has .*nested too deeply"),
        ("a.jsonl", b"broken\n", r"a\.jsonl:1: "),
        ("a.jsonl", b'{"a": ' + DEEP + b"}", r"a\.jsonl:1: "),
        ("a.parquet", b"nonsense", r"a\.parquet .*Parquet"),
    ],
)
def test_a_file_that_is_not_a_table_is_refused_by_name(read, name, data, words):
    with pytest.raises(DataError, match=words):
        read(name, data)


def test_pictures_in_a_parquet_file_are_missing_cells_and_bytes_that_are_text_are_text(tmp_path):
    frame = pl.DataFrame(
        {
            "name": [b"lamp", b"\xff\x00", None],
            "image": [{"bytes": b"\xff", "path": "a.png"}, {"bytes": b"ok", "path": None}, None],
            "pages": [[b"\xff"], [b"one", b"two"], []],
        }
    )
    frame.write_parquet(tmp_path / "rows.parquet")
    rows = open_table(tmp_path / "rows.parquet", TableSettings(), tmp_path).frame.collect()
    assert rows["name"].to_list() == ["lamp", None, None]
    assert rows["image"].to_list() == [
        *('{"bytes": null, "path": "a.png"}', '{"bytes": "ok", "path": null}', None),
    ]
    assert rows["pages"].to_list() == ["[null]", '["one", "two"]', "[]"]
