"""Pages of columns of other domains and producers than those of layouts.py.

Each was drawn and measured before the reader was changed for it; "Reading documents" in
docs/measurements.md has the figures of that first sight. Markup and the sentences in it are
written together, so that all are known.
"""

import html
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import producers

FORMS = {
    "ko": (
        "{who}의 {what} 기한은 {n}일로 한다.",
        "{who}에게는 {where}에서 {what} {n}부를 내어 준다.",
        "{where}에서는 오후 {h}시 이후에 {what}의 접수를 받지 아니한다.",
        "{what} 사본이 {n}장을 넘으면 장마다 {m}원을 더 받는다.",
        "{who}에 대한 {what} 확인은 {where}에서 {n}분 안에 마치되, 사람이 몰리는 날에는 담당자가"
        " 순번표를 나누어 주고 {m}명씩 들어가게 한다.",
        "부득이한 사정으로 {what} 원본을 잃은 {who}에게는 {where} 책임자의 확인을 거쳐 {n}일 뒤에"
        " 다시 발급하며, 이때 드는 비용 {m}원은 본인이 낸다.",
    ),
    "en": (
        "The {who} keeps the {what} for {n} months.",
        "No {what} leaves the {where} after {h} p.m. on day {n}.",
        "Each {who} may bring {n} guests to the {where} once a year.",
        "A fee of {n} pounds is due for every {what} above {m}.",
        "If the {who} has not returned the {what} within {n} days, the secretary writes to them,"
        " and a charge of {m} pounds is added to the next account.",
        "Between the hours of {h} and eleven the {where} is open to every {who} who has shown the"
        " {what}, but groups of more than {n} give notice {m} days ahead.",
    ),
}
NOUNS = {
    "hospital": (
        "입원 환자|외래 환자|보호자|간병인|수술 대기자|면회객|퇴원 예정자|당직 간호사",
        "진료 의뢰서|검사 동의서|처방전|수납 영수증|면회증|식이 신청서|소견서|복약 안내문",
        "원무과|약제실|검사실|안내 창구|영상의학실|중앙 접수처|별관 응급실",
    ),
    "club": (
        "honorary member|treasurer|boat owner|junior member|auditor|harbour steward|visitor",
        "mooring licence|minute book|rowing shed key|race entry|fuel card|insurance note",
        "club house|upper deck|committee room|slipway|winter store",
    ),
    "statute": (
        "신고인|수임인|점용자|채굴권자|측량업자|이의신청인|관리청|양수인",
        "허가증|점용료 고지서|측량 성과도|신고 필증|복구 계획서|공람 조서|이행 보증서",
        "관할 시청|등기소|수계 관리소|군청 민원실|현장 사무소",
    ),
    "news": (
        "choir leader|baker|allotment holder|ferry pilot|school governor|bell ringer",
        "ticket|seed packet|old photograph|recipe card|parish map|lantern",
        "village hall|mill pond|primary school|station yard|market cross",
    ),
    "price": (
        "도매 회원|일반 손님|단체 손님|가맹점|정기 구독자|배송 기사",
        "원목 선반|접이식 책상|유리 화병|면 커튼|도자기 접시|철제 조명|양모 담요",
        "본점 매장|물류 창고|수선 공방|전시장|온라인 상담실",
    ),
    "embassy": (
        "재외 국민|유학생|여행자|동반 가족|사증 신청인|이중 국적자",
        "여권 사본|체류 확인서|가족 관계 증명|재정 보증서|사진 대장|접수 번호표",
        "영사 창구|대사관 별관|민원 대기실|공증실",
    ),
    "consul": (
        "resident abroad|exchange student|traveller|family member|visa applicant",
        "passport copy|proof of residence|birth record|letter of surety|photo sheet",
        "consular desk|annex|waiting room|notary office",
    ),
    "insurance": (
        "보험계약자|피보험자|보험수익자|대리인|손해사정사|청구인",
        "보험증권|청구서|진단서|사고 경위서|납입 증명|해지 환급금 안내문",
        "고객 창구|보상 센터|지점|심사 부서|콜센터",
    ),
    "statute_en": (
        "harbour master|licensee|owner of a slipway|inspector|occupier|undertaker",
        "certificate|notice of works|tide register|plan of the pier|security bond",
        "county court|port office|record room|customs shed",
    ),
    "museum": (
        "단체 관람객|해설사|후원 회원|어린이|전시 기획자|사진 촬영자",
        "청동 거울|고지도|백자 항아리|관람권|음성 안내기|복제 유물",
        "제2전시실|수장고|체험 공방|중앙 홀|기념품점",
    ),
    "court": (
        "신청인|피신청인|참고인|대리인|보조참가인|감정인",
        "사업 계획서|현장 사진|처분 통지서|회의록|감정서|위임장",
        "조정실|구청 건축과|감정 사무소|기록 열람실",
    ),
    "talks": (
        "boat builder|forester|marine painter|lighthouse keeper|rope maker",
        "oak frame|tide table|old sail|carved figurehead|saw pit",
        "long hall|library|yard tent|chapel",
    ),
    "lab": (
        "technician|trainee|night analyst|visitor|safety officer",
        "buffer bottle|centrifuge|cold plate|pipette set|sample rack|filter unit",
        "cold room|wash bay|north bench|dark room",
    ),
    "coop": (
        "조합원|이사장|감사위원|준조합원|대의원|사무국장",
        "출자 증권|회계 장부|임원 명부|사업 보고서|탈퇴 신청서|공동 창고 열쇠",
        "총회장|사무국|직판장|공동 작업장|지역 분회",
    ),
    "library": (
        "열람자|사서|대출 회원|연구원|자원봉사자|휠체어 이용자",
        "희귀 도서|열람증|마이크로필름|독서 확대기|신문 철|점자책",
        "자료실|보존 서고|열람석|복사실|옥상 정원",
    ),
    "farm": (
        "seed grower|shepherd|orchard keeper|beekeeper|dairy clerk|hay dealer",
        "milk churn|apple crate|fleece|honey jar|seed drill|feed sack",
        "barn|market yard|weigh house|cold store|lower field",
    ),
    "festival": (
        "공연자|무대 감독|입장객|노점상|안내 요원|촬영 기사",
        "입장 팔찌|음향 장비|야외 의자|공연 순서지|주차권|조명 차",
        "야외 무대|분수 광장|대기실|푸드 구역|임시 주차장",
    ),
    "school": (
        "신입생|담임 교사|학부모|기숙생|급식 담당자|교환 학생",
        "교복|가정 통신문|실험 기구|기숙사 열쇠|성적표|체험 학습 신청서",
        "교무실|과학실|생활관|급식실|도서관",
    ),
    "rail": (
        "승객|기관사|역무원|정기권 이용자|화물 주인|선로 작업자",
        "승차권|수하물 표|운행 일지|신호 열쇠|지연 증명서|자전거 표",
        "매표소|승강장|차량 기지|유실물 센터|관제실",
    ),
    "choir": (
        "tenor|organist|page turner|bell captain|verger|choir parent",
        "hymn book|music stand|cassock|rota|organ key|collection plate",
        "vestry|north aisle|bell tower|crypt|song school",
    ),
    "gym": (
        "정기 회원|일일 이용자|강사|학생 회원|단체 대표|보조 요원",
        "사물함 열쇠|수영모|예약 확인증|운동 기록지|수건|건강 문진표",
        "수영장|탈의실|암벽장|체력 단련실|매표소",
    ),
}

