"""Draws samples/: small documents of a fictional railway, each with the order in which it is read.

python bench/documents/samples.py needs reportlab and the Nanum fonts (Debian: fonts-nanum).
NAME.truth.json lists the lines in reading order, written by hand; rows of tables are one line,
running heads and side tabs are in none. NAME.sections.json has the path of headings of each line.
"""

import json
from pathlib import Path

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

FOLDER = Path(__file__).resolve().parent / "samples"
FONT = "/usr/share/fonts/truetype/nanum/NanumGothic.ttf"
TURNS = ((90, 90), (180, 0), (270, 0), (270, 270))
"""(degrees by which the text is turned, degrees by which the page is shown turned)."""
COLUMN = (
    "바다열차는 하루에 네 번 떠나며 첫차는",
    "아침 여섯 시에 항구역을 나섭니다. 막차는",
    "저녁 아홉 시에 돌아와 등대역에서 쉽니다.",
    "표는 역과 누리집에서 한 달 전부터 팔고",
    "자리는 고른 차례대로 정해집니다. 창가를",
    "바라는 손님은 살 때 따로 적어야 합니다.",
    "개와 고양이는 상자에 넣어 함께 탈 수",
    "있으나 상자는 무릎보다 크지 않아야 합니다.",
    "자전거는 맨 뒤 칸에만 실을 수 있고 한",
    "열차에 열두 대까지 받습니다. 접은 자전거는",
    "짐으로 보아 어느 칸에나 둘 수 있습니다.",
    "늦게 온 손님은 다음 열차를 한 번 더",
)
OTHER = (
    "탈 수 있으나 같은 날이어야 합니다.",
    "열차가 서른 분 넘게 늦으면 값의 넷 중",
    "하나를 돌려줍니다. 한 시간을 넘으면 절반을",
    "돌려주고 두 시간을 넘으면 모두 돌려줍니다.",
    "돌려받으려면 내린 역에서 표를 보이거나",
    "누리집에 번호를 적으면 됩니다. 돈은 이레",
    "안에 보내며 수수료는 철도가 냅니다. 눈이나",
    "바람으로 멈춘 때에는 값을 모두 돌려주고",
    "잠잘 곳이 필요한 손님에게는 역에서 가까운",
    "여관을 알려 줍니다. 여관 값은 철도가 내지",
    "않으며 다만 어린이와 함께인 손님에게는",
    "하룻밤 값을 빌려 드립니다.",
)


class Drawing:
    """A PDF and the lines in the order in which they are read."""

    def __init__(self, name: str, size: tuple[int, int] = (595, 842)) -> None:
        self.name = name
        self.canvas = Canvas(str(FOLDER / f"{name}.pdf"), pagesize=size, invariant=1)

    def write(self, x: float, y: float, text: str, size: float = 10) -> None:
        """One line of text."""
        self.canvas.setFont("Nanum", size)
        self.canvas.drawString(x, y, text)

    def table(self, xs: tuple[int, ...], top: float, rows: tuple[tuple[str, ...], ...]) -> None:
        """A ruled table, drawn column by column."""
        bottom = top - 22 * len(rows)
        for x in xs:
            self.canvas.line(x, top, x, bottom)
        for number in range(len(rows) + 1):
            self.canvas.line(xs[0], top - 22 * number, xs[-1], top - 22 * number)
        for column in range(len(xs) - 1):
            for number, row in enumerate(rows):
                self.write(xs[column] + 5, top - 15 - 22 * number, row[column])

    def save(self, *truth: str) -> None:
        """Write the PDF and its lines in reading order."""
        self.canvas.save()
        text = json.dumps(truth, ensure_ascii=False, indent=0)
        (FOLDER / f"{self.name}.truth.json").write_text(text + "\n", encoding="utf-8")


