import pytest

from jangin.text.language import language_problem

SOURCE = "연차휴가는 15일이며 ERP에서 신청한다. 旅費는 따로 정한다."


@pytest.mark.parametrize(
    ("question", "answer", "language"),
    [
        ("연차휴가는 며칠인가?", "15일", "ko"),
        ("어디에서 신청하나?", "ERP", "ko"),
        ("ERP API rate limit은?", "15일", "ko"),
        ("GPT-4o mini는 무엇인가?", "모델", "ko"),
        ("여비(旅費)는 어떻게 하나?", "따로 정한다", "ko"),
        ("Who founded Haemuni?", "Kim", "en"),
        ("What does 해무늬 mean?", "sea pattern", "en"),
        ("有給休暇は何日ですか", "十五日", "ja"),
        ("年假有几天？", "十五天", "zh"),
        ("15?", "15", "ko"),
        ("Quanti giorni?", "15", "xx"),
    ],
)
def test_a_row_in_the_language_of_its_source_passes(question, answer, language):
    assert language_problem(question, answer, f"{SOURCE} {question}", language) == ""


@pytest.mark.parametrize(
    ("question", "answer", "language", "words"),
    [
        ("How many days of leave?", "15일", "ko", "the question"),
        ("What is 연차휴가?", "15일", "ko", "the question"),
        ("연차휴가는?", "It is fifteen days in every year", "ko", "the answer"),
        ("연차휴가는 며칠인가?", "15일입니다 休假", "ko", "'休假' (Han)"),
        ("연차휴가는 며칠인가?", "15 дней", "ko", "'дней' (Cyrillic)"),
        ("연차휴가는 며칠인가?", "15", "en", "the question"),
        ("How many days of leave?", "15", "ja", "the question"),
    ],
)
def test_a_row_in_another_language_is_reported_with_what_gave_it_away(
    question, answer, language, words
):
    assert words in language_problem(question, answer, SOURCE, language)


def test_an_answer_that_is_in_the_source_may_be_in_any_language():
    title = "A Tale of Two Cities and More"
    assert language_problem("책의 이름은?", title, f"{SOURCE} {title}", "ko") == ""
    assert language_problem("책의 이름은?", title, SOURCE, "ko")
