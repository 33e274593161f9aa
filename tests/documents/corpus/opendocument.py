"""OpenDocument and RTF files."""

from tests.documents.corpus.case import Case, zipped

SPACE = "urn:oasis:names:tc:opendocument:xmlns"
NAMES = " ".join(
    f'xmlns:{name}="{SPACE}:{uri}:1.0"'
    for name, uri in (
        ("office", "office"), ("text", "text"), ("table", "table"), ("draw", "drawing"), ("style", "style"),
        ("presentation", "presentation"),
    )
) + ' xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:math="http://www.w3.org/1998/Math/MathML" xmlns:dc="http://purl.org/dc/elements/1.1/"'  # fmt: skip
TYPES = {"text": "text", "spreadsheet": "spreadsheet", "presentation": "presentation"}


def odf(kind: str, body: str, styles: str = "") -> bytes:
    mime = f"application/vnd.oasis.opendocument.{kind}"
    manifest = f'<manifest:manifest xmlns:manifest="{SPACE}:manifest:1.0"><manifest:file-entry manifest:full-path="/" manifest:media-type="{mime}"/><manifest:file-entry manifest:full-path="content.xml" manifest:media-type="text/xml"/></manifest:manifest>'
    content = f'<office:document-content {NAMES} office:version="1.2"><office:automatic-styles>{styles}</office:automatic-styles><office:body><office:{kind}>{body}</office:{kind}></office:body></office:document-content>'
    return zipped(
        {"mimetype": mime, "content.xml": content, "META-INF/manifest.xml": manifest},
        stored="mimetype",
    )


def p(inner: str) -> str:
    return f"<text:p>{inner}</text:p>"


def note(kind: str, text: str) -> str:
    return f'<text:note text:note-class="{kind}"><text:note-citation>1</text:note-citation><text:note-body>{p(text)}</text:note-body></text:note>'


def cell(text: str, more: str = "") -> str:
    inner = p(text) if text else ""
    return f'<table:table-cell office:value-type="string"{more}>{inner}</table:table-cell>'


def value(text: str, more: str = "") -> str:
    return f'<table:table-cell office:value-type="float" office:value="1"{more}>{p(text)}</table:table-cell>'


COVERED = "<table:covered-table-cell/>"
ROWS = (
    "<table:table-header-rows><table:table-row>" + cell("기종", ' table:number-rows-spanned="2"') + cell("단가", ' table:number-columns-spanned="2"') + COVERED
    + "</table:table-row><table:table-row>" + COVERED + cell("국내") + cell("해외") + "</table:table-row></table:table-header-rows>"
    "<table:table-row>" + cell("P-100") + value("890,000") + value("950,000") + "</table:table-row>"
    "<table:table-row>" + cell("P-200") + value("따로", ' table:number-columns-spanned="2"') + COVERED + "</table:table-row>"
)  # fmt: skip
ROWS_TEXT = """| 기종 | 단가 국내 | 단가 해외 |
| --- | --- | --- |
| P-100 | 890,000 | 950,000 |
| P-200 | 따로 | 따로 |"""
PROSE = (
    "<text:tracked-changes><text:changed-region><text:deletion>" + p("지운 문단.") + "</text:deletion></text:changed-region></text:tracked-changes>"
    '<text:h text:outline-level="1">여비 규정</text:h><text:h text:outline-level="2">숙박</text:h>'
    + p("숙박비는<text:s text:c='2'/>9만원이다." + note("footnote", "1박의 값이다.") + "<text:line-break/>영수증을 낸다.<text:change text:change-id='a'/>")
    + p("<office:annotation><dc:creator>김하나</dc:creator>" + p("메모") + "</office:annotation><text:span>굵은</text:span> 글과 <text:a xlink:href='x'>링크</text:a>." + note("endnote", "끝주."))
    + "<text:list><text:list-item>" + p("하나") + "<text:list><text:list-item>" + p("안쪽") + "</text:list-item></text:list></text:list-item><text:list-item>" + p("둘") + "</text:list-item></text:list>"
    + p("상자를 단 문단.<draw:frame><draw:text-box>" + p("상자 글.") + "</draw:text-box></draw:frame>")
    + p("비율은 <draw:frame><draw:object><math:math><math:mfrac><math:mi>a</math:mi><math:mi>b</math:mi></math:mfrac></math:math></draw:object></draw:frame>이다.")
)  # fmt: skip
PROSE_TEXT = """# 여비 규정

## 숙박

숙박비는 9만원이다.[^1]
영수증을 낸다.

[^1]: 1박의 값이다.

굵은 글과 링크.[^e1]

[^e1]: 끝주.

- 하나
  - 안쪽
- 둘

상자를 단 문단.

상자 글.

비율은 a/b이다."""
SHEET = f'<table:table table:name="단가표">{ROWS}<table:table-row table:number-rows-repeated="1048570"><table:table-cell table:number-columns-repeated="16384"/></table:table-row></table:table>'
SHEET_TEXT = "# 단가표\n\n" + ROWS_TEXT
SECRET = '<style:style style:name="ta2" style:family="table"><style:table-properties table:display="false"/></style:style>'
HIDDEN = f'<table:table table:name="숨김" table:style-name="ta2"><table:table-row>{cell("비밀")}</table:table-row></table:table>'
SLIDE = (
    '<draw:page><draw:frame presentation:class="outline"><draw:text-box><text:list><text:list-item>' + p("유량 120 L/분") + "</text:list-item></text:list></draw:text-box></draw:frame>"
    '<draw:frame presentation:class="title"><draw:text-box>' + p("P-100") + "</draw:text-box></draw:frame>"
    '<presentation:notes><draw:frame presentation:class="notes"><draw:text-box>' + p("데모를 보인다.") + "</draw:text-box></draw:frame></presentation:notes></draw:page>"
)  # fmt: skip
SLIDE_TEXT = "# P-100\n\n- 유량 120 L/분\n\n> 데모를 보인다."


