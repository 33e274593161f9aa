import pytest

from jangin.core.errors import DataError, TooLongError
from jangin.core.types import SplitExample
from jangin.models.ask import Reply, ask
from jangin.models.starter import make_starter

QUESTION = "연차휴가는 며칠인가요?"


@pytest.fixture(scope="module")
def starter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("starter")
    shape = {"size": "0.5M", "vocabulary_size": 300, "context_length": 48, "seed": 0}
    make_starter(folder / "model", [f"{n}번 {QUESTION}" for n in range(40)], **shape)
    return folder


@pytest.fixture
def taught(make_example):
    def make(**fields):
        return [SplitExample(example=make_example(QUESTION, **fields), split="train")]

    return make


@pytest.mark.parametrize("blank", ["", "  ", "\n\t", "\u3000"])
def test_a_blank_question_is_refused(blank, starter):
    with pytest.raises(DataError, match=r"^the question is blank\. Write"):
        ask(blank, starter, starter, [], 4)


def test_a_question_that_leaves_no_room_for_an_answer_is_refused_with_its_tokens_and_the_limit(
    starter,
):
    with pytest.raises(TooLongError, match=r"the question has \d{3} tokens, .* can have 48,"):
        ask(QUESTION * 30, starter, starter, [], 4)


def test_an_answer_is_not_longer_than_what_the_context_leaves(starter):
    short, long = (ask(QUESTION, starter, starter, [], most) for most in (20, 400))
    assert 0 < len(long.answer) < 4 * len(short.answer)


@pytest.mark.parametrize(
    ("fields", "sourced"),
    [
        ({"source": "reviews.csv", "section": "group"}, False),
        ({"source": "a.pdf", "page": 3}, True),
        ({"source": "squad.json", "evidence": "휴가는 15일이다."}, True),
    ],
)
def test_only_where_examples_name_a_page_or_a_passage_can_a_source_be_missing(
    fields, sourced, starter, taught
):
    assert ask(QUESTION, starter, starter, taught(**fields), 2).sourced is sourced


def test_the_origin_of_an_answer_is_the_file_page_and_section_that_are_known(make_example):
    def origin(likeness=1.0, answer="15일", **fields):
        example = make_example(QUESTION, "15일", **fields)
        return Reply(answer, example, likeness, sourced=True).origin

    assert origin(source="a.pdf", page=3, section="제1조") == "a.pdf, page 3, 제1조"
    assert origin(source="squad.json", evidence="휴가는 15일이다.") == "squad.json"
    assert origin(source="reviews.csv") == ""
    assert origin(source="a.pdf", page=3, answer="16일") == ""
    assert origin(source="a.pdf", page=3, likeness=0.1) == ""
