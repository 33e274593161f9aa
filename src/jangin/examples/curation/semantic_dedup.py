"""Questions that ask the same in other words, found with an encoder: off unless asked for.

Nearness of questions alone is no proof: "전세 계약 기간은?" and "월세 계약 기간은?" lie together in
every encoder's space. So the answers must be as near as the questions, and the numbers the same:
to a small encoder "15 days a year" and "10 days a year" are near as well.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from jangin.core.config import Config
from jangin.core.encoder import EncoderConfig, TextEncoder
from jangin.core.records import Example
from jangin.examples.curation.filters import Verdict, preference

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_NUMBERS = re.compile(r"\d+(?:[.,]\d+)*")
_BLOCK = 1024


class NoSemantic(Config):
    """Only texts are compared."""

    type: Literal["none"] = "none"


class EncoderSemantic(Config):
    """Of two families' questions that an encoder puts together, with their answers, one goes."""

    type: Literal["encoder"]
    encoder: EncoderConfig
    min_cosine: float = Field(ge=-1, le=1)
    """Least cosine of both the questions and the answers. Look at an encoder's scores before you
    set it: they bunch, at another height in each."""


Semantic = Annotated[NoSemantic | EncoderSemantic, Field(discriminator="type")]


@dataclass(frozen=True, slots=True)
class Vectors:
    """Of N rows, D wide, each of length 1."""

    question_ND: "NDArray[np.float32]"
    answer_ND: "NDArray[np.float32]"


def encode_rows(rows: Sequence[Example], encoder: TextEncoder) -> Vectors:
    """Questions and answers of all rows, each text once."""
    import numpy as np

    texts = list(dict.fromkeys(text for row in rows for text in (row.question, row.answer)))
    vectors_TD = encoder.encode(texts, "query")
    place = {text: number for number, text in enumerate(texts)}
    questions = np.array([place[row.question] for row in rows])
    return Vectors(vectors_TD[questions], vectors_TD[[place[row.answer] for row in rows]])


def find_semantic_twins(
    rows: Sequence[Example], left: Sequence[int], vectors: Vectors, min_cosine: float
) -> list[Verdict]:
    """What goes of the rows that are left; one that goes has a twin that stays.

    Rows of one family are alike on purpose and are not compared.
    """
    order = sorted(left, key=lambda index: -preference(rows[index]))
    chosen = [rows[index] for index in order]
    question_ND, answer_ND = vectors.question_ND[order], vectors.answer_ND[order]
    asked = [_numbers(row.question) for row in chosen]
    told = [_numbers(row.answer) for row in chosen]
    gone: dict[int, Verdict] = {}
    for a, b, cosine in _near(question_ND, answer_ND, min_cosine):
        if a in gone or b in gone or chosen[a].family == chosen[b].family:
            continue
        if asked[a] == asked[b] and (told[a] == told[b] or not told[a] or not told[b]):
            reason = (
                f"question and answer mean those of {chosen[a].id}; "
                f"cosine {cosine:.3f}, limit {min_cosine:g}"
            )
            gone[b] = Verdict(order[b], "semantic_duplicate", reason, order[a])
    return [gone[b] for b in sorted(gone, key=lambda b: order[b])]


def _numbers(text: str) -> list[str]:
    """Numbers in digits; an answer without any may say them in words."""
    return sorted(number.replace(",", "") for number in _NUMBERS.findall(text))


def _near(
    question_ND: "NDArray[np.float32]", answer_ND: "NDArray[np.float32]", least: float
) -> Iterator[tuple[int, int, float]]:
    """(a, b, lesser cosine) of all pairs a < b, in order of b and then of nearness.

    Blocks of rows against all before them: the memory is that of a block, the work N^2.
    """
    import numpy as np

    for start in range(0, len(question_ND), _BLOCK):
        block = slice(start, start + _BLOCK)
        cosine_BN = np.minimum(question_ND[block] @ question_ND.T, answer_ND[block] @ answer_ND.T)
        for b, row_N in enumerate(cosine_BN, start):
            near = np.flatnonzero(row_N[:b] >= least)
            for a in near[np.argsort(-row_N[near], kind="stable")].tolist():
                yield a, b, float(row_N[a])
