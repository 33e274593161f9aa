"""A fourth and a fifth set of strangers: unequal columns, side notes, cards, tables in columns.

Drawn to count how many pages that are read wrong are flagged, and how many good ones are. The
flags were changed for the fourth set; the fifth was written and read after that.
"""

import random

from strangers import Stranger, Teller

FORMS = {
    "ko": (
        "{who}은 {what} {n}점을 {where}에 맡길 수 있습니다.",
        "{what} 수량은 {n}개 이내로 제한함.",
        "{where} 이용은 하루 {h}회까지이며 추가 비용은 {m}원임.",
        "{who}이 {what} 제출을 {n}일 넘게 미루면 신청은 없던 것으로 봅니다.",
        "{who}은 {where}에 들어가기 전에 {what} 번호 {m}번을 확인하고, {n}분이 지나도 부르지 않으면"
        " 창구에 다시 알려 주시기 바랍니다.",
        "다만 {what} 상태가 나빠 {where}에서 쓸 수 없을 때에는 {who}의 동의를 받아 {n}일 안에"
        " 새것으로 바꾸고 그 값 {m}원은 운영비에서 지급한다.",
    ),
    "en": (
        "{n} copies of the {what} are kept in the {where}.",
        "Ask the {who} for the {what} before {h} p.m.; the deposit is {m} crowns.",
        "No {who} may lend the {what} for longer than {n} days",
        "Opening hours of the {where}: {h} to 6 p.m. on day {n}",
        "Whenever a {who} leaves the {what} in the {where}, it is listed under number {m} and"
        " handed out again after {n} days, provided that nobody else has asked for it.",
        "The {where} was rebuilt {n} years ago at a cost of {m} crowns, which every {who} who had"
        " borrowed a {what} in that year helped to raise.",
    ),
}
NOUNS = {
    "ko": (
        "야영객|정비사|입주 작가|자원 활동가|초보 농부|견학 학생|숙박 손님|배달원",
        "손수레|측정 일지|물뿌리개|안전모|씨감자|보온병|예비 열쇠|공구 상자|설명서",
        "온실|정비 구역|공동 부엌|관측소|창작실|세탁실|선착장|야외 작업대",
    ),
    "en": (
        "weaver|night porter|glass blower|bee inspector|tram driver|archivist|diver",
        "loom|spare lamp|logbook|oxygen bottle|bobbin case|travel pass|ink roller|ladder",
        "attic|print room|depot|diving pool|dye house|reading corner|boiler room",
    ),
}
TITLES = {
    "ko": ("이용", "대여", "보관", "환불", "안전", "운영", "청소", "예약", "점검", "기록"),
    "en": ("Loans", "Storage", "Refunds", "Safety", "Hours", "Keys", "Repairs", "Records"),
}
FACE = {"ko": "NanumGothic", "en": "DejaVu Sans"}


class Speaker(Teller):
    """Sentences of these forms."""

    def __init__(self, language: str, seed: int) -> None:
        self.chance, self.language = random.Random(f"unequal {language} {seed}"), language
        self.nouns = [part.split("|") for part in NOUNS[language]]
        self.told: set[str] = set()

    def say(self, size: int = 1) -> str:
        """A sentence; `size`: 0 short, 1 either, 2 long."""
        forms = FORMS[self.language]
        own = {0: forms[:4], 1: forms, 2: forms[4:]}[size]
        while True:
            who, what, where = (self.chance.choice(part) for part in self.nouns)
            numbers = {"n": self.chance.randint(2, 97), "m": self.chance.randint(3, 390) * 10}
            text = self.chance.choice(own).format(
                who=who, what=what, where=where, h=self.chance.randint(2, 9), **numbers
            )
            if text not in self.told:
                self.told.add(text)
                return text

    def title(self, number: int) -> str:
        """The heading of an article."""
        name = TITLES[self.language][number % len(TITLES[self.language])]
        if self.language == "ko":
            return f"제{number}조({name})"
        return f"Article {number}. {name}"


