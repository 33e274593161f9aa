import pytest

from jangin.inference.ask import NOT_TAUGHT, PromptTemplate, TaughtQuestions, Trace

QUESTION = "연차휴가는 며칠인가요?"


def test_the_origin_of_an_answer_is_the_file_page_and_section_that_are_known(make_example):
    def origin(**fields):
        return Trace("taught", make_example(QUESTION, "15일", **fields), 1.0).origin

    assert origin(source="a.pdf", page=3, section="제1조") == "a.pdf, page 3, 제1조"
    assert origin(source="squad.json", evidence="휴가는 15일이다.") == "squad.json"
    assert origin(source="faq.csv") == "faq.csv"
    assert origin() == NOT_TAUGHT.origin == ""


def test_a_taught_answer_without_a_page_names_its_file_or_that_none_is_recorded(make_example):
    row = make_example(QUESTION, "15일", source="faq.csv")
    bare = make_example(QUESTION, "15일")
    assert Trace("taught", row, 1.0).note == "learned from: faq.csv"
    assert Trace("taught", bare, 1.0).note == "taught in training; its source is not recorded"
    assert Trace("differs", row, 1.0).note == "taught for this question: 15일 (faq.csv)"
    assert Trace("differs", bare, 1.0).note == "taught for this question: 15일"
    assert "may be invented" in NOT_TAUGHT.note


def test_an_answer_is_taught_in_any_form_and_another_one_names_what_was_taught(make_example):
    rows = [make_example(QUESTION, "15일", source="a.pdf", page=3, answers=("열다섯 날",))]
    rows.append(make_example("병가는 며칠인가요?", "60일", source="a.pdf", page=4))
    taught = TaughtQuestions(rows)
    assert taught.trace(QUESTION, "15일입니다.") == Trace("taught", rows[0], 1.0)
    assert taught.trace(QUESTION, "열다섯 날").status == "taught"
    other = taught.trace(QUESTION, "60일")
    assert (other.status, other.example, other.origin) == ("differs", rows[0], "a.pdf, page 3")
    assert taught.trace("구내식당은 어디인가요?", "60일") == NOT_TAUGHT


def test_without_an_example_that_asks_this_the_nearest_one_with_the_answer_is_named(make_example):
    rows = [
        make_example("육아휴직은 얼마 동안 쓸 수 있나요?", "1년 6개월"),
        make_example("가족돌봄휴직은 얼마 동안 쓸 수 있나요?", "1년", answers=("한 해",)),
        make_example("사내 도서관은 몇 층에 있나요?", "9층"),
    ]
    taught = TaughtQuestions(rows)
    near = taught.neighbour("육아휴직 급여는 누가 주나요?", "1년 6개월입니다.")
    assert (near.example, near.gives_answer) == (rows[0], True)
    assert 0 < near.similarity < 0.7
    far = taught.neighbour("구내식당은 언제 여나요?", "9 층")
    assert (far.example, far.gives_answer) == (rows[2], True)
    assert taught.neighbour("회의는 며칠인가요?", "한 해").example == rows[1]
    other = taught.neighbour("육아휴직 급여는 누가 주나요?", "고용센터")
    assert (other.example, other.gives_answer) == (rows[0], False)
    assert taught.neighbour("zebra", "고용센터") is None


PATTERN = "값은 얼마인가요?\n\n{글}\n\n값은 $"


@pytest.mark.parametrize(
    "question", ["등", "값은 얼마인가요?\n\n등\n\n값은 $", "값은 얼마인가요? 등  값은 $", "등\n"]
)
def test_a_question_is_put_into_the_pattern_once_whatever_stands_around_it(question):
    pattern = PromptTemplate.read(PATTERN)
    assert pattern.fill(question.strip()) == "값은 얼마인가요?\n\n등\n\n값은 $"
    assert pattern.extract(question.strip()) == "등"


def test_braces_and_a_column_that_stands_twice_are_filled_as_the_rows_were():
    pattern = PromptTemplate.read("{{a}} {q}\n{q} #")
    assert pattern.fill("왜?") == pattern.fill("{a} 왜?\n왜? #") == "{a} 왜?\n왜? #"
    assert pattern.extract("{a} 왜?\n어디? #") == "{a} 왜?\n어디? #"
    assert PromptTemplate.read("{a}: {b}") is PromptTemplate.read("그대로") is None


def test_the_bare_pattern_leaves_a_question_as_it_is():
    assert PromptTemplate().fill("{q} a\n b") == "{q} a\n b"


def test_what_stands_around_all_questions_makes_none_of_them_alike(make_example):
    pattern = PromptTemplate.read(PATTERN)
    example = make_example(pattern.fill("호두나무 책상"), "3", source="a.pdf", page=1)
    taught = TaughtQuestions([example], pattern)
    assert taught.trace("철제 선반", "3") == NOT_TAUGHT
    assert taught.trace("호두나무 책상", "3") == Trace("taught", example, 1.0)
    assert taught.trace(pattern.fill("호두나무 책상"), "3") == Trace("taught", example, 1.0)
