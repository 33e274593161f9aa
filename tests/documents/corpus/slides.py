"""PowerPoint presentations of raw XML."""

from tests.documents.corpus.case import Case, zipped

OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
DRAWING = "http://schemas.openxmlformats.org/drawingml/2006"
NAMES = (
    f'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" xmlns:a="{DRAWING}/main" '
    f'xmlns:r="{OFFICE}" xmlns:c="{DRAWING}/chart" xmlns:dgm="{DRAWING}/diagram"'
)


def p(text: str, properties: str = "", level: int = 0) -> str:
    runs = "<a:br/>".join(f"<a:r><a:t>{part}</a:t></a:r>" for part in text.split("\n"))
    return f'<a:p><a:pPr lvl="{level}">{properties}</a:pPr>{runs}</a:p>'


def place(x: int, y: int) -> str:
    return f'<a:xfrm><a:off x="{x * 100000}" y="{y * 100000}"/><a:ext cx="100000" cy="100000"/></a:xfrm>'


def shape(inner: str, kind: str = "", where: str = "") -> str:
    mark = f'<p:ph type="{kind}"/>' if kind else ""
    return (
        f'<p:sp><p:nvSpPr><p:cNvPr id="2" name="s"/><p:cNvSpPr/><p:nvPr>{mark}</p:nvPr></p:nvSpPr><p:spPr>{where}</p:spPr>'
        f"<p:txBody><a:bodyPr/>{inner}</p:txBody></p:sp>"
    )


def frame(inner: str, uri: str, y: int) -> str:
    return (
        '<p:graphicFrame><p:nvGraphicFramePr><p:cNvPr id="3" name="g"/><p:cNvGraphicFramePr/><p:nvPr/></p:nvGraphicFramePr>'
        f'<p:xfrm><a:off x="0" y="{y * 100000}"/><a:ext cx="1" cy="1"/></p:xfrm><a:graphic><a:graphicData uri="{DRAWING}/{uri}">{inner}'
        "</a:graphicData></a:graphic></p:graphicFrame>"
    )


def tc(text: str, more: str = "") -> str:
    body = "".join(f"<a:p><a:r><a:t>{one}</a:t></a:r></a:p>" for one in text.split("\n"))
    return f"<a:tc{more}><a:txBody><a:bodyPr/>{body}</a:txBody><a:tcPr/></a:tc>"


def table(*rows: str, columns: int, y: int = 20) -> str:
    grid = '<a:gridCol w="1"/>' * columns
    inner = "".join(f'<a:tr h="1">{row}</a:tr>' for row in rows)
    return frame(f"<a:tbl><a:tblPr/><a:tblGrid>{grid}</a:tblGrid>{inner}</a:tbl>", "table", y)


