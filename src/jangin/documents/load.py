"""Stage `load`: files to documents. Unreadable files are reported in a table of their own."""

import os
import re
import traceback
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from jangin.core.config import Added, Config, Runtime, StageConfig
from jangin.core.digest import digest_file
from jangin.core.errors import DataError, JanginError, MachineError
from jangin.core.records import Document, Page, Record
from jangin.core.stage import Cost, Stage, StageContext
from jangin.core.store import output_names
from jangin.documents.formats import format_of, page_count, readable_suffixes, versions
from jangin.documents.ocr import tesseract
from jangin.documents.ocr.corrections import LOG, collect_corrections, read_corrections
from jangin.documents.readers.reader import (
    PageReading,
    ReaderSettings,
    SourceFile,
    UnreadableError,
)
from jangin.text.language import language_of
from jangin.text.normalize import nfc

if TYPE_CHECKING:
    from jangin.documents.ocr.vision import Transcriber

EVERY_FORMAT = (
    *("**/*.pdf", "**/*.md", "**/*.markdown", "**/*.txt", "**/*.html", "**/*.htm", "**/*.docx"),
)
"""Default of `load.pattern`; it means every format in the table of readers, present and future.

Never extend it: the value enters the key of every project that does not set `pattern`. A new
format needs no entry, because which files match is decided by the table, and the files
themselves enter the key.
"""


ERROR_LOG = "errors.log"
"""Tracebacks of readers, in the folder `runtime` of the artifact."""
LONGEST_ERROR = 200
"""Letters of an error's own text that are shown."""
MEMORY_ADDRESS = re.compile(r"(?: at)? ?\b0x[0-9a-fA-F]+")
"""Differs from run to run, so it is not stored."""
USUAL_FORMATS = "PDF, DOCX, XLSX, PPTX, HWPX, HTML, Markdown or text"
"""What messages offer; the table of readers has more."""
LISTED = 20
"""Files that one line names."""
OF_FILE_MANAGERS = frozenset({"thumbs.db", "desktop.ini", "__macosx", "ehthumbs.db"})
"""Names, in lower case, of what file managers put beside files."""
PROJECT_FILE = "project.yaml"
"""Not a document where a project is in the folder of its documents."""
LEDGER = "ledger.sqlite"
"""A folder that holds it is a store."""


class Vision(Config):
    """A vision model that transcribes the pages on which OCR doubts a line."""

    teacher: str
    """Name of a model under `teachers` that reads pictures; each such page goes there as a PNG."""
    max_tokens: int = Field(default=4096, ge=64)
    """Longest transcript of a page, in the teacher's tokens."""
    concurrency: Runtime[int] = Field(default=4, ge=1, le=512)
    """Number of parallel requests."""


class _Ocr(Config):
    languages: Literal["auto"] | tuple[str, ...] = "auto"
    """Tesseract codes such as `[kor, eng]`; `auto` takes the language of the document, of those
    that are installed."""
    dpi: int = Field(default=200, ge=100, le=600)
    """Resolution of rendered pages; 300 takes 1.4 times as long and reads no better."""
    doubtful_lines: Added[Literal["set_aside", "keep"]] = "set_aside"
    """Lines of low confidence, or whose codes and numbers two readings see differently: `set_aside`
    in a table until a person confirms or corrects them (`jangin doubtful`), or `keep` in the text
    too."""
    vision: Added[Vision | None] = None
    """A vision model for pages with such lines; its transcript replaces OCR where it agrees with
    what OCR is sure of."""


class AutoOcr(_Ocr):
    """OCR for pages without a text layer, or with one that disagrees with the page."""

    type: Literal["auto"] = "auto"


class AlwaysOcr(_Ocr):
    """OCR for every page of every PDF; text layers are ignored."""

    type: Literal["always"] = "always"


class NeverOcr(Config):
    """No OCR: a PDF without a text layer is unreadable."""

    type: Literal["never"] = "never"


Ocr = Annotated[AutoOcr | AlwaysOcr | NeverOcr, Field(discriminator="type")]


class LoadConfig(StageConfig):
    """Which files to read, and how to read PDFs."""

    folder: Runtime[Path]
    """Folder of the source files, relative to the project file."""
    pattern: tuple[str, ...] = Field(default=EVERY_FORMAT, min_length=1)
    """Globs inside the folder, case ignored; `**/` matches any depth. Default: every format."""
    unreadable: Literal["report", "stop"] = "report"
    """What to do with an unreadable file: `report` it in a table, or `stop` the run."""
    ocr: Ocr = AutoOcr()
    """When to read the pages of PDFs by OCR. Pictures are always read by it."""


