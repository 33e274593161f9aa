"""Near-copies of a review, read again after a restart."""

import numpy as np
import pytest

from jangin.examples.reviews.reasons import near_copies
from jangin.report.data import review_queue as kept
from jangin.report.data.review_queue import KeptNearCopies

QUESTIONS = [
    "연차휴가는 며칠입니까?", "연차휴가는 며칠 입니까?", "여비는 얼마입니까?", "병가는 언제입니까?",
]  # fmt: skip


@pytest.fixture
def searched(monkeypatch):
    """The questions of every search that was not answered from the disk."""
    asked = []

    def search(questions):
        asked.append(list(questions))
        return near_copies(questions)

    monkeypatch.setattr(kept, "LEAST", 2)
    monkeypatch.setattr(kept, "near_copies", search)
    return asked


def test_a_restart_reads_what_was_found_and_other_questions_are_searched(tmp_path, searched):
    first = KeptNearCopies(tmp_path)(QUESTIONS)
    assert first == near_copies(QUESTIONS) == {0: 1, 1: 0}
    assert KeptNearCopies(tmp_path)(QUESTIONS) == first
    assert len(searched) == 1
    turned = QUESTIONS[::-1]
    assert KeptNearCopies(tmp_path)(turned) == near_copies(turned) == {2: 3, 3: 2}
    assert KeptNearCopies(tmp_path)(["하나", "둘둘둘"]) == {}
    assert KeptNearCopies(tmp_path)(["하나", "둘둘둘"]) == {}
    assert len(searched) == 3


def test_a_damaged_file_or_none_at_all_is_searched_again(tmp_path, searched):
    expected = KeptNearCopies(tmp_path)(QUESTIONS)
    (path,) = tmp_path.glob("tables/near_copies.*.npy")
    for damage in (b"", b"no array", path.read_bytes()[:-4]):
        path.write_bytes(damage)
        assert KeptNearCopies(tmp_path)(QUESTIONS) == expected
    np.save(path, np.array([[0, 99]]))
    assert KeptNearCopies(tmp_path)(QUESTIONS) == expected
    path.unlink()
    assert KeptNearCopies(tmp_path / "no such folder")(QUESTIONS) == expected
    assert len(searched) == 6


def test_only_the_newest_files_are_kept(tmp_path, searched):
    for number in range(kept.MOST_COPY_FILES + 3):
        KeptNearCopies(tmp_path)([*QUESTIONS, f"질문 {number}"])
    assert len([*tmp_path.glob("tables/*")]) == kept.MOST_COPY_FILES
    assert len(searched) == kept.MOST_COPY_FILES + 3
