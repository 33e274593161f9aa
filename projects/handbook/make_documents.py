"""Make `documents/` from the texts in `source/`, and check `teacher/` against them.

    python projects/handbook/make_documents.py

Run by hand when a text changed; what it writes is committed. With the same versions of the
libraries and fonts, the same texts give the same bytes. It needs the `documents` and `dev` extras
and the NanumGothic fonts (Debian: fonts-nanum).
"""

import argparse
import io
import re
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import docx
import numpy as np
import pypdfium2
import yaml
from docx.enum.text import WD_ALIGN_PARAGRAPH
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Mm, Pt, RGBColor
from PIL import Image
from reportlab import rl_config
from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_CENTER, TA_JUSTIFY
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    Flowable,
    HRFlowable,
    KeepTogether,
    Paragraph,
    SimpleDocTemplate,
)

HERE = Path(__file__).parent
SOURCE, DOCUMENTS, TEACHER = HERE / "source", HERE / "documents", HERE / "teacher"
FONTS = Path("/usr/share/fonts/truetype/nanum")
REGULAR, BOLD = "NanumGothic", "NanumGothicBold"
COMPANY = "해무늬도자 주식회사"

SCAN_DPI = 200
SKEW_DEGREES = (0.42, -0.35, 0.5, -0.3, 0.46, -0.4)
"""Of the pages in order: paper never lies quite straight on the glass."""
NOISE_SIGMA = 6.0
"""Standard deviation of the Gaussian noise, in grey levels of 255."""
JPEG_QUALITY = 40
PARAPHRASES = 10
CIRCLED = re.compile(r"[①-⑳] ")


@dataclass(frozen=True, slots=True)
class Block:
    """One heading, paragraph or table of a source text."""

    kind: Literal["title", "chapter", "section", "paragraph", "table"]
    text: str


@dataclass(frozen=True, slots=True)
class Look:
    """How large a PDF is set."""

    size: float
    """Of the body, in points."""
    leading: float
    margin: float
    """Left and right, in millimetres."""


RULES_LOOK = Look(size=11.5, leading=22, margin=29)
SCAN_LOOK = Look(size=13, leading=25, margin=28)


def read_blocks(path: Path) -> list[Block]:
    """The blocks of a source text, in order."""
    return [
        read_block(part) for part in re.split(r"\n{2,}", path.read_text(encoding="utf-8").strip())
    ]


def read_block(part: str) -> Block:
    """One block: a heading by its number of #, a table by its bars."""
    if part.startswith("### "):
        return Block("section", part[4:])
    if part.startswith("## "):
        return Block("chapter", part[3:])
    if part.startswith("# "):
        return Block("title", part[2:])
    return Block("table" if part.startswith("|") else "paragraph", part)


def styles(look: Look) -> dict[str, ParagraphStyle]:
    """One paragraph style per kind of block; `byline` is printed under the title."""
    body = {"fontName": REGULAR, "fontSize": look.size, "leading": look.leading}
    indent = look.size * 1.25
    return {
        "title": ParagraphStyle(
            "title",
            fontName=BOLD,
            fontSize=look.size * 2.2,
            leading=look.size * 3,
            alignment=TA_CENTER,
            spaceBefore=10 * mm,
            spaceAfter=3 * mm,
        ),
        "byline": ParagraphStyle("byline", **body, alignment=TA_CENTER, spaceAfter=4 * mm),
        "chapter": ParagraphStyle(
            "chapter",
            fontName=BOLD,
            fontSize=look.size * 1.3,
            leading=look.size * 2,
            alignment=TA_CENTER,
            spaceBefore=6 * mm,
            spaceAfter=3 * mm,
        ),
        "section": ParagraphStyle(
            "section",
            fontName=BOLD,
            fontSize=look.size,
            leading=look.leading,
            spaceBefore=3 * mm,
        ),
        "paragraph": ParagraphStyle(
            "paragraph",
            **body,
            alignment=TA_JUSTIFY,
            leftIndent=indent,
            bulletFontName=REGULAR,
            bulletFontSize=look.size,
            spaceAfter=1.2 * mm,
        ),
    }


def story(blocks: list[Block], look: Look) -> list[Flowable]:
    """The blocks as flowables; a heading stays with the paragraph below it, no paragraph is cut."""
    style = styles(look)
    out: list[Flowable] = []
    group: list[Flowable] = []
    for index, block in enumerate(blocks):
        if block.kind == "title":
            out.append(Paragraph(block.text, style["title"]))
        elif index and blocks[index - 1].kind == "title":
            out += [
                Paragraph(block.text, style["byline"]),
                HRFlowable(width="100%", thickness=0.8, color=HexColor("#333333")),
            ]
        else:
            circled = CIRCLED.match(block.text)
            group.append(
                Paragraph(
                    block.text[circled.end() if circled else 0 :],
                    style[block.kind],
                    bulletText=circled[0].strip() if circled else None,
                )
            )
            if block.kind == "paragraph":
                out.append(KeepTogether(group))
                group = []
    return out


