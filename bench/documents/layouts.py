"""Test pages set in columns, and single-column pages that resemble them; every sentence is known.

A `Layout` describes the pages and producers.py draws them as a PDF. All text is invented.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


def words(text: str, between: str = " ") -> list[str]:
    """Split a list of words."""
    return text.split(between)


SUBJECTS = {
    "ko": words(
        "휴학생 편입생 교환학생 조교 사서 기숙사생 실습생 장학생 대학원생"
        " 시간강사 연구원 수강생 졸업예정자 동아리회원"
        " 외국인학생 복학생 청강생 관장 학과장 지도교수 행정실장 감사 열람자 대출자 입주자"
    ),
    "en": words(
        "lodger|borrower|night porter|visiting reader|choir member|boat keeper|junior clerk|lamp"
        " warden|ferry pilot|garden volunteer|kitchen helper|archive guest|trail guide"
        "|tower watchman|harbour agent|mill apprentice"
        "|museum friend|bridge master|orchard tenant|hall steward",
        "|",
    ),
}
THINGS = {
    "ko": words(
        "신청서 성적표 열쇠 출입증 보증금 확인서 사유서 계획서 보고서 영수증 추천서 동의서"
        " 시간표 명단 예산안 도면 견본 장비 사진 서약서"
    ),
    "en": words(
        "written notice|brass key|signed form|blue badge|deposit slip|weekly report|spare lamp|room"
        " plan|guest list|repair sheet|fuel receipt|meal card|storage box|work diary|paper map",
        "|",
    ),
}
OFFICES = {
    "ko": words(
        "교무처 학생처 총무과 도서관 생활관 전산실 보건실 국제교류실 취업지원실 체육관 박물관"
    ),
    "en": words(
        "front desk|east office|harbour house|reading room|west gate|tool shed|main lodge", "|"
    ),
}
TITLES = {
    "ko": words(
        "목적 정의 적용범위 신청 승인 학기 등록 휴학 복학 전과 수강 시험 성적 경고 징계 장학"
        " 상벌 시설 보관 열람 대출 반납 연체 변상 위원회 회의"
        " 의결 비밀 준용 시행 이의신청 기록 보고 점검 예외 위임"
    ),
    "en": words(
        "Purpose|Terms|Scope|Entry|Keys|Quiet hours|Guests|Lamps|Boats|Meals|Repairs|Storage|Fees|"
        "Refunds|Damage|Appeals|Records|Safety|Fire|Pets|Bicycles|Mail|Laundry|Gardens|Closing",
        "|",
    ),
}


class Writer:
    """Writes sentences, no two of which are the same."""

    def __init__(self, language: str, seed: object) -> None:
        self.language, self.chance = language, random.Random(repr(seed))
        self.written: set[str] = set()
        self.article = 0

    def sentence(self, size: int = 1) -> str:
        """A new sentence; `size` 0 is half a line of a column, 2 is two or three lines."""
        while (text := self._sentence(size)) in self.written:
            pass
        self.written.add(text)
        return text

    def _sentence(self, size: int) -> str:
        pick, n = self.chance.choice, self.chance.randint(2, 98)
        who, thing, other = (
            pick(SUBJECTS[self.language]),
            pick(THINGS[self.language]),
            pick(THINGS[self.language]),
        )
        where, m = pick(OFFICES[self.language]), self.chance.randint(2, 29)
        if self.language == "en":
            if size == 0:
                return f"The {who} pays {n} crowns."
            if size == 1:
                return f"Every {who} leaves the {thing} at the {where} within {n} days."
            return (
                f"Where a {who} has lost the {thing}, the {where} issues another {other} after {n}"
                f" working days and charges {m} crowns, unless the loss was reported at once."
            )
        if size == 0:
            return pick((f"{who}의 한도는 {n}일이다.", f"{thing} 기한은 {n}주이다."))
        if size == 1:
            return pick(
                (
                    f"{who}은 {where}에 {thing}를 {n}일 이내에 낸다.",
                    f"{where}은 {who}에게 {thing}를 {n}회까지 내준다.",
                )
            )
        return (
            f"{who}이 정당한 까닭 없이 {thing}를 {n}일 넘게 내지 아니한 때에는 {where}에서"
            f" {other}의 효력을 {m}개월 동안 멈출 수 있으며, 그 뜻을 본인에게 알려야 한다."
        )

    def number(self) -> str:
        """Heading of the next article, numbered."""
        self.article += 1
        title = self.chance.choice(TITLES[self.language])
        if self.language == "en":
            return f"Rule {self.article}. {title}"
        return f"제{self.article}조({title})"

    def articles(
        self, count: int, sizes: tuple[int, ...] = (0, 1), most: int = 2, run_in: bool = False
    ) -> "list[Item]":
        """Articles of one to `most` sentences; with `run_in`, headings are part of the text."""
        out: list[Item] = []
        for _ in range(count):
            own = [
                self.sentence(self.chance.choice(sizes))
                for _ in range(self.chance.randint(1, most))
            ]
            if len(own) > 1:
                own = [f"{chr(0x2460 + i)} {one}" for i, one in enumerate(own)]
            heading = self.number()
            if run_in:
                out.append(Text((f"{heading} {own[0]}", *own[1:])))
            else:
                out += [Text((heading,), "heading"), Text(tuple(own))]
        return out

    def prose(self, paragraphs: int, sentences: int = 4, size: int = 2) -> "list[Item]":
        """Paragraphs of running text."""
        return [
            Text(tuple(self.sentence(size) for _ in range(sentences))) for _ in range(paragraphs)
        ]

    def box(self, sentences: int = 2) -> "Box":
        """A frame around short sentences."""
        return Box(Text(tuple(self.sentence(1) for _ in range(sentences))))

    def table(self, rows: int, columns: int = 2, wide: bool = False) -> "Table":
        """A ruled table with a header and this many rows."""
        head = ("구분", "기한", "값") if self.language == "ko" else ("Item", "Days", "Price")
        pick = self.chance.choice
        body = [
            (pick(THINGS[self.language]), *(str(self.chance.randint(2, 99)) for _ in range(2)))
            for _ in range(rows)
        ]
        return Table(tuple(row[:columns] for row in (head, *body)), wide)


@dataclass(frozen=True)
class Text:
    """A paragraph; `kind`: text, heading, title, left (such a title), hanging, code (one line)."""

    sentences: tuple[str, ...]
    kind: str = "text"


@dataclass(frozen=True)
class Box:
    """A frame around a paragraph."""

    text: Text


@dataclass(frozen=True)
class Table:
    """A ruled table, whose cells are not scored."""

    rows: tuple[tuple[str, ...], ...]
    wide: bool = False
    """True if it is as wide as the page."""


@dataclass(frozen=True)
class Figure:
    """A drawing of this height in points, without text."""

    height: float = 90


@dataclass(frozen=True)
class Pairs:
    """Unruled rows, read across; `widths` are shares of the page's width."""

    rows: tuple[tuple[str, ...], ...]
    widths: tuple[float, ...] = (0.3, 0.7)
    right: bool = False
    """True to set the last cell at the right margin."""