def floating_box() -> None:
    """A box and a table that the file draws before the text around them."""
    page = Drawing("floating_box")
    page.canvas.rect(90, 610, 300, 44)
    page.write(96, 638, "[짐] 손님이 들고 타는 물건을 말하며")
    page.write(96, 620, "맡긴 물건은 짐이 아닙니다.")
    page.table(
        (90, 250, 390), 500, (("짐의 크기", "값"), ("작은 가방", "없음"), ("큰 가방", "이천 원"))
    )
    page.write(72, 780, "제1조(목적) 이 규정은 바다열차의 짐을 다룹니다.")
    page.write(72, 740, "제2조(짐의 범위) 짐은 다음과 같습니다.")
    page.write(72, 700, "1. 손에 드는 가방")
    page.write(72, 680, "2. 접은 자전거")
    page.write(72, 570, "제3조(값) 짐의 값은 다음 표와 같습니다.")
    page.write(72, 400, "제4조(나르지 않는 것) 불이 붙는 것은 나르지 않습니다.")
    page.save(
        "제1조(목적) 이 규정은 바다열차의 짐을 다룹니다.",
        "제2조(짐의 범위) 짐은 다음과 같습니다.",
        "1. 손에 드는 가방",
        "2. 접은 자전거",
        "[짐] 손님이 들고 타는 물건을 말하며",
        "맡긴 물건은 짐이 아닙니다.",
        "제3조(값) 짐의 값은 다음 표와 같습니다.",
        "짐의 크기 값",
        "작은 가방 없음",
        "큰 가방 이천 원",
        "제4조(나르지 않는 것) 불이 붙는 것은 나르지 않습니다.",
    )
    articles = ("제1조(목적)", "제2조(짐의 범위)", "제3조(값)", "제4조(나르지 않는 것)")
    lines = json.loads((FOLDER / "floating_box.truth.json").read_text(encoding="utf-8"))
    number, sections = 0, {}
    for line in lines:
        number += line.startswith("제")
        sections[line] = articles[number - 1]
    text = json.dumps(sections, ensure_ascii=False, indent=0)
    (FOLDER / "floating_box.sections.json").write_text(text + "\n", encoding="utf-8")


def side_tabs() -> None:
    """A running head of two lines, a footer and a tab drawn letter by letter beside the text."""
    page = Drawing("side_tabs")
    truth = []
    for number in range(1, 5):
        for place, letter in enumerate("손님이알아둘것"):
            page.write(560, 700 - 18 * place, letter)
        page.write(72, 800, "바다열차 안내")
        page.write(72, 786, "손님과 함께 가는 길")
        page.write(290, 40, f"{number}")
        for row, line in enumerate(COLUMN[3 * number - 3 : 3 * number]):
            page.write(72, 700 - 18 * row, line)
            page.write(300, 700 - 18 * row, OTHER[3 * number - 3 + row])
            truth.append(line + OTHER[3 * number - 3 + row])
        page.canvas.showPage()
    page.save(*truth)


def two_columns() -> None:
    """Two columns drawn line by line across the gutter, a footnote below the first."""
    page = Drawing("two_columns")
    page.write(200, 780, "바다열차를 타는 손님께", 16)
    for row, (left, right) in enumerate(zip(COLUMN, OTHER, strict=True)):
        page.write(60, 740 - 16 * row, left)
        page.write(320, 740 - 16 * row, right)
    page.canvas.line(60, 540, 160, 540)
    page.write(60, 526, "1 누리집의 주소는 역에 적혀 있습니다.", 8)
    page.save("바다열차를 타는 손님께", *COLUMN, *OTHER, "1 누리집의 주소는 역에 적혀 있습니다.")


def turned_pages() -> None:
    """One page for each direction: drawn turned and shown upright, or shown as it is drawn."""
    page = Drawing("turned_pages", (600, 600))
    for number, (angle, shown) in enumerate(TURNS):
        page.canvas.saveState()
        page.canvas.translate(300, 300)
        page.canvas.rotate(angle)
        for row in range(3):
            x = -250.0
            for word in COLUMN[3 * number + row].split():
                page.write(x, 200 - 18 * row, word)
                x += page.canvas.stringWidth(word + " ", "Nanum", 10)
        page.canvas.restoreState()
        page.canvas.setPageRotation(shown)
        page.canvas.showPage()
    page.save(*COLUMN)


