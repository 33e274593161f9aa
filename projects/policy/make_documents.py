"""Make `documents/` from the texts in `source/`, and check `teacher/` against them.

    python projects/policy/make_documents.py

Run by hand when a text changed; what it writes is committed. With the same versions of the
libraries and fonts, the same texts give the same bytes. It needs the `documents` and `dev` extras
and the NanumGothic fonts (Debian: fonts-nanum). The page set-up and the scanner are those of the
handbook's own script.
"""

import io
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from reportlab import rl_config
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Flowable, KeepTogether, Paragraph, SimpleDocTemplate, Table

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "handbook"))

handbook = import_module("make_documents")

SOURCE, DOCUMENTS, TEACHER = HERE / "source", HERE / "documents", HERE / "teacher"
COMPANY = "달무리손해보험 주식회사"
LOOK = handbook.Look(size=11, leading=19, margin=27)
SCAN_LOOK = handbook.Look(size=11.5, leading=22, margin=29)
OPERATIONS = ("deepening", "broadening", "reasoning", "complexifying")


def table(text: str, look: handbook.Look) -> Table:
    """A Markdown table, ruled, without the line of dashes."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.split("\n")]
    del rows[1]
    style = [
        ("FONT", (0, 0), (-1, -1), handbook.REGULAR, look.size * 0.9),
        ("FONT", (0, 0), (-1, 0), handbook.BOLD, look.size * 0.9),
        ("GRID", (0, 0), (-1, -1), 0.5, HexColor("#555555")),
        ("BACKGROUND", (0, 0), (-1, 0), HexColor("#eeeeee")),
        ("ALIGN", (1, 0), (-1, -1), "RIGHT"),
    ]
    return Table(rows, style=style, rowHeights=look.size * 2, spaceBefore=2 * mm, spaceAfter=3 * mm)


def story(blocks: list[handbook.Block], look: handbook.Look) -> list[Flowable]:
    """The handbook's flowables; tables are ruled, and numbered items are indented."""
    style = handbook.styles(look)
    items = style["paragraph"].clone("item", leftIndent=look.size * 2.6)
    out: list[Flowable] = []
    plain: list[handbook.Block] = []
    for block in blocks:
        if block.kind == "table":
            out += [*handbook.story(plain, look), table(block.text, look)]
            plain = []
        elif block.kind == "paragraph" and block.text[:2].rstrip(".").isdigit():
            number, _, text = block.text.partition(". ")
            out += handbook.story(plain, look)
            out.append(KeepTogether([Paragraph(text, items, bulletText=f"  {number}.")]))
            plain = []
        else:
            plain.append(block)
    return [*out, *handbook.story(plain, look)]


def build_pdf(blocks: list[handbook.Block], look: handbook.Look) -> bytes:
    """A PDF with a text layer and embedded font subsets."""

    def footer(canvas: Any, document: Any) -> None:
        canvas.setFont(handbook.REGULAR, look.size * 0.85)
        canvas.drawCentredString(A4[0] / 2, 13 * mm, f"- {document.page} -")

    out = io.BytesIO()
    SimpleDocTemplate(
        out,
        pagesize=A4,
        leftMargin=look.margin * mm,
        rightMargin=look.margin * mm,
        topMargin=22 * mm,
        bottomMargin=24 * mm,
        title=blocks[0].text,
        author=COMPANY,
        subject="jangin policy recipe, fictional",
        lang="ko",
        invariant=1,
    ).build(story(blocks, look), onFirstPage=footer, onLaterPages=footer)
    return out.getvalue()


def make_all() -> None:
    """Write the two documents: printed and scanned."""
    rl_config.useA85 = 0
    for name in (handbook.REGULAR, handbook.BOLD):
        pdfmetrics.registerFont(TTFont(name, handbook.FONTS / f"{name}.ttf"))
    DOCUMENTS.mkdir(exist_ok=True)
    terms = handbook.read_blocks(SOURCE / "해외여행보험.md")
    rider = handbook.read_blocks(SOURCE / "겨울운동_특별약관.md")
    (DOCUMENTS / "해외여행보험.pdf").write_bytes(build_pdf(terms, LOOK))
    (DOCUMENTS / "겨울운동_특별약관.pdf").write_bytes(handbook.build_scan(rider, SCAN_LOOK))


def letters(text: str) -> str:
    """The text when spaces and punctuation don't count."""
    return "".join(character for character in text.lower() if character.isalnum())


def read_teacher() -> list[dict[str, Any]]:
    """What we wrote, section by section."""
    return [
        entry
        for path in sorted(TEACHER.glob("*.yaml"))
        for entry in yaml.safe_load(path.read_text(encoding="utf-8"))
    ]


def section_texts() -> dict[tuple[str, str], str]:
    """The letters of every section, by (document's file name, heading)."""
    texts: dict[tuple[str, str], str] = {}
    for path in sorted(SOURCE.glob("*.md")):
        heading = ""
        for block in handbook.read_blocks(path):
            if block.kind == "section":
                heading = block.text
                texts[f"{path.stem}.pdf", heading] = ""
            elif heading and block.kind != "chapter":
                texts[f"{path.stem}.pdf", heading] += letters(block.text)
    return texts


def check_teacher() -> list[str]:
    """What is wrong with `teacher/`; evidence that is marked `unsound` is wrong on purpose."""
    texts, problems = section_texts(), []
    counted = {"pairs": 0, "items": 0, "evolved": 0}
    for entry in read_teacher():
        key = (entry["source"], entry["section"])
        if key not in texts:
            problems.append(f"no such section: {key}")
            continue
        rows = [*entry.get("pairs", []), *entry.get("items", [])]
        counted["pairs"] += len(entry.get("pairs", []))
        counted["items"] += len(entry.get("items", []))
        for row in rows:
            evolved = row.get("evolved", {})
            counted["evolved"] += len(evolved)
            problems += [f"no such operation: {name}" for name in evolved if name not in OPERATIONS]
            sound = [way for way in evolved.values() if not way.get("unsound")]
            problems += [
                f"evidence is not in {key}: {one['evidence']}"
                for one in (row, *sound)
                if letters(one["evidence"]) not in texts[key]
            ]
    print(f"{len(texts)} sections, " + ", ".join(f"{n} {name}" for name, n in counted.items()))
    return problems


if __name__ == "__main__":
    handbook.main(__doc__, make_all, check_teacher)
