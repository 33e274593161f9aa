"""Stage `load`: files to documents. Unreadable files are reported in a table of their own."""

import difflib
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from jangin.core.config import Added, Config, Runtime, StageConfig
from jangin.core.digest import digest_value
from jangin.core.errors import DataError, counted
from jangin.core.events import Progress
from jangin.core.parquet import read_records, read_table
from jangin.core.reasons import Reason
from jangin.core.records import Document, Record
from jangin.core.stage import Cost, Stage, StageContext, always
from jangin.core.store import JOURNAL, RUNTIME
from jangin.documents.formats import format_of, page_count, readable_suffixes, versions
from jangin.documents.ocr import tesseract
from jangin.documents.ocr.corrections import LOG, collect_corrections, read_corrections
from jangin.documents.ocr.reading import DoubtfulLine
from jangin.documents.page_columns import LOG as COLUMNS_LOG
from jangin.documents.page_columns import MOST_COLUMNS, columns_by_digest, read_decisions
from jangin.documents.readers.folder import (
    TOP,
    USUAL_FORMATS,
    FolderEntry,
    UnreadableFile,
    entries,
    lines_of,
)
from jangin.documents.readers.reader import ReaderSettings, SourceFile
from jangin.documents.reading import FileReceipt, FolderReader, KnownReadings
from jangin.text.normalize import nfc, nfd

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
STORE = "store"
"""Folder of the artifacts of a project, beside its file unless another is named."""
PAGES_OF_READER = 3
"""Pages that a reader itself reads by OCR: as many as decide whether a text layer is sound, since
after a request the other pages are read a second time."""
WAYS = "read_ways.json"
"""In the folder `runtime` of the artifact: {name of a file: digest of it and how it was read}."""
BEGUN = "begun"
"""Name of an empty journal: a run has begun to read."""
PART_BYTES, PART_FILES = 64 << 20, 10_000
"""Size and number of files from which on a part of the table `documents` is full: the shares that
the files have of both are added."""
PARTED_FROM = 10
"""Full parts from which on that table is a folder of parts."""


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
    replaces: Added[dict[str, tuple[str, ...]]] = Field(default_factory=dict)
    """Files that others replace, `{new.pdf: [old.pdf]}`: old editions are neither read, taught nor
    searched. Names as in the folder."""
    columns: Added[dict[str, Annotated[int, Field(ge=1, le=MOST_COLUMNS)]]] = Field(
        default_factory=dict
    )
    """Number of columns of a file, or of one of its pages, where the reader finds another one:
    `{rules.pdf: 2, "rules.pdf#3": 1}`. The browser has a button for it on each page."""


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
    is_kept: bool = False
    """It stays in the text: the doubt is mild, or a row of a table of which much else is right."""


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
    for entry in entries(folder):
        name = nfc(entry.name)
        if entry.name == TOP:
            raise DataError(f"load.folder: {folder} cannot be opened. {entry.remedy}")
        if entry.reason or not wanted.fullmatch(entry.name.lower()):
            continue
        if name in paths:
            raise DataError(
                f"two files in {folder} have the name {name}, one in composed and one "
                "in decomposed Hangul. Rename one of them."
            )
        paths[name] = entry.path
    if not paths:
        missing, setting = f"matches {', '.join(config.pattern)}", "load.pattern"
        if config.pattern == EVERY_FORMAT:
            missing, setting = "has a format that jangin reads", "load.folder"
        raise DataError(
            f"load.folder: no file in {folder} {missing}. "
            f"Put documents there ({USUAL_FORMATS}), or correct {setting}."
        )
    replaced = replaced_files(config, paths)
    return {name: path for name, path in sorted(paths.items()) if name not in replaced}


