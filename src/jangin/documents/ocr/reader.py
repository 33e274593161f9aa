"""Many page images through OCR: in parallel, and each result kept in the ledger."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jangin.core.digest import digest_value
from jangin.documents.ocr.reading import MODES, OcrReading
from jangin.documents.ocr.tesseract import require, version

if TYPE_CHECKING:
    from jangin.core.ledger import Ledger
    from jangin.documents.ocr.preparation import Grey

NAMESPACE = "ocr"
METHOD = 4
"""Version in the cache key. Increase it when the same image gives another text."""


@dataclass(frozen=True, slots=True)
class PageImage:
    """One page to read: a key that identifies its pixels, and a function that renders them."""

    key: str
    """File digest and page number, for example; part of the cache key."""
    render: Callable[[], "Grey"]
    """Called in the thread that iterates `OcrReader.read`, as pdfium is not thread-safe."""


class OcrReader:
    """Reads pages in parallel, through a cache in the ledger.

    Use it in the main process only, which writes the ledger.

    Raises: MachineError: Tesseract or one of the languages is not installed.
    """

    def __init__(
        self,
        ledger: "Ledger",
        languages: tuple[str, ...],
        dpi: int,
        workers: int,
        others: tuple[str, ...] = (),
    ) -> None:
        require((*languages, *others))
        self.ledger = ledger
        self.languages = languages
        self.others = others
        self.dpi = dpi
        self.workers = max(1, workers)
        self.identity = [METHOD, version(), list(languages), list(others), dpi, list(MODES)]

    def read(self, pictures: Iterable[PageImage]) -> Iterator[OcrReading]:
        """One reading per page, in order; at most two rendered pages per worker are in memory."""
        from jangin.documents.ocr.page import read_page

        waiting: deque[OcrReading | tuple[str, Future[OcrReading]]] = deque()
        with ThreadPoolExecutor(self.workers) as pool:
            for picture in pictures:
                key = digest_value([picture.key, *self.identity])
                known = self.ledger.get(NAMESPACE, key)
                if known is not None:
                    waiting.append(OcrReading.from_json(known))
                else:
                    page_HW = picture.render()
                    task = pool.submit(read_page, page_HW, self.dpi, self.languages, self.others)
                    waiting.append((key, task))
                while len(waiting) > 2 * self.workers:
                    yield self._finish(waiting.popleft())
            while waiting:
                yield self._finish(waiting.popleft())

    def _finish(self, item: "OcrReading | tuple[str, Future[OcrReading]]") -> OcrReading:
        if isinstance(item, OcrReading):
            return item
        key, task = item
        reading = task.result()
        self.ledger.put(NAMESPACE, key, reading.to_json())
        return reading