def _page(d: Stranger, style: str, size: float = 9.2) -> None:
    d.put(
        f"<style>@page{{size:A4;margin:15mm}}body{{margin:0;font:{size}pt/1.5 {FACE[d.language]}}}"
        f"p{{margin:0 0 1.2mm}}h1{{font-size:17pt;margin:0 0 4mm}}"
        f"h3{{font-size:1.1em;margin:2mm 0 .6mm;break-after:avoid}}{style}</style>"
    )


def _articles(d: Stranger, t: Speaker, numbers: range, low: int = 1, high: int = 3) -> None:
    for number in numbers:
        d.tell(t.title(number), tag="h3")
        d.tell(*t.several(low, high))


def margin_keys(language: str, producer: str) -> Stranger:
    """Articles at the right, a keyword or two beside each at the left."""
    t, d = Speaker(language, 1), Stranger(f"margin_keys_{language}", language, producer)
    _page(
        d,
        ".g{display:grid;grid-template-columns:1fr 3.4fr;gap:3mm 7mm}.k{font-size:.85em}"
        ".g>*{break-inside:avoid}",
    )
    d.put("<div class=g>")
    for number in range(1, 13):
        d.tell(t.say(0), kind="k", aside=True)
        d.put("<div>")
        d.tell(t.title(number), tag="h3")
        d.tell(*t.several(2, 3))
        d.put("</div>")
    d.put("</div>")
    return d


def main_and_rail(language: str, producer: str) -> Stranger:
    """A wide column of articles, and a tinted rail of short lines beside it."""
    t, d = Speaker(language, 2), Stranger(f"main_and_rail_{language}", language, producer)
    _page(
        d,
        ".m{float:left;width:64%}.r{float:right;width:31%;background:#eef;padding:2mm;"
        "box-sizing:border-box;font-size:.88em}",
    )
    d.put("<div class=m>")
    _articles(d, t, range(1, 11), 2, 3)
    d.put("</div><div class=r>")
    for _ in range(11):
        d.tell(t.say(0), aside=True)
    d.put("</div>")
    return d


def wide_and_narrow(language: str) -> Stranger:
    """Two running columns, three to two, by Typst."""
    t, d = Speaker(language, 3), Stranger(f"wide_and_narrow_{language}", language, "typst")
    d.source = f"""#set page(paper: "a4", margin: 17mm)
#set text(font: "{FACE[language]}", size: 9pt)
#set par(leading: 0.62em, justify: true)
#grid(columns: (3fr, 2fr), gutter: 7mm, ["""
    for number in range(1, 12):
        d.write(t.title(number), before="#strong[", after="]\n\n")
        d.write(*t.several(2, 3))
        if number == 7:
            d.source += "], ["
    d.source += "])\n"
    return d


def table_at_head(language: str) -> Stranger:
    """Two columns, the second begins with a table, by Typst."""
    t, d = Speaker(language, 4), Stranger(f"table_at_head_{language}", language, "typst")
    d.source = f"""#set page(paper: "a4", margin: 17mm)
#set text(font: "{FACE[language]}", size: 9pt)
#grid(columns: (1fr, 1fr), gutter: 8mm, ["""
    for number in range(1, 13):
        d.write(t.title(number), before="#strong[", after="]\n\n")
        d.write(*t.several(1, 3))
        if number == 6:
            cells = ", ".join(f"[{t.chance.randint(2, 90)}]" for _ in range(12))
            d.source += f"], [#table(columns: 4, [A], [B], [C], [D], {cells})\n\n"
    d.source += "])\n"
    return d


def dictionary(language: str) -> Stranger:
    """Three narrow columns of entries of a line or two, by Typst."""
    t, d = Speaker(language, 5), Stranger(f"dictionary_{language}", language, "typst")
    d.source = f"""#set page(paper: "a4", margin: 14mm, columns: 3)
#set columns(gutter: 6mm)
#set text(font: "{FACE[language]}", size: 8pt)
#set par(leading: 0.55em, hanging-indent: 3mm, spacing: 0.75em)
"""
    for _ in range(60):
        d.write(t.say(0))
    return d


