"""A third set of strangers: boxes beside text, rows without rules, side headings.

Text boxes of LibreOffice, floats and a grid of a browser, fpdf2 and groff. As in strangers.py each
was measured before the reader was changed for it.
"""

import subprocess
from pathlib import Path
from typing import Any

import producers
from strangers import Stranger, Teller

CELLS = (
    ("노선", "첫차", "막차", "요금"),
    ("동부선", "05:20", "23:40", "1,450원"),
    ("서부선", "05:45", "23:10", "1,600원"),
    ("해안선", "06:10", "21:30", "2,300원"),
)


def boxes_and_rows() -> list[Stranger]:
    """The documents of this set."""
    return [text_boxes(), floats(), timetable(), side_headings(), short_column(), notes_in_column()]


def text_boxes() -> Stranger:
    """Two text boxes side by side, and a third one beside the body text."""
    t, d = Teller("library", "ko", 1), Stranger("text_boxes", "ko", "libreoffice")
    font = 'fo:font-family="NanumGothic" style:font-family-asian="NanumGothic"'
    place = " ".join(
        f'style:{name}-pos="from-{start}" style:{name}-rel="page"'
        for name, start in (("vertical", "top"), ("horizontal", "left"))
    )
    styles = "".join(
        f'<style:style style:name="{name}" style:family="paragraph"><style:paragraph-properties '
        f'fo:line-height="140%" fo:margin-bottom="4pt"/><style:text-properties '
        f'fo:font-size="{size}pt" style:font-size-asian="{size}pt" {font}/></style:style>'
        for name, size in (("p", 9.5), ("t", 17))
    ) + "".join(
        f'<style:style style:name="{name}" style:family="graphic"><style:graphic-properties '
        f'{look} fo:padding="6pt" style:wrap="{wrap}" {place}/></style:style>'
        for name, look, wrap in (
            ("F", 'fo:border="0.8pt solid #446688"', "none"),
            ("G", 'fo:border="none" fo:background-color="#eef3f8"', "parallel"),
        )
    )

    def box(style: str, x: int, y: int, width: int, height: int, count: int) -> str:
        inside = "".join(d.line("p", t.say(0), aside=True) for _ in range(count))
        return (
            f'<draw:frame draw:style-name="{style}" draw:name="b{x}" text:anchor-type="page" '
            f'text:anchor-page-number="1" svg:x="{x}pt" svg:y="{y}pt" svg:width="{width}pt" '
            f'svg:height="{height}pt"><draw:text-box>{inside}</draw:text-box></draw:frame>'
        )

    boxes = box("F", 48, 90, 240, 190, 6) + box("F", 307, 90, 240, 190, 6)
    boxes += box("G", 390, 430, 157, 230, 5)
    body = d.line("t", "솔빛도서관 이용 안내")
    body += "".join(d.line("p", *t.several(2, 4)) for _ in range(5))
    d.source = f"{styles}\n---\n{boxes}{body}"
    return d


def floats() -> Stranger:
    """Boxes that float right and left in running text, then two columns with a table across."""
    t, d = Teller("festival", "ko", 2), Stranger("floats", "ko", "chromium")
    d.put("""<style>@page{size:A4;margin:15mm}body{margin:0;font:9.4pt/1.6 NanumMyeongjo}
    h1{font:700 18pt NanumGothic;margin:0 0 3mm}h2{font:700 11pt NanumGothic;margin:3mm 0 1mm}
    p{margin:0 0 2mm;text-align:justify}.r,.l{padding:3mm;font:8.4pt/1.5 NanumGothic}
    .r{float:right;width:52mm;margin:0 0 3mm 6mm;border:1pt solid #777}
    .l{float:left;width:46mm;margin:0 6mm 3mm 0;background:#f3ead6}
    .c{columns:2;column-gap:8mm;clear:both}table{column-span:all;width:100%;
    border-collapse:collapse;margin:2mm 0;font:8.4pt NanumGothic}
    td{border:.6pt solid #555;padding:1mm 2mm}</style>""")
    d.tell("달빛 축제 참가 규칙", tag="h1")
    for side in "rl":
        d.put(f"<div class={side}>")
        for _ in range(4):
            d.tell(t.say(0), aside=True)
        d.put("</div>")
        for _ in range(3):
            d.tell(*t.several(3, 4, 2))
    d.put("<div class=c>")
    for number in range(1, 9):
        if number == 5:
            rows = ("구역|시작|끝|맡은 이", "무대|14시|22시|김도윤", "광장|10시|18시|이서아")
            cells = ("".join(f"<td>{cell}</td>" for cell in row.split("|")) for row in rows)
            d.put("<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>")
        d.tell(f"{number}. 참가자에게 알리는 사항", tag="h2")
        d.tell(*t.several(2, 3))
    d.put("</div>")
    return d


