"""Web pages, e-books and mails of our own fictional company."""

from email.message import EmailMessage

from tests.documents.corpus.case import Case, zipped

ROWS = """<h2>점검표</h2>
<table><caption>주기별 점검</caption><thead><tr><th rowspan=2>기종</th><th colspan=2>주기</th></tr>
<tr><th>소음</th><th>진동</th></tr></thead>
<tbody><tr><td rowspan="2">P-100</td><td>매일<br>아침</td><td><p>매월</p><p>첫날</p></td></tr>
<tr><td colspan=2>장마철에는 매주</td></tr>
<tr><td>P-200</td><td><ul><li>매주</li><li>월요일</li></ul></td><td>분기 | 반기</td></tr></tbody></table>
<table><tr><td>1</td><td>A<p>B</p></td><td>9</td></tr><tr><td>2</td><td></td><td>8</td></tr></table>"""
ROWS_TEXT = """## 점검표

주기별 점검

| 기종 | 주기 소음 | 주기 진동 |
| --- | --- | --- |
| P-100 | 매일 아침 | 매월 첫날 |
| P-100 | 장마철에는 매주 | 장마철에는 매주 |
| P-200 | - 매주 - 월요일 | 분기 \\| 반기 |

| 1 | A B | 9 |
| --- | --- | --- |
| 2 |  | 8 |"""

LISTS = """<h1>휴가 <b>규정</b></h1>첫 글<p>둘째
문단.<br>새 줄</p><ul><li>하나<ul><li>안쪽</ul><li><p>둘</p></ul>
<ol start=3><li>셋째</li><li value=7>일곱째</li></ol>
<dl><dt>연차</dt><dd>15일</dd></dl><pre>코드  1
  코드 2</pre><script>var 글;</script><p style="display: none">숨은 글</p><p hidden>숨은 글</p>
<p>넓이는 <math><mfrac><mrow><mi>a</mi><mi>b</mi></mrow><mn>2</mn></mfrac></math>이다.</p>"""
LISTS_TEXT = """# 휴가 규정

첫 글

둘째 문단.
새 줄

- 하나
  - 안쪽
- 둘

3. 셋째
7. 일곱째

연차

15일

코드  1
  코드 2

넓이는 ab/2이다."""

BODY = "<h1>인사 FAQ</h1><p>연차휴가는 15일이며 첫해에는 한 달에 하루씩 생긴다. 3년을 다니면 하루가 는다.</p>"
BODY_TEXT = """# 인사 FAQ

연차휴가는 15일이며 첫해에는 한 달에 하루씩 생긴다. 3년을 다니면 하루가 는다."""
ANCHORS = [f'<a href="/menu{n}">메뉴 {n}</a>' for n in range(8)]
LINKS = " ".join(ANCHORS)
INTRANET = f"""<!doctype html><html><head><title>인사 FAQ</title><meta charset="utf-8"></head><body>
<div id="skipnav"><a href="#content">본문 바로가기</a></div><header><img alt="로고"><a href="/">한빛펌프</a></header>
<div class="gnb-wrap"><ul class="gnb">{LINKS}</ul></div><div class="breadcrumb">홈 &gt; 인사 &gt; FAQ</div>
<div id="content">{BODY}<p>양식: <a href="a.hwp">휴가 신청서</a></p></div>
<div class="cookie-notice">쿠키를 씁니다. <button>동의</button></div><div class="left"><div>{LINKS}</div></div>
<div class="footer">Copyright 한빛펌프 2026. 무단 전재 금지.</div></body></html>"""
INTRANET_TEXT = BODY_TEXT + "\n\n양식: 휴가 신청서"
MAIN = f"""<body><div class=top>{LINKS}<span>오늘의 식단</span></div><main><section><header><h2>머리</h2></header>
<p>main 안의 글은 모두 남으며, header 도 제목으로 남는다. 그래서 이 문단은 그대로이다.</p></section>
<ul><li><a href="/a">여비 규정</a></li><li><a href="/b">보안 지침</a></li></ul></main><p>바깥</p></body>"""
MAIN_TEXT = """## 머리

main 안의 글은 모두 남으며, header 도 제목으로 남는다. 그래서 이 문단은 그대로이다.

- 여비 규정
- 보안 지침"""
LIST_PAGE = f"<body><h3>누리집 차례</h3><ul>{''.join(f'<li>{a}</li>' for a in ANCHORS)}</ul></body>"
LAYOUT = """<table><tr><td><h2>왼쪽</h2><p>왼쪽 글</p></td><td><h2>오른쪽</h2><table>
<tr><th>값</th><th>단위</th></tr><tr><td>3</td><td>bar</td></tr></table></td></tr></table>"""
LAYOUT_TEXT = """## 왼쪽

왼쪽 글

## 오른쪽

| 값 | 단위 |
| --- | --- |
| 3 | bar |"""


def page(body: str) -> bytes:
    return f'<!doctype html><meta charset="utf-8"><body>{body}</body>'.encode()


def html_cases() -> list[Case]:
    everything = INTRANET.replace(
        BODY, BODY + ROWS + LISTS.replace("<h1>", "<h2>").replace("</h1>", "</h2>")
    )
    text = INTRANET_TEXT.replace(BODY_TEXT, f"{BODY_TEXT}\n\n{ROWS_TEXT}\n\n#{LISTS_TEXT}")
    links = "\n".join(f"- 메뉴 {n}" for n in range(8))
    return [
        Case("rows.html", page(ROWS), ROWS_TEXT),
        Case("lists.html", page(LISTS), LISTS_TEXT),
        Case("intranet.html", INTRANET.encode(), INTRANET_TEXT),
        Case("main.htm", page(MAIN), MAIN_TEXT),
        Case("links.html", page(LIST_PAGE), f"### 누리집 차례\n\n{links}"),
        Case("layout.html", page(LAYOUT), LAYOUT_TEXT),
        Case("korean.html", INTRANET.encode("cp949"), INTRANET_TEXT),
        Case("everything.html", everything.encode(), text),
    ]


