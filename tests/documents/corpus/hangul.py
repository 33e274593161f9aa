"""Documents of Hangul: HWPX of raw XML, HWP 5 of raw records."""

import struct
import zlib

from tests.documents.corpus.case import Case, zipped

HEAD = "http://www.hancom.co.kr/hwpml/2011"
NAMES = f'xmlns:hp="{HEAD}/paragraph" xmlns:hs="{HEAD}/section" xmlns:hh="{HEAD}/head" xmlns:hc="{HEAD}/core"'
SHAPES = {
    0: ("NONE", 0, 0), 1: ("OUTLINE", 0, 0), 2: ("OUTLINE", 0, 1), 3: ("OUTLINE", 0, 2), 4: ("NUMBER", 2, 0),
    5: ("NUMBER", 2, 1), 6: ("BULLET", 1, 0), 7: ("BULLET", 1, 1),
}  # fmt: skip
TEXT, ARTICLE, CLAUSE, POINT, FIRST, SECOND, DOT, DASH = range(8)
NUMBERINGS = {
    1: (("제^1조", "DIGIT"), ("^2", "CIRCLED_DIGIT"), ("^3.", "HANGUL_SYLLABLE")),
    2: (("^1.", "DIGIT"), ("^n", "DIGIT")),
}


def p(*parts: str, shape: int = 0, style: int = 0) -> str:
    inner = "".join(part if part.startswith("<") else t(part) for part in parts)
    return f'<hp:p id="0" paraPrIDRef="{shape}" styleIDRef="{style}"><hp:run charPrIDRef="0">{inner}</hp:run></hp:p>'


def t(text: str) -> str:
    return f"<hp:t>{text}</hp:t>"


def sub_list(*paragraphs: str) -> str:
    return f"<hp:subList>{''.join(paragraphs)}</hp:subList>"


def tc(
    row: int, column: int, *content: str, rows: int = 1, columns: int = 1, header: int = 0
) -> str:
    paragraphs = (one if one.startswith("<hp:p ") else p(one) for one in content)
    return (
        f'<hp:tc header="{header}">{sub_list(*paragraphs)}<hp:cellAddr colAddr="{column}" rowAddr="{row}"/>'
        f'<hp:cellSpan colSpan="{columns}" rowSpan="{rows}"/></hp:tc>'
    )


def tbl(*rows: str, caption: str = "") -> str:
    captioned = f"<hp:caption>{sub_list(caption)}</hp:caption>" if caption else ""
    return f"<hp:tbl>{captioned}{''.join(f'<hp:tr>{row}</hp:tr>' for row in rows)}</hp:tbl>"


def note(kind: str, text: str) -> str:
    return f'<hp:ctrl><hp:{kind} number="1">{sub_list(p("<hp:ctrl><hp:autoNum num=" + chr(34) + "1" + chr(34) + " numType=" + chr(34) + "FOOTNOTE" + chr(34) + "/></hp:ctrl>", text))}</hp:{kind}></hp:ctrl>'


def hwpx(*paragraphs: str) -> bytes:
    shapes = "".join(
        f'<hh:paraPr id="{key}"><hh:heading type="{kind}" idRef="{list_id}" level="{level}"/></hh:paraPr>'
        for key, (kind, list_id, level) in SHAPES.items()
    )
    lists = "".join(
        f'<hh:numbering id="{key}" start="0">'
        + "".join(
            f'<hh:paraHead start="1" level="{n}" numFormat="{style}">{text}</hh:paraHead>'
            for n, (text, style) in enumerate(levels, 1)
        )
        + "</hh:numbering>"
        for key, levels in NUMBERINGS.items()
    )
    styles = '<hh:style id="0" type="PARA" name="바탕글" paraPrIDRef="0"/><hh:style id="1" type="PARA" name="제목" paraPrIDRef="0"/>'
    first = p(
        '<hp:secPr outlineShapeIDRef="1"/><hp:ctrl><hp:header>'
        + sub_list(p("머리말"))
        + "</hp:header></hp:ctrl>"
    )
    half = len(paragraphs) // 2
    package = "http://www.idpf.org/2007/opf/"
    return zipped({
        "mimetype": "application/hwp+zip",
        "META-INF/container.xml": "<container/>",
        "Contents/content.hpf": f'<opf:package xmlns:opf="{package}"><opf:manifest><opf:item id="header" href="Contents/header.xml"/><opf:item id="b" href="Contents/section1.xml"/>'
        '<opf:item id="a" href="Contents/section0.xml"/></opf:manifest><opf:spine><opf:itemref idref="header"/><opf:itemref idref="a"/><opf:itemref idref="b"/></opf:spine></opf:package>',
        "Contents/header.xml": f"<hh:head {NAMES}><hh:refList><hh:numberings>{lists}</hh:numberings><hh:paraProperties>{shapes}</hh:paraProperties><hh:styles>{styles}</hh:styles></hh:refList></hh:head>",
        "Contents/section0.xml": f"<hs:sec {NAMES}>{first}{''.join(paragraphs[:half])}</hs:sec>",
        "Contents/section1.xml": f"<hs:sec {NAMES}>{''.join(paragraphs[half:])}</hs:sec>",
    }, stored="mimetype")  # fmt: skip