def pptx(
    slides: list[str],
    hidden: tuple[int, ...] = (),
    notes: dict[int, str] | None = None,
    chart: str = "",
    diagram: str = "",
) -> bytes:
    notes = notes or {}
    numbers = range(1, len(slides) + 1)
    kind = "application/vnd.openxmlformats-officedocument"

    def root(name: str, content: str, more: str = "") -> str:
        tree = '<p:nvGrpSpPr><p:cNvPr id="1" name=""/><p:cNvGrpSpPr/><p:nvPr/></p:nvGrpSpPr><p:grpSpPr/>'
        return f"<p:{name} {NAMES}{more}><p:cSld><p:spTree>{tree}{content}</p:spTree></p:cSld></p:{name}>"

    parts = {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Default Extension="xml" ContentType="application/xml"/><Override PartName="/ppt/presentation.xml" ContentType="{kind}.presentationml.presentation.main+xml"/>'
        + "".join(f'<Override PartName="/ppt/slides/slide{n}.xml" ContentType="{kind}.presentationml.slide+xml"/>' for n in numbers)
        + "".join(f'<Override PartName="/ppt/notesSlides/notesSlide{n}.xml" ContentType="{kind}.presentationml.notesSlide+xml"/>' for n in notes)
        + f'<Override PartName="/ppt/slideLayouts/slideLayout1.xml" ContentType="{kind}.presentationml.slideLayout+xml"/>'
        f'<Override PartName="/ppt/charts/chart1.xml" ContentType="{kind}.drawingml.chart+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="a" Type="{OFFICE}/officeDocument" Target="ppt/presentation.xml"/></Relationships>',
        "ppt/presentation.xml": f"<p:presentation {NAMES}><p:sldIdLst>"
        + "".join(f'<p:sldId id="{255 + n}" r:id="r{n}"/>' for n in numbers)
        + '</p:sldIdLst><p:sldSz cx="9144000" cy="6858000"/></p:presentation>',
        "ppt/_rels/presentation.xml.rels": f'<Relationships xmlns="{PACKAGE}/relationships">'
        + "".join(f'<Relationship Id="r{n}" Type="{OFFICE}/slide" Target="slides/slide{n}.xml"/>' for n in numbers) + "</Relationships>",
        "ppt/slideLayouts/slideLayout1.xml": root("sldLayout", shape(p("누르세요"), "title", place(0, 1)) + shape(p("누르세요"), "body", place(0, 10))),
        "ppt/charts/chart1.xml": chart, "ppt/diagrams/data1.xml": diagram,
    }  # fmt: skip
    for n, content in zip(numbers, slides, strict=True):
        parts[f"ppt/slides/slide{n}.xml"] = root("sld", content, ' show="0"' if n in hidden else "")
        noted = (
            f'<Relationship Id="n" Type="{OFFICE}/notesSlide" Target="../notesSlides/notesSlide{n}.xml"/>'
            if n in notes
            else ""
        )
        parts[f"ppt/slides/_rels/slide{n}.xml.rels"] = (
            f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="l" Type="{OFFICE}/slideLayout" Target="../slideLayouts/slideLayout1.xml"/>'
            f'<Relationship Id="c" Type="{OFFICE}/chart" Target="../charts/chart1.xml"/><Relationship Id="d" Type="{OFFICE}/diagramData" Target="../diagrams/data1.xml"/>{noted}</Relationships>'
        )
        if n in notes:
            parts[f"ppt/notesSlides/notesSlide{n}.xml"] = root(
                "notes", shape(p("7"), "sldNum") + shape(p(notes[n]), "body")
            )
            parts[f"ppt/notesSlides/_rels/notesSlide{n}.xml.rels"] = (
                f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="s" Type="{OFFICE}/slide" Target="../slides/slide{n}.xml"/></Relationships>'
            )
    return zipped({name: content for name, content in parts.items() if content})


NUMBERED = '<a:buAutoNum type="arabicPeriod"/>'
TEXTS = (
    shape(p("아래 상자"), where=place(50, 40)) + shape(p("오른쪽"), where=place(60, 30)) + shape(p("왼쪽\n두 줄"), where=place(5, 30))
    + shape(p("펌프는 물을 올린다.") + p("임펠러", level=1) + p("순서", "<a:buNone/>") + p("켠다", NUMBERED) + p("끈다", NUMBERED), "body")
    + shape(p("한빛펌프 P-100"), "title") + shape(p("3"), "sldNum")
)  # fmt: skip
TEXTS_TEXT = """# 한빛펌프 P-100

- 펌프는 물을 올린다.
  - 임펠러

순서

1. 켠다
2. 끈다

왼쪽
두 줄

오른쪽

아래 상자"""
TABLES = shape(p("사양"), "title") + table(
    tc("기종", ' rowSpan="2"') + tc("성능", ' gridSpan="2"') + tc("", ' hMerge="1"'),
    tc("", ' vMerge="1"') + tc("유량\n(L/분)") + tc("양정"),
    tc("P-100") + tc("120") + tc("30 m"),
    tc("P-200") + tc("250") + tc("45 m"),
    columns=3,
)  # fmt: skip
TABLES_TEXT = """# 사양

| 기종 | 성능 유량 (L/분) | 성능 양정 |
| --- | --- | --- |
| P-100 | 120 | 30 m |
| P-200 | 250 | 45 m |"""


