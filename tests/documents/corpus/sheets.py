"""Excel workbooks of raw XML."""

from tests.documents.corpus.case import Case, zipped

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
CODES = {
    1: "yyyy-mm-dd", 2: "0.0%", 3: "&quot;₩&quot;#,##0", 4: "#,##0;(#,##0)", 5: "h:mm AM/PM",
    6: "yyyy&quot;년&quot; m&quot;월&quot; d&quot;일&quot;", 7: "00000", 8: "#,##0.00&quot;원&quot;",
}  # fmt: skip
STRINGS = ("글자 칸", "두 <줄>", "굵은 글")


def cell(where: str, value: object, style: int = 0, kind: str = "") -> str:
    styled = f' s="{style}"' if style else ""
    if isinstance(value, str) and not kind:
        return f'<c r="{where}" t="inlineStr"{styled}><is><t>{value}</t></is></c>'
    typed = f' t="{kind}"' if kind else ""
    return f'<c r="{where}"{typed}{styled}><v>{value}</v></c>'


def row(number: int, *values: object, more: str = "") -> str:
    """A row from column A on; a tuple is (value, style), a string with `<c` a finished cell."""
    cells = []
    for index, value in enumerate(values):
        where = f"{chr(ord('A') + index)}{number}"
        if isinstance(value, tuple):
            cells.append(cell(where, *value))
        elif isinstance(value, str) and value.startswith("<c"):
            cells.append(value)
        elif value is not None:
            cells.append(cell(where, value))
    return f'<row r="{number}"{more}>{"".join(cells)}</row>'


def xlsx(sheets: dict[str, str], hidden: tuple[str, ...] = ()) -> bytes:
    """{name: rows and what follows them after a `|`}."""
    numbers = range(1, len(sheets) + 1)
    listed = "".join(
        f'<sheet name="{name}" sheetId="{n}" r:id="r{n}"{" state=" + chr(34) + "hidden" + chr(34) if name in hidden else ""}/>'
        for n, name in zip(numbers, sheets, strict=True)
    )
    relations = "".join(
        f'<Relationship Id="r{n}" Type="{OFFICE}/worksheet" Target="worksheets/sheet{n}.xml"/>'
        for n in numbers
    ) + "".join(
        f'<Relationship Id="{name}" Type="{OFFICE}/{name}" Target="{name}.xml"/>'
        for name in ("styles", "sharedStrings")
    )
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    overrides = "".join(
        f'<Override PartName="/xl/{part}" ContentType="{kind}.{name}+xml"/>'
        for part, name in [
            ("workbook.xml", "sheet.main"), ("styles.xml", "styles"), ("sharedStrings.xml", "sharedStrings"),
            *((f"worksheets/sheet{n}.xml", "worksheet") for n in numbers),
        ]
    )  # fmt: skip
    formats = "".join(
        f'<numFmt numFmtId="{163 + n}" formatCode="{code}"/>' for n, code in CODES.items()
    )
    cells = '<xf numFmtId="0"/>' + "".join(
        f'<xf numFmtId="{163 + n}" applyNumberFormat="1"/>' for n in CODES
    )
    strings = "<si><t>글자 칸</t></si><si><t>두 &lt;줄&gt;</t></si><si><r><t>굵은</t></r><r><t> 글</t></r><rPh sb='0' eb='1'><t>발음</t></rPh></si>"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Default Extension="xml" ContentType="application/xml"/>{overrides}</Types>',
        "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="a" Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{PACKAGE}/relationships">{relations}</Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><sheets>{listed}</sheets></workbook>',
        "xl/styles.xml": f'<styleSheet xmlns="{MAIN}"><numFmts count="{len(CODES)}">{formats}</numFmts><fonts count="1"><font/></fonts><fills count="1"><fill/></fills>'
        f'<borders count="1"><border/></borders><cellStyleXfs count="1"><xf/></cellStyleXfs><cellXfs count="{len(CODES) + 1}">{cells}</cellXfs></styleSheet>',
        "xl/sharedStrings.xml": f'<sst xmlns="{MAIN}">{strings}</sst>',
    }
    for n, content in zip(numbers, sheets.values(), strict=True):
        before, _, after = content.partition("|")
        columns, _, rows = before.rpartition("^")
        parts[f"xl/worksheets/sheet{n}.xml"] = (
            f'<worksheet xmlns="{MAIN}">{columns}<sheetData>{rows}</sheetData>{after}</worksheet>'
        )
    return zipped(parts)


def merged(*ranges: str) -> str:
    return f"|<mergeCells>{''.join(f'<mergeCell ref={chr(34)}{one}{chr(34)}/>' for one in ranges)}</mergeCells>"


