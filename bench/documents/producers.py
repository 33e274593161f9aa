"""Draws a `Layout` as a PDF, by reportlab, Chromium or LibreOffice, and as a scan of it."""

import copy
import html
import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from layouts import Band, Box, Figure, Item, Layout, Table, Text

FONTS = {
    "gothic": ("/usr/share/fonts/truetype/nanum/NanumGothic.ttf", "NanumGothic"),
    "book": ("/usr/share/fonts/truetype/nanum/NanumMyeongjo.ttf", "NanumMyeongjo"),
    "code": ("/usr/share/fonts/truetype/nanum/NanumGothicCoding.ttf", "NanumGothicCoding"),
    "serif": ("/usr/share/fonts/truetype/dejavu/DejaVuSerif.ttf", "DejaVu Serif"),
}
HTML = "<!doctype html><meta charset=utf-8>"
WIDTH, HEIGHT = 595.0, 842.0
SCALE = {"title": 1.6, "left": 1.4, "heading": 1.15}


def is_installed(producer: str) -> bool:
    """Whether this machine has the program or package."""
    program = {"chromium": "chromium", "libreoffice": "soffice", "groff": "groff"}.get(producer)
    if program is not None:
        return shutil.which(program) is not None
    return importlib.util.find_spec(producer) is not None


def draw(layout: Layout, path: Path) -> None:
    """Write the layout to a PDF."""
    {"reportlab": _reportlab, "chromium": _chromium, "libreoffice": _libreoffice}[layout.producer](
        layout, path
    )


def scanned(page_HW: Any, seed: int) -> Any:
    """A rendered page, (H, W) uint8, as a scanner gives it: a little turned, grainy and grey."""
    from scipy import ndimage

    chance = np.random.default_rng(seed)
    angle = chance.uniform(0.2, 0.8) * chance.choice((-1, 1))
    turned = ndimage.rotate(page_HW, angle, reshape=False, order=1, cval=255)
    grain = chance.normal(0, 6, turned.shape)
    return np.clip(turned * 0.97 + grain, 0, 255).astype(np.uint8)


# --- reportlab ---


class _Page:
    """Bands one below another on pages of reportlab."""

    def __init__(self, layout: Layout, path: Path) -> None:
        from reportlab.pdfgen.canvas import Canvas

        self.layout, self.canvas = layout, Canvas(str(path), pagesize=(WIDTH, HEIGHT), invariant=1)
        self.number, self.y = 0, 0.0
        self.next()

    def next(self) -> None:
        if self.number:
            self.canvas.showPage()
        self.number += 1
        layout = self.layout
        self.y = HEIGHT - layout.margin
        self.canvas.setFont("gothic", 7.5)
        if layout.head:
            self.canvas.drawString(layout.margin, HEIGHT - 30, layout.head)
        if layout.foot:
            self.canvas.drawCentredString(WIDTH / 2, 24, f"- {self.number} -")

    def band(self, band: Band) -> None:
        layout = self.layout
        inner = WIDTH - 2 * layout.margin
        free = inner - band.gutter * (len(band.columns) - 1)
        widths = [free * share / sum(band.columns) for share in band.columns]
        flows = [[flowable(item, layout) for item in column] for column in band.apart]
        rest = [flowable(item, layout) for item in band.items]
        while rest or flows:
            room = self.y - layout.margin
            height = room if band.fill else self._height(rest, widths, room)
            lowest = self.y - height
            left, bottoms = layout.margin, [self.y]
            for index, width in enumerate(widths):
                own = flows[index] if flows else rest
                bottoms.append(self._column(own, left, lowest, width, height, self.canvas))
                left += width + band.gutter
            self.y = min(bottoms) - 12
            flows = []
            if rest:
                self.next()

    def _height(self, flow: list[Any], widths: Sequence[float], room: float) -> float:
        from reportlab.pdfgen.canvas import Canvas

        if len(widths) == 1 or not flow:
            return room
        for height in range(40, int(room), 12):
            own = copy.deepcopy(flow)
            nowhere = Canvas("/dev/null")
            for width in widths:
                self._column(own, 0, 0, width, height, nowhere)
            if not own:
                return float(height)
        return room

    def _column(
        self, flow: list[Any], left: float, low: float, width: float, height: float, canvas: Any
    ) -> float:
        from reportlab.platypus import Frame

        frame = Frame(left, low, width, height, 0, 0, 0, 0)
        while flow:
            if frame.add(flow[0], canvas, trySplit=1):
                flow.pop(0)
                continue
            parts = frame.split(flow[0], canvas)
            if not parts:
                break
            frame.add(parts[0], canvas)
            flow[:1] = parts[1:]
            break
        return float(frame._y)

    def notes(self) -> None:
        if not self.layout.notes:
            return
        y = HEIGHT - self.layout.margin - 40
        for note in self.layout.notes:
            own = _paragraph(Text((note,)), self.layout, 0.75)
            _, height = own.wrap(self.layout.margin - 32, 200)
            own.drawOn(self.canvas, WIDTH - self.layout.margin + 14, y - height)
            y -= 150


