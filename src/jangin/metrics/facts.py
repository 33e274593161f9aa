"""Facts: whether an answer states what the reference answer states, in any form."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jangin.metrics.content_match import content_match

FactReason = Literal[
    "stated",  # all facts of the reference answer, and nothing that speaks against them
    "empty",  # no answer
    "refused",  # the answer says that it does not know
    "missing",  # a quantity, name or choice of the reference answer is not there
    "contradicted",  # another value of the same kind stands beside or instead of it
    "negated",  # the answer denies what the reference answer states, or the reverse
    "limited",  # a limit or condition that the reference answer does not have, or the reverse
    "unsupported",  # something else that neither evidence, question nor reference answer holds
]


@dataclass(frozen=True, slots=True)
class FactGrade:
    """One answer, graded by its facts."""

    right: bool
    reason: FactReason
    detail: str = ""
    """The words of the answer, or of the reference answer where they are missing, that decide."""


def grade_facts(
    answer: str, gold: str, question: str = "", evidence: Sequence[str] = ()
) -> FactGrade:
    """Grade an answer by the facts of the reference answer `gold`.

    `evidence` are the texts that an answer may take further facts from: the quoted evidence and
    the section around it. Without them nothing but the question and `gold` supports an extra.
    """
    del evidence  # until extras are judged by it
    right = bool(content_match(answer, gold, question))
    if right:
        return FactGrade(True, "stated")
    return FactGrade(False, "missing" if answer.strip() else "empty")
