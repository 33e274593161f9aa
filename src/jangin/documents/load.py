"""Stage `load`: the files of a folder become documents; what cannot be read is kept aside."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from jangin.core.config import Config, Runtime, StageConfig
from jangin.core.digest import digest_file
from jangin.core.errors import DataError
from jangin.core.records import Document, Page, Record
from jangin.core.stage import Cost, Stage, StageContext
from jangin.documents.readers import ocr
from jangin.documents.readers import pdf as pages
from jangin.documents.readers import pdf_text as pdf
from jangin.documents.readers.formats import READERS, Unreadable
from jangin.text.language import language_of
from jangin.text.normalize import normalise

SUPPORTED = (".pdf", *READERS)
FOREIGN = re.compile(r"\.(hwpx?|doc|rtf|odt|pptx?|epub|xlsx?)")
"""Documents in formats that jangin does not read: their presence is said."""


class _Ocr(Config):
    languages: Literal["auto"] | tuple[str, ...] = "auto"
    """Tesseract codes such as `[kor, eng]`; `auto` takes the one the document is written in."""
    dpi: int = Field(default=200, ge=100, le=600)
    """Dots per inch of the rendered page; 300 takes 1.4 times as long and reads no better."""


class AutoOcr(_Ocr):
    """OCR for pages that need it: no text layer, or one that does not say what the page shows."""

    type: Literal["auto"] = "auto"


class AlwaysOcr(_Ocr):
    """OCR for every page of every PDF, whatever its text layer says."""

    type: Literal["always"] = "always"


class NeverOcr(Config):
    """No OCR: a PDF without a text layer is unreadable."""

    type: Literal["never"] = "never"


Ocr = Annotated[AutoOcr | AlwaysOcr | NeverOcr, Field(discriminator="type")]


class LoadConfig(StageConfig):
    """Which files to read, and how."""

    folder: Runtime[Path]
    """Folder of the source files, relative to the project file."""
    pattern: tuple[str, ...] = Field(
        default=tuple(f"**/*{suffix}" for suffix in SUPPORTED), min_length=1
    )
    """Globs inside the folder, case ignored; `**/` stands for any depth."""
    unreadable: Literal["report", "stop"] = "report"
    """What a file that cannot be read does: a row in a table of its own, or the end of the run."""
    ocr: Ocr = AutoOcr()
    """When to read a PDF's pages by OCR."""


class UnreadableFile(Record):
    """A file that gave no document: why, and what to do about it."""

    source: str
    reason: str
    remedy: str


def find_files(config: LoadConfig, project_folder: Path) -> dict[str, Path]:
    """{name inside the folder: path} in order of name; raises `DataError` if there are none."""
    folder = project_folder / config.folder
    if not folder.is_dir():
        raise DataError(
            f"load.folder: {folder} is not a folder. "
            "Make it and put documents there, or correct load.folder in the project file."
        )
    patterns = [_glob(pattern) for pattern in config.pattern]
    found: dict[str, Path] = {}
    for name, path in _visible(folder):
        if not any(pattern.fullmatch(name.lower()) for pattern in patterns):
            continue
        if normalise(name) in found:
            raise DataError(
                f"two files in {folder} are called {normalise(name)}, once with composed and once "
                "with decomposed Hangul. Rename one of them."
            )
        found[normalise(name)] = path
    if not found:
        raise DataError(
            f"load.folder: no file in {folder} matches {', '.join(config.pattern)}. "
            f"Put documents there ({', '.join(SUPPORTED)}), or correct load.pattern."
        )
    return dict(sorted(found.items()))


