"""Reading order of PDFs that reportlab draws: boxes, columns, tables, turned pages, furniture."""

import pytest

from jangin.core.digest import digest_file
from jangin.core.events import Progress
from jangin.documents.readers.pdf import read_pages
from jangin.documents.readers.reader import ReaderSettings, SourceFile

WORDS = (
    "a traveller who loses the ticket reports it at the desk on the same day and gets another",
    "the desk is open from eight in the morning until the last train of the evening has left",
    "whoever comes later leaves a note with name and number in the box beside the glass door",
    "a ticket that is found again is given back within a week and its price is paid in cash",
)


class Sheet:
    """A PDF that is drawn step by step."""

    def __init__(self, path, size=(595, 842)):
        from reportlab.pdfgen.canvas import Canvas

        self.path, self.canvas = path, Canvas(str(path), pagesize=size)

    def write(self, x, y, text, size=11, font="Helvetica"):
        self.canvas.setFont(font, size)
        self.canvas.drawString(x, y, text)

    def grid(self, xs, ys):
        for x in xs:
            self.canvas.line(x, ys[0], x, ys[-1])
        for y in ys:
            self.canvas.line(xs[0], y, xs[-1], y)

    def table(self, xs, top, rows, height=20):
        ys = [top - height * number for number in range(len(rows) + 1)]
        self.grid(xs, ys)
        for y, row in zip(ys, rows, strict=False):
            for x, cell in zip(xs, row, strict=False):
                self.write(x + 4, y - 14, cell)

    def next_page(self):
        self.canvas.showPage()

    def save(self):
        self.canvas.save()
        return self.path


@pytest.fixture
def sheet(tmp_path):
    return Sheet(tmp_path / "a.pdf")


@pytest.fixture
def read(ledger):
    def pages(path):
        file = SourceFile(path.name, path, digest_file(path))
        return read_pages(file, ReaderSettings(ledger, Progress(), "never"))

    return pages


def in_order(text, *parts):
    places = [text.index(part) for part in parts]
    return places == sorted(places)


def test_a_box_that_is_drawn_first_stands_where_it_is_on_the_page(sheet, read):
    sheet.canvas.rect(72, 600, 400, 50)
    sheet.write(80, 632, "What a lost ticket is:")
    sheet.write(80, 612, "one that nobody found.")
    for number, word in enumerate(WORDS):
        sheet.write(72, 780 - 100 * number, f"Article {number + 1}", font="Helvetica-Bold")
        sheet.write(72, 760 - 100 * number, word)
    (page,) = read(sheet.save())
    assert in_order(page.text, "Article 2", WORDS[1], "What a lost", "one that", "Article 3")


def test_a_label_beside_a_box_is_not_mixed_with_its_lines(sheet, read):
    sheet.write(72, 700, "before the box")
    sheet.canvas.rect(150, 600, 300, 80)
    for y, word in zip((660, 645, 630, 615), WORDS, strict=True):
        sheet.write(155, y, word[:40])
    sheet.write(80, 645, "please")
    sheet.write(80, 630, "note")
    (page,) = read(sheet.save())
    lines = [line for line in page.text.split("\n") if line]
    assert lines == ["before the box", "please", "note", *(word[:40].strip() for word in WORDS)]


def test_a_note_between_two_lines_of_a_sentence_is_read_behind_it(sheet, read):
    for number, line in enumerate(WORDS[:3]):
        sheet.write(40, 700 - 12 * number, line, size=8)
    sheet.write(450, 694, "Ask at the desk first.", size=8)
    (page,) = read(sheet.save())
    assert in_order(page.text, *WORDS[:3], "Ask at the desk first.")


def test_a_shaded_word_stays_in_its_line(sheet, read):
    sheet.canvas.setFillGray(0.8)
    sheet.canvas.rect(110, 696, 44, 14, stroke=0, fill=1)
    sheet.canvas.setFillGray(0)
    sheet.write(72, 700, "A lost tickets desk")
    sheet.write(72, 680, "is open all day.")
    (page,) = read(sheet.save())
    assert page.text == "A lost tickets desk\nis open all day."


