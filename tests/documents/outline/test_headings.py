"""Sections: a line belongs to the nearest open heading above it."""

from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jangin.core.records import Page
from jangin.documents.outline.headings import sections, split_lines


def pages_of(text):
    return (Page(number=1, start=0, end=len(text), method="text"),)


def section_of_lines(text, *, markdown=False):
    """{line without `#`: path of its section}; lines of tables of contents are not in it."""
    lines = split_lines(text, pages_of(text))
    return {
        lines[i].text.lstrip("# "): " > ".join(section.path)
        for section in sections(lines, markdown=markdown)
        for i in range(section.first, section.last)
        if lines[i].text and not section.contents
    }


def titles(text):
    """Paths of the sections that hold text, in order."""
    lines = split_lines(text, pages_of(text))
    return [
        " > ".join(section.path)
        for section in sections(lines, markdown=False)
        if not section.contents and any(line.text for line in lines[section.first : section.last])
    ]


POLICIES = """가 특별약관

제1조(목적)
문장이다.

나 특별약관

이 약관은 나를 보상합니다.

제1관 일반사항

제1조(보장)
회사는 보상합니다."""


def test_a_policy_with_an_introduction_closes_the_one_before_it():
    assert titles(POLICIES) == [
        "가 특별약관 > 제1조(목적)",
        "나 특별약관",
        "나 특별약관 > 제1관 일반사항 > 제1조(보장)",
    ]


def test_chapters_are_closed_by_a_new_policy_and_an_untitled_article_1_closes_both():
    text = (
        "가 약관\n\n제1관 처음\n\n제1조(일) 한다.\n\n제10관 분쟁\n\n제2조(이) 한다.\n\n"
        "나 약관\n\n제1조(삼) 한다.\n제2조(사) 한다.\n\n긴 글로 끝나는 문단입니다.\n\n"
        "제1조(오) 한다.\n제2조(육) 한다."
    )
    assert titles(text) == [
        "가 약관 > 제1관 처음 > 제1조(일)",
        "가 약관 > 제10관 분쟁 > 제2조(이)",
        "나 약관 > 제1조(삼)",
        "나 약관 > 제2조(사)",
        "제1조(오)",
        "제2조(육)",
    ]


def test_appendices_and_quoted_statutes_are_sections_of_their_own():
    text = (
        f"{POLICIES}\n\n【별표 1】 장해분류표\n\n눈의 장해는 50%로 한다.\n\n<붙임> 평가표\n\n"
        "이동동작은 40%로 한다.\n\n[부록] 인용된 법령\n\n의료법\n\n"
        "제3조(의료기관)\n의료를 하는 곳이다."
    )
    assert titles(text)[3:] == [
        "【별표 1】 장해분류표",
        "<붙임> 평가표",
        "[부록] 인용된 법령 > 의료법 > 제3조(의료기관)",
    ]


def test_an_appendix_between_two_articles_of_a_policy_stands_in_the_first_of_them():
    text = POLICIES.replace(
        "문장이다.", "문장이다.\n\n[부표] 적립이율\n\n연 5%로 한다.\n\n제2조(준용)\n따른다."
    )
    assert titles(text)[:3] == [
        "가 특별약관 > 제1조(목적)",
        "가 특별약관 > 제1조(목적) > [부표] 적립이율",
        "가 특별약관 > 제2조(준용)",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "【별표 2】에서 정한 이율을 더한다.",
        "[별표3]의 표에 따라 정하는 금액",
        "제2조(이)에 따라 정한 금액은",
        "제9조(구) 제2항에 따른 금액",
        "별표 1에 따라 나누는 일",
    ],
)
def test_a_reference_at_the_beginning_of_a_line_is_no_heading(line):
    text = POLICIES.replace("문장이다.", f"회사는 다음에\n{line}\n보험금으로 한다.")
    assert titles(text) == titles(POLICIES)


def test_an_article_whose_title_is_wrapped_has_its_whole_title():
    text = "제1조(보험료의 연체와 납입최고,\n계약의 해지) ① 회사는 알린다.\n제2조(이)\n한다."
    assert titles(text)[0] == "제1조(보험료의 연체와 납입최고, 계약의 해지)"


def test_a_table_of_contents_announces_titles_that_no_word_gives_away():
    text = (
        "목차\n\n꼭 알아 둘 일\n[ 특별약관 ]\n가 특별약관\n나 특별약관\n\n"
        "꼭 알아 둘 일\n\n미리 읽는다.\n\n"
        f"【특별약관】\n\n{POLICIES}\n\n제2조(끝) 한다."
    )
    assert titles(text) == [
        "꼭 알아 둘 일",
        "【특별약관】 > 가 특별약관 > 제1조(목적)",
        "【특별약관】 > 나 특별약관",
        "【특별약관】 > 나 특별약관 > 제1관 일반사항 > 제1조(보장)",
        "【특별약관】 > 나 특별약관 > 제1관 일반사항 > 제2조(끝)",
    ]


