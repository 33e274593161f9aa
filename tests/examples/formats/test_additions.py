"""Rows that people add by hand: listing, deleting and taking back."""

import pytest

from jangin.core.records import Message
from jangin.examples.formats.additions import FILES, add_row, remove_row, saved_rows, undo_row


def turns(question, answer):
    return Message(role="user", content=question), Message(role="assistant", content=answer)


def contents(folder):
    return {(row.kind, row.question, row.answer) for row in saved_rows(folder)}


def test_rows_are_listed_and_deleted_one_by_one(tmp_path):
    add_row(tmp_path, "example", turns("왜?", "그래서"), "main")
    add_row(tmp_path, "question", turns("언제?", "내일"), "main")
    with (tmp_path / FILES["example"]).open("a") as file:
        file.write("damaged\n")
    assert contents(tmp_path) == {("example", "왜?", "그래서"), ("question", "언제?", "내일")}
    row = next(row for row in saved_rows(tmp_path) if row.kind == "question")
    assert row.variant == "main"
    assert remove_row(tmp_path, row.id)
    assert not remove_row(tmp_path, row.id)
    assert contents(tmp_path) == {("example", "왜?", "그래서")}
    assert not (tmp_path / FILES["question"]).exists()
    assert "damaged" in (tmp_path / FILES["example"]).read_text()


@pytest.mark.parametrize("first", ["example", "question"])
def test_taking_back_restores_what_was_replaced(tmp_path, first):
    add_row(tmp_path, first, turns("왜?", "그래서"), "main")
    add_row(tmp_path, "question", turns("언제?", "내일"), "main")
    before = contents(tmp_path)
    saved = add_row(tmp_path, "example", turns("왜?", "다른 답"), "main")
    assert contents(tmp_path) != before
    assert undo_row(tmp_path, saved)
    assert contents(tmp_path) == before
    assert not undo_row(tmp_path, saved)


def test_taking_back_the_only_row_leaves_no_file(tmp_path):
    saved = add_row(tmp_path, "example", turns("왜?", "그래서"), "main")
    assert undo_row(tmp_path, saved)
    assert not saved.path.exists()