@pytest.mark.parametrize("by_row", [True, False])
def test_columns_are_read_one_after_the_other_however_they_are_drawn(sheet, read, by_row):
    left = [(60, 700 - 16 * n, f"left {n} {WORDS[n % 4][:30]}") for n in range(12)]
    right = [(320, 700 - 16 * n, f"right {n} {WORDS[n % 4][:30]}") for n in range(12)]
    both = [one for pair in zip(left, right, strict=True) for one in pair]
    for x, y, text in both if by_row else right + left:
        sheet.write(x, y, text)
    sheet.write(200, 760, "A title over both columns")
    (page,) = read(sheet.save())
    sides = [line.split()[0] for line in page.text.split("\n") if line]
    assert sides == ["A"] + ["left"] * 12 + ["right"] * 12


def test_a_page_of_columns_is_read_across_where_a_person_says_that_it_has_one(sheet, ledger):
    for n in range(12):
        sheet.write(60, 700 - 16 * n, f"left {n} {WORDS[n % 4][:30]}")
        sheet.write(320, 700 - 16 * n, f"right {n} {WORDS[n % 4][:30]}")
    path = sheet.save()
    file = SourceFile(path.name, path, digest_file(path))
    for pages in ({1: 1}, {0: 1}, {0: 2, 1: 1}):
        said = {file.digest: pages}
        (page,) = read_pages(file, ReaderSettings(ledger, Progress(), "never", columns=said))
        assert [line.count("left") + line.count("right") for line in page.text.split("\n")] == (
            [2] * 12
        )


def test_a_row_of_a_ruled_table_is_one_line_of_markdown(sheet, read):
    sheet.table((72, 200, 300, 400), 700, [("Plan", "Small", "Large"), ("Bag|Case", "50", "100")])
    sheet.write(76, 640, "behind the table")
    sheet.write(76, 720, "above the table")
    (page,) = read(sheet.save())
    assert page.text == (
        "above the table\n\n"
        "| Plan | Small | Large |\n| --- | --- | --- |\n| Bag\\|Case | 50 | 100 |\n\n"
        "behind the table"
    )
    assert [line.text for line in page.lines] == [line for line in page.text.split("\n") if line]


def test_lines_of_one_ruled_row_are_its_rows_if_each_has_its_value(sheet, read):
    sheet.grid((72, 300, 400), (720, 700, 640))
    sheet.write(76, 706, "Injury")
    sheet.write(304, 706, "Rate")
    for y, name, value in (
        (685, "1) an eye", "50"),
        (669, "2) an ear", "25"),
        (653, "3) a hand", "60"),
    ):
        sheet.write(76, y, name)
        sheet.write(304, y, value)
    (page,) = read(sheet.save())
    assert page.text.split("\n")[2:] == [
        "| 1) an eye | 50 |",
        "| 2) an ear | 25 |",
        "| 3) a hand | 60 |",
    ]


def test_wrapped_cells_and_merged_cells_stay_one_row(sheet, read):
    sheet.grid((72, 200, 400), (700, 660, 620))
    sheet.canvas.setFillGray(1)
    for y, left, right in (
        (685, "lost bag", "paid in"),
        (670, "or case", "cash"),
        (640, "rest", "no"),
    ):
        sheet.canvas.setFillGray(0)
        sheet.write(76, y, left)
        sheet.write(204, y, right)
    (page,) = read(sheet.save())
    assert page.text.split("\n")[0] == "| lost bag or case | paid in cash |"


def test_a_table_that_goes_on_over_a_page_break_repeats_nothing(sheet, read):
    header, xs = ("Item", "Price"), (72, 250, 400)
    sheet.write(72, 780, "Prices of this year")
    sheet.table(xs, 140, [header, ("bread", "3"), ("milk", "2")])
    sheet.next_page()
    sheet.table(xs, 800, [header, ("salt", "1"), ("tea", "7")])
    sheet.write(72, 700, "That is all.")
    first, second = read(sheet.save())
    assert first.text.endswith("| Item | Price |\n| --- | --- |\n| bread | 3 |\n| milk | 2 |")
    assert second.text == "| salt | 1 |\n| tea | 7 |\n\nThat is all."
    assert second.removed == ("| Item | Price |",)


