"""Semantic deduplication: questions that mean the same in other words, found with an encoder.

Similar questions alone prove nothing: to every encoder "전세 계약 기간은?" and "월세 계약 기간은?"
are similar. So the answers must be as similar as the questions, and the numbers must be equal:
to a small encoder "15 days a year" and "10 days a year" are similar too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field

from jangin.core.config import Config
from jangin.core.model_protocols import EncoderConfig, TextEncoder
from jangin.core.reasons import Reason
from jangin.examples.checks.decision import Decision
from jangin.examples.curation.filters import duplicate
from jangin.text.numbers import written_numbers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BLOCK = 1024


class NoSemantic(Config):
    """No encoder is used."""

    type: Literal["none"] = "none"


class EncoderSemantic(Config):
    """Drop one of two rows of different families whose question and answer are similar."""

    type: Literal["encoder"]
    encoder: EncoderConfig
    min_cosine: float = Field(ge=-1, le=1)
    """Least cosine similarity of both the questions and the answers. Look at an encoder's scores
    first: the range they fall into differs from encoder to encoder."""


Semantic = Annotated[NoSemantic | EncoderSemantic, Field(discriminator="type")]


@dataclass(frozen=True, slots=True)
class Vectors:
    """Unit vectors of N rows: questions and answers, each (N, D) float32."""

    question_ND: "NDArray[np.float32]"
    answer_ND: "NDArray[np.float32]"


class SemanticRow(NamedTuple):
    """What of an example is compared."""

    id: str
    family: str
    question: str
    answer: str
    preference: float
    """Which of two twins is kept (the higher)."""


def encode_rows(rows: Sequence[SemanticRow], encoder: TextEncoder) -> Vectors:
    """Vectors of the questions and answers of all rows; each distinct text is encoded once."""
    import numpy as np

    texts = list(dict.fromkeys(text for row in rows for text in (row.question, row.answer)))
    vectors_TD = encoder.encode(texts, "query")
    index_of = {text: index for index, text in enumerate(texts)}
    questions = np.array([index_of[row.question] for row in rows])
    return Vectors(vectors_TD[questions], vectors_TD[[index_of[row.answer] for row in rows]])


def find_semantic_twins(
    rows: Sequence[SemanticRow], left: Sequence[int], vectors: Vectors, min_cosine: float
) -> Mapping[int, Decision]:
    """{index: decision to drop} of the rows that are left; the twin of each is kept.

    Rows of one family are similar on purpose and are not compared.
    """
    order = sorted(left, key=lambda index: -rows[index].preference)
    chosen = [rows[index] for index in order]
    question_ND, answer_ND = vectors.question_ND[order], vectors.answer_ND[order]
    in_question = [_numbers(row.question) for row in chosen]
    in_answer = [_numbers(row.answer) for row in chosen]
    decisions: dict[int, Decision] = {}
    for a, b, cosine in _near(question_ND, answer_ND, min_cosine):
        if a in decisions or b in decisions or chosen[a].family == chosen[b].family:
            continue
        same_answer = in_answer[a] == in_answer[b] or not in_answer[a] or not in_answer[b]
        if in_question[a] == in_question[b] and same_answer:
            limit = float(min_cosine)
            reason = Reason("same_sense", id=chosen[a].id, share=float(cosine), limit=limit)
            decisions[b] = duplicate("semantic_duplicate", reason, order[a])
    indices = sorted(decisions, key=lambda b: order[b])
    return {order[b]: decisions[b] for b in indices}


def _numbers(text: str) -> list[str]:
    """Numbers in digits, sorted; an answer without any may have them in words."""
    return sorted(number.replace(",", "") for number in written_numbers(text))


def _near(
    question_ND: "NDArray[np.float32]", answer_ND: "NDArray[np.float32]", least: float
) -> Iterator[tuple[int, int, float]]:
    """(a, b, lesser cosine) of all pairs a < b, in order of b and then of falling cosine.

    `question_ND` and `answer_ND` are float32 unit vectors. Rows are compared in blocks of
    `_BLOCK`: the memory is O(block * N), the work O(N^2).
    """
    import numpy as np

    for start in range(0, len(question_ND), _BLOCK):
        block = slice(start, start + _BLOCK)
        cosine_BN = np.minimum(question_ND[block] @ question_ND.T, answer_ND[block] @ answer_ND.T)
        for b, row_N in enumerate(cosine_BN, start):
            near = np.flatnonzero(row_N[:b] >= least)
            for a in near[np.argsort(-row_N[near], kind="stable")].tolist():
                yield a, b, float(row_N[a])
