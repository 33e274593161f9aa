"""Word documents of raw XML: every feature that changes what Word prints."""

from tests.documents.corpus.case import Case, zipped

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
NAMES = (
    f'xmlns:w="{W}" xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math" '
    'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" '
    'xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape" '
    'xmlns:v="urn:schemas-microsoft-com:vml" '
    'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
)
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml"
STYLES = """
<w:style w:type="paragraph" w:default="1" w:styleId="a"><w:name w:val="Normal"/></w:style>
<w:style w:type="paragraph" w:styleId="T"><w:name w:val="Title"/></w:style>
<w:style w:type="paragraph" w:styleId="1"><w:name w:val="heading 1"/><w:pPr><w:outlineLvl w:val="0"/></w:pPr></w:style>
<w:style w:type="paragraph" w:styleId="2"><w:name w:val="heading 2"/><w:pPr><w:outlineLvl w:val="1"/></w:pPr></w:style>
<w:style w:type="paragraph" w:styleId="Own"><w:name w:val="Chapter of ours"/><w:basedOn w:val="2"/></w:style>
<w:style w:type="paragraph" w:styleId="Art"><w:name w:val="Article"/><w:pPr><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr></w:style>
"""


def level(index: int, text: str, style: str = "decimal", more: str = "") -> str:
    return (
        f'<w:lvl w:ilvl="{index}"><w:start w:val="1"/><w:numFmt w:val="{style}"/>{more}'
        f'<w:lvlText w:val="{text}"/></w:lvl>'
    )


NOTHING = '<w:suff w:val="nothing"/>'
NUMBERING = (
    '<w:abstractNum w:abstractNumId="0">'
    + level(0, "제%1조", more=NOTHING) + level(1, "%2", "decimalEnclosedCircle") + level(2, "%3.", "ganada")
    + '</w:abstractNum><w:abstractNum w:abstractNumId="1">'
    + level(0, "%1.") + level(1, "%1.%2") + level(2, "(%3)", "lowerRoman")
    + '</w:abstractNum><w:abstractNum w:abstractNumId="2">'
    + level(0, "\uf0b7", "bullet") + level(1, "o", "bullet")
    + "</w:abstractNum>"
    + "".join(
        f'<w:num w:numId="{n}"><w:abstractNumId w:val="{n - 1}"/></w:num>' for n in (1, 2, 3)
    )
    + '<w:num w:numId="4"><w:abstractNumId w:val="1"/><w:lvlOverride w:ilvl="0">'
    '<w:startOverride w:val="1"/></w:lvlOverride></w:num>'
)  # fmt: skip


def p(inner: str, style: str = "", properties: str = "") -> str:
    named = f'<w:pStyle w:val="{style}"/>' if style else ""
    return f"<w:p><w:pPr>{named}{properties}</w:pPr>{inner if '<' in inner else r(inner)}</w:p>"


def r(text: str, properties: str = "") -> str:
    return f'<w:r><w:rPr>{properties}</w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


def item(text: str, list_id: int, depth: int = 0, style: str = "") -> str:
    numbered = f'<w:numPr><w:ilvl w:val="{depth}"/><w:numId w:val="{list_id}"/></w:numPr>'
    return p(text, style, numbered)


def tc(inner: str, properties: str = "") -> str:
    content = inner if inner.startswith("<") else p(inner)
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{content}</w:tc>"


def tr(*cells: str, properties: str = "") -> str:
    inner = "".join(
        cell if cell.startswith("<w:tc>") or "<w:sdt>" in cell[:9] else tc(cell) for cell in cells
    )
    return f"<w:tr><w:trPr>{properties}</w:trPr>{inner}</w:tr>"


def tbl(*rows: str) -> str:
    return f"<w:tbl>{''.join(rows)}</w:tbl>"


def sdt(inner: str) -> str:
    return f'<w:sdt><w:sdtPr><w:alias w:val="칸"/></w:sdtPr><w:sdtContent>{inner}</w:sdtContent></w:sdt>'


def box(inner: str) -> str:
    content = f"<w:txbxContent>{inner}</w:txbxContent>"
    return (
        "<w:r><mc:AlternateContent><mc:Choice Requires='wps'><w:drawing><wps:txbx>"
        f"{content}</wps:txbx></w:drawing></mc:Choice><mc:Fallback><w:pict><v:textbox>{content}"
        "</v:textbox></w:pict></mc:Fallback></mc:AlternateContent></w:r>"
    )