def cards(language: str, producer: str) -> Stranger:
    """Framed cards, three in a row; they are read row by row, or column by column."""
    t, d = Speaker(language, 6), Stranger(f"cards_{language}", language, producer)
    _page(
        d,
        ".g{display:grid;grid-template-columns:1fr 1fr 1fr;gap:5mm}"
        ".c{border:1pt solid #888;padding:2mm;break-inside:avoid}",
    )
    d.tell(t.say(0), tag="h1")
    first = list(d.sentences)
    d.put("<div class=g>")
    own: list[list[str]] = []
    for number in range(12):
        start = len(d.sentences)
        d.put("<div class=c>")
        d.tell(f"{TITLES[language][number % 8]} {number + 1}", tag="h3")
        for _ in range(t.chance.randint(1, 3)):
            d.tell(t.say())
        d.put("</div>")
        own.append(d.sentences[start:])
    d.put("</div>")
    d.other = first + [one for column in range(3) for card in own[column::3] for one in card]
    return d


def shifted(language: str, producer: str) -> Stranger:
    """Two columns without headings; the second begins lower, beside the end of a lead."""
    t, d = Speaker(language, 7), Stranger(f"shifted_{language}", language, producer)
    _page(d, ".g{display:grid;grid-template-columns:1fr 1fr;gap:9mm}.s{padding-top:23mm}", 9.6)
    d.put("<div class=g><div>")
    for _ in range(9):
        d.tell(*t.several(1, 3))
    d.put("</div><div class=s>")
    for _ in range(8):
        d.tell(*t.several(1, 3))
    d.put("</div></div>")
    return d


def small_print(language: str, producer: str) -> Stranger:
    """Four columns of small print under a form."""
    t, d = Speaker(language, 8), Stranger(f"small_print_{language}", language, producer)
    _page(
        d,
        ".c{columns:4;column-gap:4mm;text-align:justify}table{border-collapse:collapse;width:100%;"
        "margin-bottom:4mm}td{border:.6pt solid;padding:1.5mm;height:5mm}",
        6.6,
    )
    d.put("<table>" + "<tr><td></td><td></td><td></td></tr>" * 5 + "</table><div class=c>")
    _articles(d, t, range(1, 25), 1, 3)
    d.put("</div>")
    return d


def split_and_joined(language: str, producer: str) -> Stranger:
    """Two columns, a box across them, two columns again."""
    t, d = Speaker(language, 9), Stranger(f"split_and_joined_{language}", language, producer)
    _page(
        d,
        ".c{columns:2;column-gap:6mm}.b{border:1.2pt solid #a00;padding:2mm 4mm;margin:3mm 0}"
        ".b p{margin:0}",
    )
    for start in (1, 5):
        d.put("<div class=c>")
        _articles(d, t, range(start, start + 4), 1, 3)
        d.put("</div><div class=b>")
        for _ in range(3):
            d.tell(t.say())
        d.put("</div>")
    return d


def wrapped_box(language: str, producer: str) -> Stranger:
    """One column whose text flows around a box at the right."""
    t, d = Speaker(language, 10), Stranger(f"wrapped_box_{language}", language, producer)
    _page(
        d,
        ".b{float:right;width:58mm;border:1pt solid;padding:2mm;margin:0 0 3mm 5mm;font-size:.9em}",
        10,
    )
    d.put("<div class=b>")
    for _ in range(5):
        d.tell(t.say(0), aside=True)
    d.put("</div>")
    _articles(d, t, range(1, 9), 2, 4)
    return d


def plain(language: str, producer: str) -> Stranger:
    """One column, with a ruled table."""
    t, d = Speaker(language, 11), Stranger(f"plain_{language}", language, producer, single=True)
    _page(d, "td{border:.5pt solid;padding:1mm 4mm}table{border-collapse:collapse}", 10.5)
    d.tell(t.say(0), tag="h1")
    for number in range(1, 17):
        _articles(d, t, range(number, number + 1), 1, 3)
        if number % 5 == 0:
            cells = "".join(f"<td>{t.chance.randint(10, 99)}</td>" for _ in range(4))
            d.put(f"<table><tr>{cells}</tr><tr>{cells}</tr></table>")
    return d