def build_pdf(blocks: list[Block], look: Look) -> bytes:
    """A PDF with a text layer and embedded font subsets."""
    title = blocks[0].text

    def footer(canvas: Canvas, document: Any) -> None:
        canvas.setStrokeColor(HexColor("#999999"))
        canvas.setLineWidth(0.4)
        inset = look.margin * mm + 6  # the frame's own padding
        canvas.line(inset, 19 * mm, A4[0] - inset, 19 * mm)
        canvas.setFont(REGULAR, look.size * 0.85)
        canvas.drawCentredString(A4[0] / 2, 13 * mm, f"- {document.page} -")

    out = io.BytesIO()
    SimpleDocTemplate(
        out,
        pagesize=A4,
        leftMargin=look.margin * mm,
        rightMargin=look.margin * mm,
        topMargin=24 * mm,
        bottomMargin=26 * mm,
        title=title,
        author=COMPANY,
        subject="jangin handbook demo, fictional",
        lang="ko",
        invariant=1,
    ).build(story(blocks, look), onFirstPage=footer, onLaterPages=footer)
    return out.getvalue()


def scan_page(page: "Image.Image", number: int) -> bytes:
    """One page as a flatbed scanner gives it: askew, noisy, grey paper, JPEG."""
    skewed = page.rotate(
        SKEW_DEGREES[number % len(SKEW_DEGREES)], resample=Image.Resampling.BICUBIC, fillcolor=255
    )
    paper_HW = 24 + np.asarray(skewed, dtype=np.float64) * (244 - 24) / 255
    grey_HW = paper_HW + np.random.default_rng(number).normal(0, NOISE_SIGMA, paper_HW.shape)
    out = io.BytesIO()
    scanned = Image.fromarray(np.clip(np.rint(grey_HW), 0, 255).astype(np.uint8))
    scanned.save(out, "JPEG", quality=JPEG_QUALITY, dpi=(SCAN_DPI, SCAN_DPI))
    return out.getvalue()


def build_scan(blocks: list[Block], look: Look) -> bytes:
    """A PDF of pictures only: what a scanner makes of the printed text."""
    printed = pypdfium2.PdfDocument(build_pdf(blocks, look))
    out = io.BytesIO()
    canvas = Canvas(out, pagesize=A4, invariant=1, pageCompression=1)
    canvas.setTitle(blocks[0].text)
    canvas.setAuthor(COMPANY)
    for number, page in enumerate(printed):
        picture = page.render(scale=SCAN_DPI / 72, grayscale=True).to_pil().convert("L")
        scanned = ImageReader(io.BytesIO(scan_page(picture, number)))
        canvas.drawImage(scanned, 0, 0, width=A4[0], height=A4[1])
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def set_font(style: Any, size: float, *, bold: bool = False) -> None:
    """A Korean font that Word has; grey-black, as Word's own headings are blue."""
    style.font.name = "맑은 고딕"
    style.font.size = Pt(size)
    style.font.bold = bold
    style.font.color.rgb = RGBColor(0x22, 0x22, 0x22)
    fonts = style.element.get_or_add_rPr().get_or_add_rFonts()
    for theme in ("w:asciiTheme", "w:hAnsiTheme", "w:eastAsiaTheme", "w:cstheme"):
        fonts.attrib.pop(qn(theme), None)
    fonts.set(qn("w:eastAsia"), "맑은 고딕")


def add_page_number(paragraph: Any) -> None:
    """A PAGE field, which Word fills in."""
    paragraph.alignment = WD_ALIGN_PARAGRAPH.CENTER
    for kind, text in (("begin", ""), ("", "PAGE"), ("end", "")):
        run = paragraph.add_run()
        if kind:
            field = OxmlElement("w:fldChar")
            field.set(qn("w:fldCharType"), kind)
        else:
            field = OxmlElement("w:instrText")
            field.text = text
        run._r.append(field)


