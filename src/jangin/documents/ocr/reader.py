"""Many page images through OCR: in parallel, and each result kept in the ledger."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from jangin.core.digest import digest_value
from jangin.core.errors import JanginError
from jangin.documents.ocr.reading import MODES, OcrReading
from jangin.documents.ocr.tesseract import (
    KOREAN,
    installed_languages,
    package_of,
    require,
    script,
    version,
)

if TYPE_CHECKING:
    from jangin.core.events import Progress
    from jangin.documents.ocr.preparation import Grey


NAMESPACE = "ocr"
METHOD = 12
"""Version in the cache key. Increase it when the same image gives another text."""


@dataclass(frozen=True, slots=True)
class PageImage:
    """One page to read: a key that identifies its pixels, and a function that renders them."""

    key: str
    """File digest and page number, for example; part of the cache key."""
    render: Callable[[], "Grey"]
    """Called in the thread that iterates `OcrReader.read`, as pdfium is not thread-safe."""
    number: int = 1
    """Number of the page in its file, from 1."""
    columns: int | None = None
    """Number of columns that a person gave; None to find them."""
    gutters: Callable[[], tuple[float, ...]] = tuple
    """Those of the pages before it, as of `KnownColumns`; called like `render`."""


def picture_key(digest: str, number: int, columns: int | None) -> str:
    """`PageImage.key` of a page; `number` as the reader of the file counts."""
    return f"{digest} {number}" if columns is None else f"{digest} {number} columns {columns}"


class Memos(Protocol):
    """Cache of readings, such as a ledger."""

    def get(self, namespace: str, key: str) -> str | None:
        """The value of a key, or None."""
        ...

    def put(self, namespace: str, key: str, value: str) -> None:
        """Keep a value."""
        ...


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A page that is to be read by OCR, and how."""

    key: str
    """Of the reading in the ledger."""
    number: int
    """From 1."""
    languages: tuple[str, ...]
    others: tuple[str, ...]
    dpi: int
    columns: int | None = None
    gutters: tuple[float, ...] = ()


class UnreadPagesError(JanginError):
    """More pages need OCR than may be read at once here; no user sees it."""

    def __init__(self, pages: tuple[PageRequest, ...]) -> None:
        super().__init__(pages)
        self.pages = pages


def identity(
    program: str, languages: tuple[str, ...], others: tuple[str, ...], dpi: int
) -> list[object]:
    """How a page is read: what distinguishes its readings in the ledger; `program`: `version()`."""
    return [METHOD, program, list(languages), list(others), dpi, list(MODES)]


def page_key(page: str, how: list[object]) -> str:
    """Key of a reading in the ledger: `PageImage.key`, and `identity`."""
    return digest_value([page, *how])


class OcrReader:
    """Reads pages in parallel, through a cache in the ledger.

    Raises: MachineError: Tesseract or one of the languages is not installed.
    """

    def __init__(
        self,
        ledger: Memos,
        languages: tuple[str, ...],
        dpi: int,
        workers: int,
        others: tuple[str, ...] = (),
        most: int | None = None,
    ) -> None:
        """`most`: pages that `read` reads itself; more unknown ones raise `UnreadPagesError`."""
        require((*languages, *others))
        self.ledger = ledger
        self.languages = languages
        self.others = others
        self.dpi = dpi
        self.workers = max(1, workers)
        self.most = most
        self.identity = identity(version(), languages, others, dpi)

    def read(self, pictures: Sequence[PageImage]) -> Iterator[OcrReading]:
        """One reading per page, in order; at most two rendered pages per worker are in memory.

        Raises: UnreadPagesError: more pages than `most` are not known.
        """
        from jangin.documents.ocr.page import read_page
        from jangin.documents.ocr.page_layout import KnownColumns

        waiting: deque[OcrReading | tuple[str, Future[OcrReading]]] = deque()
        with ThreadPoolExecutor(self.workers) as pool:
            self._check(pictures)
            for picture in pictures:
                key = page_key(picture.key, self.identity)
                known = self.ledger.get(NAMESPACE, key)
                if known is not None:
                    waiting.append(OcrReading.from_json(known))
                else:
                    page_HW = picture.render()
                    columns = KnownColumns(picture.columns, picture.gutters())
                    how = (self.dpi, self.languages, self.others, columns)
                    waiting.append((key, pool.submit(read_page, page_HW, *how)))
                while len(waiting) > 2 * self.workers:
                    yield self._finish(waiting.popleft())
            while waiting:
                yield self._finish(waiting.popleft())

    def _check(self, pictures: Sequence[PageImage]) -> None:
        if self.most is None:
            return
        keys = [page_key(picture.key, self.identity) for picture in pictures]
        unknown = [
            (key, picture)
            for key, picture in zip(keys, pictures, strict=True)
            if self.ledger.get(NAMESPACE, key) is None
        ]
        if len(unknown) > self.most:
            how = (self.languages, self.others, self.dpi)
            raise UnreadPagesError(
                tuple(
                    PageRequest(key, page.number, *how, page.columns, page.gutters())
                    for key, page in unknown
                )
            )

    def _finish(self, item: "OcrReading | tuple[str, Future[OcrReading]]") -> OcrReading:
        if isinstance(item, OcrReading):
            return item
        key, task = item
        reading = task.result()
        self.ledger.put(NAMESPACE, key, reading.to_json())
        return reading