ARTICLES = (
    p("안전 지침", style=1), p("(목적)", shape=ARTICLE), p("이 지침은 작업자의 안전을 지킨다."),
    p("(보호구)", shape=ARTICLE), p("작업자는 보호구를 쓴다.", shape=CLAUSE), p("보호구는 다음과 같다.", shape=CLAUSE),
    p("안전모는 해마다 바꾼다.", shape=POINT), p("장갑은 달마다 바꾼다.", shape=POINT), p("(교육)", shape=ARTICLE),
    p("교육은 분기마다 한다.", shape=CLAUSE),
)  # fmt: skip
ARTICLES_TEXT = """# 안전 지침

# 제1조 (목적)

이 지침은 작업자의 안전을 지킨다.

# 제2조 (보호구)

① 작업자는 보호구를 쓴다.
② 보호구는 다음과 같다.
가. 안전모는 해마다 바꾼다.
나. 장갑은 달마다 바꾼다.

# 제3조 (교육)

① 교육은 분기마다 한다."""
LISTS = (
    p("준비", shape=FIRST), p("전원을 끈다.", shape=SECOND), p("밸브를 잠근다.", shape=SECOND), p("점검", shape=FIRST),
    p("소음을 듣는다.", shape=SECOND), p("준비물"), p("장갑", shape=DOT), p("고무", shape=DASH), p("보안경", shape=DOT),
)  # fmt: skip
LISTS_TEXT = """1. 준비
1.1 전원을 끈다.
1.2 밸브를 잠근다.
2. 점검
2.1 소음을 듣는다.

준비물

- 장갑
  - 고무
- 보안경"""
TABLES = (
    p("표를 본다.", tbl(
        tc(0, 0, "기종", rows=2, header=1) + tc(0, 1, "압력", columns=2, header=1),
        tc(1, 1, "정격", header=1) + tc(1, 2, "한계", header=1),
        tc(2, 0, "P-100", rows=2) + tc(2, 1, "3 bar", "(여름)") + tc(2, 2, "4|5 bar"),
        tc(3, 1, "따로 정함", columns=2),
        tc(4, 0, "P-200") + tc(4, 1, p(tbl(tc(0, 0, "낮") + tc(0, 1, "5"), tc(1, 0, "밤") + tc(1, 1, "6")))) + tc(4, 2, "7"),
        caption=p("표 ", '<hp:ctrl><hp:autoNum num="1" numType="TABLE"/></hp:ctrl>', " 압력"),
    )),
    p(tbl(tc(0, 0, "테두리 안의 글.", "둘째 문단."))),
)  # fmt: skip
TABLES_TEXT = """표를 본다.

표 1 압력

| 기종 | 압력 정격 | 압력 한계 |
| --- | --- | --- |
| P-100 | 3 bar (여름) | 4\\|5 bar |
| P-100 | 따로 정함 | 따로 정함 |
| P-200 | 낮, 5; 밤, 6 | 7 |

테두리 안의 글.

둘째 문단."""
NOTES = (
    p("보증기간은 24개월이다.", note("footNote", "설치일부터 센다."), " 소모품은 다르다.", note("endNote", "축봉을 말한다.")),
    p("상자를 단 문단.", "<hp:rect><hp:drawText>" + sub_list(p("주의: 뜨겁다.")) + "</hp:drawText><hp:shapeComment>사각형입니다.</hp:shapeComment></hp:rect>"),
    p("<hp:pic><hp:caption>" + sub_list(p("그림 1 펌프")) + "</hp:caption><hp:shapeComment>그림입니다.</hp:shapeComment></hp:pic>"),
    p("효율은 ", "<hp:equation><hp:script>eta = {P _{out}} over {P _{in}} times 100</hp:script></hp:equation>", " %이다."),
    p("<hp:t>수습기간은 <hp:deleteBegin Id='1'/>3개월<hp:deleteEnd Id='1'/><hp:insertBegin Id='2'/>6개월<hp:insertEnd Id='2'/>로 한다.</hp:t>"),
    p("<hp:t>가<hp:tab/>나<hp:lineBreak/>다<hp:nbSpace/>라&lt;마&gt;</hp:t>"),
    p("<hp:ctrl><hp:fieldBegin type='MEMO'><hp:subList>" + p("메모") + "</hp:subList></hp:fieldBegin></hp:ctrl>", "메모를 단 글"),
)  # fmt: skip
NOTES_TEXT = """보증기간은 24개월이다.[^1] 소모품은 다르다.[^i]

[^1]: 설치일부터 센다.

[^i]: 축봉을 말한다.

상자를 단 문단.

주의: 뜨겁다.

그림 1 펌프

효율은 η=P_out/P_in×100 %이다.

수습기간은 6개월로 한다.

가 나
다 라<마>

메모를 단 글"""


