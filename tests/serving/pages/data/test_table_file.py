"""Tables are filtered, sorted and read page by page, also those that are mapped from a file."""

import polars as pl
import pytest

from jangin.core.errors import DataError, StoreError
from jangin.core.records import Example, Message
from jangin.project.tables import flat_row
from jangin.serving.pages.data import table_file
from jangin.serving.pages.data.catalog import shown_columns
from jangin.serving.pages.data.table_file import Query, TableFile, open_table
from tests.serving.pages.data.artifacts import artifact, example, scored, split

QUESTIONS = ("휴가는 며칠입니까?", "Kim 팀장은 누구입니까?", "여비는 얼마입니까?", "휴가 신청은?")


@pytest.fixture(params=("in memory", "mapped", "mapped, in parts"))
def table(request, tmp_path, monkeypatch):
    """Four splits, two of them to train on."""
    mapped = request.param != "in memory"
    if mapped:
        monkeypatch.setattr(table_file, "LARGE", 0)
    rows = [
        split(
            scored(example(text, f"답 {n}", page=n + 1, chunk_ids=("a", "b")), "judge", 0.5),
            ("train", "test")[n % 2],
        )
        for n, text in enumerate(QUESTIONS)
    ]
    size = 3 if "parts" in request.param else 0
    made_by_split = artifact(tmp_path / request.param, "split", splits=rows, rows_a_part=size)
    opened = open_table(made_by_split, "splits")
    assert (tmp_path / request.param / "tables").exists() == mapped
    return opened


def questions(page):
    return [row["question"] for _, row in page.rows]


def test_rows_are_as_show_flattens_them(table):
    assert table.flat_rows([2])[0]["scores"] == "judge 0.5"
    known = flat_row(table.row(2))
    shown = table.flat_rows([2])[0]
    for name in ("id", "question", "answer", "page", "split", "kind", "source"):
        assert shown[name] == known[name]
    assert shown["chunk_ids"] == "a; b"


def test_earlier_turns_are_as_show_flattens_them_and_shown_where_there_are_any(tmp_path, table):
    roles = ("system", "user", "assistant", "user")
    turns = tuple(Message(role=role, content=f"말 {n}") for n, role in enumerate(roles))
    row = Example.make(turns, Message(role="assistant", content="답"), kind="original")
    read = artifact(tmp_path / "chats", "read", examples=[row, example("하나")])
    chats = open_table(read, "examples")
    shown = [row["earlier_turns"] for row in chats.flat_rows([0, 1])]
    assert shown == [flat_row(chats.row(n))["earlier_turns"] for n in (0, 1)]
    assert shown == [row.earlier_turns, ""]
    assert shown_columns("examples", chats)[1] == "earlier_turns"
    assert "earlier_turns" not in shown_columns("splits", table)


def test_search_choice_and_condition_narrow_the_rows(table):
    assert questions(table.page(Query(search="휴가"), 10)) == [QUESTIONS[0], QUESTIONS[3]]
    assert questions(table.page(Query(search="kIM"), 10)) == [QUESTIONS[1]]
    assert table.page(Query(search=".*"), 10).count == 0
    assert table.page(Query(values=(("split", "train"),)), 10).count == 2
    assert table.page(Query(condition=("page", ">=", "3")), 10).count == 2
    both = Query(search="휴가", values=(("split", "test"),), condition=("page", "!=", "1"))
    assert questions(table.page(both, 10)) == [QUESTIONS[3]]
    assert table.choices("split") == (("train", 2), ("test", 2)) or table.choices("split") == (
        ("test", 2), ("train", 2),
    )  # fmt: skip
    assert table.choices("source") == ()


def test_yes_and_no_can_both_be_chosen():
    frame = pl.DataFrame({"done": [True, False, None, True]})
    table = TableFile(frame, {"done": pl.col("done")}, {"done": pl.Boolean()})
    assert set(table.choices("done")) == {("true", 2), ("false", 1), ("", 1)}
    for value, count in (("true", 2), ("false", 1)):
        assert table.page(Query(values=(("done", value),)), 10).count == count


@pytest.mark.parametrize("query", [Query(), Query(sort="page", descending=True)])
def test_pages_follow_each_other_without_gap_or_repetition(table, query):
    seen, start, pages = [], None, 0
    while True:
        page = table.page(query, 3, start)
        seen += questions(page)
        pages += 1
        if page.next is None:
            break
        start = page.next
    assert seen == list(QUESTIONS if not query.sort else reversed(QUESTIONS))
    assert pages == 2
    assert (page.first, page.count) == (4, 4)
    back = table.page(query, 3, page.previous)
    assert (questions(back), back.previous) == (seen[:3], None)


def test_wrong_questions_are_refused_in_a_sentence(table):
    for query, sentence in (
        (Query(condition=("page", ">", "viel")), "holds numbers"),
        (Query(condition=("nothing", "=", "1")), "no column"),
        (Query(condition=("page", "like", "1")), "compares nothing"),
        (Query(sort="nothing"), "no column"),
        (Query(values=(("nothing", "1"),)), "no column"),
    ):
        with pytest.raises(DataError, match=sentence):
            table.page(query, 10)
    with pytest.raises(DataError, match="no row 5"):
        table.row(4)


def test_a_row_is_looked_up_by_its_id(table):
    name = table.flat_rows([1])[0]["id"]
    assert table.numbers("id", name) == [1]
    assert table.numbers("split", "train") == [0, 2]
    assert table.numbers("id", "none") == table.numbers("nothing", "1") == []


def test_what_no_stage_wrote_is_no_table(tmp_path):
    rows = artifact(tmp_path, "curate", examples=[example("하나?")])
    for name in ("splits", "../curate/examples", "manifest"):
        with pytest.raises(DataError, match="no table"):
            open_table(rows, name)


def test_mapped_files_of_deleted_artifacts_are_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(table_file, "LARGE", 0)
    folder = tmp_path / "tables"
    folder.mkdir()
    old = folder / "split.ffffffffffffffff.0123456789abcdef.splits.arrow"
    old.write_bytes(b"")
    open_table(artifact(tmp_path, "curate", examples=[example("하나?")]), "examples")
    assert not old.exists()
    assert len(list(folder.iterdir())) == 1


def test_a_full_disk_is_said_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(table_file, "LARGE", 0)

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.LazyFrame, "sink_ipc", full)
    rows = artifact(tmp_path, "curate", examples=[example("하나?")])
    with pytest.raises(StoreError, match="disk is full"):
        open_table(rows, "examples")
    assert list((tmp_path / "tables").iterdir()) == []
