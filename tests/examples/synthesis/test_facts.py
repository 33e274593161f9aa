from jangin.examples.synthesis.table_facts import covered, facts, split_cells, states, table_facts

TABLE = """# 단가표

| 모델 | 단가(원) | 비고 |
|---|---|---|
| P-100 | 890,000 | 24개월 \\| 연장 가능 |
| S-10 | 70,000 | |
"""


def test_every_cell_beside_the_first_is_a_fact_with_the_headings_of_its_row_and_column():
    assert [fact.text for fact in table_facts(TABLE)] == [
        "P-100 / 단가(원): 890,000",
        "P-100 / 비고: 24개월 | 연장 가능",
        "S-10 / 단가(원): 70,000",
    ]
    first = table_facts(TABLE)[0]
    assert TABLE[first.start : first.end].startswith("| P-100 |")


def test_a_table_that_goes_on_without_its_header_gives_facts_without_columns():
    assert [fact.text for fact in table_facts("| P-100 | 890 |\n| S-10 | 70 |")] == [
        "P-100: 890",
        "S-10: 70",
    ]


def test_sentences_outside_tables_are_facts_over_line_ends_and_headings_are_none():
    text = (
        "# 제12조(연차휴가)\n연차휴가는 일 년에\n15일이다. 휴가는 인사팀에 신청한다.\n"
        "① 병가는 60일까지 쓸 수 있다.\n끝"
    )
    spans = [text[fact.start : fact.end].strip() for fact in facts(text)]
    assert spans == [
        "연차휴가는 일 년에\n15일이다.",
        "휴가는 인사팀에 신청한다.",
        "① 병가는 60일까지 쓸 수 있다.",
    ]


def test_bars_in_cells_are_no_borders():
    assert split_cells("| a \\| b | | c |") == ["a | b", "", "c"]


def test_a_value_is_stated_whatever_its_spaces_and_digit_commas():
    assert states("890000 원입니다", "890,000")
    assert not states("89,000원", "890,000")


def test_a_cell_is_asked_for_if_the_answer_has_its_value_and_the_evidence_its_row():
    known = facts(TABLE)
    row = "| P-100 | 890,000 | 24개월 \\| 연장 가능 |"
    assert covered(TABLE, known, [("890,000원", row)]) == 1
    assert covered(TABLE, known, [("890,000원", row), ("89만 원", row)]) == 1
    assert covered(TABLE, known, [("70,000", row)]) == 0
    assert covered(TABLE, known, [("70,000", "")]) == 0
    prose = "휴가는 인사팀에 신청한다."
    assert covered(prose, facts(prose), [("인사팀", "인사팀에 신청")]) == 1