def minutes(language: str) -> Stranger:
    """One column: numbered points, with an amount at the right edge of some, by Typst."""
    t = Speaker(language, 12)
    d = Stranger(f"minutes_{language}", language, "typst", single=True)
    d.source = f"""#set page(paper: "a4", margin: 24mm)
#set text(font: "{FACE[language]}", size: 10.5pt)
"""
    for number in range(1, 24):
        if number % 4 == 0:
            name = t.chance.choice(t.nouns[1])
            d.sentences.append(f"{number}) {name}")
            d.source += f"{number}) {name} #h(1fr) {t.chance.randint(3, 90)}0\n\n"
        else:
            d.write(f"{number}) {t.say()}")
    return d


def three_sections(language: str) -> Stranger:
    """Three columns of unequal width, by LibreOffice."""
    t, d = Speaker(language, 13), Stranger(f"three_sections_{language}", language, "libreoffice")
    font = f'fo:font-family="{FACE[language]}" style:font-family-asian="{FACE[language]}"'
    styles = "".join(
        f'<style:style style:name="{name}" style:family="paragraph"><style:paragraph-properties '
        f'fo:line-height="135%" {how}/><style:text-properties fo:font-size="{size}pt" '
        f'style:font-size-asian="{size}pt" {font}/></style:style>'
        for name, size, how in (
            ("h", 9.4, 'fo:margin-top="5pt" fo:keep-with-next="always"'),
            ("p", 8.2, 'fo:margin-bottom="3pt"'),
        )
    )
    shares = "".join(
        f'<style:column style:rel-width="{share}*" fo:start-indent="5pt" fo:end-indent="5pt"/>'
        for share in (300, 420, 300)
    )
    styles += (
        '<style:style style:name="S" style:family="section"><style:section-properties>'
        f'<style:columns fo:column-count="3">{shares}</style:columns></style:section-properties>'
        "</style:style>"
    )
    body = '<text:section text:style-name="S" text:name="S">'
    for number in range(1, 19):
        body += d.line("h", t.title(number))
        body += d.line("p", *t.several(1, 3))
    d.source = styles + "\n---\n" + body + "</text:section>"
    return d


def pull_quote(language: str, producer: str) -> Stranger:
    """Two columns with a quotation between them that pushes into both."""
    t, d = Speaker(language, 14), Stranger(f"pull_quote_{language}", language, producer)
    _page(
        d,
        ".g{display:grid;grid-template-columns:1fr 1fr;gap:7mm}.l,.r{width:30mm;height:42mm}"
        ".l{float:right}.r{float:left}.q{position:absolute;left:62mm;top:8mm;width:56mm;"
        "font-size:12pt;text-align:center}",
    )
    d.put("<div class=q>")
    d.tell(t.say(0), aside=True)
    d.put("</div><div class=g>")
    for side in "lr":
        d.put("<div>")
        for number in range(9):
            if number == 0:
                d.put(f"<div class={side}></div>")
            d.tell(*t.several(1, 3))
        d.put("</div>")
    d.put("</div>")
    return d


def open_rows(language: str, producer: str) -> Stranger:
    """A table without rules whose cells have several lines; it is read row by row."""
    t, d = Speaker(language, 15), Stranger(f"open_rows_{language}", language, producer)
    _page(d, "table{border-spacing:5mm 2mm}td{vertical-align:top}")
    d.tell(t.say(0), tag="h1")
    d.put("<table>")
    for number in range(1, 13):
        d.put("<tr>")
        d.tell(f"{TITLES[language][number % 8]} {number + 30}", tag="td")
        d.tell(t.say(2), tag="td")
        d.tell(t.say(0), tag="td")
        d.put("</tr>")
    d.put("</table>")
    return d