def field(code: str, result: str) -> str:
    def mark(kind: str) -> str:
        return f'<w:r><w:fldChar w:fldCharType="{kind}"/></w:r>'

    code = f'<w:r><w:instrText xml:space="preserve"> {code} </w:instrText></w:r>'
    return mark("begin") + code + mark("separate") + r(result) + mark("end")


def docx(body: str, footnotes: str = "", endnotes: str = "") -> bytes:
    def relation(name: str) -> str:
        return f'<Relationship Id="{name}" Type="{OFFICE}/{name}" Target="{name}.xml"/>'

    def part(root: str, content: str) -> str:
        return f'<?xml version="1.0" encoding="UTF-8"?><w:{root} {NAMES}>{content}</w:{root}>'

    parts = ("styles", "numbering", "footnotes", "endnotes")
    overrides = "".join(
        f'<Override PartName="/word/{name}.xml" ContentType="{TYPE}.{kind}+xml"/>'
        for name, kind in (("document", "document.main"), *((name, name) for name in parts))
    )
    package = "http://schemas.openxmlformats.org/package/2006"
    return zipped({
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"><Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default '
        f'Extension="xml" ContentType="application/xml"/>{overrides}</Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="a" '
        f'Type="{OFFICE}/officeDocument" Target="word/document.xml"/></Relationships>',
        "word/_rels/document.xml.rels": f'<Relationships xmlns="{package}/relationships">'
        f"{''.join(map(relation, parts))}</Relationships>",
        "word/document.xml": part("document", f"<w:body>{body}<w:sectPr/></w:body>"),
        "word/styles.xml": part("styles", STYLES),
        "word/numbering.xml": part("numbering", NUMBERING),
        "word/footnotes.xml": part("footnotes", footnotes),
        "word/endnotes.xml": part("endnotes", endnotes),
    })  # fmt: skip


def note(kind: str, key: int, text: str) -> str:
    return f'<w:{kind} w:id="{key}">{p(r(text))}</w:{kind}>'


def refer(kind: str, key: int) -> str:
    return f'<w:r><w:{kind}Reference w:id="{key}"/></w:r>'


CHANGE = 'w:id="9" w:author="김하나" w:date="2026-01-02T00:00:00Z"'
MARK = f"<w:rPr><w:{{}} {CHANGE}/></w:rPr>"


def ins(inner: str) -> str:
    return f"<w:ins {CHANGE}>{inner}</w:ins>"


def gone(text: str) -> str:
    return f"<w:del {CHANGE}><w:r><w:delText>{text}</w:delText></w:r></w:del>"


TRACKED = (
    p(r("수습기간은 ") + gone("3개월") + ins(r("6개월")) + r("로 한다."))
    + p(gone("이 항은 지운다."), properties=MARK.format("del"))
    + p(ins(r("새 항을 넣는다.")), properties=MARK.format("ins"))
    + p(r("앞 문단과 "), properties=MARK.format("del"))
    + p("뒤 문단은 하나가 된다.")
    + p(f"<w:moveFrom {CHANGE}>{r('옮긴 문장.')}</w:moveFrom>" + r("남은 문장."))
    + p(f"<w:moveTo {CHANGE}>{r('옮긴 문장.')}</w:moveTo>")
)
TRACKED_TEXT = """수습기간은 6개월로 한다.

새 항을 넣는다.

앞 문단과 뒤 문단은 하나가 된다.

남은 문장.

옮긴 문장."""

NOTED = (
    p(r("펌프의 보증기간은 24개월이다.") + refer("footnote", 2) + r(" 소모품은 다르다.") + refer("endnote", 5))
    + tbl(tr("부품", "수명"), tr(tc(p(r("축봉") + refer("footnote", 3))), "8,000시간"))
    + p("끝 문단.")
)  # fmt: skip
FOOTNOTES = note("footnote", 2, "설치일부터 센다.") + note(
    "footnote", 3, "물이 깨끗할 때의 값이다."
)
ENDNOTES = note("endnote", 5, "축봉과 베어링을 말한다.")
NOTED_TEXT = """펌프의 보증기간은 24개월이다.[^1] 소모품은 다르다.[^i]

[^1]: 설치일부터 센다.

[^i]: 축봉과 베어링을 말한다.

| 부품 | 수명 |
| --- | --- |
| 축봉[^2] | 8,000시간 |

[^2]: 물이 깨끗할 때의 값이다.

끝 문단."""