def table_over_pages() -> None:
    """A table that continues on the next page and repeats its header; cells are drawn by column."""
    page = Drawing("table_over_pages")
    xs = (72, 200, 330, 460)
    header = ("역", "첫차", "막차")
    page.write(72, 200, "열차가 떠나는 때는 다음과 같습니다.")
    page.table(xs, 180, (header, ("항구역", "여섯 시", "아홉 시"), ("등대역", "일곱 시", "열 시")))
    page.canvas.showPage()
    page.table(xs, 780, (header, ("모래역", "여덟 시", "열한 시"), ("솔밭역", "아홉 시", "자정")))
    page.write(72, 680, "눈이 오는 날에는 막차가 없습니다.")
    page.save(
        "열차가 떠나는 때는 다음과 같습니다.",
        "역 첫차 막차",
        "항구역 여섯 시 아홉 시",
        "등대역 일곱 시 열 시",
        "모래역 여덟 시 열한 시",
        "솔밭역 아홉 시 자정",
        "눈이 오는 날에는 막차가 없습니다.",
    )


REGULATIONS: tuple[tuple[str, float, str], ...] = (
    ("바다열차 규정집", 22, "-"),
    ("차 례", 12, "-"),
    ("짐 규정 ················ 1", 10, "-"),
    ("표 규정 ················ 2", 10, "-"),
    ("별표 1 짐의 값 ·········· 3", 10, "-"),
    ("", 10, ""),
    ("짐 규정", 13, "-"),
    ("이 규정은 손님의 짐을 다루며 모든 역에서 지킵니다.", 10, "짐 규정"),
    ("제1장 총칙", 11, "-"),
    (
        "제1조(목적) 손님의 짐을 탈 없이 나르는 것을 목적으로 합니다.",
        10,
        "제1장 총칙 > 제1조(목적)",
    ),
    (
        "제2조(낱말의 뜻) 짐은 손님이 맡기거나 들고 타는 물건입니다.",
        10,
        "제1장 총칙 > 제2조(낱말의 뜻)",
    ),
    ("1. 손짐은 손님이 들고 타는 짐입니다.", 10, "제1장 총칙 > 제2조(낱말의 뜻)"),
    ("2. 맡긴 짐은 짐칸에 싣는 짐입니다.", 10, "제1장 총칙 > 제2조(낱말의 뜻)"),
    ("제2장 나르기", 11, "-"),
    ("제3조(무게) 짐은 스무 킬로그램까지 받습니다.", 10, "제2장 나르기 > 제3조(무게)"),
    (
        "다만 제2조(낱말의 뜻)에 따른 손짐은 열 킬로그램까지입니다.",
        10,
        "제2장 나르기 > 제3조(무게)",
    ),
    ("", 10, ""),
    ("표 규정", 13, "-"),
    ("제1조(파는 곳) 표는 역과 누리집에서 팝니다.", 10, "제1조(파는 곳)"),
    ("제2조(돌려줌) 떠나기 전날까지 값을 모두 돌려줍니다.", 10, "제2조(돌려줌)"),
    ("떠난 뒤에는 값을 돌려주지 않으나 열차가 늦은 때는 다릅니다.", 10, "제2조(돌려줌)"),
    ("부칙", 11, "-"),
    ("이 규정은 삼월 첫날부터 지킵니다.", 10, "부칙"),
    ("", 10, ""),
    ("【별표 1】 짐의 값", 13, "-"),
    ("손짐은 값을 받지 않습니다.", 10, "【별표 1】 짐의 값"),
    ("맡긴 짐은 하나에 이천 원을 받습니다.", 10, "【별표 1】 짐의 값"),
)
"""(line, size of type, headings that it is under, without the title) of a book of regulations."""


def regulations() -> None:
    """Two regulations whose articles count from 1, between contents and an appendix."""
    page = Drawing("regulations")
    title, y = "", 780
    truth: dict[str, str] = {}
    for line, size, path in REGULATIONS:
        if not line:
            page.canvas.showPage()
            y = 780
            continue
        page.write(72, y, line, size)
        y -= 34 if path == "-" else 20
        if size == 13:
            title = line
        elif path != "-":
            truth[line] = path if path in (title, "") else f"{title} > {path}"
    page.canvas.save()
    text = json.dumps(truth, ensure_ascii=False, indent=0)
    (FOLDER / "regulations.sections.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    pdfmetrics.registerFont(TTFont("Nanum", FONT))
    for draw in (floating_box, side_tabs, two_columns, turned_pages, table_over_pages, regulations):
        draw()