PRICES = (
    row(1, "한빛펌프 단가표") + row(3, "기종", "단가", None, "적용일", "할인율")
    + row(4, None, "국내", "해외")
    + row(5, "P-100", (890000, 3), (950000, 3), (46027, 1), (0.125, 2))
    + row(6, "P-200", (1200000, 3), (1310000, 3), (46058, 1), (0, 2))
    + row(8, "P-300", (2000000, 3), (2150000, 3), (46086, 1), (0.05, 2))
    + row(10, "비고") + row(11, "부가세는 따로이다.")
    + merged("A1:E1", "A3:A4", "B3:C3", "D3:D4", "E3:E4")
)  # fmt: skip
PRICES_TEXT = """# 단가표

한빛펌프 단가표

| 기종 | 단가 국내 | 단가 해외 | 적용일 | 할인율 |
| --- | --- | --- | --- | --- |
| P-100 | ₩890,000 | ₩950,000 | 2026-01-05 | 12.5% |
| P-200 | ₩1,200,000 | ₩1,310,000 | 2026-02-05 | 0.0% |
| P-300 | ₩2,000,000 | ₩2,150,000 | 2026-03-05 | 5.0% |

비고

부가세는 따로이다."""

KINDS = (
    row(1, "이름", "값")
    + row(2, "글", cell("B2", 0, kind="s")) + row(3, "꺾쇠", cell("B3", 1, kind="s"))
    + row(4, "서식", cell("B4", 2, kind="s")) + row(5, "참", cell("B5", 1, kind="b"))
    + row(6, "오류", cell("B6", "#N/A", kind="e")) + row(7, "손실", (-1500, 4)) + row(8, "시각", (0.75, 5))
    + row(9, "날짜", (46027, 6)) + row(10, "코드", (42, 7)) + row(11, "금액", (1234.5, 8))
    + row(12, "수식", '<c r="B12"><f>1+2</f><v>3</v></c>') + row(13, "문자 수식", '<c r="B13" t="str"><f>A1</f><v>결과</v></c>')
    + row(14, "결과 없음", '<c r="B14"><f>1+2</f></c>') + row(15, "분수", 0.1) + row(16, "바코드", 8801234567890)
    + row(17, "막대", "가|나")
).replace("가|나", "가&#124;나")  # fmt: skip
KINDS_TEXT = """# 값

| 이름 | 값 |
| --- | --- |
| 글 | 글자 칸 |
| 꺾쇠 | 두 <줄> |
| 서식 | 굵은 글 |
| 참 | TRUE |
| 오류 | #N/A |
| 손실 | (1,500) |
| 시각 | 6:00 PM |
| 날짜 | 2026년 1월 5일 |
| 코드 | 00042 |
| 금액 | 1,234.50원 |
| 수식 | 3 |
| 문자 수식 | 결과 |
| 결과 없음 |  |
| 분수 | 0.1 |
| 바코드 | 8801234567890 |
| 막대 | 가\\|나 |"""

HIDDEN = (
    '<cols><col min="2" max="2" hidden="1"/></cols>^'
    + row(1, "부서", "사번", "전화") + row(2, "인사", 1, 7119) + row(3, "비밀", 2, 7120, more=' hidden="1"')
    + row(4, "총무", 3, 7121)
)  # fmt: skip
HIDDEN_TEXT = """# 전화

| 부서 | 전화 |
| --- | --- |
| 인사 | 7119 |
| 총무 | 7121 |"""
SPREAD = (
    row(1, "머리 없는 한 줄")
    + row(5, None, "구분", "왼쪽", "오른쪽")
    + row(6, None, "묶음", 1, 2)
    + row(7, None, None, 3, 4)
    + row(8, None, "함께", "같은 값")
    + merged("B6:B7", "C8:D8", "A5:A8")
)
SPREAD_TEXT = """# 흩어짐

머리 없는 한 줄

| 구분 | 왼쪽 | 오른쪽 |
| --- | --- | --- |
| 묶음 | 1 | 2 |
| 묶음 | 3 | 4 |
| 함께 | 같은 값 | 같은 값 |"""


def cases() -> list[Case]:
    every = {
        "단가표": PRICES,
        "값": KINDS,
        "전화": HIDDEN,
        "흩어짐": SPREAD,
        "숨김": row(1, "비밀"),
        "빈": "",
    }
    text = "\n\n".join((PRICES_TEXT, KINDS_TEXT, HIDDEN_TEXT, SPREAD_TEXT, ""))
    return [
        Case("prices.xlsx", xlsx({"단가표": PRICES}), PRICES_TEXT),
        Case("kinds.xlsx", xlsx({"값": KINDS}), KINDS_TEXT),
        Case("hidden.xlsx", xlsx({"전화": HIDDEN, "숨김": row(1, "비밀")}, ("숨김",)), HIDDEN_TEXT),
        Case("spread.xlsx", xlsx({"흩어짐": SPREAD}), SPREAD_TEXT),
        Case("everything.xlsx", xlsx(every, ("숨김",)), text),
    ]