TITLES = ("정의", "신고", "심사", "취소", "보고", "열람", "벌칙")


class Teller:
    """Sentences of one domain that are unlike one another."""

    def __init__(self, domain: str, language: str, seed: int) -> None:
        self.chance, self.language = random.Random(f"{domain} {seed}"), language
        self.nouns = [part.split("|") for part in NOUNS[domain]]
        self.told: set[str] = set()

    def say(self, size: int = 1) -> str:
        """A sentence; `size`: 0 short, 1 either, 2 long."""
        forms = FORMS[self.language]
        own = {0: forms[:4], 1: forms, 2: forms[4:]}[size]
        while True:
            who, what, where = (self.chance.choice(part) for part in self.nouns)
            numbers = {"n": self.chance.randint(2, 97), "m": self.chance.randint(3, 29) * 100}
            hour = self.chance.randint(2, 9)
            text = self.chance.choice(own).format(
                who=who, what=what, where=where, h=hour, **numbers
            )
            if text not in self.told:
                self.told.add(text)
                return text

    def several(self, low: int, high: int, size: int = 1) -> list[str]:
        """From `low` to `high` sentences."""
        return [self.say(size) for _ in range(self.chance.randint(low, high))]


@dataclass
class Stranger:
    """One document, and what is read in it."""

    name: str
    language: str
    producer: str
    source: str = ""
    """HTML, Typst or flat ODF; empty where there is a `story`."""
    story: list[Any] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Sentences whose place among the others does not matter."""
    single: bool = False
    other: list[str] = field(default_factory=list)
    """The sentences in another order that is right, too."""
    printed: "Callable[[Stranger, Path], None] | None" = None
    """Writes it to a PDF, where its producer reads no source."""

    def truth(self) -> list[str]:
        """Sentences in the order in which they are read."""
        return self.sentences

    def tell(self, *sentences: str, tag: str = "p", aside: bool = False, **how: str) -> None:
        """An element of HTML with these sentences."""
        (self.notes if aside else self.sentences).extend(sentences)
        name = "".join(f' {key}="{value}"' for key, value in how.items()).replace("kind=", "class=")
        self.source += f"<{tag}{name}>{html.escape(' '.join(sentences), quote=False)}</{tag}>\n"

    def line(self, kind: str, *sentences: str, aside: bool = False) -> str:
        """A paragraph of ODF with these sentences, in the style `kind`."""
        (self.notes if aside else self.sentences).extend(sentences)
        return f'<text:p text:style-name="{kind}">{html.escape(" ".join(sentences))}</text:p>'

    def put(self, markup: str) -> None:
        """Markup without sentences."""
        self.source += markup + "\n"

    def write(self, *sentences: str, before: str = "", after: str = "\n\n") -> None:
        """A paragraph of Typst."""
        self.sentences.extend(sentences)
        text = " ".join(sentences).replace("#", "\\#").replace("$", "\\$").replace("*", "\\*")
        self.source += before + text + after


def hospital() -> Stranger:
    """Two columns with a rule between them, shaded boxes, lists."""
    t = Teller("hospital", "ko", 1)
    d = Stranger("hospital_rules", "ko", "chromium")
    d.put("""<style>@page{size:A4;margin:16mm 15mm}body{margin:0;font:9.2pt/1.55 NanumGothic}
    .c{columns:2;column-gap:9mm;column-rule:.5pt solid #999;text-align:justify}
    h1{font-size:17pt;color:#156;border-bottom:3pt solid #156;margin:0 0 3mm}
    h2{font-size:11pt;background:#dcebf2;padding:2pt 5pt;margin:3mm 0 1mm;break-after:avoid}
    p{margin:0 0 1.2mm}li{margin:0}.b{background:#fff3d6;border-left:3pt solid #e90;padding:2mm;
    break-inside:avoid;margin:2mm 0}ul{padding-left:4.5mm;margin:0}</style>""")
    d.tell("푸른솔병원 이용 규정 안내", tag="h1")
    d.put("<div class=c>")
    for number, title in enumerate(
        [
            "면회",
            "입원",
            "퇴원",
            "수납",
            "식사",
            "검사",
            "약품",
            "주차",
            "안전",
            "분실물",
            "민원",
            "감염관리",
        ],
        1,
    ):
        d.tell(f"{number}. {title}에 관한 사항", tag="h2")
        d.tell(*t.several(2, 4))
        if number % 3 == 0:
            d.tell(*t.several(1, 2, 0), tag="div", kind="b")
        if number % 2:
            d.put("<ul>")
            for _ in range(3):
                d.tell(t.say(0), tag="li")
            d.put("</ul>")
    d.put("</div>")
    return d


def bylaws() -> Stranger:
    """English, justified and hyphenated, run-in headings, hanging clauses."""
    t = Teller("club", "en", 2)
    d = Stranger("club_bylaws", "en", "typst")
    d.source = """#set page(paper: "a4", margin: 18mm, numbering: "1", columns: 2)
#set columns(gutter: 8mm)
#set text(font: "DejaVu Serif", size: 8.4pt)
#set par(justify: true, leading: 0.62em)
#place(top + center, scope: "parent", float: true)[#text(17pt)[
Bylaws of the Otter Bay Sailing Club]]
"""
    d.sentences.append("Bylaws of the Otter Bay Sailing Club")
    for article, title in enumerate(("Members", "Moorings", "Races", "Money", "Meetings"), 1):
        d.write(f"Article {article} — {title}", before="#align(center)[#strong[", after="]]\n\n")
        for number in range(1, 5):
            own = t.several(1, 2)
            d.write(own[0], before=f"*{article}.{number:02d} Rule.* ", after=" ")
            for one in own[1:]:
                d.write(one, after=" ")
            d.source += "\n\n"
            for letter in "abc"[: t.chance.randint(0, 3)]:
                d.write(
                    t.say(),
                    before=f"#pad(left: 5mm)[#h(-5mm);({letter}) ",
                    after="]\n\n",
                )
    return d


def statute() -> Stranger:
    """Articles in two columns, footnotes below all of them."""
    t = Teller("statute", "ko", 3)
    d = Stranger("statute_footnotes", "ko", "weasyprint")
    d.put("""<style>@page{size:A4;margin:20mm 18mm;@bottom-center{content:counter(page);
    font-size:7pt}@footnote{border-top:.5pt solid;padding-top:1mm}}
    body{margin:0;font:9pt/1.5 NanumMyeongjo}h1{font-size:15pt;text-align:center}
    .c{columns:2;column-gap:8mm}p{margin:0}
    h3{font:700 9.4pt NanumGothic;margin:2mm 0 .5mm;break-after:avoid}
    .f{float:footnote;font-size:7pt}</style>""")
    d.tell("하천 점용과 골재 채취에 관한 법률 시행 규칙", tag="h1")
    d.put("<div class=c>")
    for number in range(1, 31):
        d.tell(
            f"제{number}조({t.chance.choice(TITLES)})",
            tag="h3",
        )
        own = t.several(1, 3)
        d.put("<p>")
        for one in own:
            d.tell(one, tag="span")
        if number % 7 == 3:
            d.tell(t.say(0), tag="span", aside=True, kind="f")
        d.put("</p>")
    d.put("</div>")
    return d


def newsletter() -> Stranger:
    """Three columns, a figure with its caption over two, a tinted box, a pull quote."""
    t = Teller("news", "en", 4)
    d = Stranger("village_newsletter", "en", "chromium")
    d.put("""<style>@page{size:A4;margin:12mm}body{margin:0;font:8.6pt/1.4 "DejaVu Sans"}
    h1{font-size:30pt;margin:0;border-bottom:2pt solid}h2{font-size:12pt;margin:2mm 0 1mm}
    .g{display:grid;grid-template-columns:1fr 1fr 1fr;gap:0 6mm}p{margin:0 0 1.5mm}
    .w{grid-column:span 2;columns:2;column-gap:6mm}.w h2{column-span:all}
    figure{margin:2mm 0;column-span:all}svg{width:100%;height:38mm;background:#cde}
    figcaption{font-size:7.4pt}.s{background:#eee;padding:3mm}
    .q{font-size:13pt;border-top:1pt solid;border-bottom:1pt solid;margin:2mm 0}</style>""")
    d.tell("The Millbrook Lantern", tag="h1")
    d.put("<div class=g><div class=w>")
    d.tell("Spring fair comes back to the mill", tag="h2")
    for _ in range(4):
        d.tell(*t.several(2, 4))
    d.put("<figure><svg></svg>")
    d.tell(t.say(0), tag="figcaption", aside=True)
    d.put("</figure>")
    for _ in range(4):
        d.tell(*t.several(2, 4))
    d.put("</div><div class=s>")
    d.tell("Dates to keep", tag="h2")
    for _ in range(9):
        d.tell(t.say(0))
    d.put("</div></div><div class=g><div>")
    d.tell("Letters", tag="h2")
    for _ in range(1):
        d.tell(*t.several(2, 3))
    d.put("</div><div>")
    d.tell(t.say(0), tag="div", kind="q")
    for _ in range(1):
        d.tell(*t.several(2, 3))
    d.put("</div><div>")
    d.tell("From the school", tag="h2")
    for _ in range(1):
        d.tell(*t.several(2, 3))
    d.put("</div></div>")
    return d


def price_list() -> Stranger:
    """A wide column with small price tables, narrow notes at its right."""
    t = Teller("price", "ko", 5)
    d = Stranger("price_list", "ko", "reportlab", printed=_price_pages)
    for number in range(5):
        heading, own = f"{number + 1}. {t.nouns[1][number]} 판매와 수선 조건", t.several(2, 4)
        note = t.several(1, 2, 0)
        rows = [["품목", "규격", "값"]] + [
            [one, f"{t.chance.randint(20, 90)}cm", f"{t.chance.randint(3, 99)},000원"]
            for one in t.chance.sample(t.nouns[1], 3)
        ]
        d.story.append((heading, own, note, rows))
        d.sentences += [heading, *own]
        d.notes += note
    return d


def bilingual() -> Stranger:
    """Korean in the left column, English in the right one, of different lengths."""
    t, e = Teller("embassy", "ko", 6), Teller("consul", "en", 6)
    d = Stranger("bilingual_notice", "ko", "libreoffice")
    style = (
        '<style:style style:name="{}" style:family="paragraph"><style:paragraph-properties '
        'fo:line-height="140%" {}/><style:text-properties fo:font-size="{}pt" '
        'style:font-size-asian="{}pt" fo:font-family="{}" style:font-family-asian="NanumGothic"/>'
        "</style:style>"
    )
    styles = "".join(
        (
            style.format(
                "t", 'fo:text-align="center" fo:margin-bottom="8pt"', 15, 15, "NanumGothic"
            ),
            style.format("h", 'fo:margin-top="6pt"', 10, 10, "NanumGothic"),
            style.format("b", 'fo:break-before="column"', 10, 10, "NanumGothic"),
            style.format("p", "", 8.6, 8.6, "NanumGothic"),
        )
    )
    styles += (
        '<style:style style:name="S" style:family="section"><style:section-properties '
        'text:dont-balance-text-columns="true"><style:columns fo:column-count="2">'
        '<style:column style:rel-width="500*" fo:end-indent="11pt"/><style:column '
        'style:rel-width="500*" fo:start-indent="11pt"/></style:columns>'
        "</style:section-properties></style:style>"
    )

    body = d.line("t", "영사 민원 안내 Consular services")
    body += '<text:section text:style-name="S" text:name="S">'
    for number in range(1, 10):
        body += d.line("h", f"{number}. {t.chance.choice(t.nouns[1])} 접수")
        body += d.line("p", *t.several(1, 3))
    for number in range(1, 10):
        body += d.line(
            "b" if number == 1 else "h", f"{number}. Receipt of a {e.nouns[1][number % 5]}"
        )
        body += d.line("p", *e.several(1, 2))
    d.source = styles + "\n---\n" + body + "</text:section>"
    return d


def gym() -> Stranger:
    """Three columns on a page that lies on its side; questions and answers."""
    t = Teller("gym", "ko", 7)
    d = Stranger("gym_leaflet", "ko", "typst")
    d.source = """#set page(paper: "a4", flipped: true, margin: 14mm, columns: 3)
#set columns(gutter: 7mm)
#set text(font: "NanumGothic", size: 9pt)
#set par(leading: 0.7em)
"""
    d.write("한빛 체육센터 이용 안내", before="#text(16pt)[", after="]\n\n")
    for number in range(1, 17):
        question = f"질문 {number}. {t.chance.choice(t.nouns[1])}의 사용은 어떻게 하나요?"
        d.write(question, before="#text(fill: rgb(20,90,160), weight: 700)[", after="]\n\n")
        d.write(*t.several(1, 3))
        if number == 6:
            d.source += "#rect(width: 100%, height: 30mm, fill: luma(230))\n\n"
    return d


def sidebar() -> Stranger:
    """A report: a narrow tinted column at the left, wide text beside it, by WeasyPrint."""
    t = Teller("hospital", "ko", 8)
    d = Stranger("sidebar_left", "ko", "weasyprint")
    d.put("""<style>@page{size:A4;margin:15mm}body{margin:0;font:9.4pt/1.6 NanumGothic}
    .g{display:grid;grid-template-columns:46mm 1fr;gap:9mm}aside{background:#e8eef5;padding:3mm;
    font-size:8.2pt}h1{font-size:16pt;margin:0 0 4mm}h2{font-size:11.5pt;margin:3mm 0 1mm}
    p{margin:0 0 1.6mm;text-align:justify}</style>""")
    d.tell("환자 안전 보고와 개선 활동", tag="h1")
    d.put("<div class=g><aside>")
    for _ in range(7):
        d.tell(t.say(0), aside=True)
    d.put("</aside><main>")
    for number in range(1, 8):
        d.tell(f"{number}) 개선 과제 {number}의 내용", tag="h2")
        d.tell(*t.several(2, 4))
    d.put("</main></div>")
    return d


def insurance() -> Stranger:
    """Terms under chapters on a gradient across both columns, a small table in one of them."""
    t = Teller("insurance", "ko", 11)
    d = Stranger("insurance_terms", "ko", "weasyprint")
    d.put("""<style>@page{size:A4;margin:17mm 16mm;
    @bottom-right{content:"무지개화재 " counter(page);
    font-size:7pt}}body{margin:0;font:8.8pt/1.5 NanumGothic}.c{columns:2;column-gap:7mm}
    p{margin:0;text-align:justify}h3{font-size:9.6pt;margin:2mm 0 .5mm;break-after:avoid}
    .g{background:linear-gradient(90deg,#0a5,#eef);padding:2mm 4mm;font-size:12pt;margin:4mm 0 2mm}
    table{border-collapse:collapse;margin:1mm 0}td{border:.5pt solid;padding:1pt 8pt}</style>""")
    number = 0
    for chapter, title in enumerate(("총칙", "보험금의 지급", "계약자의 의무", "분쟁의 조정"), 1):
        d.tell(f"제{chapter}관 {title}", tag="div", kind="g")
        d.put("<div class=c>")
        for _ in range((2, 9, 4, 3)[chapter - 1]):
            number += 1
            d.tell(f"제{number}조({t.chance.choice(TITLES)}에 관한 사항)", tag="h3")
            for mark in "①②③"[: t.chance.randint(1, 3)]:
                d.tell(f"{mark} {t.say()}")
            if number == 6:
                d.put(
                    "<table><tr><td>구분</td><td>한도</td></tr><tr><td>입원</td><td>40만 원"
                    "</td></tr><tr><td>통원</td><td>12만 원</td></tr></table>"
                )
        d.put("</div>")
    return d


def act() -> Stranger:
    """An English act: one wide column, notes in the left margin."""
    t = Teller("statute_en", "en", 12)
    d = Stranger("act_margin_notes", "en", "typst")
    d.source = """#set page(paper: "a4", margin: (left: 55mm, right: 20mm, y: 20mm))
#set text(font: "DejaVu Serif", size: 9pt)
#set par(justify: true, leading: 0.65em)
#align(center)[#text(15pt)[Harbours and Slipways Act]]
"""
    d.sentences.append("Harbours and Slipways Act")
    for number in range(1, 15):
        note = t.say(0)
        d.notes.append(note)
        d.source += f"#place(left, dx: -40mm)[#box(width: 34mm)[#text(7pt)[{note}]]]\n"
        d.write(f"{number}. {t.say(2)}", *t.several(1, 2))
    return d


def museum() -> Stranger:
    """Three columns of a guide, pictures in them, a heading over two of them."""
    t = Teller("museum", "ko", 13)
    d = Stranger("museum_guide", "ko", "chromium")
    d.put("""<style>@page{size:A4;margin:13mm}body{margin:0;font:8.8pt/1.55 NanumMyeongjo}
    .c{columns:3;column-gap:6mm}p{margin:0 0 1.5mm}h1{font:700 20pt NanumGothic;margin:0 0 4mm}
    h2{font:700 11pt NanumGothic;margin:2mm 0 1mm;color:#a33}
    .i{height:26mm;background:#d7c9a8;margin:1mm 0;break-inside:avoid}
    .k{font-size:7.2pt;color:#444}.x{border-top:1pt solid;border-bottom:1pt solid;padding:2mm 0;
    margin:4mm 0;display:grid;grid-template-columns:1fr 2fr;gap:6mm}</style>""")
    d.tell("달빛 박물관 관람 길잡이", tag="h1")
    d.put("<div class=c>")
    for number in range(1, 9):
        d.tell(f"{number}실 {t.nouns[1][number % 6]} 전시", tag="h2")
        d.tell(*t.several(2, 3))
        if number in (2, 5):
            d.put("<div class=i></div>")
            d.tell(f"사진 {number}. {t.say(0)}", kind="k")
        d.tell(*t.several(1, 2))
    d.put("</div><div class=x><div>")
    d.tell("관람 예절", tag="h2")
    for _ in range(3):
        d.tell(t.say(0))
    d.put("</div><div>")
    d.tell("단체 관람과 대관", tag="h2")
    for _ in range(3):
        d.tell(*t.several(2, 2))
    d.put("</div></div>")
    return d


def judgment() -> Stranger:
    """A decision: parties across the page, then two columns, by LibreOffice."""
    t = Teller("court", "ko", 14)
    d = Stranger("court_decision", "ko", "libreoffice")
    styles = "".join(
        f'<style:style style:name="{name}" style:family="paragraph"><style:paragraph-properties '
        f'fo:line-height="150%" {how}/><style:text-properties fo:font-size="{size}pt" '
        f'style:font-size-asian="{size}pt" fo:font-family="NanumMyeongjo" '
        'style:font-family-asian="NanumMyeongjo"/></style:style>'
        for name, size, how in (
            ("t", 18, 'fo:text-align="center" fo:margin-bottom="10pt"'),
            ("h", 10.5, 'fo:text-align="center" fo:margin-top="8pt" fo:margin-bottom="3pt"'),
            ("p", 9.2, 'fo:text-align="justify" fo:text-indent="9pt"'),
        )
    ) + (
        '<style:style style:name="S" style:family="section"><style:section-properties>'
        '<style:columns fo:column-count="2"><style:column style:rel-width="500*" '
        'fo:end-indent="9pt"/><style:column style:rel-width="500*" fo:start-indent="9pt"/>'
        "</style:columns></style:section-properties></style:style>"
    )

    body = d.line("t", "결 정")
    for part in ("사건 2031재허 114", "신청인 물결 조합", "피신청인 솔숲 구청장"):
        body += d.line("p", part)
    body += '<text:section text:style-name="S" text:name="S">'
    for title in ("주 문", "신청의 취지", "이 유", "결 론"):
        body += d.line("h", title)
        for _ in range({"주 문": 2, "이 유": 7}.get(title, 2)):
            body += d.line("p", *t.several(1, 3))
    body += "</text:section>"
    for part in ("2031. 4. 9.", "재판장 이바다", "위원 김산들"):
        body += d.line("p", part)
    d.source = styles + "\n---\n" + body
    return d


def programme() -> Stranger:
    """Talks in two columns, each with its time in front of it."""
    t = Teller("talks", "en", 15)
    d = Stranger("conference_programme", "en", "typst")
    d.source = """#set page(paper: "a4", margin: 16mm, columns: 2)
#set columns(gutter: 9mm)
#set text(font: "DejaVu Sans", size: 8.6pt)
#set par(leading: 0.6em)
#place(top + center, scope: "parent", float: true)[#text(18pt)[Tide and Timber Days]]
"""
    d.sentences.append("Tide and Timber Days")
    for day in ("Monday", "Tuesday", "Wednesday"):
        d.write(f"{day} in the {t.chance.choice(t.nouns[2])}", before="#text(12pt)[", after="]\n\n")
        for hour in range(9, 16):
            time, text = f"{hour}:{t.chance.choice(('00', '15', '40'))}", t.say()
            d.sentences.append(f"{time} {text}")
            d.source += f"#grid(columns: (13mm, 1fr), [{time}], [{text}])\n\n"
    return d


def protocol() -> Stranger:
    """A narrow list at the left and steps at the right, under titles across both."""
    t = Teller("lab", "en", 16)
    d = Stranger("lab_protocols", "en", "chromium")
    d.put("""<style>@page{size:A4;margin:15mm}body{margin:0;font:9pt/1.45 "DejaVu Sans"}
    h1{font-size:13pt;background:linear-gradient(#fed,#fb7);padding:1mm 3mm;margin:3mm 0 2mm}
    .g{display:grid;grid-template-columns:1fr 2.2fr;gap:9mm;break-inside:avoid}
    ul{margin:0;padding-left:4mm}
    ol{margin:0;padding-left:5mm}</style>""")
    for number in range(1, 6):
        d.tell(f"Protocol {number}: care of the {t.nouns[1][number]}", tag="h1")
        d.put("<div class=g><ul>")
        for _ in range((2, 5, 3, 4, 2)[number - 1]):
            d.tell(t.say(0), tag="li")
        d.put("</ul><ol>")
        for _ in range((3, 4, 5, 2, 3)[number - 1]):
            d.tell(*t.several(1, 2), tag="li")
        d.put("</ol></div>")
    return d


def cooperative() -> Stranger:
    """Centred headings, a wide gutter, a table without upright rules across both columns."""
    t = Teller("coop", "ko", 17)
    d = Stranger("cooperative_rules", "ko", "reportlab", printed=_two_frames)
    for number in range(1, 25):
        d.story.append((f"제{number}장 {t.nouns[1][number % 6]}", t.several(1, 2)))
    for heading, own in d.story:
        d.sentences += [heading, *own]
    return d


def notice() -> Stranger:
    """Korean left and English right, paragraph beside paragraph, each pair at one height."""
    t, e = Teller("embassy", "ko", 18), Teller("consul", "en", 18)
    d = Stranger("bilingual_rows", "ko", "chromium")
    d.put("""<style>@page{size:A4;margin:18mm}body{margin:0;font:9.4pt/1.6 NanumGothic}
    .g{display:grid;grid-template-columns:1fr 1fr;gap:3mm 10mm}p{margin:0}</style><div class=g>""")
    left, right = [], []
    for number in range(1, 10):
        own, other = [f"{number}. {t.say()}", t.say(0)], [f"{number}. {e.say()}", e.say(0)]
        d.tell(*own)
        d.tell(*other)
        left += own
        right += other
    d.put("</div>")
    d.other = left + right
    return d


def strangers() -> list[Stranger]:
    """The first set, and the second."""
    first = (hospital, bylaws, statute, newsletter, price_list, bilingual, gym, sidebar)
    second = (insurance, act, museum, judgment, programme, protocol, cooperative, notice)
    return [one() for one in (*first, *second)]


def draw_stranger(d: Stranger, path: Path) -> None:
    """Write the document to a PDF."""
    if d.printed is not None:
        d.printed(d, path)
    elif d.producer == "chromium":
        producers.print_html(producers.HTML + d.source, path)
    elif d.producer == "weasyprint":
        from weasyprint import HTML

        HTML(string=producers.HTML + d.source).write_pdf(path)
    elif d.producer == "typst":
        import typst

        typst.compile(d.source.encode(), output=str(path))
    else:
        styles, body = d.source.split("\n---\n")
        producers.print_fodt(producers.fodt(styles, body), path)


def _price_pages(d: Stranger, path: Path) -> None:
    from reportlab.lib.colors import Color
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.pdfgen.canvas import Canvas
    from reportlab.platypus import Paragraph, Table

    producers.register_fonts()
    canvas = Canvas(str(path), pagesize=(595, 842), invariant=1)
    text = ParagraphStyle("p", fontName="gothic", fontSize=9.2, leading=14)
    heading = ParagraphStyle("h", fontName="gothic", fontSize=11.5, leading=18)
    small = ParagraphStyle("n", fontName="gothic", fontSize=7.4, leading=11)
    y = 790.0
    for title, own, note, rows in d.story:
        top = y
        parts = [
            Paragraph(title, heading),
            Paragraph(" ".join(own), text),
            Table(
                rows,
                style=[
                    ("FONT", (0, 0), (-1, -1), "gothic", 8.4),
                    ("LINEBELOW", (0, 0), (-1, -1), 0.4, Color(0.5, 0.5, 0.5)),
                ],
                colWidths=(150, 90, 90),
                hAlign="LEFT",
            ),
        ]
        for part in parts:
            _, height = part.wrap(360, 800)
            y -= height
            part.drawOn(canvas, 50, y)
            y -= 3
        aside = Paragraph(" ".join(note), small)
        _, height = aside.wrap(105, 400)
        aside.drawOn(canvas, 440, top - height - 6)
        y -= 14
    canvas.save()


def _two_frames(d: Stranger, path: Path) -> None:
    from reportlab.lib.enums import TA_CENTER
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.platypus import (
        BaseDocTemplate,
        Frame,
        FrameBreak,
        NextPageTemplate,
        PageBreak,
        PageTemplate,
        Paragraph,
        Table,
    )

    producers.register_fonts()
    text = ParagraphStyle("p", fontName="book", fontSize=9.4, leading=14)
    heading = ParagraphStyle(
        "h", fontName="book", fontSize=11, leading=20, alignment=TA_CENTER, spaceBefore=4
    )
    document = BaseDocTemplate(str(path), pagesize=(595, 842), invariant=1)
    left, right = Frame(50, 250, 225, 540, id="a"), Frame(320, 250, 225, 540, id="b")
    low = Frame(50, 60, 495, 180, id="c")
    whole = [Frame(50, 60, 225, 730, id="d"), Frame(320, 60, 225, 730, id="e")]
    document.addPageTemplates(
        [PageTemplate("first", [left, right, low]), PageTemplate("second", whole)]
    )
    parts: list[Any] = [NextPageTemplate("second")]
    for number, (title, own) in enumerate(d.story):
        parts += [Paragraph(title, heading), Paragraph(" ".join(own), text)]
        if number == 5:
            parts.append(FrameBreak())
        if number == 10:
            rows = [("종류", "출자 한도", "배당 기한", "맡은 곳")] + [
                (f"{letter}형", f"{size}좌", f"{size + 3}일", "사무국")
                for letter, size in (("가", 10), ("나", 25), ("다", 60), ("라", 90))
            ]
            font, size = ("FONT", (0, 0), (-1, -1), "book", 9), 0.5
            rule = ("LINEBELOW", (0, 0), (-1, -1), size, "black")
            parts += [FrameBreak(), Table(rows, style=[font, rule], colWidths=120), PageBreak()]
    document.build(parts)