ARTICLES = (
    p("한빛펌프 보증 규정", "T")
    + item("(목적)", 1, style="1")
    + p("이 규정은 보증의 범위를 정한다.")
    + item("(기간)", 1, style="1")
    + item("보증기간은 24개월이다.", 1, 1)
    + item("다음은 보증하지 않는다.", 1, 1)
    + item("소모품", 1, 2)
    + item("오용", 1, 2)
    + p("(시행)", "Art")
    + item("시행일은 따로 정한다.", 1, 1)
)
ARTICLES_TEXT = """# 한빛펌프 보증 규정

# 제1조(목적)

이 규정은 보증의 범위를 정한다.

# 제2조(기간)

① 보증기간은 24개월이다.
② 다음은 보증하지 않는다.
가. 소모품
나. 오용
제3조(시행)
① 시행일은 따로 정한다."""

LISTS = (
    item("점검 준비", 2) + item("전원을 끈다.", 2, 1) + item("밸브를 잠근다.", 2, 1)
    + item("주 밸브", 2, 2) + item("보조 밸브", 2, 2) + item("점검", 2) + item("소음을 듣는다.", 2, 1)
    + p("다른 목록이다.") + item("처음부터 센다.", 4) + item("둘째이다.", 4)
    + p("준비물은 다음과 같다.") + item("장갑", 3) + item("고무", 3, 1) + item("보안경", 3)
)  # fmt: skip
LISTS_TEXT = """1. 점검 준비
1.1 전원을 끈다.
1.2 밸브를 잠근다.
(i) 주 밸브
(ii) 보조 밸브
2. 점검
2.1 소음을 듣는다.

다른 목록이다.

1. 처음부터 센다.
2. 둘째이다.

준비물은 다음과 같다.

- 장갑
  - 고무
- 보안경"""

SPAN, START, GO_ON = '<w:gridSpan w:val="2"/>', '<w:vMerge w:val="restart"/>', "<w:vMerge/>"
HEADER = "<w:tblHeader/>"
MERGED = tbl(
    tr(tc("기종", START), tc("단가(원)", SPAN), properties=HEADER),
    tr(tc("", GO_ON), "국내", "해외", properties=HEADER),
    tr(tc("P-100", START), "890,000", "950,000"),
    tr(tc("", GO_ON), tc("별도 협의", SPAN)),
    tr("P-200", "1,200,000", "1,310,000"),
    tr("P-300|S", "2,000,000", "2,150,000"),
)
MERGED_TEXT = """| 기종 | 단가(원) 국내 | 단가(원) 해외 |
| --- | --- | --- |
| P-100 | 890,000 | 950,000 |
| P-100 | 별도 협의 | 별도 협의 |
| P-200 | 1,200,000 | 1,310,000 |
| P-300\\|S | 2,000,000 | 2,150,000 |"""

NESTED = tbl(
    tr("항목", "내용"),
    tr("점검 주기", tc(tbl(tr("매일", "소음"), tr("매월", "진동")) + p("빠뜨리면 기록한다."))),
    tr(tc(p("첫 줄") + p("둘째 줄")), "한 칸"),
)
NESTED_TEXT = """| 항목 | 내용 |
| --- | --- |
| 점검 주기 | 매일, 소음; 매월, 진동 빠뜨리면 기록한다. |
| 첫 줄 둘째 줄 | 한 칸 |"""

CONTROLS = (
    sdt(p("내용 컨트롤 안의 문단.") + sdt(p("두 겹 안의 문단.")))
    + p(r("담당자는 ") + sdt(r("박서준")) + r("이다."))
    + tbl(tr("이름", "내선", "자리"), tr(tc("박서준"), sdt(tc("7119")), tc("3층")), sdt(tr("이도윤", "7120", "4층")))
    + p('<w:smartTag w:element="x">' + r("안쪽 ") + "</w:smartTag>" + f"<w:hyperlink>{r('링크')}</w:hyperlink>")
)  # fmt: skip
CONTROLS_TEXT = """내용 컨트롤 안의 문단.

두 겹 안의 문단.

담당자는 박서준이다.

| 이름 | 내선 | 자리 |
| --- | --- | --- |
| 박서준 | 7119 | 3층 |
| 이도윤 | 7120 | 4층 |

안쪽 링크"""