Item = Text | Box | Table | Figure | Pairs


@dataclass(frozen=True)
class Band:
    """A horizontal part of the page: its columns and what flows through them.

    `apart`: one list of items for each column instead.
    """

    items: tuple[Item, ...] = ()
    columns: tuple[float, ...] = (1.0,)
    """Relative widths."""
    gutter: float = 24.0
    apart: tuple[tuple[Item, ...], ...] = ()
    fill: bool = False
    """True to fill the columns down to the foot of the page, else they end at about one height."""

    def every(self) -> Iterator[Item]:
        """Items in reading order."""
        yield from self.items
        for column in self.apart:
            yield from column


@dataclass(frozen=True)
class Layout:
    """One document: its content, its type and its producer."""

    name: str
    language: str
    bands: tuple[Band, ...]
    producer: str = "reportlab"
    justified: bool = False
    points: float = 9.0
    font: str = "gothic"
    head: str = ""
    foot: bool = False
    notes: tuple[str, ...] = ()
    """Sentences beside the text, in the outer margin."""
    margin: float = 48.0
    spaced: float = 6.0
    """Space above headings, in points."""
    single: bool = False
    """True for a page of one column, which must not be cut."""

    def truth(self) -> list[str]:
        """Sentences, headings and rows in reading order."""
        out: list[str] = []
        for band in self.bands:
            for item in band.every():
                if isinstance(item, Text):
                    out += item.sentences
                elif isinstance(item, Box):
                    out += item.text.sentences
                elif isinstance(item, Pairs):
                    out += [" ".join(row) for row in item.rows]
        return out


@dataclass
class _Collector:
    layouts: list[Layout] = field(default_factory=list)

    def add(self, name: str, language: str, *bands: Band, **how: object) -> None:
        self.layouts.append(Layout(name, language, bands, **how))  # type: ignore[arg-type]  # keywords of Layout