def two_up(language: str, producer: str) -> Stranger:
    """Two small pages side by side on a sheet, each with its own number below."""
    t, d = Speaker(language, 16), Stranger(f"two_up_{language}", language, producer)
    _page(
        d,
        "@page{size:A4 landscape;margin:10mm}.g{display:grid;grid-template-columns:1fr 1fr;"
        "gap:24mm;height:185mm;break-after:page}.p{display:flex;flex-direction:column;"
        "justify-content:space-between}.n{text-align:center;font-size:7pt}",
        8.6,
    )
    number = 0
    for sheet in range(2):
        d.put("<div class=g>")
        for side in (1, 2):
            d.put("<div class=p><div>")
            _articles(d, t, range(number + 1, number + 7), 1, 3)
            number += 6
            d.put(f"</div><div class=n>- {2 * sheet + side} -</div></div>")
        d.put("</div>")
    return d


def front_page(language: str, producer: str) -> Stranger:
    """Reports over one, two and three columns of one grid."""
    t, d = Speaker(language, 17), Stranger(f"front_page_{language}", language, producer)
    _page(
        d,
        ".g{display:grid;grid-template-columns:1fr 1fr 1fr;gap:4mm 5mm}.w{grid-column:span 2;"
        "columns:2;column-gap:5mm}.w h3{column-span:all}.o,.w,.a{min-width:0}"
        ".a{grid-column:span 3;columns:3;column-gap:5mm;border-top:1pt solid}"
        ".a h3{column-span:all}",
        8.4,
    )
    d.put("<div class=g>")
    for kind, count in (("a", 6), ("w", 6), ("o", 4), ("o", 4), ("w", 6), ("a", 5)):
        d.put(f"<div class={kind}>")
        d.tell(t.say(0), tag="h3")
        for _ in range(count):
            d.tell(*t.several(1, 2))
        d.put("</div>")
    d.put("</div>")
    return d


def close_columns(language: str) -> Stranger:
    """Two ragged columns with hardly a gap between them, by Typst."""
    t, d = Speaker(language, 18), Stranger(f"close_columns_{language}", language, "typst")
    d.source = f"""#set page(paper: "a4", margin: 15mm, columns: 2)
#set columns(gutter: 2.2mm)
#set text(font: "{FACE[language]}", size: 9pt)
#set par(justify: true)
"""
    for number in range(1, 24):
        d.write(t.title(number), before="#strong[", after="]\n\n")
        d.write(*t.several(1, 3))
    return d


def line_numbers(language: str) -> Stranger:
    """Two columns, the number of every fifth line between them, by Typst."""
    t, d = Speaker(language, 19), Stranger(f"line_numbers_{language}", language, "typst")
    d.source = f"""#set page(paper: "a4", margin: 17mm, columns: 2)
#set columns(gutter: 9mm)
#set text(font: "{FACE[language]}", size: 8.6pt)
#set par.line(numbering: n => if calc.rem(n, 5) == 0 {{ text(6pt)[#n] }})
"""
    for _ in range(26):
        d.write(*t.several(1, 3))
    return d


def fact_sheet(language: str, producer: str) -> Stranger:
    """A label and its text, pair by pair, in two columns of pairs."""
    t, d = Speaker(language, 20), Stranger(f"fact_sheet_{language}", language, producer)
    _page(
        d,
        ".c{columns:2;column-gap:10mm}.r{display:grid;grid-template-columns:17mm 1fr;gap:3mm;"
        "margin-bottom:1.6mm;break-inside:avoid}.r p{margin:0}",
    )
    d.put("<div class=c>")
    for number in range(1, 25):
        d.put("<div class=r>")
        d.tell(f"{TITLES[language][number % 8]} {number}")
        d.tell(t.say())
        d.put("</div>")
    d.put("</div>")
    return d