class UnforeseenError(UnreadableError):
    """Reading a file failed in a way that its reader does not know; the cause is an error."""


class UnreadableFile(Record):
    """A file without a readable text: why, and what to do about it."""

    source: str
    reason: str
    remedy: str


class DoubtfulRow(Record):
    """A line of a page that OCR is not sure of; unless kept, it is not part of the document."""

    source: str
    page: int
    text: str
    """As it was read first."""
    second: str
    """What another reading made of the part in doubt; empty for an illegible line."""
    confidence: float
    """Mean word confidence, 0 to 100."""
    doubt: Literal["illegible", "readings differ"]
    document: str = ""
    """sha256 of the file; with `line`, what a correction names."""
    line: int = -1
    """Number of the line on the page as OCR read it, from 0."""


def find_files(config: LoadConfig, project_folder: Path) -> dict[str, Path]:
    """{name inside the folder, NFC: path} in order of name.

    Raises: DataError: no such folder, no matching file, or two names that differ in Hangul only.
    """
    folder = project_folder / config.folder
    if not folder.is_dir():
        raise DataError(
            f"load.folder: {folder} is not a folder. "
            "Create it and put documents there, or correct load.folder in the project file."
        )
    wanted = _globs(_patterns(config))
    paths: dict[str, Path] = {}
    for name, path in _visible(folder):
        if not wanted.fullmatch(name.lower()):
            continue
        if nfc(name) in paths:
            raise DataError(
                f"two files in {folder} have the name {nfc(name)}, one in composed and one "
                "in decomposed Hangul. Rename one of them."
            )
        paths[nfc(name)] = path
    if not paths:
        missing, setting = f"matches {', '.join(config.pattern)}", "load.pattern"
        if config.pattern == EVERY_FORMAT:
            missing, setting = "has a format that jangin reads", "load.folder"
        raise DataError(
            f"load.folder: no file in {folder} {missing}. "
            f"Put documents there ({USUAL_FORMATS}), or correct {setting}."
        )
    return dict(sorted(paths.items()))


def _patterns(config: LoadConfig) -> tuple[str, ...]:
    """Globs of the files to read; the default takes every suffix that has a reader."""
    if config.pattern == EVERY_FORMAT:
        return tuple(f"**/*{suffix}" for suffix in readable_suffixes())
    return config.pattern


def _visible(folder: Path) -> Iterator[tuple[str, Path]]:
    """(name, path) of the files that a person sees in the folder; links to folders are not entered.

    Hidden files, lock files of office programs and those of a file manager are none.
    """
    yield from ((name, path) for name, path, is_file in _seen(folder) if is_file)


def _seen(folder: Path) -> Iterator[tuple[str, Path, bool]]:
    """What a folder of documents holds besides what jangin wrote there, as `_entries`."""
    yield from _entries(folder, "", frozenset(map(nfc, output_names(folder))))