# Which of Tesseract's language models a page is read with, where the project names none.
#
# One language reads better than several at once: on Korean pages `kor` loses 0.9 % of the
# characters where `kor+eng` loses 2.6 to 3.3 %. So a document has a first language, and a page
# that does not read well in it is tried in the other. Where neither Korean nor English reads well,
# Tesseract's model `osd` says in which script the page is, and the installed languages of that
# script are tried.


AUTOMATIC = (KOREAN, "eng")
"""Languages that are tried first if they are installed."""
CLEARLY = 75.0
"""Confidence of a page in a language from which on no language of another script is tried."""
SCRIPTS: dict[str, tuple[str, ...]] = {
    "Latin": (
        "eng", "deu", "fra", "spa", "ita", "por", "nld", "pol", "ces", "slk", "hun", "ron", "swe",
        "dan", "nor", "fin", "est", "lav", "lit", "hrv", "slv", "tur", "vie", "ind", "msa", "cat",
    ),
    "Cyrillic": ("rus", "ukr", "bel", "bul", "srp", "mkd", "kaz", "mon"),
    "Hangul": (KOREAN, "kor_vert"),
    "Korean": (KOREAN, "kor_vert"),
    "Japanese": ("jpn", "jpn_vert"),
    "Han": ("chi_sim", "chi_tra", "jpn"),
    "HanS": ("chi_sim",),
    "HanT": ("chi_tra",),
    "Arabic": ("ara", "fas", "urd"),
    "Hebrew": ("heb",),
    "Greek": ("ell", "grc"),
    "Thai": ("tha",),
    "Devanagari": ("hin", "mar", "nep", "san"),
    "Georgian": ("kat",),
    "Armenian": ("hye",),
    "Bengali": ("ben",),
    "Tamil": ("tam",),
    "Telugu": ("tel",),
}  # fmt: skip
"""{name of a script in Tesseract's output: its languages, the most frequent ones first}."""
MOST = 4
"""Languages of one script that are tried at most."""


def other_languages(languages: tuple[str, ...]) -> tuple[str, ...]:
    """The installed languages to try on pages that do not read well in `languages`."""
    installed = installed_languages()
    return tuple(code for code in AUTOMATIC if code in installed and code not in languages)


def first_language(
    ledger: Memos, dpi: int, page: PageImage, source: str, progress: "Progress"
) -> tuple[str, ...]:
    """The language in which a page reads best; Korean if no other is installed.

    Where the page is in a script of which no language is installed, a message that begins with
    `source` says what to install.
    """
    candidates = other_languages(()) or (KOREAN,)
    weights: dict[str, float] = {}
    surest = 0.0
    for code in candidates:
        (reading,) = OcrReader(ledger, (code,), dpi, 1).read([page])
        if code == KOREAN and reading.confidence >= CLEARLY and _is_korean(reading.text):
            return (code,)
        weights[code] = reading.weight
        surest = max(surest, reading.confidence)
    for code in _of_script(page, dpi, surest, source, progress):
        if code not in weights:
            (reading,) = OcrReader(ledger, (code,), dpi, 1).read([page])
            weights[code] = reading.weight
    return (max(weights, key=lambda code: weights[code]),)


def _of_script(
    page: PageImage, dpi: int, confidence: float, source: str, progress: "Progress"
) -> tuple[str, ...]:
    """Installed languages of the page's script; only those in Latin letters if it reads well."""
    installed = installed_languages()
    latin = tuple(code for code in SCRIPTS["Latin"] if code in installed)
    if confidence >= CLEARLY:
        return latin[:MOST] if len(latin) > 1 else ()
    name = script(page.render(), dpi)
    known = SCRIPTS.get(name, ())
    ready = tuple(code for code in known if code in installed)
    if known and not ready:
        progress.message(
            f"{source}: its pages are in {name} script, for which Tesseract has no language here; "
            f"install one, such as: apt-get install {package_of(known[0])}"
        )
    return ready[:MOST]


def _is_korean(text: str) -> bool:
    letters = [character for character in text if character.isalpha()]
    return sum("가" <= letter <= "힣" for letter in letters) > 0.5 * len(letters)