def brochure(language: str, producer: str) -> Stranger:
    """Three panels of a folded sheet, each set in its own size, with lists and boxes."""
    t, d = Speaker(language, 21), Stranger(f"brochure_{language}", language, producer)
    _page(
        d,
        "@page{size:A4 landscape;margin:8mm}.g{display:grid;grid-template-columns:1fr 1fr 1fr;"
        "gap:14mm}.x{font-size:10.5pt}.y{font-size:8pt}.b{background:#fe9;padding:2mm}",
        8.8,
    )
    d.put("<div class=g>")
    for panel, kind in enumerate("xyz"):
        d.put(f"<div class={kind}>")
        d.tell(t.say(0), tag="h1")
        for number in range(3):
            d.tell(f"{TITLES[language][number]} {number + 7 * panel + 20}", tag="h3")
            d.tell(t.say())
            if number % 2:
                d.put("<ul>")
                for _ in range(2):
                    d.tell(t.say(0), tag="li")
                d.put("</ul>")
        d.put("<div class=b>")
        d.tell(t.say(0))
        d.put("</div></div>")
    d.put("</div>")
    return d


def fourth() -> list[Stranger]:
    """The set for which the flags were changed."""
    out: list[Stranger] = []
    for language, one, other in (
        ("ko", "chromium", "weasyprint"),
        ("en", "weasyprint", "chromium"),
    ):
        out += [
            margin_keys(language, one),
            main_and_rail(language, other),
            wide_and_narrow(language),
            table_at_head(language),
            dictionary(language),
            cards(language, one),
            shifted(language, other),
            small_print(language, one),
            split_and_joined(language, other),
            wrapped_box(language, one),
            plain(language, other),
            minutes(language),
            three_sections(language),
            pull_quote(language, one),
            open_rows(language, other),
            two_up(language, one),
            front_page(language, "chromium"),
            close_columns(language),
            line_numbers(language),
            fact_sheet(language, one),
            brochure(language, other),
        ]
    return out


def glossary(language: str, producer: str) -> Stranger:
    """Two columns of terms, each above its indented text."""
    t, d = Speaker(language, 31), Stranger(f"glossary_{language}", language, producer)
    _page(
        d, ".c{columns:2;column-gap:11mm;column-rule:.4pt solid}dd{margin:0 0 1mm 6mm}dl{margin:0}"
    )
    d.put("<div class=c><dl>")
    for number in range(1, 29):
        d.tell(f"{t.nouns[1][number % 6]} {number}", tag="dt")
        d.tell(t.say(), tag="dd")
    d.put("</dl></div>")
    return d


def clauses(language: str, producer: str) -> Stranger:
    """Three columns of clauses with decimal numbers."""
    t, d = Speaker(language, 32), Stranger(f"clauses_{language}", language, producer)
    _page(d, ".c{columns:3;column-gap:5mm}p{margin:0 0 .8mm}", 7.8)
    d.put("<div class=c>")
    for number in range(1, 9):
        d.tell(f"{number}. {TITLES[language][number % 8]}", tag="h3")
        for part in range(1, 5):
            d.tell(f"{number}.{part} {t.say()}")
    d.put("</div>")
    return d


def wide_table_between(language: str) -> Stranger:
    """Two columns with a ruled table over both at the foot of the page, by Typst."""
    t, d = Speaker(language, 33), Stranger(f"wide_table_between_{language}", language, "typst")
    cells = ", ".join(f"[{t.chance.randint(10, 99)}]" for _ in range(18))
    d.source = f"""#set page(paper: "a4", margin: 18mm, columns: 2)
#set columns(gutter: 7mm)
#set text(font: "{FACE[language]}", size: 8.8pt)
#place(bottom, scope: "parent", float: true)[#table(columns: (1fr,) * 6, {cells})]
"""
    for number in range(1, 17):
        d.write(t.title(number), before="#strong[", after="]\n\n")
        d.write(*t.several(1, 3))
    return d


def outer_notes(language: str, producer: str) -> Stranger:
    """One column, and small notes at the right that begin between its lines."""
    t, d = Speaker(language, 34), Stranger(f"outer_notes_{language}", language, producer)
    _page(
        d,
        "body{margin-right:52mm}.n{float:right;clear:right;width:44mm;margin:2.2mm -52mm 3mm 0;"
        "font-size:.78em}",
    )
    for number in range(1, 12):
        d.tell(t.title(number), tag="h3")
        if number % 2:
            d.tell(t.say(0), aside=True, kind="n")
        d.tell(*t.several(2, 3))
    return d