def hwpx_cases() -> list[Case]:
    features = {
        "articles": (ARTICLES, ARTICLES_TEXT), "lists": (LISTS, LISTS_TEXT), "tables": (TABLES, TABLES_TEXT),
        "notes": (NOTES, NOTES_TEXT),
    }  # fmt: skip
    single = [Case(f"{name}.hwpx", hwpx(*parts), text) for name, (parts, text) in features.items()]
    between = p("다음 부분이다.")
    every: list[str] = []
    for parts, _ in features.values():
        every += [*parts, between]
    text = "\n\n다음 부분이다.\n\n".join(text for _, text in features.values())
    return [*single, Case("everything.hwpx", hwpx(*every[:-1]), text)]


CIRCLE, GANADA = 1, 8
SIDE = {"fn": b"  nf", "en": b"  ne"}


def record(tag: int, level: int, data: bytes) -> bytes:
    if len(data) < 0xFFF:
        return struct.pack("<I", tag | level << 10 | len(data) << 20) + data
    return struct.pack("<II", tag | level << 10 | 0xFFF << 20, len(data)) + data


def text(value: str) -> bytes:
    return struct.pack("<H", len(value)) + value.encode("utf-16-le")


class Control:
    """A control of a paragraph: its character, and the records that describe it."""

    def __init__(self, code: int, name: str, data: bytes = b"", inner: object = None) -> None:
        self.code, self.name, self.data, self.inner = (
            code,
            name,
            data,
            inner or (lambda _level: b""),
        )

    def unit(self) -> bytes:
        return (
            struct.pack("<H", self.code)
            + self.name.encode()[::-1]
            + bytes(8)
            + struct.pack("<H", self.code)
        )

    def records(self, level: int) -> bytes:
        return record(71, level, self.name.encode()[::-1] + self.data) + self.inner(level + 1)