TWO, THREE = (1.0, 1.0), (1.0, 1.0, 1.0)


def _articles(add: Callable[..., None]) -> None:
    """Articles of one to three lines, run in, justified, short or long."""
    w = Writer("ko", 1)
    add("appendix", "ko", Band(tuple(w.articles(60, (0,), 2)), TWO, 22, fill=True), points=9.0)
    w = Writer("ko", 3)
    add("run_in", "ko", Band(tuple(w.articles(40, (0, 1), 3, True)), TWO, 28, fill=True), foot=True)
    w = Writer("ko", 4)
    add("justified", "ko", Band(tuple(w.articles(34, (0, 1, 2), 3)), TWO, 20), justified=True)
    w = Writer("ko", 9)
    add("unequal", "ko", Band(tuple(w.articles(36)), (1.0, 1.6), 24, fill=True))
    w = Writer("ko", 10)
    add("unequal_wide_left", "ko", Band(tuple(w.articles(36, (0, 1, 2), 2)), (1.9, 1.0), 20))
    w = Writer("ko", 16)
    add("narrow_gutter", "ko", Band(tuple(w.articles(40, (0, 1), 2, True)), TWO, 13, fill=True))
    w = Writer("ko", 17)
    add("one_sentence", "ko", Band(tuple(w.articles(44, (0,), 1)), TWO, 30, fill=True))
    w = Writer("ko", 18)
    add("prose", "ko", Band(tuple(w.prose(14)), TWO, 22, fill=True), justified=True, font="book")
    w = Writer("ko", 19)
    add("short_last_column", "ko", Band(tuple(w.articles(29)), TWO, 26, fill=True))
    w = Writer("ko", 20)
    add("few_lines", "ko", Band(tuple(w.articles(8, (0, 1), 1)), TWO, 30), points=10.0)


def _heads(add: Callable[..., None]) -> None:
    """Titles, a figure or a table across all columns."""
    w = Writer("ko", 5)
    add(
        "title_across",
        "ko",
        Band((Text(("도서관 열람 규칙과 그 시행에 관한 세칙",), "title"),)),
        Band(tuple(w.articles(26)), TWO),
    )
    w = Writer("ko", 6)
    add(
        "short_above_title",
        "ko",
        Band((Text(("생활관 운영 세칙 모음",), "title"),)),
        Band(tuple(w.articles(4, (1,), 1)), TWO),
        Band((Text(("실험실 안전과 장비 사용에 관한 별도의 규칙",), "title"),)),
        Band(tuple(w.articles(20)), TWO),
    )
    w = Writer("ko", 7)
    add(
        "three_titles",
        "ko",
        *[
            band
            for title in (
                "박물관 관람 안내 규칙",
                "체육관 대관과 이용 규칙",
                "전산실 이용과 보안 규칙",
            )
            for band in (
                Band((Text((title,), "title"),)),
                Band(tuple(w.articles(6, (0, 1), 1)), TWO, 30),
            )
        ],
    )
    w = Writer("ko", 11)
    add(
        "figure_across",
        "ko",
        Band(tuple(w.articles(12)), TWO),
        Band((Figure(140),)),
        Band(tuple(w.articles(14)), TWO),
        head="연구시설 안내",
    )
    w = Writer("ko", 12)
    add(
        "table_across",
        "ko",
        Band(tuple(w.articles(12)), TWO),
        Band((w.table(4, 3, True),)),
        Band(tuple(w.articles(14, (0, 1), 2, True)), TWO),
    )


def _boxes_and_notes(add: Callable[..., None]) -> None:
    """A table or a box in a column, notes beside the text."""
    w = Writer("ko", 2)
    add(
        "table_heads_second",
        "ko",
        Band(
            apart=(
                tuple(w.articles(17)),
                (Text(("수강 신청 기준표",), "heading"), w.table(5), *w.articles(13)),
            ),
            columns=TWO,
            gutter=34,
        ),
        head="다온대학교 학사규정",
        foot=True,
    )
    w = Writer("ko", 13)
    add(
        "box_heads_first",
        "ko",
        Band(apart=((w.box(3), *w.articles(14)), tuple(w.articles(17))), columns=TWO, gutter=26),
    )
    w = Writer("ko", 14)
    add(
        "boxes_inside",
        "ko",
        Band(
            apart=(
                (*w.articles(7), w.box(2), *w.articles(8)),
                (w.box(2), *w.articles(11), w.table(3)),
            ),
            columns=TWO,
            gutter=24,
        ),
    )
    w = Writer("ko", 15)
    add(
        "side_notes",
        "ko",
        Band(tuple(w.articles(22)), TWO, 22),
        notes=(w.sentence(0), w.sentence(0), w.sentence(0)),
        margin=96,
    )