@pytest.mark.parametrize("angle", [90, 180, 270])
@pytest.mark.parametrize("shown_upright", [True, False])
def test_pages_whose_text_is_drawn_turned_are_read(tmp_path, read, angle, shown_upright):
    sheet = Sheet(tmp_path / "turned.pdf", size=(600, 600))
    sheet.canvas.translate(300, 300)
    sheet.canvas.rotate(angle)
    for number, word in enumerate(WORDS):
        x = -220.0
        for part in word.split():
            sheet.write(x, 100 - 18 * number, part, size=9)
            x += sheet.canvas.stringWidth(part + " ", "Helvetica", 9)
    if shown_upright:
        sheet.canvas.setPageRotation(angle)
    (page,) = read(sheet.save())
    assert page.text == "\n".join(WORDS)


def test_text_that_recurs_at_an_edge_is_left_out_wherever_it_stands(sheet, read):
    for page in range(1, 7):
        for place, letter in enumerate("GUIDE"):
            sheet.write(570, 700 - 14 * place, letter)
        sheet.write(72, 800, "Rules of the railway")
        sheet.write(72, 786, "second line of the head")
        sheet.write(72, 772, "third line of the head")
        for row, word in enumerate(WORDS):
            sheet.write(72, 700 - 14 * row - page, f"{word} {page}.{row}")
        sheet.write(72, 500, "This sentence stands on every page and is text.")
        sheet.write(72, 480 - 5 * page, f"The end of part {page}.")
        sheet.write(290, 30, f"- {page} -")
        sheet.next_page()
    for number, page in enumerate(read(sheet.save()), start=1):
        lines = [line for line in page.text.split("\n") if line]
        assert lines[0] == f"{WORDS[0]} {number}.0"
        assert lines[-2:] == [
            "This sentence stands on every page and is text.",
            f"The end of part {number}.",
        ]
        assert sorted("".join(page.removed)) == sorted(
            f"GUIDERules of the railwaysecond line of the headthird line of the head- {number} -"
        )


def test_a_part_of_a_line_is_no_running_head_though_it_recurs(sheet, read):
    for title in ("Tickets lost", "Bags forgotten", "Seats taken", "Dogs on board"):
        sheet.write(72, 780, "Article")
        sheet.write(128, 780, "7 (")
        sheet.write(163, 780, title)
        sheet.write(72, 760, WORDS[0])
        sheet.write(72, 30, title + " in the end")
        sheet.next_page()
    for page in read(sheet.save()):
        assert page.text.startswith("Article 7 ( ")
        assert page.removed == ()


def test_a_footnote_stands_at_the_end_of_its_section(sheet, read):
    sheet.write(72, 780, "1 Tickets", size=14, font="Helvetica-Bold")
    sheet.write(72, 760, WORDS[0][:70] + "2")
    sheet.write(72, 745, "and here a sentence that the page breaks in two because it")
    sheet.canvas.line(72, 110, 200, 110)
    sheet.write(72, 98, "2 A ticket is a paper with a number.", size=8)
    sheet.next_page()
    sheet.write(72, 780, "was far too long for one page.")
    sheet.write(72, 760, "2 Bags", size=14, font="Helvetica-Bold")
    sheet.write(72, 740, WORDS[1])
    first, second = read(sheet.save())
    assert "A ticket is a paper" not in first.text
    assert in_order(second.text, "was far too long", "A ticket is a paper", "2 Bags")


def test_lines_tell_their_place_and_type(sheet, read):
    sheet.write(72, 780, "A heading", size=18, font="Helvetica-Bold")
    sheet.write(72, 750, "text below it")
    (page,) = read(sheet.save())
    heading, text = page.lines
    assert (heading.text, heading.size, heading.bold) == ("A heading", 18.0, True)
    assert (text.text, text.size, text.bold) == ("text below it", 11.0, False)
    assert heading.left == pytest.approx(72, abs=1)
    assert heading.bottom > text.top - 1