def old_and_new(language: str, producer: str) -> Stranger:
    """A rule as it was and as it is to be, side by side without rules; read row by row."""
    t, d = Speaker(language, 35), Stranger(f"old_and_new_{language}", language, producer)
    _page(d, "table{border-spacing:0 3mm}td{vertical-align:top;width:50%;padding-right:8mm}")
    d.put("<table><tr>")
    for head in ("현행", "개정안") if language == "ko" else ("Today", "Proposal"):
        d.tell(head, tag="td")
    d.put("</tr>")
    rows: list[tuple[str, str]] = []
    for number in range(1, 12):
        pair = (f"{number}. {t.say()}", f"{number}. {t.say()}")
        rows.append(pair)
        d.put("<tr>")
        for one in pair:
            d.tell(one, tag="td")
        d.put("</tr>")
    d.put("</table>")
    heads = d.sentences[:2]
    d.other = [heads[0], *(a for a, _ in rows), heads[1], *(b for _, b in rows)]
    return d


def letter(language: str) -> Stranger:
    """A letter: address and reference side by side, then one column, by Typst."""
    t = Speaker(language, 36)
    d = Stranger(f"letter_{language}", language, "typst")
    d.source = f"""#set page(paper: "a4", margin: 25mm)
#set text(font: "{FACE[language]}", size: 10pt)
#grid(columns: (1fr, 1fr), ["""
    for number in range(6):
        note = f"{t.chance.choice(t.nouns[2])} {number + 61}"
        d.notes.append(note)
        d.source += note + ("], [" if number == 2 else "\n\n")
    d.source += "])\n#v(8mm)\n"
    for _ in range(7):
        d.write(*t.several(2, 4))
    return d


def recipe(language: str, producer: str) -> Stranger:
    """A narrow list of things at the left, steps at the right, twice on a page."""
    t, d = Speaker(language, 37), Stranger(f"recipe_{language}", language, producer)
    _page(
        d,
        ".g{display:grid;grid-template-columns:1fr 2.6fr;gap:8mm}ul,ol{padding-left:5mm;margin:0}",
    )
    for part in range(2):
        d.tell(f"{TITLES[language][part]} {part + 1}", tag="h1")
        d.put("<div class=g><ul>")
        for number in range(9):
            d.tell(f"{t.nouns[1][number % 7]} {part * 9 + number + 100}", tag="li", aside=True)
        d.put("</ul><ol>")
        for _ in range(6):
            d.tell(t.say(2), tag="li")
        d.put("</ol></div>")
    return d


def week(language: str, producer: str) -> Stranger:
    """A ruled table of a week with several lines in each cell."""
    t, d = Speaker(language, 38), Stranger(f"week_{language}", language, producer, single=True)
    _page(
        d,
        "table{border-collapse:collapse;table-layout:fixed;width:100%}td{border:.5pt solid;"
        "padding:1mm;vertical-align:top}",
        8.4,
    )
    d.put("<table>")
    for _ in range(5):
        d.put("<tr>")
        for _ in range(4):
            d.tell(t.say(0), tag="td")
        d.put("</tr>")
    d.put("</table>")
    return d


def drop_capitals(language: str, producer: str) -> Stranger:
    """Two columns; each part begins with a large letter over three lines."""
    t, d = Speaker(language, 39), Stranger(f"drop_capitals_{language}", language, producer)
    _page(d, ".c{columns:2;column-gap:8mm}.d::first-letter{font-size:3em;float:left;line-height:1}")
    d.put("<div class=c>")
    for number in range(20):
        if number % 5 == 0:
            d.put('<p class="d">')
            text = t.say(2)
            d.notes.append(text[1:])
            d.put(f"{text}</p>")
        else:
            d.tell(*t.several(1, 3))
    d.put("</div>")
    return d


