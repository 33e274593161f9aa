import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, f1_score

from jangin.core.errors import DataError
from jangin.metrics.classification import grade_labels, read_label

STARS = ("1", "2", "3", "4", "5")


def rows(values):
    return {f"r{i}": value for i, value in enumerate(values)}


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("4", "4"),
        (" 4\n", "4"),
        ("4.", "4"),
        ('"4"', "4"),
        ("4 stars", "4"),
        ("4, because it works", "4"),
        ("I give it 4", None),
        ("44", None),
        ("6", None),
        ("", None),
    ],
)
def test_a_label_is_the_whole_answer_or_its_first_word(answer, label):
    assert read_label(answer, STARS) == label


def test_labels_of_several_words_and_other_case_are_read():
    labels = ("매우 좋음", "좋음", "Very bad")
    assert read_label("매우 좋음.", labels) == "매우 좋음"
    assert read_label("very BAD", labels) == "Very bad"
    assert read_label("좋음 (추천)", labels) == "좋음"


def test_an_unparsable_answer_is_wrong_everywhere_and_counted_apart():
    report = grade_labels(rows("1155"), rows(["1", None, "5", "4"]), STARS, ordered=True)
    assert (report.n, report.unparsable) == (4, 1)
    assert report.accuracy.estimate == 0.5
    assert report.off_by_one.estimate == 0.75
    assert report.confusion[0] == (1, 0, 0, 0, 0, 1)


def test_the_line_between_good_and_bad_is_drawn_where_asked():
    report = grade_labels(rows("1345"), rows("2335"), STARS, ordered=True, good_from="4")
    assert report.good_or_bad.estimate == 0.75
    assert grade_labels(rows("1345"), rows("2335"), STARS).good_or_bad is None


def test_always_giving_the_most_frequent_label_is_the_constant_to_beat():
    assert grade_labels(rows("55512"), rows("11111"), STARS).constant_accuracy == 0.6


def test_labels_without_an_order_have_no_distance():
    report = grade_labels(rows("12"), rows("21"), STARS)
    assert report.off_by_one is None
    assert report.weighted_kappa is None


def test_one_class_only_has_no_kappa_and_is_no_division_by_zero():
    report = grade_labels(rows("555"), rows("555"), STARS, ordered=True)
    assert report.weighted_kappa is None
    assert report.macro_f1 == 1


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from(STARS), st.sampled_from(STARS)), min_size=2, max_size=60))
def test_kappa_and_macro_f1_are_those_of_scikit_learn(pairs):
    gold, predicted = [g for g, _ in pairs], [p for _, p in pairs]
    report = grade_labels(rows(gold), rows(predicted), STARS, ordered=True)
    present = sorted(set(gold))
    expected = f1_score(gold, predicted, labels=present, average="macro", zero_division=0)
    assert report.macro_f1 == pytest.approx(expected)
    if len(set(gold) | set(predicted)) > 1:
        kappa = cohen_kappa_score(gold, predicted, labels=list(STARS), weights="quadratic")
        assert report.weighted_kappa == pytest.approx(kappa)


def test_predictions_belong_to_rows_by_id_in_whatever_order_they_come():
    gold = rows("12345")
    backwards = dict(reversed(rows("12345").items()))
    assert grade_labels(gold, backwards, STARS).accuracy.estimate == 1


@pytest.mark.parametrize(
    ("gold", "predicted", "good_from", "said"),
    [
        ({"a": "1"}, {"b": "1"}, "", "1 of 1 row has no prediction"),
        ({"a": "9"}, {"a": "1"}, "", "row a: label '9' is outside the set"),
        ({"a": "1"}, {"a": "9"}, "", "row a: prediction '9' is outside the set"),
        ({"a": "1"}, {"a": "1"}, "9", "good_from '9'"),
    ],
)
def test_what_is_outside_the_set_is_named(gold, predicted, good_from, said):
    with pytest.raises(DataError, match=said):
        grade_labels(gold, predicted, STARS, good_from=good_from)
