"""Signs in the text of a page that its columns were read across one another."""

from jangin.documents.readers.order_doubts import order_doubts
from jangin.documents.readers.reader import PageReading


def reasons(text):
    return [doubt.reason for doubt in order_doubts(PageReading(text))]


def test_article_numbers_that_fall_are_a_doubt_with_both_numbers():
    page = PageReading("제3조(학기) 가\n제12조(경고) 나\n제4조(변동) 다")
    (doubt,) = order_doubts(page)
    assert doubt.reason == "articles_fall"
    assert doubt.values == {"before": 12, "after": 4}


def test_rules_that_begin_with_article_1_again_are_no_doubt():
    assert not reasons("제7조(시행) 가\n부칙\n제1조(시행일) 나\n제2조(경과) 다")


def test_articles_that_a_sentence_mentions_are_no_doubt():
    assert not reasons("제7조(시행) 가는\n제3조에 따른 나로 한다.")