def _paragraph(text: Text, layout: Layout, scale: float = 1.0) -> Any:
    from reportlab.lib.enums import TA_CENTER, TA_JUSTIFY, TA_LEFT
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.platypus import Paragraph, Preformatted

    size = layout.points * scale * SCALE.get(text.kind, 1.0)
    usual = TA_JUSTIFY if layout.justified and text.kind == "text" else TA_LEFT
    style = ParagraphStyle(
        text.kind,
        fontName="code" if text.kind == "code" else layout.font,
        fontSize=size,
        leading=size * 1.5,
        spaceBefore=layout.spaced if text.kind in ("heading", "title", "left") else 0,
        spaceAfter=8 if text.kind in ("title", "left") else 0,
        alignment=TA_CENTER if text.kind == "title" else usual,
        leftIndent=24 if text.kind == "hanging" else 0,
        firstLineIndent=-24 if text.kind == "hanging" else 0,
    )
    if text.kind == "code":
        return Preformatted(text.sentences[0], style)
    return Paragraph(html.escape(" ".join(text.sentences)), style)


def flowable(item: Item, layout: Layout) -> Any:
    """One item for reportlab."""
    from reportlab.graphics.shapes import Drawing, Line, Rect
    from reportlab.platypus import Table as Rows

    if isinstance(item, Text):
        return _paragraph(item, layout)
    if isinstance(item, Figure):
        drawing = Drawing(300, item.height)
        drawing.add(Rect(0, 0, 300, item.height - 4, strokeWidth=1, fillColor=None))
        for x in range(20, 280, 20):
            drawing.add(Line(x, 10, x + 15, 10 + (x * 7) % (item.height - 20)))
        drawing.hAlign = "CENTER"
        return drawing
    inner = WIDTH - 2 * layout.margin
    ruled = [("GRID", (0, 0), (-1, -1), 0.6, "black"), ("FONT", (0, 0), (-1, -1), layout.font)]
    size = ("FONTSIZE", (0, 0), (-1, -1), layout.points)
    if isinstance(item, Box):
        frame = [("BOX", (0, 0), (-1, -1), 0.8, "black")]
        return Rows([[_paragraph(item.text, layout)]], style=frame, spaceBefore=4, spaceAfter=4)
    if isinstance(item, Table):
        return Rows(
            item.rows,
            style=[*ruled, size],
            hAlign="LEFT",
            colWidths=inner / len(item.rows[0]) if item.wide else 70,
            spaceBefore=4,
            spaceAfter=4,
        )
    cells = [[_paragraph(Text((cell,)), layout) for cell in row] for row in item.rows]
    return Rows(
        cells,
        colWidths=[share * inner for share in item.widths],
        style=[("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0)],
    )


def register_fonts() -> None:
    """Make `FONTS` known to reportlab by their names."""
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    for name, (file, _) in FONTS.items():
        if name not in pdfmetrics.getRegisteredFontNames():
            pdfmetrics.registerFont(TTFont(name, file))


def _reportlab(layout: Layout, path: Path) -> None:
    register_fonts()
    page = _Page(layout, path)
    for band in layout.bands:
        page.band(band)
    page.notes()
    page.canvas.save()


# --- Chromium ---


def _html(item: Item, layout: Layout) -> str:
    if isinstance(item, Text):
        words = html.escape(" ".join(item.sentences))
        tag = {"heading": "h3", "title": "h1", "left": "h2", "code": "pre"}.get(item.kind, "p")
        return f'<{tag} class="{item.kind}">{words}</{tag}>'
    if isinstance(item, Box):
        return f'<div class="box">{_html(item.text, layout)}</div>'
    if isinstance(item, Figure):
        return (
            f'<svg width="300" height="{item.height}"><rect width="299" '
            f'height="{item.height - 1}" fill="none" stroke="black"/></svg>'
        )
    if isinstance(item, Table):
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in item.rows
        )
        return f'<table class="ruled">{rows}</table>'
    rows = "".join(
        "<tr>"
        + "".join(
            f'<td style="width:{100 * share}%">{html.escape(cell)}</td>'
            for share, cell in zip(item.widths, row, strict=True)
        )
        + "</tr>"
        for row in item.rows
    )
    return f'<table class="pairs">{rows}</table>'


def _chromium(layout: Layout, path: Path) -> None:
    bands = []
    for band in layout.bands:
        if band.apart:
            parts = "".join(
                f'<div style="flex:{share} 1 0">{"".join(_html(i, layout) for i in column)}</div>'
                for share, column in zip(band.columns, band.apart, strict=True)
            )
            bands.append(f'<div style="display:flex;gap:{band.gutter}pt">{parts}</div>')
            continue
        style = f"columns:{len(band.columns)};column-gap:{band.gutter}pt"
        inside = "".join(_html(item, layout) for item in band.items)
        bands.append(f'<div style="{style if len(band.columns) > 1 else ""}">{inside}</div>')
    size, family = layout.points, FONTS[layout.font][1]
    align = "justify" if layout.justified else "left"
    style = f"""@page {{ size: A4; margin: {layout.margin}pt }}
        body {{ margin: 0; font: {size}pt/1.5 {family}; word-break: keep-all }}
        p {{ margin: 0; text-align: {align} }} h3 {{ font-size: {size * 1.15}pt; font-weight: 400;
        margin: {layout.spaced}pt 0 0; break-after: avoid }} h1 {{ font-size: {size * 1.6}pt;
        text-align: center; margin: 8pt 0 }} h2 {{ font-size: {size * 1.4}pt; margin: 8pt 0;
        border-bottom: 1px solid }} .hanging {{ padding-left: 24pt; text-indent: -24pt }}
        pre {{ margin: 0; font: {size}pt/1.5 {FONTS["code"][1]} }}
        .box {{ border: 1px solid; padding: 5pt; margin: 5pt 0; break-inside: avoid }}
        table {{ border-collapse: collapse; break-inside: avoid; margin: 5pt 0 }}
        .ruled td {{ border: 1px solid; padding: 2pt 12pt }} .pairs {{ width: 100% }}
        .pairs td {{ padding: 2pt 6pt 2pt 0; vertical-align: top }}"""
    head = f'<div style="font-size:7.5pt">{html.escape(layout.head)}</div>' if layout.head else ""
    print_html(
        f"<!doctype html><meta charset=utf-8><style>{style}</style>{head}{''.join(bands)}", path
    )


def print_html(page: str, path: Path) -> None:
    """Print a page by Chromium."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "page.html"
        source.write_text(page, encoding="utf-8")
        subprocess.run(
            [
                *("chromium", "--headless", "--no-sandbox", "--disable-gpu"),
                *(f"--user-data-dir={folder}/profile", "--no-pdf-header-footer"),
                *(f"--print-to-pdf={path}", source.as_uri()),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )


# --- LibreOffice ---

NAMESPACES = " ".join(
    f'xmlns:{short}="urn:oasis:names:tc:opendocument:xmlns:{long}:1.0"'
    for short, long in (
        ("office", "office"),
        ("style", "style"),
        ("text", "text"),
        ("table", "table"),
        ("fo", "xsl-fo-compatible"),
        ("svg", "svg-compatible"),
        ("draw", "drawing"),
    )
)


def _odf(item: Item, styles: list[str]) -> str:
    if isinstance(item, Text):
        words = html.escape(" ".join(item.sentences)).replace("  ", " <text:s/>")
        return f'<text:p text:style-name="{item.kind}">{words}</text:p>'
    if isinstance(item, Box):
        words = html.escape(" ".join(item.text.sentences))
        return f'<text:p text:style-name="box">{words}</text:p>'
    if isinstance(item, Figure):
        return f'<text:p text:style-name="box">{"<text:line-break/>" * 6}</text:p>'
    ruled = isinstance(item, Table)
    name = f"T{len(styles)}"
    shares = [1.0] * len(item.rows[0]) if isinstance(item, Table) else item.widths
    width = 'style:width="6cm" table:align="left"' if ruled else 'table:align="margins"'
    styles.append(
        f'<style:style style:name="{name}" style:family="table"><style:table-properties {width}/>'
        "</style:style>"
    )
    columns = ""
    for index, share in enumerate(shares):
        styles.append(
            f'<style:style style:name="{name}.{index}" style:family="table-column">'
            f'<style:table-column-properties style:rel-column-width="{round(1000 * share)}*"/>'
            "</style:style>"
        )
        columns += f'<table:table-column table:style-name="{name}.{index}"/>'
    cell = "ruled" if ruled else "plain"
    rows = "".join(
        "<table:table-row>"
        + "".join(
            f'<table:table-cell table:style-name="{cell}" office:value-type="string">'
            f'<text:p text:style-name="cell">{html.escape(one)}</text:p></table:table-cell>'
            for one in row
        )
        + "</table:table-row>"
        for row in item.rows
    )
    return (
        f'<table:table table:name="{name}" table:style-name="{name}">{columns}{rows}</table:table>'
    )


def _section(band: Band, number: int, styles: list[str]) -> str:
    items = list(band.every())
    if band.apart:  # a break between the columns
        first = len(band.apart[0])
        inside = "".join(_odf(item, styles) for item in items[:first])
        inside += _odf(items[first], styles).replace(
            'text:style-name="heading"', 'text:style-name="broken"', 1
        )
        inside += "".join(_odf(item, styles) for item in items[first + 1 :])
    else:
        inside = "".join(_odf(item, styles) for item in items)
    if len(band.columns) == 1:
        return inside
    shares = "".join(
        f'<style:column style:rel-width="{round(1000 * share)}*" '
        f'fo:start-indent="{band.gutter / 2 if index else 0}pt" '
        f'fo:end-indent="{band.gutter / 2 if index < len(band.columns) - 1 else 0}pt"/>'
        for index, share in enumerate(band.columns)
    )
    styles.append(
        f'<style:style style:name="S{number}" style:family="section"><style:section-properties '
        f'text:dont-balance-text-columns="{"true" if band.apart else "false"}">'
        f'<style:columns fo:column-count="{len(band.columns)}">{shares}</style:columns>'
        "</style:section-properties></style:style>"
    )
    name = f'text:style-name="S{number}" text:name="S{number}"'
    return f"<text:section {name}>{inside}</text:section>"


def _fodt(layout: Layout) -> str:
    size, family = layout.points, FONTS[layout.font][1]
    align = "justify" if layout.justified else "start"

    def style(name: str, scale: float, paragraph: str, font: str = family) -> str:
        return (
            f'<style:style style:name="{name}" style:family="paragraph">'
            f'<style:paragraph-properties fo:line-height="150%" {paragraph}/>'
            f'<style:text-properties fo:font-size="{size * scale}pt" '
            f'style:font-size-asian="{size * scale}pt" fo:font-family="{font}" '
            f'style:font-family-asian="{font}"/></style:style>'
        )

    above = f'fo:margin-top="{layout.spaced}pt"'
    styles = [
        style("text", 1, f'fo:text-align="{align}"'),
        style("heading", 1.15, f'{above} fo:keep-with-next="always"'),
        style("broken", 1.15, 'fo:break-before="column"'),
        style("title", 1.6, 'fo:text-align="center" fo:margin-top="8pt" fo:margin-bottom="8pt"'),
        style("hanging", 1, 'fo:margin-left="24pt" fo:text-indent="-24pt"'),
        style("code", 1, "", FONTS["code"][1]),
        style("cell", 1, ""),
        style("box", 1, 'fo:border="0.8pt solid #000000" fo:padding="4pt" fo:margin-top="6pt"'),
        '<style:style style:name="ruled" style:family="table-cell"><style:table-cell-properties '
        'fo:border="0.6pt solid #000000" fo:padding="3pt"/></style:style>',
        '<style:style style:name="plain" style:family="table-cell"><style:table-cell-properties '
        'fo:padding="2pt"/></style:style>',
    ]
    body = "".join(_section(band, n, styles) for n, band in enumerate(layout.bands))
    head = f"<style:header><text:p>{html.escape(layout.head)}</text:p></style:header>"
    return fodt("".join(styles), body, layout.margin, head if layout.head else "")


def fodt(styles: str, body: str, points: float = 48.0, head: str = "") -> str:
    """A text document in flat ODF, with margins of `points`."""
    margin = f"{points}pt"
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<office:document {NAMESPACES} office:version="1.3"
 office:mimetype="application/vnd.oasis.opendocument.text"><office:automatic-styles>
<style:page-layout style:name="page"><style:page-layout-properties fo:page-width="{WIDTH}pt"
 fo:page-height="{HEIGHT}pt" fo:margin-top="{margin}" fo:margin-bottom="{margin}"
 fo:margin-left="{margin}" fo:margin-right="{margin}"/></style:page-layout>
{styles}</office:automatic-styles><office:master-styles><style:master-page
 style:name="Standard" style:page-layout-name="page">{head}
</style:master-page></office:master-styles><office:body><office:text>{body}</office:text>
</office:body></office:document>"""


def _libreoffice(layout: Layout, path: Path) -> None:
    print_fodt(_fodt(layout), path)


def print_fodt(text: str, path: Path) -> None:
    """Print a text document in flat ODF by LibreOffice."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / f"{path.stem}.fodt"
        source.write_text(text, encoding="utf-8")
        subprocess.run(
            [
                *("soffice", f"-env:UserInstallation=file://{folder}/profile", "--headless"),
                *("--convert-to", "pdf", "--outdir", str(path.parent), str(source)),
            ],
            check=True,
            capture_output=True,
            timeout=180,
        )