def _visible(folder: Path) -> Iterator[tuple[str, Path]]:
    """Files that are neither hidden nor an office program's lock."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith((".", "~$")) for part in name.parts):
            yield name.as_posix(), path


def _glob(pattern: str) -> re.Pattern[str]:
    """The regular expression of a lower-case glob."""
    marks = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern.lower())
    return re.compile("".join(marks.get(part, re.escape(part)) for part in parts))


def run(context: StageContext[LoadConfig]) -> None:
    """Read every file that an earlier, interrupted run has not read yet."""
    config, services = context.config, context.services
    files = find_files(config, services.project_folder)
    documents = {document.source: document for document in context.done("documents", Document)}
    failures = {row.source: row for row in context.done("unreadable", UnreadableFile)}
    copies: dict[str, str] = {}
    first_with: dict[str, str] = {}
    _say_foreign(context)
    for name, path in context.track(list(files.items()), "load"):
        digest = digest_file(path)
        if digest in first_with:
            copies[name] = first_with[digest]
            services.progress.say(f"{name}: the same bytes as {first_with[digest]}, kept once")
            continue
        if name not in documents and name not in failures:
            document = _try(context, name, path, digest)
            if isinstance(document, Document):
                documents[name] = document
                context.note("documents", [document])
            else:
                failures[name] = document
                context.note("unreadable", [document])
        if name in documents:
            first_with[digest] = name
    _write(context, documents, failures, copies)


def _try(
    context: StageContext[LoadConfig], name: str, path: Path, digest: str
) -> "Document | UnreadableFile":
    """The document, or why there is none; raises `DataError` where that is to stop the run."""
    try:
        return _read(context, name, path, digest)
    except (Unreadable, pdf.UnopenableError) as error:
        text = f"{name} cannot be read: {error.reason} {error.remedy}"
        if context.config.unreadable == "stop":
            raise DataError(text) from error
        context.services.progress.say(text)
        return UnreadableFile(source=name, reason=error.reason, remedy=error.remedy)


def _write(
    context: StageContext[LoadConfig],
    documents: Mapping[str, Document],
    failures: Mapping[str, UnreadableFile],
    copies: Mapping[str, str],
) -> None:
    """Both tables and the figures; raises `DataError` if no file could be read."""
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


def _say_foreign(context: StageContext[LoadConfig]) -> None:
    """Say which documents are left out for their format."""
    folder = context.services.project_folder / context.config.folder
    left_out = sorted(
        name for name, path in _visible(folder) if FOREIGN.fullmatch(path.suffix.lower())
    )
    if left_out:
        context.services.progress.say(
            f"left out for their format: {', '.join(left_out)}. Save them as PDF or DOCX."
        )


def _read(context: StageContext[LoadConfig], name: str, path: Path, digest: str) -> Document:
    """One document; raises `Unreadable`, `pdf.UnopenableError`, or `MachineError`."""
    if path.stat().st_size == 0:
        raise Unreadable("it is empty (0 bytes).", "Copy it again from where it came from.")
    suffix = path.suffix.lower()
    if suffix == ".pdf":
        text, covering = _read_pdf(context, name, path, digest)
    elif suffix in READERS:
        say = context.services.progress.say
        text = READERS[suffix](path.read_bytes(), lambda note: say(f"{name}: {note}"))
        covering = (Page(number=1, start=0, end=len(text), method="text"),)
    else:
        raise Unreadable(
            f"{suffix or 'a name without suffix'} is no format that jangin reads.",
            f"Save it as one of {', '.join(SUPPORTED)}.",
        )
    if not text.strip():
        raise Unreadable("it holds no text.", "Take it out of the folder, or scan it again.")
    return Document(
        id=digest[:16], source=name, text=text, pages=covering, language=language_of(text)
    )


def _read_pdf(
    context: StageContext[LoadConfig], name: str, path: Path, digest: str
) -> tuple[str, tuple[Page, ...]]:
    """Text and pages of a PDF; pages are joined by an empty line, which belongs to the former."""
    how = context.config.ocr
    settings = pages.Settings(
        use=how.type,
        languages=() if isinstance(how, NeverOcr) or how.languages == "auto" else how.languages,
        dpi=200 if isinstance(how, NeverOcr) else how.dpi,
        workers=context.services.workers,
    )
    services = context.services
    readings = pages.read_pdf(path, digest, name, settings, services.ledger, services.progress)
    if not any(reading.text.strip() for reading in readings):
        if how.type == "never":
            raise Unreadable(
                "it has no text layer, and OCR is switched off.", "Set load.ocr.type to auto."
            )
        raise Unreadable("it has no text, even by OCR.", "Scan it again at 200 dpi or more.")
    text, covering = "", []
    for number, reading in enumerate(readings, start=1):
        part = reading.text + ("\n\n" if number < len(readings) else "")
        covering.append(
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
    return text, tuple(covering)


def _machine(config: LoadConfig) -> Mapping[str, str]:
    return {} if isinstance(config.ocr, NeverOcr) else {"tesseract": ocr.version()}


def _cost(context: StageContext[LoadConfig]) -> Cost:
    """Count only: whether pages need OCR is known when they are opened."""
    files = find_files(context.config, context.services.project_folder)
    size = sum(path.stat().st_size for path in files.values())
    return Cost(text=f"{len(files)} files, {size / 1e6:.1f} MB; 1 to 4 seconds a page for OCR")


STAGE = Stage(
    name="load",
    version=1,
    reads=(),
    makes=("documents", "unreadable"),
    run=run,
    resumable=True,
    sources=find_files,
    machine=_machine,
    cost=_cost,
)
