"""One file to one document, in this process or in another: the work that `load` maps over files.

A file of which several pages need OCR comes back as a request for these pages. They are read in
groups, so that a long scan is shared by all workers, and then the file is read again, with them.
"""

import re
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from jangin.core.errors import JanginError, MachineError
from jangin.core.events import Progress
from jangin.core.execution.local import KeptProcess
from jangin.core.executor import Died, Executor, InProcess
from jangin.core.ledger import Ledger
from jangin.core.reasons import NO_REASON, Reason
from jangin.core.records import Document, OrderDoubt, Page
from jangin.documents.formats import (
    Format,
    format_of,
    has_pictures,
    page_count,
    readable_suffixes,
    suffix_by_bytes,
)
from jangin.documents.ocr.reader import (
    NAMESPACE,
    PageRequest,
    UnreadPagesError,
    identity,
    other_languages,
    page_key,
    picture_key,
)
from jangin.documents.ocr.reading import DoubtfulLine
from jangin.documents.ocr.tesseract import installed_languages, version
from jangin.documents.readers.image import opened
from jangin.documents.readers.order_doubts import order_doubts
from jangin.documents.readers.page_limit import PAGE_SECONDS, SlowPage, limited, too_much
from jangin.documents.readers.page_picture import page_for_ocr
from jangin.documents.readers.pdf_text import open_pdf
from jangin.documents.readers.plain import read_plain
from jangin.documents.readers.reader import (
    PageReading,
    Reader,
    ReaderSettings,
    SourceFile,
    UnreadableError,
)
from jangin.documents.web.eml import read_eml
from jangin.text.language import language_of

LONGEST_ERROR = 200
"""Letters of an error's own text that are shown."""
MEMORY_ADDRESS = re.compile(r"(?: at)? ?\b0x[0-9a-fA-F]+")
"""Differs from run to run, so it is not stored."""

PAGES_AT_ONCE = 4
"""Pages of a group for OCR, each of which takes seconds."""
FILE_SECONDS = 0.002
MEGABYTE_SECONDS = 0.5
"""CPU time to read a file and a megabyte of it, as far as that is known before it is opened."""
LARGEST_LOOKED_AT = 20_000_000
"""Bytes of a file that is read as soon as it is uploaded, to say what is wrong with it."""
FEW_SECONDS = 2.0
"""What this process reads itself; other processes take half a second to start."""
MOST_SLOW = 3
"""Pages of a file that may take more than their limit, each of which costs that time."""
SAVE_AGAIN = "Open it in the program that made it and save it again, or take it out of the folder."
OTHERS_ARE_READ = "Its other pages are read. For these, export the file again or print it to a PDF."


class UnforeseenError(UnreadableError):
    """A reader raised an unexpected error, which is the cause of this one."""


@dataclass(slots=True)
class KnownReadings:
    """Readings by OCR that are known of one file, and those that are made: a `Memos`."""

    known: Mapping[str, str]
    fresh: dict[str, str] = field(default_factory=dict)

    def get(self, _namespace: str, key: str) -> str | None:
        """The reading of this key as JSON, or None."""
        return self.fresh.get(key) or self.known.get(key)

    def put(self, _namespace: str, key: str, value: str) -> None:
        """Keep a new reading."""
        self.fresh[key] = value


@dataclass(frozen=True, slots=True)
class FileJob:
    """A file to read."""

    file: SourceFile
    known: Mapping[str, str] = field(default_factory=dict)
    """Readings of its pages by OCR: {key in the ledger: JSON}."""
    slow: frozenset[int] = frozenset()
    """Pages that took more than their limit, which are left out."""