def dated(language: str, producer: str) -> Stranger:
    """A date at the left of each paragraph of several lines, two columns of such."""
    t, d = Speaker(language, 40), Stranger(f"dated_{language}", language, producer)
    _page(
        d,
        ".c{columns:2;column-gap:8mm}p{padding-left:15mm;text-indent:-15mm;margin:0 0 2mm}"
        "b{display:inline-block;width:15mm;text-indent:0;font-weight:400}",
    )
    d.put("<div class=c>")
    for number in range(1, 27):
        own = t.say()
        d.sentences += [f"{number:02}. {own}"]
        d.put(f"<p><b>{number:02}.</b> {own}</p>")
    d.put("</div>")
    return d


def verses(language: str) -> Stranger:
    """Short lines in two columns on one grid of lines, by Typst."""
    t, d = Speaker(language, 41), Stranger(f"verses_{language}", language, "typst")
    d.source = f"""#set page(paper: "a4", margin: 22mm)
#set text(font: "{FACE[language]}", size: 9.5pt)
#grid(columns: (1fr, 1fr), gutter: 10mm, ["""
    for number in range(8):
        text = t.say(2)
        words = text.split(" ")
        lines = [" ".join(words[i : i + 4]) for i in range(0, len(words), 4)]
        d.sentences.append(text)
        d.source += " \\\n".join(lines) + "\n\n"
        if number == 3:
            d.source += "], ["
    d.source += "])\n"
    return d


def box_in_middle(language: str) -> Stranger:
    """Two columns around a box in the middle of the page, by Typst."""
    t, d = Speaker(language, 42), Stranger(f"box_in_middle_{language}", language, "typst")
    d.source = f"""#set page(paper: "a4", margin: 18mm)
#set text(font: "{FACE[language]}", size: 9pt)
#let pair(a, b) = grid(columns: (1fr, 1fr), gutter: 8mm, a, b)
"""
    for part in range(2):
        d.source += "#pair(["
        for number in range(8):
            d.write(*t.several(1, 2))
            if number == 3:
                d.source += "], ["
        d.source += "])\n\n"
        if part == 0:
            d.source += "#align(center)[#rect(width: 70%, inset: 8pt)[#set align(left)\n"
            d.write(*t.several(2, 2))
            d.source += "]]\n\n"
    return d


def close_prose(language: str) -> Stranger:
    """Two justified columns without headings, with hardly a gap between them, by Typst."""
    t, d = Speaker(language, 43), Stranger(f"close_prose_{language}", language, "typst")
    d.source = f"""#set page(paper: "a4", margin: 16mm, columns: 2)
#set columns(gutter: 2mm)
#set text(font: "{FACE[language]}", size: 9.4pt)
#set par(justify: true, first-line-indent: 3mm)
"""
    for _ in range(26):
        d.write(*t.several(1, 3))
    return d


def steps_and_tips(language: str, producer: str) -> Stranger:
    """Numbered steps at the left, a tip at the height of some of them at the right."""
    t, d = Speaker(language, 44), Stranger(f"steps_and_tips_{language}", language, producer)
    _page(
        d,
        ".r{display:grid;grid-template-columns:2fr 1fr;gap:7mm;align-items:center}"
        ".t{font-size:.85em;border-left:2pt solid #39c;padding-left:2mm}",
    )
    for number in range(1, 15):
        d.put("<div class=r>")
        d.tell(f"{number}) {t.say(2)}")
        if number % 3 == 0:
            d.tell(t.say(0), kind="t", aside=True)
        d.put("</div>")
    return d


def fifth() -> list[Stranger]:
    """The set that was read after the flags had been changed."""
    out: list[Stranger] = []
    for language, one, other in (
        ("ko", "weasyprint", "chromium"),
        ("en", "chromium", "weasyprint"),
    ):
        out += [
            glossary(language, one),
            clauses(language, other),
            wide_table_between(language),
            outer_notes(language, one),
            old_and_new(language, other),
            letter(language),
            recipe(language, one),
            week(language, other),
            drop_capitals(language, "chromium"),
            dated(language, other),
            verses(language),
            box_in_middle(language),
            close_prose(language),
            steps_and_tips(language, one),
        ]
    return out