def test_a_cell_over_several_rows_of_a_ruled_table_is_in_each_of_them(sheet, read):
    sheet.grid((72, 200), (700, 680, 640, 620))
    sheet.grid((200, 300, 400), (700, 680, 660, 640, 620))
    for y, row in ((686, ("Class", "Item", "Price")), (646, ("", "bread", "3"))):
        for x, cell in zip((76, 204, 304), row, strict=True):
            sheet.write(x, y + 20 * (cell == "bread" or cell == "3"), cell)
    sheet.write(76, 654, "Food")
    for y, row in ((646, ("", "milk", "2")), (626, ("Tools", "saw", "9"))):
        for x, cell in zip((76, 204, 304), row, strict=True):
            sheet.write(x, y, cell)
    (page,) = read(sheet.save())
    assert page.text == (
        "| Class | Item | Price |\n| --- | --- | --- |\n"
        "| Food | bread | 3 |\n| Food | milk | 2 |\n| Tools | saw | 9 |"
    )


def test_two_pages_show_a_running_head_though_the_first_ends_with_a_table(sheet, read):
    for number in (1, 2):
        sheet.write(72, 800, "Rules of the line", size=9)
        sheet.write(290, 30, f"- {number} -", size=9)
        sheet.write(72, 770, "Form", size=16)
        for line in range(10):
            sheet.write(72, 740 - 16 * line, WORDS[line % 4] + f" {number}{line}")
        if number == 1:
            sheet.table((72, 300, 400), 200, [("Item", "Price")] + [("bread", "3")] * 6)
            sheet.next_page()
    pages = read(sheet.save())
    assert [page.removed for page in pages] == [
        ("Rules of the line", f"- {number} -") for number in (1, 2)
    ]
    assert all(page.text.startswith(("Form\n", "# Form\n", "## Form\n")) for page in pages)


PRINTED = {
    "moment": (24, 819, "11/23/26, 7:39 PM", 8),
    "title": (332, 819, "Lost tickets", 8),
    "address": (24, 20, "https://desk.example/rules?page=1", 8),
    "number": (562, 20, "1/1", 8),
}


@pytest.mark.parametrize(
    ("changed", "removed"),
    [
        ({}, 4),
        ({"moment": (24, 819, "2026. 11. 23. 19:39", 8)}, 4),
        ({"moment": (24, 819, "Version 11/23/26, 7:39 PM", 8)}, 0),
        ({"moment": (24, 819, "Lost tickets", 8)}, 0),
        ({"title": (332, 805, "Lost tickets", 8), "moment": (24, 805, "11/23/26, 7:39 PM", 8)}, 0),
        ({"moment": (24, 819, "11/23/26, 7:39 PM", 10)}, 0),
        ({"address": (24, 20, "See https://desk.example/rules", 8)}, 0),
        ({"number": (24, 40, "1/1", 8)}, 0),
        ({"more": (300, 20, "call 02-123-4567", 8)}, 0),
        ({"more": (300, 20, "call 02-123-4567", 11)}, 0),
        ({"more": (24, 829, "Approved", 8)}, 0),
    ],
)
def test_what_a_browser_prints_around_a_single_page_is_no_text(sheet, read, changed, removed):
    for number, word in enumerate(WORDS):
        sheet.write(34, 700 - 30 * number, word)
    for x, y, text, size in (PRINTED | changed).values():
        sheet.write(x, y, text, size)
    (page,) = read(sheet.save())
    assert all(word in page.text for word in WORDS)
    kept = sum(text in page.text for _, _, text, _ in (PRINTED | changed).values())
    assert len(PRINTED | changed) - kept == removed


@pytest.mark.parametrize("side_by_side", [True, False])
def test_a_title_on_a_gradient_of_many_rectangles_is_a_line_of_text(sheet, read, side_by_side):
    for top, title in ((780, "The general terms of the ferry"), (600, "What is paid back")):
        for part in range(40):
            sheet.canvas.setFillColorRGB(0.3, 0.4 + part / 80, 0.9 - part / 80)
            x, y, width, height = (50 + 12 * part, top, 12.2, 22)
            if not side_by_side:
                x, y, width, height = (50, top + part / 2, 480, 0.7)
            sheet.canvas.rect(x, y, width, height, stroke=0, fill=1)
        sheet.canvas.setFillColorRGB(0, 0, 0)
        sheet.write(60, top + 6, title)
        for number, words in enumerate(WORDS):
            sheet.write(50, top - 20 - 16 * number, words)
    (page,) = read(sheet.save())
    lines = [line.removeprefix("# ") for line in page.text.split("\n")]
    assert "The general terms of the ferry" in lines
    assert "What is paid back" in lines
    assert "|" not in page.text