def _more_columns(add: Callable[..., None]) -> None:
    """Three columns, and English."""
    w = Writer("ko", 8)
    add("three_columns", "ko", Band(tuple(w.articles(60)), THREE, 18, fill=True), points=8.0)
    w = Writer("en", 21)
    add("english_rules", "en", Band(tuple(w.articles(34)), TWO, 24, fill=True))
    w = Writer("en", 22)
    add("english_prose", "en", Band(tuple(w.prose(12)), TWO, 20), justified=True, font="book")
    w = Writer("en", 23)
    add(
        "english_three",
        "en",
        Band((Text(("Rules of the Harbour Lodge and its gardens",), "title"),)),
        Band(tuple(w.articles(30)), THREE, 16),
        points=8.0,
    )
    w = Writer("ko", 24)
    add(
        "mixed_bands",
        "ko",
        Band((Text(("국제교류실 운영 규정 해설",), "title"), *w.prose(1, 3))),
        Band(tuple(w.articles(14)), TWO),
        Band(tuple(w.prose(1, 3))),
        Band(tuple(w.articles(16, (0,), 1)), THREE, 18),
    )


def _left_titles(add: Callable[..., None]) -> None:
    """Titles above all columns that are too short to reach the gutter."""
    for producer, seed in (("reportlab", 31), ("chromium", 131)):
        w = Writer("ko", seed)
        bands = [
            band
            for title in ("제1장 열람", "제2장 대출", "제3장 변상")
            for band in (
                Band((Text((title,), "left"),)),
                Band(tuple(w.articles(9, (0, 1), 2)), TWO, 24),
            )
        ]
        add("left_titles", "ko", *bands, producer=producer)


def _other_producers(add: Callable[..., None]) -> None:
    for n, producer in ((100, "chromium"), (200, "libreoffice")):
        _other_articles(add, producer, n)
        _other_titles(add, producer, n)


def _other_articles(add: Callable[..., None], producer: str, n: int) -> None:
    """Articles in columns, by a producer other than reportlab; `n`: seed."""
    w = Writer("ko", n + 1)
    add("rules", "ko", Band(tuple(w.articles(44, (0, 1), 2)), TWO, 26), producer=producer)
    w = Writer("ko", n + 2)
    add(
        "run_in_justified",
        "ko",
        Band((Text(("국립 바다대학교 학칙 시행 세칙",), "title"),)),
        Band(tuple(w.articles(40, (0, 1), 3, True)), TWO, 22),
        producer=producer,
        justified=True,
    )
    w = Writer("ko", n + 3)
    add(
        "table_and_box",
        "ko",
        Band((w.box(2), *w.articles(13), w.table(4), *w.articles(14)), TWO, 30),
        producer=producer,
        head="산학협력단 내규",
    )
    w = Writer("ko", n + 4)
    add("three", "ko", Band(tuple(w.articles(50, (0, 1), 1)), THREE, 18), producer=producer)
    w = Writer("ko", n + 5)
    add(
        "unequal",
        "ko",
        Band(apart=(tuple(w.articles(12)), tuple(w.articles(15))), columns=(1.0, 1.5)),
        producer=producer,
    )


def _other_titles(add: Callable[..., None], producer: str, n: int) -> None:
    """Titles between stretches of columns, and English; `n`: seed."""
    w = Writer("ko", n + 6)
    add(
        "titles_between",
        "ko",
        *[
            band
            for title in (
                "제1편 학생 자치 활동과 지원",
                "제2편 시설 이용과 변상",
                "제3편 벌칙과 부칙",
            )
            for band in (
                Band((Text((title,), "title"),)),
                Band(tuple(w.articles(7, (0, 1), 1)), TWO, 24),
            )
        ],
        producer=producer,
    )
    w = Writer("en", n + 7)
    add(
        "english",
        "en",
        Band((Text(("Handbook for lodgers and their guests",), "title"), *w.prose(1, 2))),
        Band(tuple(w.articles(34, (0, 1, 2), 2)), TWO, 22),
        producer=producer,
    )
    w = Writer("en", n + 8)
    add(
        "english_prose",
        "en",
        Band(tuple(w.prose(9, 4)), TWO, 20),
        producer=producer,
        justified=True,
        font="book",
    )