def test_rows_of_a_table_that_stands_twice_are_no_table_of_contents():
    rows = "\n".join(f"항목 {name} 보장" for name in "가나다라마바")
    text = f"첫 표이다.\n\n{rows}\n\n둘째 표이다.\n\n{rows}\n\n끝이다."
    lines = split_lines(text, pages_of(text))
    assert not any(section.contents for section in sections(lines, markdown=False))


@dataclass
class Node:
    """A heading of a generated document, with the text below it."""

    title: str
    level: int
    body: list[str] = field(default_factory=list)
    children: list["Node"] = field(default_factory=list)

    def walk(self, path=()):
        here = (*path, self.title)
        yield here, self
        for child in self.children:
            yield from child.walk(here)


@st.composite
def law_books(draw):
    """A list of policies with chapters and articles, then appendices and statutes."""
    count = iter(range(10_000))

    def body(few=1):
        return [f"문장 {next(count)}번은 이렇게 정한다." for _ in range(draw(st.integers(few, 2)))]

    def articles(level, first):
        many = draw(st.integers(1, 3))
        return [
            Node(f"제{n}조(이름{next(count)})", level, body()) for n in range(first, first + many)
        ]

    def policy(name):
        node = Node(f"{name} {draw(st.sampled_from(['특별약관', '보통약관', '추가특약']))}", 1)
        node.body = body(0)
        first = 1
        for chapter in range(draw(st.integers(0, 3))):
            node.children.append(Node(f"제{chapter + 1}관 이름{next(count)}", 2, body(0)))
            node.children[-1].children = articles(3, first)
            first += len(node.children[-1].children)
        node.children = node.children or articles(2, 1)
        return node

    out = [
        policy(name)
        for name in draw(
            st.lists(st.sampled_from("가나다라마"), min_size=2, max_size=4, unique=True)
        )
    ]
    appendices = range(1, draw(st.integers(1, 3)))
    out += [Node(f"【별표 {number}】 이름{next(count)}", 1, body()) for number in appendices]
    for name in draw(st.lists(st.sampled_from(["의료법", "상법 시행령"]), unique=True)):
        article = Node(f"제{draw(st.integers(2, 90))}조(뜻)", 2, body())
        out.append(Node(name, 1, children=[article]))
    return out


def written(books, *, marked, contents, gaps):
    """The text of a document: with `#` as from DOCX and HTML, or as a PDF's lines."""
    nodes = [node for book in books for _, node in book.walk()]
    out = (
        ["목차", "", *(f"{node.title} ····· {n}" for n, node in enumerate(nodes)), ""]
        if contents
        else []
    )
    for node in nodes:
        article = node.title.startswith("제") and "조" in node.title
        if gaps or not article:
            out.append("")
        out.append(f"{'#' * node.level} {node.title}" if marked else node.title)
        if marked or not article:
            out.append("")
        out += node.body
    return "\n".join(out)


TWO_POLICIES = [
    Node(f"{name} 특별약관", 1, children=[Node(f"제1조(이름{name})", 2, [f"문장 {name}이다."])])
    for name in "가나"
]
"""Fewer articles than a legal text has: only the wording of a title says that it is a policy."""


@settings(max_examples=60)
@example(books=TWO_POLICIES, marked=False, contents=True, gaps=False)
@given(books=law_books(), marked=st.booleans(), contents=st.booleans(), gaps=st.booleans())
def test_every_line_stands_under_the_nearest_open_heading_above_it(books, marked, contents, gaps):
    text = written(books, marked=marked, contents=contents, gaps=gaps)
    known = section_of_lines(text, markdown=marked)
    for book in books:
        for path, node in book.walk():
            for line in node.body:
                assert known[line] == " > ".join(path), text
    assert not any("·····" in line for line in known)


def test_numbered_titles_above_text_are_headings_and_items_of_lists_are_not():
    body = "The parts of the machine are named here, each with its use and with its price."
    text = (
        f"1. Scope\n\n{body}\n\n2. Data sets\n{body}\n\n2.1 Sources\n{body}\n\n"
        f"3. Results\n\n{body}\n\n1. Open the lid\n2. Pour in water\n3. Close the lid\n\n{body}\n\n"
        "1. The person who signed the contract has to tell the company what happened, and\n"
        f"when.\n\n{body}\n\n2. The person who signed the contract has to pay the price for it"
    )
    assert titles(text) == ["1. Scope", "2. Data sets", "2. Data sets > 2.1 Sources", "3. Results"]


def test_numbered_clauses_of_an_article_are_no_headings():
    body = "이 일은 사람이 하는 일 가운데 가장 오래된 것이며, 그 값은 회사가 정하여 알린다."
    clauses = "\n\n".join(f"{n}. 종류 {n}\n{body}" for n in range(1, 4))
    assert titles(f"제1조(목적)\n{clauses}\n\n제2조(끝)\n{body}") == ["제1조(목적)", "제2조(끝)"]
    assert titles(clauses) == ["1. 종류 1", "2. 종류 2", "3. 종류 3"]