def replaced_files(config: LoadConfig, names: Collection[str]) -> dict[str, str]:
    """{file that is replaced: the one that replaces it}, of the files with these names.

    Raises: DataError: a file is not there, or two files replace each other.
    """
    replaced: dict[str, str] = {}
    for new, others in config.replaces.items():
        for name in (new, *others):
            if nfc(name) not in names:
                close = difflib.get_close_matches(nfc(name), list(names), n=3, cutoff=0.4)
                raise DataError(
                    f"load.replaces: there is no file {name!r} in the folder that is read. Write "
                    f"a name as it is there, such as {', '.join(close or sorted(names)[:3])}."
                )
        replaced |= {nfc(old): nfc(new) for old in others}
    for old, new in replaced.items():
        followed, last = {old}, new
        while last in replaced and last not in followed:
            followed.add(last)
            last = replaced[last]
        if last in followed:
            raise DataError(
                f"load.replaces: {old!r} and {new!r} replace each other. Keep the line of the "
                "edition that is in force, or withdraw the decision: jangin review --undo."
            )
    return replaced


def would_read(config: LoadConfig, project_folder: Path, name: str) -> bool:
    """True for a file of the folder that the patterns match."""
    folder = project_folder / config.folder
    is_there = any((folder / form(name)).is_file() for form in (nfc, nfd))
    return is_there and _globs(_patterns(config)).fullmatch(name.lower()) is not None


def _patterns(config: LoadConfig) -> tuple[str, ...]:
    """Globs of the files to read; the default takes every suffix that has a reader."""
    if config.pattern == EVERY_FORMAT:
        return tuple(f"**/*{suffix}" for suffix in readable_suffixes())
    return config.pattern


def left_out(
    config: LoadConfig, project_folder: Path, named: Collection[Path] = ()
) -> list[UnreadableFile]:
    """Files of the folder that no run reads, with the reason, in order of name.

    They are determined from the folder as it is now, so a finished stage has them, too. Not among
    them are `named`, resolved paths of files and folders that other settings of the project name,
    the store beside the project file, and files with the bytes of another one, which `load`
    knows.
    """
    folder = project_folder / config.folder
    if not folder.is_dir():
        return []
    wanted = _globs(_patterns(config))
    names = {
        nfc(entry.name)
        for entry in entries(folder)
        if not entry.reason and wanted.fullmatch(entry.name.lower())
    }
    replaced = replaced_files(config, names) if config.replaces else {}
    rows = [
        UnreadableFile(
            source=old, reason=Reason("replaced_by", name=new), remedy="Nothing is to do."
        )
        for old, new in replaced.items()
    ]
    own = (*named, (project_folder / STORE).resolve())
    used = {path for path in own if not folder.resolve().is_relative_to(path)}
    for entry in entries(folder):
        if entry.reason or not wanted.fullmatch(entry.name.lower()):
            resolved = entry.path.resolve()
            if resolved in used or not used.isdisjoint(resolved.parents):
                continue
            reason, remedy = _why_left_out(entry)
            rows.append(UnreadableFile(source=nfc(entry.name), reason=reason, remedy=remedy))
    return sorted(rows, key=lambda row: row.source)


def _why_left_out(entry: FolderEntry) -> tuple[Reason, str]:
    """(reason, remedy) of an entry that is not read."""
    if entry.reason:
        return entry.reason, entry.remedy
    suffix = entry.path.suffix.lower()
    row = format_of(suffix)
    if row is None:
        return (
            Reason("no_format", suffix=suffix) if suffix else Reason("no_suffix"),
            f"Save it as {USUAL_FORMATS}.",
        )
    if row.read is None:
        reason = Reason("no_reader", name=row.name, suffix=suffix)
        return reason, f"Save it as {row.convert_to}."
    return Reason("other_name"), "Add a pattern, or take it out of the folder."


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
    files = {
        name: SourceFile(name, path, services.files.digest(path))
        for name, path in find_files(config, services.project_folder).items()
    }
    for line in lines_of(left_out(config, services.project_folder, services.named_files)):
        services.progress.message(f"left out: {line}")
    loaded = _Loaded(context, files)
    bar = services.progress.start("load", len(files))
    try:
        copies = loaded.read(files, lambda: services.progress.advance(bar))
    finally:
        services.progress.stop(bar)
    _write(context, loaded, parts_of(files.values()), copies)
    _write_doubtful(context, loaded.doubtful)