def add_table(document: Any, text: str) -> None:
    """A Markdown table as a Word table, without the line of dashes."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.split("\n")]
    del rows[1]
    table = document.add_table(rows=len(rows), cols=len(rows[0]), style="Table Grid")
    for row, cells in zip(table.rows, rows, strict=True):
        for cell, words in zip(row.cells, cells, strict=True):
            cell.text = words
    for cell in table.rows[0].cells:
        cell.paragraphs[0].runs[0].font.bold = True


def build_docx(blocks: list[Block]) -> bytes:
    """A Word document with real heading styles, a footer and fixed times."""
    document = docx.Document()
    page = document.sections[0]
    page.page_width, page.page_height = Mm(210), Mm(297)
    page.left_margin = page.right_margin = Mm(27)
    for name, size in (("Title", 22), ("Heading 1", 14), ("Heading 2", 12)):
        set_font(document.styles[name], size, bold=True)
    set_font(document.styles["Normal"], 11)
    document.styles["Normal"].paragraph_format.line_spacing = 1.6
    for block in blocks:
        if block.kind == "title":
            document.add_heading(block.text, level=0)
        elif block.kind in ("chapter", "section"):
            document.add_heading(block.text, level=1 if block.kind == "chapter" else 2)
        elif block.kind == "table":
            add_table(document, block.text)
        else:
            document.add_paragraph(block.text)
    add_page_number(page.footer.paragraphs[0])
    set_properties(document.core_properties, blocks[0].text)
    made = io.BytesIO()
    document.save(made)
    return with_fixed_times(made.getvalue())


def set_properties(properties: Any, title: str) -> None:
    """Who and when, fixed."""
    properties.title, properties.author = title, COMPANY
    properties.comments = "jangin handbook demo, fictional"
    properties.last_modified_by = COMPANY
    properties.created = properties.modified = datetime(2025, 3, 1, tzinfo=UTC)


def with_fixed_times(archive: bytes) -> bytes:
    """The same ZIP archive, every entry dated 1980-01-01."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(archive)) as old,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(entry, old.read(name))
    return out.getvalue()


def letters(text: str) -> str:
    """The text when spaces and punctuation don't count."""
    return "".join(character for character in text.lower() if character.isalnum())


def section_texts() -> dict[tuple[str, str], str]:
    """The text of every section, by (document's file name, heading)."""
    sections: dict[tuple[str, str], str] = {}
    for document in sorted(DOCUMENTS.iterdir()):
        heading = ""
        for block in read_blocks(SOURCE / f"{document.stem}.md"):
            if block.kind == "section":
                heading = block.text
                sections[document.name, heading] = ""
            elif block.kind in ("paragraph", "table") and heading:
                sections[document.name, heading] += f"{block.text}\n"
    return sections


def check_teacher() -> list[str]:
    """What is wrong with `teacher/`; empty if nothing is."""
    entries = [
        entry
        for path in sorted(TEACHER.glob("*.yaml"))
        for entry in yaml.safe_load(path.read_text(encoding="utf-8"))
    ]
    texts = section_texts()
    told = Counter((entry["source"], entry["section"]) for entry in entries)
    problems = [f"no pairs: {key}" for key in texts if not told[key]]
    problems += [f"no such section: {key}" for key in told if key not in texts]
    problems += [f"{count} entries: {key}" for key, count in told.items() if count > 1]
    asked: Counter[str] = Counter()
    pairs = 0
    for entry in entries:
        text = texts.get((entry["source"], entry["section"]), "")
        for pair in entry["pairs"]:
            pairs += 1
            wordings = [pair["question"], *pair["paraphrases"]]
            asked.update(map(letters, wordings))
            if pair["evidence"] not in text:
                problems.append(f"evidence is not in the text: {pair['evidence']}")
            if len(wordings) != PARAPHRASES + 1:
                problems.append(f"{len(wordings) - 1} paraphrases: {pair['question']}")
            problems += [
                f"{len(words)} characters: {words}"
                for words in wordings
                if not 8 <= len(words) <= 45
            ]
    problems += [f"asked {count} times: {words}" for words, count in asked.items() if count > 1]
    print(f"{len(texts)} sections, {pairs} pairs, {sum(asked.values()) - pairs} paraphrases")
    return problems


def make_all() -> None:
    """Write the four documents."""
    rl_config.useA85 = 0
    for name in (REGULAR, BOLD):
        pdfmetrics.registerFont(TTFont(name, FONTS / f"{name}.ttf"))
    DOCUMENTS.mkdir(exist_ok=True)
    blocks = {path.stem: read_blocks(path) for path in SOURCE.glob("*.md")}
    (DOCUMENTS / "취업규칙.pdf").write_bytes(build_pdf(blocks["취업규칙"], RULES_LOOK))
    (DOCUMENTS / "여비규정.pdf").write_bytes(build_scan(blocks["여비규정"], SCAN_LOOK))
    (DOCUMENTS / "정보보안지침.docx").write_bytes(build_docx(blocks["정보보안지침"]))
    shutil.copyfile(SOURCE / "복리후생안내.md", DOCUMENTS / "복리후생안내.md")


def main(description: str, make: Callable[[], None], check: Callable[[], list[str]]) -> None:
    """The command line of a project's script; exits 1 where `check` returns problems."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="only check teacher/, make nothing")
    if not parser.parse_args().check:
        make()
    problems = check()
    print("\n".join(problems))
    raise SystemExit(1 if problems else 0)


if __name__ == "__main__":
    main(__doc__, make_all, check_teacher)
