"""The baselines with scikit-learn: what a fine-tuned model has to beat.

They get the text of the last user turn and nothing else, and are fitted with a fixed seed on one
thread.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import TransformedTargetRegressor
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC, LinearSVR

from jangin.core.errors import SettingsError
from jangin.evaluation.systems.baseline_methods import METHODS, Method
from jangin.evaluation.tasks.numbers import NumbersTask, gold_number
from jangin.evaluation.tasks.task import TaskConfig

TREES = 100
"""Trees of the random forests."""


class Predictor:
    """A fitted predictor of answers."""

    def __init__(
        self,
        method: Method,
        task: TaskConfig,
        texts: Sequence[str],
        answers: Sequence[str],
        seed: int = 0,
    ) -> None:
        """Fit on training texts and their answers.

        Raises:
            SettingsError: there are no texts, or the method does not fit the task.
            DataError: the task asks for numbers and an answer is not one.

        """
        if not texts:
            raise SettingsError(
                f"the baseline {method} has no training examples to learn from. "
                "Remove it from `systems`, or give split a training part."
            )
        if method not in METHODS[task.gold]:
            raise SettingsError(
                f"the baseline {method} does not predict {task.type}. Choose one of "
                f"{', '.join(METHODS[task.gold])}, or remove it from `systems`."
            )
        self._numeric = task.gold == "number"
        if self._numeric:
            decimal = task.decimal if isinstance(task, NumbersTask) else "point"
            gold: list[Any] = [gold_number(a, str(i), decimal) for i, a in enumerate(answers)]
        else:
            gold = list(answers)
        if method in ("constant", "nearest"):
            self._predict = _constant(gold) if method == "constant" else _nearest(texts, gold)
            return
        model = _regressor(method, seed) if self._numeric else _classifier(method, gold, seed)
        self._predict = model.fit(list(texts), gold).predict

    def predict(self, texts: Sequence[str]) -> list[str]:
        """One answer for each text; numbers with two decimals."""
        values = self._predict(list(texts))
        return [f"{float(value):.2f}" if self._numeric else str(value) for value in values]


def _constant(gold: Sequence[Any]) -> Any:
    numeric = isinstance(gold[0], float)
    value = float(np.mean(gold)) if numeric else Counter(gold).most_common(1)[0][0]
    return lambda texts: [value] * len(texts)


def _nearest(texts: Sequence[str], gold: Sequence[Any]) -> Any:
    vectors = _tfidf()
    search = NearestNeighbors(n_neighbors=1, metric="cosine").fit(vectors.fit_transform(texts))

    def predict(questions: Sequence[str]) -> list[Any]:
        indices = search.kneighbors(vectors.transform(questions), return_distance=False)
        return [gold[int(index)] for index in indices[:, 0]]

    return predict


def _classifier(method: Method, gold: Sequence[Any], seed: int) -> Any:
    if method == "random":
        return DummyClassifier(strategy="uniform", random_state=seed)
    if len(set(gold)) < 2:
        return DummyClassifier(strategy="most_frequent")
    if method == "tfidf_logistic":
        return make_pipeline(_tfidf(), LogisticRegression(max_iter=1000, random_state=seed))
    if method == "tfidf_svr":
        return make_pipeline(_tfidf(), LinearSVC(random_state=seed))
    return make_pipeline(_tfidf(), RandomForestClassifier(TREES, random_state=seed))


def _regressor(method: Method, seed: int) -> Any:
    if method == "linear":
        return make_pipeline(FunctionTransformer(_features), LinearRegression())
    if method == "bow_linear":
        return make_pipeline(CountVectorizer(max_features=20_000), Ridge())
    if method == "tfidf_svr":
        svr = make_pipeline(_tfidf(), LinearSVR(C=3.0, random_state=seed, max_iter=5000))
        # The balance of loss and penalty depends on the units of the target, so it is scaled:
        # otherwise dollars and Korean won would give different predictors.
        return TransformedTargetRegressor(svr, transformer=StandardScaler())
    if method == "forest":
        # With a tenth of the n-grams per split, errors on three sets of prices were within 6 % of
        # those with all of them, in a sixth of the time.
        trees = RandomForestRegressor(TREES, max_features=0.1, random_state=seed)
        return make_pipeline(_tfidf(), trees)
    return _RandomNumbers(seed)


class _RandomNumbers:
    """Uniform random numbers within the training range."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def fit(self, _texts: Sequence[str], gold: Sequence[float]) -> "_RandomNumbers":
        self._low, self._high = min(gold), max(gold)
        return self

    def predict(self, texts: Sequence[str]) -> NDArray[np.float64]:
        generator = np.random.default_rng(self._seed)
        return generator.uniform(self._low, self._high, len(texts))


def _tfidf() -> TfidfVectorizer:
    """Character 1- to 3-grams within words, because Korean particles are written with them."""
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), min_df=1, max_features=50_000)


def _features(texts: Sequence[str]) -> NDArray[np.float64]:
    """(N, 5) float64 counts of characters, words, digits, capitals and lines; weak on purpose."""
    return np.array(
        [
            (
                len(text),
                len(text.split()),
                sum(map(str.isdigit, text)),
                sum(map(str.isupper, text)),
                text.count("\n") + 1,
            )
            for text in texts
        ],
        dtype=np.float64,
    )