def _single(add: Callable[..., None]) -> None:
    """Pages of one column with white strips in them."""
    for n, producer in ((1000, "reportlab"), (2000, "chromium"), (3000, "libreoffice")):
        how = {"producer": producer, "single": True, "points": 10.0}
        _lists(add, n, how)
        _forms(add, n, how)
        _programmes(add, n, how)


def _lists(add: Callable[..., None], n: int, how: dict[str, object]) -> None:
    """Lists, a table without rules, and a table of contents."""
    w = Writer("ko", n + 1)
    items = [Text((f"{c}. {w.sentence(2)}",), "hanging") for c in "가나다라마바사아자차카타"]
    add("hanging", "ko", Band((*w.articles(3, (1, 2)), *items)), **how)
    w = Writer("ko", n + 2)
    names, rows = w.chance, []
    for k in range(24):
        thing = names.choice(THINGS["ko"])
        rows.append((f"{thing} {k + 1}호", f"{names.randint(2, 90)}일", f"{k * 37 + 12}원"))
    add(
        "wide_table",
        "ko",
        Band((Text(("보관 물품 목록",), "title"), Pairs(tuple(rows), (0.45, 0.3, 0.25)))),
        **how,
    )
    w = Writer("ko", n + 3)
    rows = []
    for k in range(30):
        title = f"제{k + 1}조({names.choice(TITLES['ko'])})"
        dots = "" if n == 2000 else " " + "." * names.randint(30, 60)
        rows.append((title + dots, str(k // 2 + 3)))
    add(
        "contents",
        "ko",
        Band((Text(("차 례",), "title"), Pairs(tuple(rows), (0.9, 0.1), True))),
        **how,
    )


def _forms(add: Callable[..., None], n: int, how: dict[str, object]) -> None:
    """Labels with values, terms with definitions, and signatures."""
    w = Writer("ko", n + 4)
    labels = words(
        "성명 생년월일 주소 전화번호 소속 학번 학년 전공 지도교수"
        " 신청사유 시작일 종료일 은행 계좌번호"
    )
    values = [(label, w.sentence(k % 2)) for k, label in enumerate(labels)]
    add("form", "ko", Band((Text(("신 청 서",), "title"), Pairs(tuple(values)))), **how)
    w = Writer("ko", n + 5)
    terms = [(f"“{thing}”", f"{w.sentence(1)}") for thing in THINGS["ko"][: 16 if n < 3000 else 12]]
    add("definitions", "ko", Band((*w.articles(2), Pairs(tuple(terms), (0.2, 0.8)))), **how)
    w = Writer("ko", n + 6)
    signed = (
        ("갑: 다온대학교 총장", "을: 주식회사 모래언덕"),
        ("주소: 바다시 등대로 12", "주소: 솔밭군 항구길 7"),
        ("대표자: 김바다 (인)", "대표자: 이소나무 (인)"),
    )
    add("signatures", "ko", Band((*w.articles(8, (1, 2), 2), Pairs(signed, (0.5, 0.5)))), **how)


def _programmes(add: Callable[..., None], n: int, how: dict[str, object]) -> None:
    """Code, a timetable, and articles."""
    w = Writer("en", n + 7)
    code = [
        f"{'    ' * (k % 3)}value_{k} = measure(depth={k * 3}, limit={k + 40})"
        + (f"{' ' * (8 + 4 * (2 - k % 3))}# note {k}" if k % 2 else "")
        for k in range(32)
    ]
    add("code", "en", Band((*w.prose(1, 2), *(Text((line,), "code") for line in code))), **how)
    w = Writer("en", n + 8)
    rows = [
        (f"{8 + k // 2}:{30 * (k % 2):02d}", w.sentence(0), w.chance.choice(OFFICES["en"]))
        for k in range(20)
    ]
    add(
        "timetable",
        "en",
        Band((Text(("Programme of the day",), "title"), Pairs(tuple(rows), (0.15, 0.55, 0.3)))),
        **how,
    )
    w = Writer("ko", n + 9)
    add("articles", "ko", Band(tuple(w.articles(22, (0, 1), 2))), **how)


def layouts() -> list[Layout]:
    """Every layout of the bench; pages in columns come first."""
    made = _Collector()
    _articles(made.add)
    _heads(made.add)
    _boxes_and_notes(made.add)
    _more_columns(made.add)
    _left_titles(made.add)
    _other_producers(made.add)
    _single(made.add)
    return made.layouts