CONTAINER = (
    '<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)
DOCTYPE = '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.1//EN" "http://www.w3.org/TR/xhtml11/DTD/xhtml11.dtd">'


def epub(*parts: str) -> bytes:
    numbers = range(1, len(parts) + 1)
    items = "".join(
        f'<item id="c{n}" href="text/part%20{n}.xhtml" media-type="application/xhtml+xml"/>'
        for n in numbers
    )
    order = "".join(f'<itemref idref="c{n}"/>' for n in numbers)
    return zipped({
        "mimetype": "application/epub+zip", "META-INF/container.xml": CONTAINER,
        "OEBPS/book.opf": '<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="i"><metadata '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:identifier id="i">x</dc:identifier><dc:title>펌프 안내서</dc:title><dc:language>ko</dc:language></metadata>'
        f'<manifest><item id="nav" href="nav.xhtml" properties="nav" media-type="application/xhtml+xml"/>{items}</manifest><spine><itemref idref="nav"/>{order}</spine></package>',
        "OEBPS/nav.xhtml": '<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"><body><nav epub:type="toc"><h1>차례</h1><ol/></nav></body></html>',
        **{
            f"OEBPS/text/part {n}.xhtml": f'<?xml version="1.0"?>{DOCTYPE}<html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head><body>{part}</body></html>'
            for n, part in zip(numbers, parts, strict=True)
        },
    }, stored="mimetype")  # fmt: skip


CHAPTER = "<h1>설치</h1><p>펌프는 수평인&nbsp;바닥에 둔다.<br/>흔들림이 없어야 한다.</p><aside><p>주의: 물이 새지 않게 한다.</p></aside>"
CHAPTER_TEXT = """# 설치

펌프는 수평인 바닥에 둔다.
흔들림이 없어야 한다.

주의: 물이 새지 않게 한다."""
XROWS = "<h2>사양</h2><table><tr><th>기종</th><th>유량</th></tr><tr><td><p>P-100</p></td><td>120<br/>L/분</td></tr></table>"
XROWS_TEXT = """## 사양

| 기종 | 유량 |
| --- | --- |
| P-100 | 120 L/분 |"""


def epub_cases() -> list[Case]:
    return [
        Case("chapter.epub", epub(CHAPTER), CHAPTER_TEXT),
        Case("rows.epub", epub(XROWS), XROWS_TEXT),
        Case(
            "everything.epub",
            epub(CHAPTER, XROWS, "<p>1 &lt; 2 &amp; 끝</p>"),
            f"{CHAPTER_TEXT}\n\n{XROWS_TEXT}\n\n1 < 2 & 끝",
        ),
    ]


HEAD_TEXT = """From: 김하나 <hana@hanbit.example>
To: 이도윤 <doyun@hanbit.example>
Date: Mon, 05 Jan 2026 09:00:00 +0900"""


def mail(subject: str) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = subject
    message["From"] = "김하나 <hana@hanbit.example>"
    message["To"] = "이도윤 <doyun@hanbit.example>"
    message["Date"] = "Mon, 05 Jan 2026 09:00:00 +0900"
    return message


def eml_cases() -> list[Case]:
    plain = mail("정전 안내")
    plain.set_content("1월 9일 09시부터 11시까지 정전이다.\n\n비상 전원은 3호기만 켠다.")
    korean = (
        b"Subject: =?ks_c_5601-1987?B?waTA/A==?=\r\nFrom: hana@hanbit.example\r\nContent-Type: text/plain; "
        b'charset="ks_c_5601-1987"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n'
    ) + "똠방각하도 읽는다.".encode("cp949")
    rich = mail("단가 안내")
    rich.set_content("단가는 아래와 같다. P-100 890,000")
    rich.add_alternative(f"<p>단가는 아래와 같다.</p>{XROWS}", subtype="html")
    rich.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="단가표.pdf")
    outer = mail("전달: 정전 안내")
    outer.set_content("아래를 보십시오.")
    outer.add_attachment(plain)
    bare = mail("표만")
    bare.set_content(XROWS, subtype="html")
    flowed = mail("긴 줄")
    flowed.set_content("한 문단이 \n두 줄이다.\n\n다음 문단.", params={"format": "flowed"})
    body = "1월 9일 09시부터 11시까지 정전이다.\n\n비상 전원은 3호기만 켠다."
    rich_text = f"# 단가 안내\n\n{HEAD_TEXT}\n\n단가는 아래와 같다.\n\n{XROWS_TEXT}\n\nAttachments: 단가표.pdf"
    return [
        Case("plain.eml", plain.as_bytes(), f"# 정전 안내\n\n{HEAD_TEXT}\n\n{body}"),
        Case("bare.eml", bare.as_bytes(), f"# 표만\n\n{HEAD_TEXT}\n\n{XROWS_TEXT}"),
        Case("korean.eml", korean, "# 정전\n\nFrom: hana@hanbit.example\n\n똠방각하도 읽는다."),
        Case("flowed.eml", flowed.as_bytes(), f"# 긴 줄\n\n{HEAD_TEXT}\n\n한 문단이 두 줄이다.\n\n다음 문단."),
        Case("rich.eml", rich.as_bytes(), rich_text),
        Case(
            "everything.eml", outer.as_bytes(),
            f"# 전달: 정전 안내\n\n{HEAD_TEXT}\n\n아래를 보십시오.\n\n## 정전 안내\n\n{HEAD_TEXT}\n\n{body}",
        ),
    ]  # fmt: skip