BOXES = (
    p(r("상자를 단 문단.") + box(p("주의: 뜨거우니 만지지 않는다.") + p("둘째 줄.")))
    + tbl(tr(tc(p("한 칸짜리 표는 테두리이다.") + p("문단이 둘이다."))))
    + p("끝.")
)
BOXES_TEXT = """상자를 단 문단.

주의: 뜨거우니 만지지 않는다.

둘째 줄.

한 칸짜리 표는 테두리이다.

문단이 둘이다.

끝."""


def m(name: str, *inner: str) -> str:
    return f"<m:{name}>{''.join(inner)}</m:{name}>"


def mr(text: str) -> str:
    return f"<m:r><m:t>{text}</m:t></m:r>"


EQUATIONS = (
    p(r("유량은 ") + m("oMath", mr("Q="), m("f", m("num", mr("V")), m("den", mr("t")))) + r("이다."))
    + p(m("oMathPara", m("oMath", mr("x="), m("f",
        m("num", mr("-b±"), m("rad", m("deg"), m("e", m("sSup", m("e", mr("b")), m("sup", mr("2"))), mr("-4ac")))),
        m("den", mr("2a"))))))
    + p(m("oMath", m("nary", '<m:naryPr><m:chr m:val="∑"/></m:naryPr>', m("sub", mr("i=1")), m("sup", mr("n")),
        m("e", m("sSub", m("e", mr("P")), m("sub", mr("i")))))))
)  # fmt: skip
EQUATIONS_TEXT = """유량은 Q=V/t이다.

x=(-b±√(b^2-4ac))/(2a)

∑_(i=1)^n P_i"""

ODDS = (
    p(r("보이는 글") + r(" 숨은 글", "<w:vanish/>") + r("."))
    + p(r("쪽은 ") + field("PAGEREF 표1", "12") + r("쪽이다."))
    + p(r("가") + "<w:r><w:tab/></w:r>" + r("나") + "<w:r><w:br/></w:r>" + r("다음 줄"))
    + p(r("기호 ") + '<w:r><w:sym w:font="Wingdings" w:char="F0FE"/></w:r>' + r(" 확인"))
    + p("<w:r><w:ruby><w:rt>" + r("ㄱ") + "</w:rt><w:rubyBase>" + r("漢字") + "</w:rubyBase></w:ruby></w:r>")
    + p("우리 양식의 제목", "Own")
    + p("직접 단 개요", properties='<w:outlineLvl w:val="2"/>')
    + p("A 앞의 "  "&amp; 뒤의 &lt;B&gt;")
)  # fmt: skip
ODDS_TEXT = """보이는 글.

쪽은 12쪽이다.

가 나
다음 줄

기호 ☑ 확인

漢字

## 우리 양식의 제목

### 직접 단 개요

A 앞의 & 뒤의 <B>"""

TRACKED_ROWS = tbl(
    tr("이름", "값"),
    tr("남는 줄", "1"),
    tr("지운 줄", "2", properties=f"<w:del {CHANGE}/>"),
    tr("넣은 줄", "3", properties=f"<w:ins {CHANGE}/>"),
)
TRACKED_ROWS_TEXT = """| 이름 | 값 |
| --- | --- |
| 남는 줄 | 1 |
| 넣은 줄 | 3 |"""

SECTIONS = (
    (TRACKED_ROWS, TRACKED_ROWS_TEXT),
    (TRACKED, TRACKED_TEXT), (NOTED, NOTED_TEXT), (ARTICLES, ARTICLES_TEXT), (LISTS, LISTS_TEXT),
    (MERGED, MERGED_TEXT), (NESTED, NESTED_TEXT), (CONTROLS, CONTROLS_TEXT), (BOXES, BOXES_TEXT),
    (EQUATIONS, EQUATIONS_TEXT), (ODDS, ODDS_TEXT),
)  # fmt: skip
NAMES_OF = ("tracked_rows",
    "tracked", "notes", "articles", "lists", "merged", "nested", "controls", "boxes", "equations",
    "odds",
)  # fmt: skip


def cases() -> list[Case]:
    """One file for each feature, and one with all of them."""
    single = [
        Case(f"{name}.docx", docx(body, FOOTNOTES, ENDNOTES), text)
        for name, (body, text) in zip(NAMES_OF, SECTIONS, strict=True)
    ]
    between = p("다음은 다른 이야기이다.")
    body = between.join(one for one, _ in SECTIONS)
    text = "\n\n다음은 다른 이야기이다.\n\n".join(one for _, one in SECTIONS)
    return [*single, Case("everything.docx", docx(body, FOOTNOTES, ENDNOTES), text)]
