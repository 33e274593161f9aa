import pytest

from jangin.core.errors import SettingsError
from jangin.evaluation.systems.baseline_methods import METHODS
from jangin.evaluation.systems.predictors import Predictor
from jangin.evaluation.tasks.answers import AnswersTask
from jangin.evaluation.tasks.labels import LabelsTask
from jangin.evaluation.tasks.numbers import NumbersTask

STARS = LabelsTask(type="labels", labels=("1", "5"))
PRICES = NumbersTask(type="numbers")
GOODS = {"lamp": 20.0, "chair": 60.0, "table": 200.0, "sofa": 400.0}
LISTINGS = [f"{colour} {good}" for good in GOODS for colour in ("red", "blue", "green", "grey")]
WORTH = [GOODS[listing.split()[1]] for listing in LISTINGS]


def priced(method, times=1.0):
    answers = [f"{times * price:.2f}" for price in WORTH]
    return Predictor(method, PRICES, LISTINGS, answers)


@pytest.mark.parametrize("method", ["bow_linear", "tfidf_svr", "forest", "nearest"])
def test_predictors_that_read_the_words_beat_the_mean(method):
    asked = [f"white {good}" for good in GOODS]
    mean = sum(GOODS.values()) / len(GOODS)
    guesses = [float(text) for text in priced(method).predict(asked)]
    off = sum(abs(a - b) for a, b in zip(guesses, GOODS.values(), strict=True))
    assert off < 0.7 * sum(abs(mean - price) for price in GOODS.values())


@pytest.mark.parametrize("method", ["constant", "linear", "bow_linear", "tfidf_svr", "nearest"])
def test_dollars_and_won_give_the_same_predictor(method):
    asked = ["white sofa", "red lamp"]
    dollars = [float(text) for text in priced(method).predict(asked)]
    won = [float(text) / 1400 for text in priced(method, 1400).predict(asked)]
    assert won == pytest.approx(dollars, rel=1e-2)


def test_one_price_for_everything_is_predicted_as_such():
    same = Predictor("tfidf_svr", PRICES, ["a lamp", "a chair"], ["12.00", "12.00"])
    assert same.predict(["a sofa"]) == ["12.00"]


def test_one_label_for_everything_is_predicted_as_such():
    for method in METHODS["label"]:
        found = Predictor(method, STARS, ["좋아요", "최고"], ["5", "5"]).predict(["별로"])
        assert found == ["5"]


def test_labels_are_learned_from_words():
    texts = ["정말 좋아요", "아주 좋아요", "너무 별로예요", "완전 별로예요"] * 3
    found = Predictor("tfidf_logistic", STARS, texts, ["5", "5", "1", "1"] * 3)
    assert found.predict(["그냥 별로예요", "참 좋아요"]) == ["1", "5"]


def test_a_method_that_does_not_fit_the_task_is_refused_with_those_that_do():
    with pytest.raises(SettingsError, match=r"linear .*labels.*tfidf_logistic"):
        Predictor("linear", STARS, ["a"], ["1"])
    with pytest.raises(SettingsError, match=r"forest .*answers.*constant, random, nearest"):
        Predictor("forest", AnswersTask(), ["a"], ["b"])
    with pytest.raises(SettingsError, match="no training examples"):
        Predictor("constant", PRICES, [], [])
