"""Sources made on the fly, and a stage context over a real ledger in a temporary folder."""

import io
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from jangin.core.config import StageConfig
from jangin.core.errors import ConfigError
from jangin.core.events import Progress
from jangin.core.execution.local import Local
from jangin.core.ledger import Ledger
from jangin.core.model_protocols import no_encoder
from jangin.core.parquet import write_table
from jangin.core.stage import Services, StageContext
from jangin.core.store import Artifact
from tests.conftest import make_artifact

NANUM = Path("/usr/share/fonts/truetype/nanum/NanumGothic.ttf")
ARTICLES = (
    ("목적", "이 규정은 회사 직원의 휴가와 출장에 관한 사항을 정함을 목적으로 합니다."),
    ("적용범위", "이 규정은 회사와 근로계약을 맺은 모든 직원에게 차별 없이 적용합니다."),
    ("연차휴가", "회사는 일 년 동안 성실히 근무한 직원에게 유급휴가를 주어야 합니다."),
    ("병가", "직원이 질병으로 근무할 수 없는 경우 회사는 병가를 허가할 수 있습니다."),
    ("출장비", "출장에 드는 교통비와 숙박비는 회사가 정한 기준에 따라 지급합니다."),
    ("보고", "출장을 마친 직원은 지체 없이 그 결과를 부서장에게 보고하여야 합니다."),
)


def no_chat(name: str) -> Any:
    raise ConfigError(f"no model is called {name}. Name one under models.")


@pytest.fixture
def korean_font() -> str:
    """Registers a Korean font with reportlab; its name."""
    if not NANUM.exists():
        pytest.skip("needs the font NanumGothic: apt-get install fonts-nanum")
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    if "Nanum" not in pdfmetrics.getRegisteredFontNames():
        pdfmetrics.registerFont(TTFont("Nanum", str(NANUM)))
    return "Nanum"


@pytest.fixture
def tesseract() -> None:
    """Skips where Tesseract or its Korean model is not installed."""
    from jangin.documents.ocr.tesseract import INSTALL, installed_languages

    if shutil.which("tesseract") is None or "kor" not in installed_languages():
        pytest.skip(f"needs Tesseract with Korean: {INSTALL}")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "ledger" / "ledger.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def make_context(tmp_path: Path, ledger: Ledger) -> Callable[..., StageContext[Any]]:
    """A context in a project folder `tmp_path`; the same workspace every time."""

    def make(config: StageConfig, inputs: dict[str, Artifact] | None = None) -> StageContext[Any]:
        workspace = tmp_path / "workspace"
        workspace.mkdir(exist_ok=True)
        services = Services(tmp_path, no_chat, ledger, Progress(), Local(2))
        return StageContext(config, inputs or {}, workspace, services)

    return make


@pytest.fixture
def table_context(tmp_path: Path, ledger: Ledger) -> Callable[..., StageContext[Any]]:
    """A context over tables {kind: (record type, rows)}, with a chat model and an encoder."""

    def make(
        config: StageConfig,
        tables: Mapping[str, tuple[type[BaseModel], list[Any]]],
        chat: Any = None,
        encoder: Any = no_encoder,
    ) -> StageContext[Any]:
        folder = tmp_path / f"stage{len(list(tmp_path.glob('stage*')))}"
        inputs = {}
        for kind, (record_type, rows) in tables.items():
            (folder / kind).mkdir(parents=True)
            write_table(folder / kind / f"{kind}.parquet", record_type, rows)
            inputs[kind] = make_artifact(folder / kind)
        workspace = folder / "workspace"
        workspace.mkdir(parents=True)
        services = Services(
            tmp_path, no_chat if chat is None else lambda _name: chat, ledger, Progress(),
            encoder=encoder,
        )  # fmt: skip
        return StageContext(config, inputs, workspace, services)

    return make


def _draw_pages(
    path: Path, pages: list[list[tuple[float, float, str]]], font: str, **how: Any
) -> None:
    """A PDF of pages of (x, y, text), in the order given, 12 points."""
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(path), pagesize=(595, 842), **how)
    for page in pages:
        canvas.setFont(font, 12)
        for x, y, text in page:
            canvas.drawString(x, y, text)
        canvas.showPage()
    canvas.save()


def _article_lines(first: int = 1) -> list[tuple[float, float, str]]:
    """One page of a Korean regulation."""
    lines, y = [], 780.0
    for number, (title, body) in enumerate(ARTICLES, start=first):
        lines += [(72.0, y, f"제{number}조({title})"), (72.0, y - 20, body)]
        y -= 60
    return lines


def _scan(path: Path, dpi: int = 200) -> bytes:
    """An image-only PDF of the pages of another."""
    import pypdfium2

    document = pypdfium2.PdfDocument(path)
    pictures = [
        page.render(scale=dpi / 72, grayscale=True).to_pil().convert("L") for page in document
    ]
    document.close()
    out = io.BytesIO()
    pictures[0].save(out, "PDF", resolution=dpi, save_all=True, append_images=pictures[1:])
    return out.getvalue()


@pytest.fixture
def draw_pages() -> Callable[..., None]:
    return _draw_pages


@pytest.fixture
def article_lines() -> Callable[..., list[tuple[float, float, str]]]:
    return _article_lines


@pytest.fixture
def scan() -> Callable[..., bytes]:
    return _scan
