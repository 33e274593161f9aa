import random

import pytest

from jangin.core.records import Chunk
from jangin.documents.versions import suspected_versions

RULES = (
    ("제1조(주차)", "세대마다 차량을 {} 2대까지 등록할 수 있다."),
    ("제2조(납부)", "관리비는 다음 달 25일까지 은행에 낸다."),
    ("제3조(반려동물)", "반려동물과 함께 승강기를 탈 수 있다."),
    ("제4조(목적)", "이 규약은 아파트의 관리와 사용을 정한다."),
)


def chunks(source, rules, in_force=""):
    rules = list(rules)
    if in_force:
        rules.append(("부칙(시행일)", f"이 규약은 {in_force}부터 시행한다."))
    return [
        Chunk(
            id=f"{source}-{n}", document_id=source, source=source, page=n + 1, start=100 * n,
            end=100 * n + 99, section=f"규약 > {heading}", text=f"{heading}\n{text}",
        )
        for n, (heading, text) in enumerate(rules)
    ]  # fmt: skip


def old_rules():
    changes = (("2대", "1대"), ("25일", "20일"), ("탈 수 있다", "탈 수 없다"))
    for heading, text in RULES:
        for new, old in changes:
            text = text.replace(new, old)
        yield heading, text


@pytest.mark.parametrize("old", ["ㄱ_옛날.pdf", "ㅎ_옛날.pdf"])
def test_two_versions_are_named_with_what_differs_whatever_their_names_and_order(old):
    rows = chunks("ㄴ_규약.pdf", RULES, "2026년 3월 1일")
    rows += chunks(old, list(old_rules()), "2022. 4. 1.")
    (pair,) = suspected_versions(rows)
    assert (pair.newer, pair.older, pair.because) == ("ㄴ_규약.pdf", old, "in_force")
    assert sorted(pair.dates) == ["2022-04-01", "2026-03-01"]
    assert sorted(each.kind for each in pair.changed) == ["amount", "amount", "negation"]
    values = {value for each in pair.changed for both in each.values for value in both}
    assert values == {"2대", "1대", "25일", "20일"}
    assert {each.one.page for each in pair.changed} == {1, 2, 3}
    random.Random(0).shuffle(rows)
    assert suspected_versions(rows) == [pair]


def test_files_on_different_subjects_are_no_versions():
    other = (
        ("제1조(대출)", "도서는 한 사람에게 5권까지 빌려준다."),
        ("제2조(납부)", "연체료는 하루에 100원이며 창구에 낸다."),
        ("제3조(열람실)", "열람실은 오전 9시부터 오후 10시까지 연다."),
    )
    rows = chunks("규약.pdf", RULES, "2026년 3월 1일") + chunks(
        "도서관.pdf", other, "2020년 1월 1일"
    )
    assert suspected_versions(rows) == []


def test_equal_passages_and_another_day_of_coming_into_force_are_no_suspicion():
    rows = chunks("a.pdf", RULES, "2026년 3월 1일") + chunks("b.pdf", RULES, "2022년 3월 1일")
    assert suspected_versions(rows) == []


@pytest.mark.parametrize(
    ("new", "old", "lines", "because"),
    [
        ("rules-2026-03.pdf", "rules-2022-04.pdf", ("", ""), "name"),
        ("rules_20260301.pdf", "rules_20220401.pdf", ("", ""), "name"),
        ("rules.pdf", "rules (1).pdf", ("", ""), ""),
        ("rules 2026.pdf", "rules 2022.pdf", ("2020년 1월 1일", "2024년 1월 1일"), ""),
        ("x.pdf", "y.pdf", ("2026년 1월 1일", "2026년 1월 1일"), ""),
    ],
)
def test_the_newer_file_is_suggested_only_where_dates_tell(new, old, lines, because):
    rows = chunks(new, RULES, lines[0]) + chunks(old, list(old_rules()), lines[1])
    (pair,) = suspected_versions(rows)
    assert pair.because == because
    assert pair.newer == (new if because else "")


def test_english_lines_of_effect_are_read():
    text = "Members may borrow up to {} books for two weeks."
    rows = []
    for source, count, date in (("a.pdf", 5, "1 March 2026"), ("b.pdf", 3, "April 1, 2022")):
        rules = [("Loans", text.format(count)), ("Validity", f"Effective from {date}.")]
        rows += chunks(source, rules)
    (pair,) = suspected_versions(rows)
    assert (pair.newer, pair.dates) == ("a.pdf", ("2026-03-01", "2022-04-01"))


def test_versions_are_told_among_many_documents_that_have_the_same_few_words():
    subjects = [f"{one}{two}" for one in "가나다라마바사아" for two in "자차카타파하"]

    def rules(number, days):
        for place in range(6):
            words = (subjects[(number * 7 + place * step) % 48] for step in (1, 5, 11, 17, 23))
            yield f"제{place + 1}조(사항)", f"{' '.join(words)} 신청은 {days + place}일 안에 한다."

    rows = [row for n in range(40) for row in chunks(f"{n}.md", rules(n, 3))]
    rows += chunks("old.md", rules(20, 11))
    pairs = {pair.sources: pair for pair in suspected_versions(rows)}
    assert len(pairs["20.md", "old.md"].changed) == 6


def test_ordinals_in_words_are_shown_as_numbers():
    rows = [
        row
        for name, week in (("a.md", "둘째"), ("b.md", "셋째"))
        for row in chunks(
            name, [("제1조(지급)", f"환급금은 매월 {week} 주 화요일에 창구에서 지급한다.")]
        )
    ]
    (pair,) = suspected_versions(rows)
    assert [change.values for change in pair.changed] == [(("#2", "#3"),)]