def test_shaded_cells_of_a_few_colours_stay_a_table(sheet, read):
    for number, x in enumerate((50, 110, 170, 230, 290, 350)):
        sheet.canvas.setFillGray((0.8, 0.9)[number % 2])
        sheet.canvas.rect(x, 700, 60, 22, stroke=0, fill=1)
        sheet.canvas.setFillGray(0)
        sheet.write(x + 4, 706, f"cell {number}")
    (page,) = read(sheet.save())
    cells = [f"cell {number}" for number in range(6)]
    assert page.text.split("\n")[0] == f"| {' | '.join(cells)} |"


def test_text_below_a_nested_table_is_not_repeated_in_its_rows(sheet, read):
    sheet.grid((50, 150, 500), (700, 680, 560, 540))
    sheet.grid((150, 270, 390), (680, 660, 640, 620))
    for x, y, text in (
        (54, 686, "case"),
        (154, 686, "what is paid"),
        (54, 666, "delay"),
        (154, 666, "days"),
        (274, 666, "share"),
        (154, 646, "three"),
        (274, 646, "a tenth"),
        (154, 626, "seven"),
        (274, 626, "a fifth"),
        (154, 600, "Days are counted from the day after."),
        (154, 580, "A storm is no delay."),
        (54, 546, "damage"),
        (154, 546, "all of the price"),
    ):
        sheet.write(x, y, text)
    (page,) = read(sheet.save())
    assert page.text.split("\n") == [
        "| case | what is paid |  |",
        "| --- | --- | --- |",
        "| delay | days | share |",
        "| delay | three | a tenth |",
        "| delay | seven | a fifth |",
        "| delay | Days are counted from the day after. A storm is no delay. |  |",
        "| damage | all of the price |  |",
    ]


def test_an_article_that_is_drawn_into_a_table_heads_the_rows_below_it(sheet, read, korean_font):
    sheet.grid((50, 150, 250, 350), (700, 680, 660, 640, 620, 600))
    rows = {
        686: ("종류", "한도", "기한"),
        666: ("수선", "5만 원", "3일"),
        626: ("종류", "한도", "기한"),
        606: ("교환", "9만 원", "7일"),
    }
    for y, row in rows.items():
        for x, text in zip((54, 154, 254), row, strict=True):
            sheet.write(x, y, text, font=korean_font)
    sheet.write(54, 646, "제3조(교환의 종류와 한도 및 그 기한)", font=korean_font)
    (page,) = read(sheet.save())
    assert page.text.split("\n") == [
        "| 종류 | 한도 | 기한 |",
        "| --- | --- | --- |",
        "| 수선 | 5만 원 | 3일 |",
        "",
        "제3조(교환의 종류와 한도 및 그 기한)",
        "",
        "| 종류 | 한도 | 기한 |",
        "| --- | --- | --- |",
        "| 교환 | 9만 원 | 7일 |",
    ]


def test_rows_between_rules_are_read_across_though_the_rules_are_drawn_in_pieces(sheet, read):
    y = 780
    for part in range(3):
        sheet.write(50, y, WORDS[part])
        for row in range(6):
            y -= 20
            for x in (50, 180, 310, 440):
                sheet.write(x, y, f"row {row} cell {x} {part}")
                sheet.canvas.line(x, y - 5, x + 130, y - 5)
        y -= 30
    (page,) = read(sheet.save())
    rows = [line for line in page.text.split("\n") if line.startswith("row ")]
    assert len(rows) == 18
    assert all(line.count("cell") == 4 for line in rows)


