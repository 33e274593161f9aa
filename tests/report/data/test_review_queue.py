"""A large queue is read again after a restart, and made again where anything of it changed."""

import pytest

from jangin.core.parquet import write_table
from jangin.core.records import Example, Message
from jangin.examples.reviews.index import PackedQueue
from jangin.report.data import review_queue
from jangin.report.data.review_queue import QueueInputs
from tests.conftest import make_artifact


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """Makes the inputs of a queue of some rows whose artifact has a content."""
    monkeypatch.setattr(review_queue, "LEAST", 3)

    def make(count=6, content="first", share=0.0):
        folder = tmp_path / "read" / content
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for n in range(count):
            question = Message(role="user", content=f"{n}번 창고는 언제 닫습니까?\t표")
            answer = Message(role="assistant", content=f"{n}시\n입니다")
            rows.append(Example.make((question,), answer, kind="original", source="a.md"))
        write_table(folder / "examples.parquet", Example, rows)
        source = make_artifact(folder, stage="read", key=content, content=content)
        return QueueInputs(tmp_path, source, None, None, None, None, share)

    return make


def contents(packed):
    return packed.entries, [packed.item(n, {}) for n in range(len(packed.entries))]


def test_a_second_start_reads_the_queue_of_the_first(inputs):
    first = inputs().pack()
    assert contents(inputs().kept()) == contents(first)
    assert {item.example.question[0] for item in contents(first)[1]} == set("012345")


def test_other_rows_or_settings_make_another_queue(inputs):
    inputs().pack()
    assert inputs(content="second").kept() is None
    assert inputs(share=1.0).kept() is None
    assert all(entry.double for entry in inputs(share=1.0).pack().entries)
    assert not any(entry.double for entry in inputs().kept().entries)


def test_a_damaged_file_is_made_again(inputs):
    made = inputs()
    expected = contents(made.pack())
    whole = made.path.read_bytes()
    for damage in (b"", b"no queue", whole[:-5], whole[: whole.rfind(b"\n", 0, -1) + 1], whole * 2):
        made.path.write_bytes(damage)
        assert made.kept() is None
    assert contents(made.pack()) == expected
    assert made.path.read_bytes() == whole


def test_a_small_queue_and_one_on_a_full_disk_are_not_kept(inputs, monkeypatch):
    assert len(inputs(count=2).pack().entries) == 2
    assert inputs().kept() is None

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(review_queue, "_keep", full)
    assert len(inputs(content="other").pack().entries) == 6


def test_a_queue_without_rows_is_empty():
    assert PackedQueue.of([], 0.0).entries == []
