"""A page of a PDF that takes too much is named, and its process ends; others are read."""

import os
import time

import pytest

from jangin.core.events import Progress
from jangin.core.execution.local import KeptProcess, Local
from jangin.core.executor import InProcess, Last
from jangin.documents.readers import page_limit
from jangin.documents.readers.page_limit import SlowPage, limited, on_page
from jangin.documents.readers.reader import ReaderSettings, SourceFile
from jangin.documents.reading import FolderReader
from jangin.report.i18n.translate import Words
from tests.core.execution import work


def spin(number, seconds):
    with on_page(number):
        until = time.process_time() + seconds
        while time.process_time() < until:
            pass
    return number


def fails():
    raise ValueError("as without a limit")


def test_a_page_within_its_limit_gives_what_it_gives_without_one():
    assert limited(5, spin, 3, 0.0) == 3
    with pytest.raises(ValueError, match="as without a limit"):
        limited(5, fails)


@pytest.mark.slow
def test_a_page_that_takes_too_long_or_too_much_memory_is_named(monkeypatch):
    assert limited(0.2, spin, 3, 2.0) == Last(SlowPage(3))
    while page_limit._begun:  # the thread of page 3, which a process would end
        time.sleep(0.05)
    monkeypatch.setattr(page_limit, "PAGE_BYTES", -1)
    assert limited(60, spin, 4, 2.0) == Last(SlowPage(4))


@pytest.mark.slow
def test_a_process_ends_after_its_last_result_and_what_follows_is_done_by_another():
    kept = KeptProcess()
    try:
        first = kept.call(os.getpid)
        assert first != os.getpid()
        assert kept.call(work.last, "x") == (first, "x")
        assert kept.call(os.getpid) not in (first, os.getpid())
        assert kept.call(work.ends, "exit").tries == 3
        with pytest.raises(ValueError, match="not a number"):
            kept.call(work.fails, "value")
    finally:
        kept.close()
    given = [result for _, result in Local(2).map(work.last, "abcd")]
    assert sorted(item for _, item in given) == list("abcd")
    assert len({process for process, _ in given}) == 4


class SlowAt(InProcess):
    """Each file has slow pages, which are found one after the other."""

    def __init__(self, *pages):
        super().__init__(workers=2)
        object.__setattr__(self, "pages", pages)

    def map(self, work, items, resources=None):
        for index, job in enumerate(items):
            slow = [page for page in self.pages if page not in job.slow]
            yield index, SlowPage(slow[0]) if slow else work(job)


def read(path, ledger, executor):
    settings = ReaderSettings(ledger, Progress(), ocr="never")
    reader = FolderReader(executor, ledger, Progress(), settings)
    reader.is_isolated = True
    ((name, receipt),) = reader.read([SourceFile("a.pdf", path, "0" * 64)])
    assert name == "a.pdf"
    return receipt


@pytest.fixture
def three_pages(tmp_path, draw_pages, korean_font):
    path = tmp_path / "a.pdf"
    draw_pages(path, [[(60.0, 700.0, f"{n}쪽의 글")] for n in (1, 2, 3)], korean_font)
    return path


def test_the_other_pages_of_a_file_are_read(three_pages, ledger):
    receipt = read(three_pages, ledger, SlowAt(2))
    text = receipt.document.text
    assert [text[p.start : p.end].strip() for p in receipt.document.pages] == [
        *("1쪽의 글", "", "3쪽의 글")
    ]
    assert receipt.reason == (
        "page 2 took more than 60 seconds of computing time or 2 GB of memory."
    )
    assert "Its other pages are read" in receipt.remedy
    for words in (receipt.reason, receipt.remedy):
        assert not set("took read") < set(Words("ko").reason(words))


@pytest.mark.parametrize(
    ("pages", "said", "korean"),
    [
        ((1, 2, 3), "pages 1, 2, 3 took more", "1, 2, 3쪽이 저마다 계산 시간 60초"),
        ((1, 2, 3, 4), "each of more than 3 pages took more", "3쪽이 넘는 쪽이 저마다"),
        ((0,), "opening it took more", "여는 데 계산 시간 60초 또는 메모리 2 GB"),
    ],
)
def test_a_file_of_slow_pages_is_not_read(three_pages, ledger, pages, said, korean):
    receipt = read(three_pages, ledger, SlowAt(*pages))
    assert receipt.document is None
    assert receipt.reason.startswith(said)
    assert korean in Words("ko").reason(receipt.reason)
    assert "다시 저장" in Words("ko").reason(receipt.remedy)