def test_the_first_line_of_a_page_is_no_running_head_of_two_pages_if_it_is_under_a_title(
    sheet, read
):
    sheet.write(50, 800, "What is paid for keys")
    for day, top in ((15, 770), (57, 770)):
        sheet.write(290, 30, f"- {day} -", size=8)
        sheet.write(50, top, f"A fee of {day} pounds is due for")
        sheet.write(50, top - 16, "every key that is lost.")
        for number, words in enumerate(WORDS):
            sheet.write(50, 600 - 16 * number, words)
        sheet.next_page()
    pages = read(sheet.save())
    assert [
        f"A fee of {day} pounds" in page.text for day, page in zip((15, 57), pages, strict=True)
    ] == [
        True,
        True,
    ]
    assert [page.removed for page in pages] == [("- 15 -",), ("- 57 -",)]


def test_rows_of_cells_without_rules_are_read_cell_by_cell(sheet, read):
    for row, (time, room) in enumerate((("8:00", "Hall"), ("9:30", "Yard"), ("11:00", "Barn"))):
        y = 780 - 70 * row
        sheet.write(72, y, time)
        sheet.write(440, y, room)
        for line, text in enumerate(
            ("visitors who come late wait at the glass door of the", "desk.")
        ):
            sheet.write(150, y - 15 * line, f"{text}")
    (page,) = read(sheet.save())
    sentence = "visitors who come late wait at the glass door of the\ndesk."
    for time, room in (("8:00", "Hall"), ("9:30", "Yard"), ("11:00", "Barn")):
        assert f"{time} {sentence}\n{room}" in page.text


def test_a_wide_gap_inside_a_line_is_no_edge_of_a_cell(sheet, read):
    sheet.write(72, 780, "whoever comes later pays up to the sum of the card (")
    sheet.write(420, 780, ") as a rule")
    sheet.write(72, 765, "and leaves.")
    (page,) = read(sheet.save())
    assert in_order(page.text, "of the card (", ") as a rule", "and leaves.")


def test_a_box_beside_a_paragraph_stands_after_a_sentence_of_it(sheet, read):
    sheet.write(72, 790, "The rules of the desk", size=16, font="Helvetica-Bold")
    lines = [
        "The desk is open in the morning and until the last train has",
        "left. A ticket that is lost and found again is given back to its",
        "owner, and the price that was paid for another one is returned",
        "in cash within a week by the desk at which the loss was told.",
    ]
    for number, line in enumerate(lines):
        sheet.write(72, 760 - 14 * number, line)
    sheet.canvas.rect(420, 735, 120, 40)
    sheet.write(426, 760, "Tickets are paper.")
    sheet.write(426, 744, "Keep them dry.")
    (page,) = read(sheet.save())
    assert in_order(page.text, *lines, "Tickets are paper.")


def test_a_heading_below_the_end_of_the_other_column_is_no_title_over_both(sheet, read):
    for number in range(24):
        sheet.write(50, 790 - 14 * number, f"left {number} of the long column of words", size=9)
    for number in range(18):
        sheet.write(230, 790 - 14 * number, f"middle {number} of another column", size=9)
    sheet.write(50, 440, "5. A heading", size=12, font="Helvetica-Bold")
    for number in range(4):
        sheet.write(50, 420 - 14 * number, f"below {number} of the long column", size=9)
    sheet.canvas.rect(230, 250, 320, 90)
    for number in range(4):
        sheet.write(235, 320 - 14 * number, f"boxed {number} over two columns of the page", size=9)
    (page,) = read(sheet.save())
    assert in_order(
        page.text, "left 23", "5. A heading", "below 3", "middle 0", "middle 17", "boxed"
    )


def test_small_print_below_a_short_rule_does_not_part_a_sentence_though_it_has_no_mark(sheet, read):
    for number in range(30):
        sheet.write(50, 790 - 14 * number, f"left {number} in the first of two columns")
        sheet.write(310, 790 - 14 * number, f"right {number} in the second of them")
    sheet.canvas.line(50, 360, 120, 360)
    sheet.write(50, 348, "Paper is what a ticket is made of.", size=8)
    (page,) = read(sheet.save())
    assert in_order(page.text, "left 29", "right 0", "right 29", "Paper is what")
