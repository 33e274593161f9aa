"""Headings by type: what is larger than the text, or bold and alone, is a heading."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from jangin.core.records import Document
from jangin.documents.chunk import ChunkConfig, chunk_document
from jangin.documents.layout.shapes import TextLine
from jangin.documents.readers.reader import PageReading
from jangin.documents.readers.type_sizes import mark_headings
from jangin.documents.reading import join_pages

BODY = "The insurer pays for what the insured person cannot get back in another way"
SENTENCE = "It is paid within 30 days."


def page(*rows, width=480.0, top=800.0):
    """A page of (text, size, bold) rows, "" for an empty line."""
    lines, text, height = [], [], top
    for row in rows:
        if row == "":
            text.append("")
            height -= 12
            continue
        words, size, bold = row
        lines.append(TextLine(words, 60.0, width, height - size, height, size, bold))
        text.append(words)
        height -= 1.2 * size
    return PageReading("\n".join(text), lines=tuple(lines))


def plain(*texts, size=10.0):
    return [(text, size, False) for text in texts]


def headings(pages):
    return [
        line
        for reading in mark_headings(pages)
        for line in reading.text.split("\n")
        if line.startswith("#")
    ]


def test_size_then_bold_type_and_dotted_numbers_make_the_levels():
    rows = [
        *(("1. Definitions", 16.0, True), *plain(BODY, SENTENCE), ""),
        *(("Accident", 10.0, True), *plain(BODY, SENTENCE), ""),
        *(("1.1 Baggage", 10.0, True), *plain(BODY, SENTENCE), ""),
        *(("2. Medical expenses", 16.0, True), *plain(BODY, SENTENCE)),
    ]
    assert headings([page(*rows)]) == [
        "# 1. Definitions",
        "## Accident",
        "### 1.1 Baggage",
        "# 2. Medical expenses",
    ]


def test_a_wrapped_heading_is_one_line_and_keeps_one_text_line_for_each_line():
    rows = [("Cancellation and curtailment of the", 16.0, False), ("journey", 16.0, False)]
    pages = [page(*rows, *plain(BODY, SENTENCE)), page(("Claims", 16.0, False), *plain(BODY))]
    first = mark_headings(pages)[0]
    assert first.text.split("\n")[0] == "# Cancellation and curtailment of the journey"
    assert [line.text for line in first.lines] == first.text.split("\n")


def test_bold_sentences_list_items_rows_and_entries_of_contents_are_no_headings():
    rows = [
        ("Claims", 16.0, False), *plain(BODY, SENTENCE), "",
        ("We never pay twice.", 10.0, True), "",
        ("• hospital costs", 10.0, True), "",
        ("| Cover | Limit |", 12.0, True), "",
        ("Claims ........ 3", 16.0, True), "",
        ("24", 30.0, True), "",
        *plain(BODY, SENTENCE, BODY, SENTENCE), ("Cover", 16.0, False), *plain(BODY, SENTENCE),
    ]  # fmt: skip
    assert headings([page(*rows)]) == ["# Claims", "# Cover"]


def test_bold_type_says_nothing_where_much_of_the_text_is_bold():
    rows = [("Claims", 10.0, True), *plain(SENTENCE), "", (BODY, 10.0, True), "", *plain(SENTENCE)]
    assert headings([page(*rows)]) == []


def test_capitals_alone_are_headings_where_no_type_is_larger():
    rows = [("WHAT IS COVERED", 10.0, False), *plain(BODY, SENTENCE), ""]
    rows += [("EXCLUSIONS", 10.0, False), *plain(BODY, SENTENCE)]
    assert headings([page(*rows)]) == ["# WHAT IS COVERED", "# EXCLUSIONS"]


def test_the_title_of_each_slide_is_a_heading_of_the_first_level_whatever_its_size():
    points = plain("• price", "• warranty", "in short", size=18.0)
    slides = [
        page((f"Product {size}", size, False), "", *points, width=900.0, top=500.0)
        for size in (32.0, 26.0, 44.0)
    ]
    assert headings(slides) == ["# Product 32.0", "# Product 26.0", "# Product 44.0"]


def test_in_a_text_of_law_only_titles_are_marked_and_the_only_one_is_not():
    articles = [row for n in range(1, 7) for row in plain(f"제{n}조(이름{n})", "회사는 지급한다.")]
    law = [("제1장 총칙", 13.0, True), *articles, "", ("용어 풀이", 12.0, True), *plain("뜻이다.")]
    cover = page(("여행보험 약관", 30.0, True))
    title = ("여행자에게 알리는 글", 20.0, True)
    assert headings([cover, page(title, *law)]) == []
    second = ("짐에 관한 약속", 20.0, True)
    assert headings([cover, page(title, *law), page(second, *law)]) == [
        "# 여행자에게 알리는 글",
        "# 짐에 관한 약속",
    ]


def test_pages_without_type_stay_as_they_are():
    pages = [PageReading("Claims\n\nText.", "ocr", 90.0), PageReading("")]
    assert mark_headings(pages) == pages


@st.composite
def outlines(draw):
    """(level, title, lines) of the sections of one document, in order."""
    levels = [1]
    for _ in range(draw(st.integers(3, 12))):
        levels.append(draw(st.integers(1, min(3, levels[-1] + 1))))
    levels.append(1)
    return [
        (level, f"Title {chr(97 + n)}", [f"Line {chr(97 + n)}{i} is text." for i in "wxyz"])
        for n, level in enumerate(levels)
    ]


@settings(max_examples=40)
@given(
    outline=outlines(),
    per_page=st.integers(1, 4),
    third_is_bold=st.booleans(),
    gaps=st.booleans(),
)
def test_a_line_stands_under_the_nearest_heading_above_it(outline, per_page, third_is_bold, gaps):
    types = {
        1: (20.0, False),
        2: (15.0, False),
        3: (10.0, True) if third_is_bold else (12.0, False),
    }
    pages = []
    for start in range(0, len(outline), per_page):
        rows = []
        for level, title, lines in outline[start : start + per_page]:
            own = types[level]
            rows += [""] if gaps or own == (10.0, True) else []
            rows += [(title, *own), *plain(*lines)]
        pages.append(page(*rows))
    text, marked = join_pages(mark_headings(pages))
    source = Document(id="0" * 16, source="a.pdf", text=text, pages=marked, language="en")
    section_of = {
        line: chunk.section
        for chunk in chunk_document(source, ChunkConfig(min_characters=0))
        for line in chunk.text.split("\n")
    }
    path = []
    for level, title, lines in outline:
        path = [*path[: level - 1], title]
        assert {section_of[line] for line in lines} == {" > ".join(path)}
    assert all(a.end == b.start for a, b in pairwise(marked))