class _Loaded:
    """Documents and failures, those of an interrupted run among them."""

    def __init__(self, context: StageContext[LoadConfig], files: Mapping[str, SourceFile]) -> None:
        self.context = context
        self.settings = _settings(context, files)
        self.documents = context.journal("documents", Document, lambda row: row.source)
        self.failures = {row.source: row for row in context.done("unreadable", UnreadableFile)}
        rows = context.done("doubtful", DoubtfulRow)
        self.doubtful = [row for row in rows if row.source in self.documents]

    def read(self, files: Mapping[str, SourceFile], advance: Callable[[], None]) -> dict[str, str]:
        """Read the files; {name: the first readable file of the same bytes}.

        Of files of the same bytes, one is read; the next one only where that is unreadable, as the
        suffix of its name may be another.
        """
        services = self.context.services
        self._take_over(files)
        folder = FolderReader(services.executor, services.ledger, services.progress, self.settings)
        folder.is_isolated = self._was_interrupted()
        same: dict[str, list[str]] = {}
        for name, file in files.items():
            same.setdefault(file.digest, []).append(name)
        copies: dict[str, str] = {}
        turn = 0
        while names := [group[turn] for group in same.values() if len(group) > turn]:
            unread = [n for n in names if n not in self.documents and n not in self.failures]
            for _ in range(len(names) - len(unread)):
                advance()
            with closing(folder.read([files[name] for name in unread])) as receipts:
                for name, receipt in receipts:
                    self._keep(files[name], receipt)
                    advance()
            for name in names:
                if name in self.documents:
                    group = same.pop(files[name].digest)
                    copies.update(dict.fromkeys(group[turn + 1 :], name))
            turn += 1
        for name, original in sorted(copies.items()):
            services.progress.message(f"{name}: skipped, same bytes as {original}")
            advance()
        return copies

    def _take_over(self, files: Mapping[str, SourceFile]) -> None:
        """Take what the last finished run has read of files that would be read in the same way."""
        keys = {name: _way_of(self.context, self.settings, file) for name, file in files.items()}
        path = self.context.runtime_file(WAYS)
        path.write_text(json.dumps(keys, ensure_ascii=False, sort_keys=True), encoding="utf-8")
        done = [p for p in self.context.workspace.parent.glob(f"*/{RUNTIME}/{WAYS}") if p != path]
        last = max(done, key=lambda each: each.stat().st_mtime_ns, default=None)
        if last is None or self.settings.transcriber is not None or last.parent.parent.suffix:
            return
        known = json.loads(last.read_text(encoding="utf-8"))
        same = {
            name
            for name, key in keys.items()
            if known.get(name) == key and name not in self.documents and name not in self.failures
        }
        folder = last.parent.parent
        taken: set[str] = set()
        for document in read_records(folder / "documents.parquet", Document) if same else ():
            if document.source in same:
                self.documents.add(document)
                taken.add(document.source)
        if taken:
            rows = read_table(folder / "doubtful.parquet", DoubtfulRow)
            lines = [row for row in rows if row.source in taken]
            self.doubtful += lines
            self.context.note("doubtful", lines)
            missed = read_table(folder / "unreadable.parquet", UnreadableFile)
            slow = [row for row in missed if row.source in taken]
            self.failures |= {row.source: row for row in slow}
            self.context.note("unreadable", slow)

    def _was_interrupted(self) -> bool:
        """True if a run ended while it read: perhaps because of a file that ends its process."""
        marker = self.context.workspace / JOURNAL / f"{BEGUN}.jsonl"
        was_begun = marker.exists()
        self.context.note(BEGUN, ())
        return was_begun

    def _keep(self, file: SourceFile, receipt: FileReceipt) -> None:
        """Note what became of a file; raises `DataError` with `unreadable: stop`."""
        context = self.context
        for message in receipt.messages:
            context.services.progress.message(message)
        if receipt.reason:
            text = f"{file.name} cannot be read: {receipt.reason} {receipt.remedy}"
            if receipt.document is not None:
                text = f"{file.name} is not read in full: {receipt.reason} {receipt.remedy}"
            if receipt.log:
                text += f" Details are in {_add_to_log(context, file.name, receipt.log)}."
            if context.config.unreadable == "stop":
                raise DataError(text)
            context.services.progress.message(text)
            row = UnreadableFile(source=file.name, reason=receipt.reason, remedy=receipt.remedy)
            self.failures[file.name] = row
            context.note("unreadable", [row])
        if receipt.document is not None:
            lines = _doubtful_rows(file, receipt.doubtful)
            self.doubtful += lines
            context.note("doubtful", lines)
            self.documents.add(receipt.document)


