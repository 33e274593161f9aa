"""Draws pages with a known text: python bench/documents/pages.py FOLDER [MARKDOWN ...].

For scans.py. Needs Pillow and the Nanum and DejaVu fonts (Debian: fonts-nanum, fonts-dejavu).
Writes NAME.png, A4 at 200 dpi, and NAME.txt, its lines in reading order. NAME begins with `en`
where the page is in English. Each of the pages below is drawn clean; some are drawn turned, pale,
or with the noise of a scanner too. Of each Markdown file the first lines are drawn as they are,
marks included.
"""

import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT, DPI = 1654, 2339, 200
LEFT, TOP, BOTTOM = 180, 180, 2160
FONTS = {
    "gothic": "/usr/share/fonts/truetype/nanum/NanumGothic.ttf",
    "myeongjo": "/usr/share/fonts/truetype/nanum/NanumMyeongjo.ttf",
    "code": "/usr/share/fonts/truetype/nanum/NanumGothicCoding.ttf",
    "sans": "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    "serif": "/usr/share/fonts/truetype/dejavu/DejaVuSerif.ttf",
}
TEXTS = Path(__file__).resolve().parent / "samples" / "texts"
KOREAN, ENGLISH, MIXED, MARKDOWN, CODE = (
    (TEXTS / f"{name}.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
    for name in ("korean", "english", "mixed", "markdown", "code")
)
TABLE = (
    ("역", "첫차", "막차", "값"),
    ("항구역", "06:05", "21:40", "0원"),
    ("등대역", "06:32", "21:13", "3,200원"),
    ("모래역", "06:58", "20:47", "5,400원"),
    ("솔밭역", "07:21", "20:24", "8,900원"),
    ("바람언덕역", "07:45", "20:00", "12,500원"),
)

Font = ImageFont.FreeTypeFont


class Page:
    """A white page, a pen, and what was written on it."""

    def __init__(self, font: str, points: float = 10) -> None:
        self.image = Image.new("L", (WIDTH, HEIGHT), 255)
        self.pen = ImageDraw.Draw(self.image)
        self.size = round(points * DPI / 72)
        self.font: Font = ImageFont.truetype(FONTS[font], self.size)
        self.pitch = round(1.7 * self.size)
        self.y = TOP
        self.lines: list[str] = []
        self.ink = 0

    def write(self, x: float, y: float, text: str) -> None:
        """One line of text at a place."""
        self.pen.text((x, y), text, fill=self.ink, font=self.font)
        if text.strip():
            self.lines.append(text.strip())

    def wrapped(self, text: str, width: float) -> list[str]:
        """The text in lines of at most this width, broken at spaces."""
        lines = [""]
        for word in text.split(" "):
            longer = f"{lines[-1]} {word}" if lines[-1] else word
            if self.font.getlength(longer) > width and lines[-1]:
                lines.append(word)
            else:
                lines[-1] = longer
        return lines

    def paragraphs(
        self, texts: Sequence[str], left: float = LEFT, width: float = WIDTH - 2 * LEFT
    ) -> None:
        """Texts one below another, indents kept, up to the foot of the page."""
        for text in texts:
            body = text.lstrip(" ")
            indent = self.font.getlength(" " * (len(text) - len(body)))
            for line in self.wrapped(body, width - indent):
                if self.y > BOTTOM:
                    return
                self.write(left + indent, self.y, line)
                self.y += self.pitch


def prose(texts: Sequence[str], font: str, points: float, times: int = 2) -> Page:
    """Paragraphs, `times` over in another order."""
    page = Page(font, points)
    for number in range(times):
        page.paragraphs([*texts[number:], *texts[:number], ""])
    return page


def columns(texts: Sequence[str], font: str) -> Page:
    """Two columns."""
    page = Page(font, 9)
    for left in (LEFT, 860):
        page.y = TOP
        page.paragraphs(texts, left, 610)
        texts = [*texts[1:], texts[0]]
    return page


def table(ruled: bool) -> Page:
    """Prose, a table with or without rules, and prose."""
    page = Page("gothic", 10)
    page.paragraphs(KOREAN[:3])
    top, height = page.y + 30, round(2.2 * page.size)
    xs = (LEFT, 520, 820, 1120, 1474)
    for number, row in enumerate(TABLE):
        for x, cell in zip(xs, row, strict=False):
            page.write(x + 16, top + number * height + 14, cell)
    if ruled:
        for number in range(len(TABLE) + 1):
            page.pen.line((xs[0], top + number * height, xs[-1], top + number * height), 0, 3)
        for x in xs:
            page.pen.line((x, top, x, top + len(TABLE) * height), 0, 3)
    page.y = top + len(TABLE) * height + 40
    page.paragraphs(KOREAN[3:6])
    return page


def noisy(image: Image.Image) -> Image.Image:
    """Grey paper with a shadow at one side, and grain."""
    grain = np.random.default_rng(0).normal(0, 14, (HEIGHT, WIDTH))
    shadow = np.linspace(0.78, 0.96, WIDTH)[None, :]
    return Image.fromarray(np.clip(np.asarray(image) * shadow + grain, 0, 255).astype(np.uint8))


PAGES: dict[str, Callable[[], Page]] = {
    "ko_prose": lambda: prose(KOREAN, "gothic", 10),
    "ko_book": lambda: prose(KOREAN, "myeongjo", 9),
    "ko_large": lambda: prose(KOREAN, "gothic", 13, 1),
    "ko_mixed": lambda: prose(MIXED, "gothic", 10),
    "ko_mixed_book": lambda: prose(MIXED, "myeongjo", 9.5),
    "ko_markdown": lambda: prose(MARKDOWN, "gothic", 10, 1),
    "ko_markdown_code": lambda: prose(MARKDOWN, "code", 10, 1),
    "ko_columns": lambda: columns(KOREAN, "gothic"),
    "ko_table": lambda: table(ruled=True),
    "ko_aligned": lambda: table(ruled=False),
    "en_prose": lambda: prose(ENGLISH, "serif", 9.5),
    "en_sans": lambda: prose(ENGLISH, "sans", 9),
    "en_code": lambda: prose(CODE, "code", 10, 1),
    "en_columns": lambda: columns(ENGLISH, "serif"),
}
CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "turned": lambda image: image.rotate(1.3, Image.Resampling.BICUBIC, fillcolor=255),
    "back": lambda image: image.rotate(-2.7, Image.Resampling.BICUBIC, fillcolor=255),
    "pale": lambda image: image.point([round(255 - 0.4 * (255 - level)) for level in range(256)]),
    "noise": noisy,
}
CHANGED = ("ko_prose", "ko_mixed", "ko_markdown", "ko_table", "en_prose")


def from_markdown(path: Path) -> Page:
    """The first page of a Markdown file, as its source."""
    lines = path.read_text(encoding="utf-8").split("\n")
    font = random.Random(path.name).choice(("gothic", "myeongjo", "code"))
    page = Page(font, 9.5)
    page.paragraphs([line for line in lines if len(line) < 2000])
    return page


def save(folder: Path, name: str, image: Image.Image, lines: Sequence[str]) -> None:
    """Write one page and its text."""
    image.save(folder / f"{name}.png", dpi=(DPI, DPI))
    (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in PAGES.items():
        page = draw()
        save(folder, name, page.image, page.lines)
        for change, apply in CHANGES.items() if name in CHANGED else ():
            save(folder, f"{name}_{change}", apply(page.image), page.lines)
    for path in map(Path, sys.argv[2:]):
        page = from_markdown(path)
        language = "ko" if any("가" <= c <= "힣" for c in path.read_text("utf-8")) else "en"
        save(folder, f"{language}_{path.stem.replace('.', '_')}_source", page.image, page.lines)


if __name__ == "__main__":
    main()