def paragraph(*parts: "str | Control", shape: int = 0, style: int = 0):
    """Its records at a level."""

    def at(level: int) -> bytes:
        line = b""
        for part in parts:
            if isinstance(part, Control):
                line += part.unit()
            else:
                for letter in part:
                    tab = letter == "\t"
                    line += (
                        struct.pack("<8H", 9, 0, 0, 0, 0, 0, 0, 9)
                        if tab
                        else letter.encode("utf-16-le")
                    )
        line += struct.pack("<H", 13)
        head = struct.pack("<IIHBB", len(line) // 2, 0, shape, style, 0) + bytes(10)
        inner = b"".join(part.records(level + 1) for part in parts if isinstance(part, Control))
        return record(66, level, head) + record(67, level + 1, line) + inner

    return at


def held(paragraphs: tuple, more: bytes = b""):
    def at(level: int) -> bytes:
        head = struct.pack("<HHI", len(paragraphs), 0, 0) + more
        return record(72, level, head) + b"".join(one(level) for one in paragraphs)

    return at


def grid(*cells: tuple, caption: tuple = ()) -> Control:
    """[(row, column, rows, columns, paragraphs)]"""

    def inner(level: int) -> bytes:
        out = held(caption, bytes(12))(level) if caption else b""
        out += record(
            77,
            level,
            struct.pack("<IHH", 0, 1 + max(c[0] for c in cells), 1 + max(c[1] for c in cells)),
        )
        for row, column, rows, columns, paragraphs in cells:
            out += held(paragraphs, struct.pack("<4H", column, row, columns, rows) + bytes(26))(
                level
            )
        return out

    return Control(11, "tbl ", bytes(40), inner)


def side_note(name: str, value: str) -> Control:
    return Control(
        17,
        f"{name}  ",
        bytes(16),
        held((paragraph(Control(18, "atno", struct.pack("<IH", 1, 1)), value),)),
    )


def drawing(*paragraphs: object) -> Control:
    def inner(level: int) -> bytes:
        return (
            record(76, level, bytes(40))
            + held(paragraphs)(level + 1)
            + record(79, level + 1, bytes(8))
        )

    return Control(11, "gso ", bytes(40), inner)


def equation(script: str) -> Control:
    return Control(11, "eqed", bytes(40), lambda level: record(88, level, bytes(4) + text(script)))


def numbering(levels: tuple) -> bytes:
    heads = [*levels, *[("", 0)] * (7 - len(levels))]
    return (
        b"".join(struct.pack("<I", style << 5) + bytes(8) + text(value) for value, style in heads)
        + bytes(2)
        + struct.pack("<7I", *[1] * 7)
    )


def hwp(*paragraphs: object, packed: bool = True, flags: int = 0) -> bytes:
    kinds = {"NONE": 0, "OUTLINE": 1, "NUMBER": 2, "BULLET": 3}
    info = record(16, 0, bytes(26)) + b"".join(
        record(23, 0, numbering(levels))
        for levels in ((("제^1조", 0), ("^2", CIRCLE), ("^3.", GANADA)), (("^1.", 0), ("^n", 0)))
    )
    info += b"".join(
        record(
            25,
            0,
            struct.pack("<I", kinds[kind] << 23 | level << 25)
            + bytes(26)
            + struct.pack("<HHH", list_id, 0, 0),
        )
        for kind, list_id, level in SHAPES.values()
    )
    info += b"".join(record(26, 0, text(name) + text("") + bytes(8)) for name in ("바탕글", "제목"))
    section = Control(2, "secd", bytes(14) + struct.pack("<H", 1) + bytes(20))
    head = Control(16, "head", bytes(8), held((paragraph("머리말"),)))
    body = b"".join(one(0) for one in (paragraph(section, head), *paragraphs))

    def pack(data: bytes) -> bytes:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        return packer.compress(data) + packer.flush() if packed else data

    header = b"HWP Document File".ljust(32, b"\0") + struct.pack("<II", 0x05010000, packed | flags)
    return compound(
        {
            "FileHeader": header.ljust(256, b"\0"),
            "DocInfo": pack(info),
            "BodyText/Section0": pack(body),
        }
    )


def compound(streams: dict[str, bytes]) -> bytes:
    """A compound file ([MS-CFB]) with every stream in sectors of 512 bytes."""
    size, none, end = 512, 0xFFFFFFFF, 0xFFFFFFFE
    entries = [("Root Entry", 5, b"", [])]
    for path, data in streams.items():
        parent = entries[0]
        *folders, name = path.split("/")
        for folder in folders:
            entry = next((entries[i] for i in parent[3] if entries[i][0] == folder), None)
            if entry is None:
                entry = (folder, 1, b"", [])
                parent[3].append(len(entries))
                entries.append(entry)
            parent = entry
        parent[3].append(len(entries))
        entries.append((name, 2, data.ljust(4096, b"\0"), []))
    sectors: list[bytes] = []
    chain: list[int] = []

    def add(data: bytes) -> int:
        first = len(sectors)
        parts = [data[at : at + size].ljust(size, b"\0") for at in range(0, len(data), size)]
        sectors.extend(parts)
        chain.extend([*range(first + 1, first + len(parts)), end])
        return first

    starts = [add(entry[2]) if entry[2] else end for entry in entries]
    after = {a: b for entry in entries for a, b in zip(entry[3], entry[3][1:], strict=False)}
    directory = b""
    for index, (name, kind, data, inner) in enumerate(entries):
        named = name.encode("utf-16-le")
        directory += (
            named.ljust(64, b"\0") + struct.pack("<HBB", len(named) + 2, kind, 1)
            + struct.pack("<III", none, after.get(index, none), inner[0] if inner else none) + bytes(36)
            + struct.pack("<IQ", starts[index], len(data))
        )  # fmt: skip
    directory += (
        bytes(64) + struct.pack("<HBB", 0, 0, 1) + struct.pack("<III", none, none, none) + bytes(48)
    ) * (-len(entries) % 4)
    at = add(directory)
    count = 1
    while (len(chain) + count) * 4 > count * size:
        count += 1
    table_at = len(sectors)
    table = struct.pack(f"<{len(chain)}I", *chain) + struct.pack(
        f"<{count}I", *[0xFFFFFFFD] * count
    )
    table = table.ljust(count * size, b"\xff")
    listed = list(range(table_at, table_at + count)) + [none] * (109 - count)
    head = (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
        + struct.pack("<IIIIIIIII", 0, count, at, 0, 4096, end, 0, end, 0) + struct.pack("<109I", *listed)
    )  # fmt: skip
    return head + b"".join(sectors) + table


def q(*parts: "str | Control", shape: int = 0, style: int = 0):
    return paragraph(*parts, shape=shape, style=style)


HWP_ARTICLES = (
    q("안전 지침", style=1), q("(목적)", shape=ARTICLE), q("이 지침은 작업자의 안전을 지킨다."), q("(보호구)", shape=ARTICLE),
    q("작업자는 보호구를 쓴다.", shape=CLAUSE), q("보호구는 다음과 같다.", shape=CLAUSE), q("안전모는 해마다 바꾼다.", shape=POINT),
    q("장갑은 달마다 바꾼다.", shape=POINT), q("(교육)", shape=ARTICLE), q("교육은 분기마다 한다.", shape=CLAUSE),
)  # fmt: skip
HWP_LISTS = (
    q("준비", shape=FIRST), q("전원을 끈다.", shape=SECOND), q("밸브를 잠근다.", shape=SECOND), q("점검", shape=FIRST),
    q("소음을 듣는다.", shape=SECOND), q("준비물"), q("장갑", shape=DOT), q("고무", shape=DASH), q("보안경", shape=DOT),
)  # fmt: skip
HWP_TABLES = (
    q("표를 본다.", grid(
        (0, 0, 2, 1, (q("기종"),)), (0, 1, 1, 2, (q("압력"),)), (1, 1, 1, 1, (q("정격"),)), (1, 2, 1, 1, (q("한계"),)),
        (2, 0, 2, 1, (q("P-100"),)), (2, 1, 1, 1, (q("3 bar"), q("(여름)"))), (2, 2, 1, 1, (q("4|5 bar"),)),
        (3, 1, 1, 2, (q("따로 정함"),)), (4, 0, 1, 1, (q("P-200"),)),
        (4, 1, 1, 1, (q(grid((0, 0, 1, 1, (q("낮"),)), (0, 1, 1, 1, (q("5"),)), (1, 0, 1, 1, (q("밤"),)), (1, 1, 1, 1, (q("6"),)))),)),
        (4, 2, 1, 1, (q("7"),)),
        caption=(q("표 ", Control(18, "atno", struct.pack("<IH", 4, 1)), " 압력"),),
    )),
    q(grid((0, 0, 1, 1, (q("테두리 안의 글."), q("둘째 문단."))))),
)  # fmt: skip
HWP_NOTES = (
    q("보증기간은 24개월이다.", side_note("fn", "설치일부터 센다."), " 소모품은 다르다.", side_note("en", "축봉을 말한다.")),
    q("상자를 단 문단.", drawing(q("주의: 뜨겁다."))),
    q("효율은 ", equation("eta = {P _{out}} over {P _{in}} times 100"), " %이다."),
    q("가\t나\n다\u001e라<마>"),
)  # fmt: skip
HWP_NOTES_TEXT = (
    NOTES_TEXT.replace("그림 1 펌프\n\n", "")
    .replace("수습기간은 6개월로 한다.\n\n", "")
    .replace("\n\n메모를 단 글", "")
)


def hwp_cases() -> list[Case]:
    features = {
        "articles": (HWP_ARTICLES, ARTICLES_TEXT), "lists": (HWP_LISTS, LISTS_TEXT), "tables": (HWP_TABLES, TABLES_TEXT),
        "notes": (HWP_NOTES, HWP_NOTES_TEXT),
    }  # fmt: skip
    single = [Case(f"{name}.hwp", hwp(*parts), text) for name, (parts, text) in features.items()]
    every: list[object] = []
    for parts, _ in features.values():
        every += [*parts, q("다음 부분이다.")]
    joined = "\n\n다음 부분이다.\n\n".join(text for _, text in features.values())
    plain = Case("plain.hwp", hwp(*HWP_LISTS, packed=False), LISTS_TEXT)
    return [*single, plain, Case("everything.hwp", hwp(*every[:-1]), joined)]