def _way_of(context: StageContext[LoadConfig], settings: ReaderSettings, file: SourceFile) -> str:
    """Digest of a file and of all that decides how it is read."""
    corrections = settings.corrections.get(file.digest, {})
    return digest_value(
        [
            file.name,
            file.digest,
            STAGE.version,
            versions([file.name]),
            context.config.ocr.model_dump(mode="json"),
            dict(_machine(context.config)),
            sorted(settings.columns.get(file.digest, {}).items()),
            [
                [page, [each.model_dump_json() for each in lines]]
                for page, lines in sorted(corrections.items())
            ],
        ]
    )


def _doubtful_rows(
    file: SourceFile, lines: Iterable[tuple[int, DoubtfulLine]]
) -> list[DoubtfulRow]:
    return [
        DoubtfulRow(
            source=file.name,
            page=page,
            text=line.text,
            second=line.second,
            confidence=line.confidence,
            doubt=line.doubt,
            document=file.digest,
            line=line.number,
            is_kept=line.is_kept,
        )
        for page, line in lines
    ]


def _add_to_log(context: StageContext[LoadConfig], source: str, text: str) -> str:
    """Append a traceback to the log of the artifact; its path, with `*` for `.partial`."""
    path = context.runtime_file(ERROR_LOG)
    with path.open("a", encoding="utf-8") as log:
        log.write(f"{source}\n{text}\n")
    folder = str(context.workspace).removesuffix(".partial")
    return f"{folder}*/{path.relative_to(context.workspace)}"


def _write_doubtful(context: StageContext[LoadConfig], rows: Sequence[DoubtfulRow]) -> None:
    """Write the table `doubtful`, and one line for each file that has such lines."""
    rows = sorted(rows, key=lambda row: (row.source, row.page))
    context.write("doubtful", DoubtfulRow, rows)
    context.summary["doubtful_lines"] = len(rows)
    config = context.config.ocr
    kept = not isinstance(config, NeverOcr) and config.doubtful_lines == "keep"
    for (source, is_kept), lines in groupby(
        sorted(rows, key=lambda row: (row.source, row.is_kept)),
        key=lambda row: (row.source, row.is_kept),
    ):
        own = list(lines)
        pages = sorted({row.page for row in own})
        shown = ", ".join(map(str, pages[:8])) + (", ..." if len(pages) > 8 else "")
        where = f"page {shown}" if len(pages) == 1 else f"pages {shown}"
        count = counted(len(own), "line")
        done = "kept in the text" if kept or is_kept else "set aside"
        context.services.progress.message(
            f"{source}: OCR is not sure of {count}, {done} ({where}); see: jangin doubtful"
        )


def parts_of(files: Iterable[SourceFile]) -> dict[int | None, list[str]]:
    """{number of a part of the documents: names of its files}; {None: all} for one file.

    The cuts follow from names and sizes of the files alone, so that they are the same on every
    machine.
    """
    parts: list[list[str]] = []
    names: list[str] = []
    total = cost = 0.0
    for file in sorted(files, key=lambda file: file.name):
        own = file.path.stat().st_size / PART_BYTES + 1 / PART_FILES
        if not parts or cost >= 1:
            parts.append([])
            cost = 0.0
        parts[-1].append(file.name)
        names.append(file.name)
        cost += own
        total += own
    return dict(enumerate(parts)) if total > PARTED_FROM else {None: names}