@dataclass(frozen=True, slots=True)
class FileReceipt:
    """What became of a file: a document, a reason why there is none, or pages to read first.

    With a document, the reason is why some of its pages are empty.
    """

    document: Document | None = None
    doubtful: tuple[tuple[int, DoubtfulLine], ...] = ()
    """(page from 1, line) of what OCR is not sure of."""
    reason: Reason = NO_REASON
    remedy: str = ""
    log: str = ""
    """Traceback of an error that no reader foresees."""
    pages: tuple[PageRequest, ...] = ()
    """Pages that are to be read by OCR before the file is read again."""
    messages: tuple[str, ...] = ()
    readings: Mapping[str, str] = field(default_factory=dict)
    """New readings by OCR: {key in the ledger: JSON}."""


@dataclass(frozen=True, slots=True)
class PagesJob:
    """Pages of a file to read by OCR."""

    file: SourceFile
    pages: tuple[PageRequest, ...]


def count_pages(path: Path) -> int:
    """`formats.page_count`, as work for an executor."""
    return page_count(path)


def fault_of(path: Path) -> tuple[str, str]:
    """(reason, remedy) of a file that cannot be read, as far as is seen without OCR; else empty.

    A PDF or a picture is only opened, and a large file is not looked at.
    """
    shown = suffix_by_bytes(path) or path.suffix.lower()
    try:
        if path.stat().st_size > LARGEST_LOOKED_AT:
            return "", ""
        if shown == ".pdf":
            with open_pdf(path):
                return "", ""
        if has_pictures(f"a{shown}"):
            with opened(path):
                return "", ""
        settings = ReaderSettings(KnownReadings({}), Progress())
        receipt = read_job(settings, FileJob(SourceFile(path.name, path, digest="")))
    except UnreadableError as error:
        return error.reason, error.remedy
    except (OSError, MachineError):
        return "", ""  # `load` says what is missing
    return receipt.reason, receipt.remedy


def read_pages(job: PagesJob) -> dict[str, str]:
    """{key in the ledger: reading as JSON} of each page; raises `MachineError`."""
    from jangin.documents.ocr.page import read_page
    from jangin.documents.ocr.page_layout import KnownColumns

    readings = {}
    for page in job.pages:
        page_HW = page_for_ocr(job.file.path, page.number, page.dpi)
        columns = KnownColumns(page.columns, page.gutters)
        reading = read_page(page_HW, page.dpi, page.languages, page.others, columns)
        readings[page.key] = reading.to_json()
    return readings


def read_job(settings: ReaderSettings, job: FileJob) -> FileReceipt:
    """Read one file; `settings.ledger` and `settings.progress` are not used.

    Raises: MachineError: OCR or a reader's library is needed and not installed.
    """
    memos, progress = KnownReadings(job.known), Progress()
    settings = replace(settings, ledger=memos, progress=progress, workers=1, slow_pages=job.slow)
    try:
        receipt = _read(job.file, settings)
    except UnreadPagesError as error:
        # What was said is said again when the file is read with these pages.
        return FileReceipt(pages=error.pages, readings=memos.fresh)
    except UnforeseenError as error:
        log = "".join(traceback.format_exception(error.__cause__))
        receipt = FileReceipt(reason=error.reason, remedy=error.remedy, log=log)
    except UnreadableError as error:
        receipt = FileReceipt(reason=error.reason, remedy=error.remedy)
    if job.slow:
        remedy = OTHERS_ARE_READ if receipt.document else SAVE_AGAIN
        pages = ", ".join(map(str, sorted(job.slow)))
        which = "slow_page" if len(job.slow) == 1 else "slow_pages"
        receipt = replace(receipt, reason=too_much(which, pages=pages), remedy=remedy)
    return replace(receipt, messages=tuple(progress.messages), readings=memos.fresh)