def rtf(body: str) -> bytes:
    out = "".join(
        letter if letter.isascii() else "".join(f"\\'{byte:02x}" for byte in letter.encode("cp949"))
        for letter in body
    )
    return (
        r"{\rtf1\ansi\ansicpg949\deff0{\fonttbl{\f0\fcharset129 Batang;}}{\info{\title x}}\f0 "
        + out
        + "}"
    ).encode()


RTF = r"펌프는 물을 올린다.\par {\b 굵은} 글 \u54148?\par "
RTF_TEXT = "펌프는 물을 올린다.\n\n굵은 글 펄"
RTF_ROWS = r"\trowd\cellx1000\cellx2000 기종\cell 단가\cell\row\trowd\cellx1000\cellx2000 P-100\cell 890,000\cell\row\pard 끝.\par "
RTF_ROWS_TEXT = "| 기종 | 단가 |\n| --- | --- |\n| P-100 | 890,000 |\n\n끝."


def cases() -> list[Case]:
    table = f"<table:table>{ROWS}</table:table>"
    return [
        Case("prose.odt", odf("text", PROSE), PROSE_TEXT),
        Case("table.odt", odf("text", p("표이다.") + table), f"표이다.\n\n{ROWS_TEXT}"),
        Case("everything.odt", odf("text", PROSE + table), f"{PROSE_TEXT}\n\n{ROWS_TEXT}"),
        Case("prices.ods", odf("spreadsheet", SHEET), SHEET_TEXT),
        Case("hidden.ods", odf("spreadsheet", SHEET + HIDDEN, SECRET), SHEET_TEXT),
        Case(
            "everything.ods",
            odf("spreadsheet", SHEET.replace("단가표", "둘째") + SHEET),
            f"{SHEET_TEXT.replace('단가표', '둘째')}\n\n{SHEET_TEXT}",
        ),
        Case("slides.odp", odf("presentation", SLIDE + SLIDE), f"{SLIDE_TEXT}\n\n{SLIDE_TEXT}"),
        Case("prose.rtf", rtf(RTF), RTF_TEXT),
        Case("rows.rtf", rtf(RTF_ROWS), RTF_ROWS_TEXT),
        Case("everything.rtf", rtf(RTF + RTF_ROWS), f"{RTF_TEXT}\n\n{RTF_ROWS_TEXT}"),
    ]