def points(kind: str, values: tuple[str, ...]) -> str:
    inner = "".join(f'<c:pt idx="{n}"><c:v>{value}</c:v></c:pt>' for n, value in enumerate(values))
    holder = "strRef><c:strCache" if kind == "cat" else "numRef><c:numCache"
    first, second = holder.split("><")
    return f"<c:{kind}><c:{first}><{second}>{inner}</{second}></c:{first}></c:{kind}>"


def series(name: str, values: tuple[str, ...]) -> str:
    named = f'<c:tx><c:strRef><c:strCache><c:pt idx="0"><c:v>{name}</c:v></c:pt></c:strCache></c:strRef></c:tx>'
    return f"<c:ser>{named}{points('cat', ('1분기', '2분기'))}{points('val', values)}</c:ser>"


CHART = (
    f"<c:chartSpace {NAMES}><c:chart><c:title><c:tx><c:rich><a:p><a:r><a:t>분기 매출</a:t></a:r></a:p></c:rich></c:tx></c:title><c:plotArea>"
    f"<c:barChart>{series('국내', ('10', '12'))}{series('해외', ('7', '9'))}</c:barChart></c:plotArea></c:chart></c:chartSpace>"
)
DIAGRAM = (
    f"<dgm:dataModel {NAMES}><dgm:ptLst>"
    + "".join(
        f'<dgm:pt modelId="{n}"><dgm:t><a:p><a:r><a:t>{text}</a:t></a:r></a:p></dgm:t></dgm:pt>'
        for n, text in enumerate(("설계", "제작", "시험"))
    )
    + "</dgm:ptLst></dgm:dataModel>"
)
GROUP = (
    f'<p:grpSp><p:nvGrpSpPr><p:cNvPr id="9" name="g"/><p:cNvGrpSpPr/><p:nvPr/></p:nvGrpSpPr><p:grpSpPr>{place(0, 30)}</p:grpSpPr>'
    + shape(p("묶음 아래"), where=place(0, 8)) + shape(p("묶음 위"), where=place(0, 2)) + "</p:grpSp>"
)  # fmt: skip
DRAWN = (
    shape(p("그림과 차트"), "ctrTitle") + GROUP
    + frame('<c:chart r:id="c"/>', "chart", 50) + frame('<dgm:relIds r:dm="d" r:lo="x" r:qs="x" r:cs="x"/>', "diagram", 60)
)  # fmt: skip
DRAWN_TEXT = """# 그림과 차트

묶음 위

묶음 아래

분기 매출

|  | 국내 | 해외 |
| --- | --- | --- |
| 1분기 | 10 | 7 |
| 2분기 | 12 | 9 |

- 설계
- 제작
- 시험"""
NOTED_TEXT = "\n\n> 여기서 데모를 보인다."


def cases() -> list[Case]:
    secret = shape(p("숨긴 장"), "title")
    slides = [TEXTS, TABLES, secret, DRAWN]
    text = "\n\n".join((TEXTS_TEXT + NOTED_TEXT, TABLES_TEXT, "", DRAWN_TEXT))
    return [
        Case("texts.pptx", pptx([TEXTS]), TEXTS_TEXT),
        Case("tables.pptx", pptx([TABLES]), TABLES_TEXT),
        Case("drawn.pptx", pptx([DRAWN], chart=CHART, diagram=DIAGRAM), DRAWN_TEXT),
        Case(
            "notes.pptx", pptx([TEXTS], notes={1: "여기서 데모를 보인다."}), TEXTS_TEXT + NOTED_TEXT
        ),
        Case(
            "everything.pptx",
            pptx(slides, (3,), {1: "여기서 데모를 보인다."}, CHART, DIAGRAM),
            text,
        ),
    ]