def _read(file: SourceFile, settings: ReaderSettings) -> FileReceipt:
    readings = read_file(file, settings)
    text, pages = join_pages(readings)
    pages = tuple(
        page.model_copy(update={"doubts": _order_doubts(reading, file, page.number, settings)})
        for reading, page in zip(readings, pages, strict=True)
    )
    doubtful = tuple(
        (number, line)
        for number, reading in enumerate(readings, start=1)
        for line in reading.doubtful
    )
    if not text.strip() and doubtful:
        raise UnreadableError(
            Reason("no_sure_line", count=len(doubtful)),
            "Scan it again at 200 dpi or more.",
        )
    if not text.strip():
        raise UnreadableError(Reason("no_text"), "Take it out of the folder, or scan it again.")
    document = Document(
        id=file.digest[:16], source=file.name, text=text, pages=pages, language=language_of(text)
    )
    return FileReceipt(document, doubtful)


def _order_doubts(
    reading: PageReading, file: SourceFile, number: int, settings: ReaderSettings
) -> tuple[OrderDoubt, ...]:
    """Why the order of a page is doubtful.

    Where a person gave the number of its columns, only falling article numbers are a reason.
    """
    is_given = settings.columns_of(file.digest, number) is not None
    return tuple(
        OrderDoubt(reason=each.reason, values=tuple(each.values.values()))
        for each in order_doubts(reading)
        if each.reason == "articles_fall" or not is_given
    )


def read_file(file: SourceFile, settings: ReaderSettings) -> list[PageReading]:
    """The pages of one file.

    Raises: UnreadableError: it cannot be read; MachineError: a library or a program is missing;
    UnreadPagesError: as `OcrReader.read`.
    """
    if file.path.stat().st_size == 0:
        raise UnreadableError(Reason("no_bytes"), "Copy it again from where it came from.")
    suffix = file.path.suffix.lower()
    row = format_of(suffix)
    if row is None or row.read is None:
        raise UnreadableError(
            Reason("no_format", suffix=suffix) if suffix else Reason("no_suffix"),
            f"Save it as one of {', '.join(readable_suffixes())}.",
        )
    row, read = _by_bytes(file, row, row.read, settings)
    try:
        return read(file, settings)
    except ModuleNotFoundError as error:
        if error.name not in row.packages:
            raise
        raise MachineError(
            f"{file.name}: the package {error.name}, which reads {suffix} files, is not installed. "
            f"Install it: pip install 'jangin[{row.extra}]'."
        ) from error
    except JanginError:
        raise
    except OSError as error:
        raise UnreadableError(
            Reason("not_opened", what=str(error.strerror or error)), "Check the rights of the file."
        ) from error
    except MemoryError as error:
        raise UnreadableError(Reason("memory"), "Split it into smaller files.") from error
    except Exception as error:  # readers report damage themselves; a run must continue
        text = MEMORY_ADDRESS.sub("", str(error)).strip().split("\n")[0][:LONGEST_ERROR]
        what = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise UnforeseenError(
            Reason("unforeseen", text=what),
            "Report it, or open the file in the program that made it and save it again.",
        ) from error


def _by_bytes(
    file: SourceFile, row: Format, read: Reader, settings: ReaderSettings
) -> tuple[Format, Reader]:
    """(format, its reader) of a file by its first bytes, where its name says another format.

    A web page under the name of a text is left as that: it may be meant as source.
    """
    with suppress(OSError):  # the reader reports it
        suffix = suffix_by_bytes(file.path)
        other = format_of(suffix)
        is_source = suffix == ".html" and read in (read_plain, read_eml)
        if other is not None and other.read and other.read is not read and not is_source:
            settings.progress.message(
                f"{file.name}: read as {other.name}, which its first bytes show; "
                f"rename it to end with {suffix}"
            )
            return other, other.read
    return row, read


def join_pages(readings: Sequence[PageReading]) -> tuple[str, tuple[Page, ...]]:
    """Text of a document and where its pages are in it.

    An empty line separates two pages and belongs to the first of them, so that pages cover the
    text without gaps.
    """
    text, pages = "", []
    for number, reading in enumerate(readings, start=1):
        part = reading.text + ("\n\n" if number < len(readings) else "")
        pages.append(
            Page(
                number=number,
                start=len(text),
                end=len(text) + len(part),
                method=reading.method,
                confidence=reading.confidence,
                reason=reading.reason,
                lines=reading.ocr_lines,
                checked=reading.checked_lines,
            )
        )
        text += part
    return text, tuple(pages)