def _entries(
    folder: Path, inside: str, outputs: frozenset[str]
) -> Iterator[tuple[str, Path, bool]]:
    """(name, path, True for a file) of visible files, of links, and of folders that are closed.

    `inside` is the name of the folder with a slash, empty for the folder of the documents;
    `outputs` are names, NFC, that are passed over.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        yield inside.removesuffix("/") or ".", folder, False
        return
    for entry in entries:
        if entry.name.startswith((".", "~$")) or entry.name.lower() in OF_FILE_MANAGERS:
            continue
        is_file = entry.is_file()
        is_store = not is_file and (Path(entry.path) / LEDGER).exists()
        if is_store or (not inside and entry.name == PROJECT_FILE):
            continue  # a project in the folder of its documents, and its store with its reports
        name = inside + entry.name
        if outputs and nfc(name) in outputs:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(Path(entry.path), f"{name}/", outputs)
        else:
            yield name, Path(entry.path), is_file


def left_out(
    config: LoadConfig, project_folder: Path, named: Collection[Path] = ()
) -> list[UnreadableFile]:
    """Files of the folder that no run reads, with the reason, in order of name.

    They are determined from the folder as it is now, so a finished stage has them, too. Not among
    them are `named`, resolved paths of files and folders that other settings of the project name.
    """
    folder = project_folder / config.folder
    if not folder.is_dir():
        return []
    wanted = _globs(_patterns(config))
    rows = []
    used = {path for path in named if not folder.resolve().is_relative_to(path)}
    for name, path, is_file in _seen(folder):
        if not is_file or not wanted.fullmatch(name.lower()):
            resolved = path.resolve()
            if resolved in used or not used.isdisjoint(resolved.parents):
                continue
            reason, remedy = _why_left_out(path)
            rows.append(UnreadableFile(source=nfc(name), reason=reason, remedy=remedy))
    return sorted(rows, key=lambda row: row.source)


def lines_of(rows: Iterable[UnreadableFile]) -> list[str]:
    """A line for each reason: the first `LISTED` names, the reason, the remedy."""
    groups: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        groups.setdefault((row.reason, row.remedy), []).append(row.source)
    lines = []
    for (reason, remedy), names in groups.items():
        more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
        lines.append(f"{', '.join(names[:LISTED])}{more}: {reason} {remedy}")
    return lines


def _why_left_out(path: Path) -> tuple[str, str]:
    """(reason, remedy) of a file that is not read."""
    if path.is_dir():
        if path.is_symlink():
            return (
                "it is a link to a folder, which is not followed.",
                "Put the folder itself, or a copy of it, there.",
            )
        return "the folder cannot be opened.", "Give yourself the right to read it."
    if not path.is_file():
        return "it is a link to nothing, or no file.", "Put the file itself there."
    suffix = path.suffix.lower()
    row = format_of(suffix)
    if row is None:
        return (
            f"{suffix or 'a name without suffix'} is no format that jangin reads.",
            f"Save it as {USUAL_FORMATS}.",
        )
    if row.read is None:
        return f"jangin has no reader for {row.name} ({suffix}).", f"Save it as {row.convert_to}."
    return "load.pattern does not match its name.", "Add a pattern, or take it out of the folder."


def _globs(patterns: Iterable[str]) -> re.Pattern[str]:
    """A regular expression that matches lower-case names that one of the globs matches."""
    wildcards = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    split = (re.split(r"(\*\*/|\*\*|\*|\?)", pattern.lower()) for pattern in patterns)
    each = ("".join(wildcards.get(part, re.escape(part)) for part in parts) for parts in split)
    return re.compile("|".join(f"(?:{expression})" for expression in each))


def run(context: StageContext[LoadConfig]) -> None:
    """Read every file that an interrupted run has not read yet.

    Raises: DataError: no file is readable, or one is not and `unreadable` is `stop`;
    MachineError: OCR or a reader's library is needed and not installed.
    """
    config, services = context.config, context.services
    files = find_files(config, services.project_folder)
    documents = {document.source: document for document in context.done("documents", Document)}
    failures = {row.source: row for row in context.done("unreadable", UnreadableFile)}
    doubtful = [row for row in context.done("doubtful", DoubtfulRow) if row.source in documents]
    copies: dict[str, str] = {}
    first_with: dict[str, str] = {}
    settings = _settings(context)
    for line in lines_of(left_out(config, services.project_folder, services.named_files)):
        services.progress.message(f"left out: {line}")
    for name, path in context.track(list(files.items()), "load"):
        digest = digest_file(path)
        if digest in first_with:
            copies[name] = first_with[digest]
            services.progress.message(f"{name}: skipped, same bytes as {first_with[digest]}")
            continue
        if name not in documents and name not in failures:
            row, lines = _try(context, SourceFile(name, path, digest), settings)
            if isinstance(row, Document):
                documents[name] = row
                doubtful += lines
                context.note("doubtful", lines)
                context.note("documents", [row])
            else:
                failures[name] = row
                context.note("unreadable", [row])
        if name in documents:
            first_with[digest] = name
    _write(context, documents, failures, copies)
    _write_doubtful(context, doubtful)


def _try(
    context: StageContext[LoadConfig], file: SourceFile, settings: ReaderSettings
) -> "tuple[Document | UnreadableFile, list[DoubtfulRow]]":
    """(document or why it is unreadable, doubtful lines of OCR).

    Raises `DataError` with `unreadable: stop`.
    """
    try:
        return _read(file, settings)
    except UnreadableError as error:
        text = f"{file.name} cannot be read: {error}"
        if isinstance(error, UnforeseenError):
            log = _add_to_log(context, file.name, error)
            text += f" Details are in {log}."
        if context.config.unreadable == "stop":
            raise DataError(text) from error
        context.services.progress.message(text)
        row = UnreadableFile(source=file.name, reason=error.reason, remedy=error.remedy)
        return row, []


def _add_to_log(context: StageContext[LoadConfig], source: str, error: UnforeseenError) -> str:
    """Append the traceback to the log of the artifact; its path, with `*` for `.partial`."""
    lines = traceback.format_exception(error.__cause__)
    path = context.runtime_file(ERROR_LOG)
    with path.open("a", encoding="utf-8") as log:
        log.write(f"{source}\n{''.join(lines)}\n")
    folder = str(context.workspace).removesuffix(".partial")
    return f"{folder}*/{path.relative_to(context.workspace)}"


def _write_doubtful(context: StageContext[LoadConfig], rows: Sequence[DoubtfulRow]) -> None:
    """Write the table `doubtful`, and one line for each file that has such lines."""
    rows = sorted(rows, key=lambda row: (row.source, row.page))
    context.write("doubtful", DoubtfulRow, rows)
    context.summary["doubtful_lines"] = len(rows)
    config = context.config.ocr
    kept = not isinstance(config, NeverOcr) and config.doubtful_lines == "keep"
    for source, lines in groupby(rows, key=lambda row: row.source):
        own = list(lines)
        pages = sorted({row.page for row in own})
        shown = ", ".join(map(str, pages[:8])) + (", ..." if len(pages) > 8 else "")
        where = f"page {shown}" if len(pages) == 1 else f"pages {shown}"
        count = "1 line" if len(own) == 1 else f"{len(own)} lines"
        done = "kept in the text" if kept else "set aside"
        context.services.progress.message(
            f"{source}: OCR is not sure of {count}, {done} ({where}); see: jangin doubtful"
        )


def _write(
    context: StageContext[LoadConfig],
    documents: Mapping[str, Document],
    failures: Mapping[str, UnreadableFile],
    copies: Mapping[str, str],
) -> None:
    """Write both tables and the summary; raises `DataError` if no file is readable."""
    if not documents:
        first = min(failures)
        raise DataError(
            f"none of the {len(failures)} files in {context.config.folder} can be read; "
            f"{first}: {failures[first].reason} {failures[first].remedy}"
        )
    kept = [documents[name] for name in sorted(documents)]
    all_pages = [page for document in kept for page in document.pages]
    context.write("documents", Document, kept)
    context.write("unreadable", UnreadableFile, [failures[name] for name in sorted(failures)])
    context.summary.update(
        documents=len(kept),
        pages=len(all_pages),
        characters=sum(len(document.text) for document in kept),
        ocr_pages=sum(page.method == "ocr" for page in all_pages),
        reordered_pages=sum(page.method == "text" and bool(page.reason) for page in all_pages),
        languages=dict(sorted(Counter(document.language for document in kept).items())),
        unreadable=len(failures),
        copies=dict(sorted(copies.items())),
    )


def _read(file: SourceFile, settings: ReaderSettings) -> tuple[Document, list[DoubtfulRow]]:
    """One document and its doubtful lines; raises `UnreadableError` or `MachineError`."""
    if file.path.stat().st_size == 0:
        raise UnreadableError("it is empty (0 bytes).", "Copy it again from where it came from.")
    suffix = file.path.suffix.lower()
    row = format_of(suffix)
    if row is None or row.read is None:
        raise UnreadableError(
            f"{suffix or 'a name without suffix'} is no format that jangin reads.",
            f"Save it as one of {', '.join(readable_suffixes())}.",
        )
    try:
        readings = row.read(file, settings)
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
            f"it cannot be opened: {error.strerror or error}.", "Check the rights of the file."
        ) from error
    except MemoryError as error:
        raise UnreadableError(
            "the memory does not suffice to read it.", "Split it into smaller files."
        ) from error
    except Exception as error:  # readers report damage themselves; a run must continue
        text = MEMORY_ADDRESS.sub("", str(error)).strip().split("\n")[0][:LONGEST_ERROR]
        what = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise UnforeseenError(
            f"it could not be read because of an error in jangin or a library ({what}).",
            "Report it, or open the file in the program that made it and save it again.",
        ) from error
    text, pages = join_pages(readings)
    doubtful = _doubtful_rows(file, readings)
    if not text.strip() and doubtful:
        raise UnreadableError(
            f"OCR is sure of none of its {len(doubtful)} lines.",
            "Scan it again at 200 dpi or more.",
        )
    if not text.strip():
        raise UnreadableError("it holds no text.", "Take it out of the folder, or scan it again.")
    document = Document(
        id=file.digest[:16], source=file.name, text=text, pages=pages, language=language_of(text)
    )
    return document, doubtful


def _doubtful_rows(file: SourceFile, readings: Sequence[PageReading]) -> list[DoubtfulRow]:
    return [
        DoubtfulRow(
            source=file.name,
            page=number,
            text=line.text,
            second=line.second,
            confidence=line.confidence,
            doubt=line.doubt,
            document=file.digest,
            line=line.number,
        )
        for number, reading in enumerate(readings, start=1)
        for line in reading.doubtful
    ]


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
            )
        )
        text += part
    return text, tuple(pages)


def _settings(context: StageContext[LoadConfig]) -> ReaderSettings:
    ocr_config, services = context.config.ocr, context.services
    defaults = AutoOcr() if isinstance(ocr_config, NeverOcr) else ocr_config
    return ReaderSettings(
        ledger=services.ledger,
        progress=services.progress,
        ocr=ocr_config.type,
        ocr_languages=() if defaults.languages == "auto" else defaults.languages,
        dpi=defaults.dpi,
        workers=services.executor.workers,
        keep_doubtful=defaults.doubtful_lines == "keep",
        transcriber=_transcriber(context),
        corrections=collect_corrections(read_corrections(services.project_folder / LOG)),
    )


def _vision(config: LoadConfig) -> Vision | None:
    return None if isinstance(config.ocr, NeverOcr) else config.ocr.vision


def _transcriber(context: StageContext[LoadConfig]) -> "Transcriber | None":
    """The vision model of the settings, opened; nothing is sent yet."""
    from jangin.documents.ocr.vision import Transcriber

    vision, services = _vision(context.config), context.services
    if vision is None:
        return None
    return Transcriber(
        services.chat(vision.teacher),
        services.prompts,
        vision.max_tokens,
        vision.concurrency,
        services.progress.message,
    )


def _sources(config: LoadConfig, project_folder: Path) -> dict[str, Path]:
    """The documents, and what people corrected in what OCR read, if that file exists."""
    files = find_files(config, project_folder)
    log = project_folder / LOG
    reads_pictures = not isinstance(config.ocr, NeverOcr)
    return {**files, LOG: log} if reads_pictures and log.is_file() else files


def _machine(config: LoadConfig) -> Mapping[str, str]:
    return {} if isinstance(config.ocr, NeverOcr) else {"tesseract": tesseract.version()}


def _cost(context: StageContext[LoadConfig]) -> Cost:
    """Number and size of the files; which pages need OCR is not known before they are opened."""
    services = context.services
    files = find_files(context.config, services.project_folder)
    size = sum(path.stat().st_size for path in files.values())
    lost = len(left_out(context.config, services.project_folder, services.named_files))
    without = f" ({lost} more are left out)" if lost else ""
    text = f"{len(files)} files{without}, {size / 1e6:.1f} MB; 1 to 4 seconds a page for OCR"
    vision = _vision(context.config)
    if vision is None:
        return Cost(text=text)
    from jangin.documents.ocr.vision import bound

    chat = context.services.chat(vision.teacher)
    pages = sum(page_count(path) for path in files.values())
    calls = bound(chat, context.services.prompts, vision.max_tokens, pages)
    context.calls.add(calls)
    noun = "call" if pages == 1 else "calls"
    return Cost(
        calls=pages, text=f"{text}; up to {pages} {noun} to {chat.model}, one a doubtful page"
    )


STAGE = Stage(
    name="load",
    version=2,
    reads=(),
    makes=("documents", "unreadable"),
    run=run,
    resumable=True,
    sources=_sources,
    versions=versions,
    machine=_machine,
    prompts=lambda config: ("transcribe",) if _vision(config) else (),
    teachers=lambda config: (vision.teacher,) if (vision := _vision(config)) else (),
    cost=_cost,
)
