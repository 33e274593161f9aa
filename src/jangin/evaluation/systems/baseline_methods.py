"""Names of the baselines and the kinds of gold answers that each can predict."""

from collections.abc import Mapping
from typing import Literal

from jangin.metrics.scores.metric import GoldKind

Method = Literal[
    "constant",
    "random",
    "nearest",
    "linear",
    "bow_linear",
    "tfidf_svr",
    "tfidf_logistic",
    "forest",
]

METHODS: Mapping[GoldKind, tuple[Method, ...]] = {
    "text": ("constant", "random", "nearest"),
    "label": ("constant", "random", "nearest", "tfidf_logistic", "tfidf_svr", "forest"),
    "number": ("constant", "random", "nearest", "linear", "bow_linear", "tfidf_svr", "forest"),
}
"""{kind of gold answer: methods that predict it}."""