class FolderReader:
    """Reads many files over an executor, with readings by OCR from and to the ledger."""

    is_isolated: bool = False
    """Whether the files are to be read by other processes, however few they are."""

    def __init__(
        self, executor: Executor, ledger: Ledger, progress: Progress, settings: ReaderSettings
    ) -> None:
        self.executor, self.ledger, self.progress = executor, ledger, progress
        self.settings = settings
        self._keys: dict[str, set[str]] = {}
        """{name of a file: keys of its readings that may be in the ledger}."""
        self._slow: dict[str, frozenset[int]] = {}
        """{name of a file: its pages that took more than their limit}."""
        self._kept = KeptProcess()

    def read(self, files: Sequence[SourceFile]) -> Generator[tuple[str, FileReceipt], None, None]:
        """(name, receipt) of each file as it is read; no receipt requests pages.

        Raises: MachineError: as `read_job`.
        """
        executor = self._executor_for(files)
        try:
            yield from self._read(files, executor)
        finally:
            self._kept.close()

    def _read(
        self, files: Sequence[SourceFile], executor: Executor
    ) -> Iterator[tuple[str, FileReceipt]]:
        self._look_up(files, executor)
        while files:
            requests: dict[str, tuple[PageRequest, ...]] = {}
            again: set[str] = set()
            work = _within_limit(executor, read_job, self.settings)
            for index, result in executor.map(work, map(self._job, files)):
                name = files[index].name
                if isinstance(result, SlowPage) and self._may_leave_out(name, result):
                    again.add(name)
                    continue
                receipt = _receipt_of(result, "read it")
                self._keep(name, receipt.readings)
                if receipt.pages:
                    requests[name] = receipt.pages
                else:
                    yield name, receipt
            dead = self._read_pages([f for f in files if f.name in requests], requests, executor)
            yield from dead.items()
            again |= requests.keys() - dead.keys()
            files = [file for file in files if file.name in again]

    def _executor_for(self, files: Sequence[SourceFile]) -> Executor:
        """Other processes, unless there is little to read, or a vision model to be asked.

        A page of a PDF may have to be ended with its process, so that is never this one.
        """
        if self.settings.transcriber is not None or type(self.executor) is InProcess:
            return InProcess()
        size = sum(file.path.stat().st_size for file in files)
        seconds = len(files) * FILE_SECONDS + size / 1e6 * MEGABYTE_SECONDS
        if (self.is_isolated or seconds > FEW_SECONDS) and self.executor.workers > 1:
            return self.executor
        return self._kept if self.is_isolated or any(map(_is_pdf, files)) else InProcess()

    def _may_leave_out(self, name: str, page: SlowPage) -> bool:
        """Note a page to be left out of a file; False if the file is not to be read again."""
        known = self._slow.get(name, frozenset())
        self._slow[name] = known | {page.number}
        return page.number > 0 and len(known) < MOST_SLOW

    def _job(self, file: SourceFile) -> FileJob:
        keys = self._keys.get(file.name, ())
        values = ((key, self.ledger.get(NAMESPACE, key)) for key in keys)
        known = {key: value for key, value in values if value is not None}
        return FileJob(file, known, self._slow.get(file.name, frozenset()))

    def _keep(self, name: str, readings: Mapping[str, str]) -> None:
        for key, value in readings.items():
            self.ledger.put(NAMESPACE, key, value)
        if readings:
            self._keys.setdefault(name, set()).update(readings)

    def _look_up(self, files: Sequence[SourceFile], executor: Executor) -> None:
        """Collect the keys under which earlier runs may have kept readings of these files."""
        if self.settings.ocr == "never" or not self.ledger.has_memos(NAMESPACE):
            return
        scans = [file for file in files if has_pictures(file.name)]
        ways = self._ways()
        for index, count in executor.map(count_pages, (file.path for file in scans)):
            if isinstance(count, Died):
                continue  # it ends the process that reads it, too
            file = scans[index]
            self._keys[file.name] = {
                page_key(picture_key(file.digest, number, columns), way)
                for number in range(count + 1)  # pictures are counted from 0
                for columns in self._columns(file, number)
                for way in ways
            }

    def _columns(self, file: SourceFile, number: int) -> set[int | None]:
        """Numbers of columns with which a page may have been read, counted from 0 or from 1."""
        return {self.settings.columns_of(file.digest, page) for page in (number, number + 1)}

    def _ways(self) -> list[list[object]]:
        """`identity` of every way in which a page may have been read."""
        program, dpi = version(), self.settings.dpi
        if self.settings.ocr_languages:
            return [identity(program, self.settings.ocr_languages, (), dpi)]
        codes = [(code,) for code in installed_languages()]
        others = [other_languages(code) for code in codes]
        return [
            identity(program, code, each, dpi)
            for code, other in zip(codes, others, strict=True)
            for each in ((), other)
        ]

    def _read_pages(
        self,
        files: Iterable[SourceFile],
        requests: Mapping[str, tuple[PageRequest, ...]],
        few: Executor,
    ) -> dict[str, FileReceipt]:
        """Read the requested pages by OCR; {name: receipt} of files that end their process.

        `few`: what does it where there are no processes for many.
        """
        total = sum(map(len, requests.values()))
        if not total:
            return {}
        size = max(1, min(PAGES_AT_ONCE, total // (2 * self.executor.workers)))
        jobs = [
            PagesJob(file, requests[file.name][start : start + size])
            for file in files
            for start in range(0, len(requests[file.name]), size)
        ]
        dead: dict[str, FileReceipt] = {}
        executor = self.executor if self.executor.workers > 1 else few
        bar = self.progress.start("ocr", total)
        try:
            for index, result in executor.map(_within_limit(executor, read_pages), jobs):
                job = jobs[index]
                note = f"{job.file.name}, page {job.pages[-1].number}"
                self.progress.advance(bar, len(job.pages), note)
                if isinstance(result, SlowPage) and self._may_leave_out(job.file.name, result):
                    continue
                if isinstance(result, Died | SlowPage):
                    what = f"read its pages {job.pages[0].number} to {job.pages[-1].number} by OCR"
                    dead[job.file.name] = _receipt_of(result, what)
                else:
                    self._keep(job.file.name, result)
        finally:
            self.progress.stop(bar)
        return dead


def _within_limit(executor: Executor, work: Callable[..., Any], *given: Any) -> Callable[..., Any]:
    """The work with a limit for each page, unless it is done in this process."""
    if isinstance(executor, InProcess):
        return partial(work, *given)
    return partial(limited, PAGE_SECONDS, work, *given)


def _is_pdf(file: SourceFile) -> bool:
    """True if pdfium reads it, whatever its name is."""
    with suppress(OSError):  # the reader reports it
        return ".pdf" in (file.path.suffix.lower(), suffix_by_bytes(file.path))
    return False


def _receipt_of(result: FileReceipt | Died | SlowPage, what: str) -> FileReceipt:
    """What became of a file whose process `what`, perhaps in vain."""
    if isinstance(result, Died):
        return FileReceipt(
            reason=Reason("process_ended", what=what, why=result.why), remedy=SAVE_AGAIN
        )
    if not isinstance(result, SlowPage):
        return result
    if result.number == 0:
        return FileReceipt(reason=too_much("slow_opening"), remedy=SAVE_AGAIN)
    return FileReceipt(reason=too_much("many_slow_pages", count=MOST_SLOW), remedy=SAVE_AGAIN)