def timetable() -> Stranger:
    """Rows without rules: a time, text of several lines, a place."""
    t, d = Teller("school", "ko", 3), Stranger("timetable", "ko", "chromium", single=True)
    d.put("""<style>@page{size:A4;margin:18mm}body{margin:0;font:10pt/1.6 NanumGothic}
    h1{font-size:16pt}.g{display:grid;grid-template-columns:34mm 1fr 30mm;gap:2.5mm 5mm}</style>""")
    d.tell("봄 학기 오리엔테이션 일정", tag="h1")
    d.put("<div class=g>")
    for number in range(12):
        d.put(f"<b>{8 + number}:{number * 5:02d} - {9 + number}:{number * 3:02d}</b>")
        d.tell(*t.several(1, 2), tag="span")
        d.put(f"<i>{t.nouns[2][number % 5]}</i>")
    d.put("</div>")
    return d


def side_headings() -> Stranger:
    """Headings in the margin beside their text, and a table over both."""
    t, d = Teller("rail", "ko", 4), Stranger("side_headings", "ko", "fpdf")
    for number in range(1, 10):
        heading, own = f"{t.nouns[1][number % 6]}에 관한 알림 {number}", t.several(2, 4)
        d.story.append((heading, own))
        d.notes.append(heading)
        d.sentences += own
    d.printed = _side_headings
    return d


def short_column() -> Stranger:
    """Three columns, the second of which is short and the third empty, above a box."""
    t, d = Teller("farm", "en", 5), Stranger("short_column", "en", "fpdf")
    for number in range(10):
        heading, own = f"{number + 1}. On the {t.nouns[1][number % 6]}", t.several(2, 4)
        d.story.append((heading, own))
        d.sentences += [heading, *own]
    d.notes = t.several(5, 5, 0)
    d.printed = _short_column
    return d


def notes_in_column() -> Stranger:
    """Two columns of groff's macros, with boxes, lists and notes without marks at their foot."""
    t, d = Teller("choir", "en", 6), Stranger("notes_in_column", "en", "groff")
    title = "Handbook of the Choir of Saint Osyth"
    d.source = f".nr LL 6.5i\n.nr PO 0.9i\n.nr PS 10\n.hy 0\n.nh\n.TL\n{title}\n.2C\n"
    d.sentences.append(title)

    def say(text: str, before: str = "", after: str = "") -> None:
        d.sentences.append(text)
        d.source += f"{before}{text}\n{after}"

    for number in range(1, 15):
        say(f"{number}. Use of the {t.nouns[1][number % 6]}", ".SH\n", ".LP\n")
        for sentence in t.several(2, 4):
            say(sentence)
        if number in (4, 9):
            d.notes.append(t.say(0))
            d.source += f".FS\n{d.notes[-1]}\n.FE\n"
        if number in (3, 8):
            say(t.say(0), ".KS\n.B1\n", ".B2\n.KE\n")
        for _ in range(number % 3):
            say(t.say(0), ".IP \\(bu 2\n")
    d.printed = _groff
    return d


def _groff(d: Stranger, path: Path) -> None:
    command = ("groff", "-ms", "-Tpdf", "-P-pa4")
    done = subprocess.run(command, input=d.source.encode(), capture_output=True, check=True)
    path.write_bytes(done.stdout)


def _page(font: str) -> Any:
    """An empty page of fpdf2 with a family of producers.py."""
    from fpdf import FPDF

    pdf = FPDF(format="A4")
    pdf.add_font("text", fname=producers.FONTS[font][0])
    pdf.set_auto_page_break(auto=False)
    pdf.set_margins(15, 15, 15)
    pdf.add_page()
    return pdf


def _side_headings(d: Stranger, path: Path) -> None:
    pdf, y = _page("gothic"), 18.0
    for number, (heading, own) in enumerate(d.story):
        low = []
        for x, width, size, text in ((15, 38, 8.5, heading), (60, 132, 10, " ".join(own))):
            pdf.set_font("text", size=size)
            pdf.set_xy(x, y)
            pdf.multi_cell(width, size * 0.54, text, new_x="LEFT", new_y="NEXT")
            low.append(pdf.get_y())
        y = max(low) + 4
        if number == 4:
            pdf.set_font("text", size=9)
            for row in CELLS:
                pdf.set_xy(15, y)
                for cell in row:
                    pdf.cell(44, 7, cell, border=1)
                y += 7
            y += 5
    pdf.output(str(path))


def _short_column(d: Stranger, path: Path) -> None:
    pdf = _page("serif")
    pdf.set_auto_page_break(auto=True, margin=90)
    with pdf.text_columns(ncols=3, gutter=7, text_align="L", line_height=1.35) as columns:
        for heading, own in d.story:
            pdf.set_font("text", size=10)
            columns.write(f"{heading}\n")
            pdf.set_font("text", size=8.2)
            columns.write(" ".join(own) + "\n\n")
    pdf.set_auto_page_break(auto=False)
    pdf.set_fill_color(235, 240, 235)
    pdf.rect(78, 214, 117, 66, "DF")
    pdf.set_font("text", size=8.6)
    pdf.set_xy(82, 218)
    pdf.multi_cell(109, 5.2, " ".join(d.notes), align="L")
    pdf.output(str(path))