def _write(
    context: StageContext[LoadConfig],
    loaded: "_Loaded",
    parts: Mapping[int | None, Sequence[str]],
    copies: Mapping[str, str],
) -> None:
    """Write both tables and the summary; raises `DataError` if no file is readable."""
    failures = loaded.failures
    if not len(loaded.documents):
        first = min(failures)
        raise DataError(
            f"no file in {context.config.folder} can be read; "
            f"{first}: {failures[first].reason} {failures[first].remedy}"
        )
    counts: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    for number, names in parts.items():
        with context.writer("documents", Document, number) as writer:
            kept = (name for name in names if name in loaded.documents)
            for document in loaded.documents.read(kept):
                writer.add([document])
                languages[document.language] += 1
                counts["pages"] += len(document.pages)
                counts["characters"] += len(document.text)
                counts["ocr"] += sum(page.method == "ocr" for page in document.pages)
                counts["lines"] += sum(page.lines for page in document.pages)
                counts["checked"] += sum(page.checked for page in document.pages)
                counts["flagged"] += sum(bool(page.doubts) for page in document.pages)
                counts["reordered"] += sum(
                    page.method == "text" and bool(page.reason) for page in document.pages
                )
    context.write("unreadable", UnreadableFile, [failures[name] for name in sorted(failures)])
    context.summary.update(
        documents=languages.total(),
        pages=counts["pages"],
        characters=counts["characters"],
        ocr_pages=counts["ocr"],
        reordered_pages=counts["reordered"],
        flagged_pages=counts["flagged"],
        ocr_lines=counts["lines"],
        checked_lines=counts["checked"],
        languages=dict(sorted(languages.items())),
        unreadable=len(failures),
        copies=dict(sorted(copies.items())),
    )


def _settings(context: StageContext[LoadConfig], files: Mapping[str, SourceFile]) -> ReaderSettings:
    """Settings of readers; a reader requests pages that are more than it reads by OCR itself."""
    ocr_config, services = context.config.ocr, context.services
    defaults = AutoOcr() if isinstance(ocr_config, NeverOcr) else ocr_config
    return ReaderSettings(
        ledger=KnownReadings({}),
        progress=Progress(),
        ocr=ocr_config.type,
        ocr_languages=() if defaults.languages == "auto" else defaults.languages,
        dpi=defaults.dpi,
        most_ocr_pages=PAGES_OF_READER,
        keep_doubtful=defaults.doubtful_lines == "keep",
        transcriber=_transcriber(context),
        corrections=collect_corrections(read_corrections(services.project_folder / LOG)),
        columns=columns_by_digest(
            context.config.columns,
            {name: file.digest for name, file in files.items()},
            read_decisions(services.project_folder / COLUMNS_LOG).values(),
            services.locate("load", ("columns",)),
        ),
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
    """The documents, and the decisions of people about lines of OCR and about columns."""
    names = [COLUMNS_LOG] if isinstance(config.ocr, NeverOcr) else [LOG, COLUMNS_LOG]
    logs = {name: project_folder / name for name in names}
    decided = {name: path for name, path in logs.items() if path.is_file()}
    return {**find_files(config, project_folder), **decided}


def _machine(config: LoadConfig) -> Mapping[str, str]:
    return {} if isinstance(config.ocr, NeverOcr) else {"tesseract": tesseract.version()}


def _cost(context: StageContext[LoadConfig]) -> Cost:
    """Number and size of the files; pages for OCR are not known before files are opened."""
    services = context.services
    files = find_files(context.config, services.project_folder)
    size = sum(path.stat().st_size for path in files.values())
    lost = len(left_out(context.config, services.project_folder, services.named_files))
    without = f" ({lost} more are left out)" if lost else ""
    text = (
        f"{counted(len(files), 'file')}{without}, {size / 1e6:.1f} MB; 1 to 4 seconds a page "
        "for OCR"
    )
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
    maps=always,
    resumable=True,
    sources=_sources,
    versions=versions,
    machine=_machine,
    prompts=lambda config: ("transcribe",) if _vision(config) else (),
    teachers=lambda config: (vision.teacher,) if (vision := _vision(config)) else (),
    cost=_cost,
)
