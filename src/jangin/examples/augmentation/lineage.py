"""Parent and child links of evolved examples, and the attempts to evolve an example."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jangin.core.digest import seeded_rank
from jangin.core.records import Example, Message, Record
from jangin.examples.augmentation.elimination import Eliminated, Evolved, Operation
from jangin.examples.checks.decision import Decision
from jangin.llm.replies.structured import Parsed
from jangin.text.normalize import collapse_spaces, nfc

CARRIED_OVER = ("family", "chunk_ids", "document_id", "source", "page", "section", "seed_word")
"""Fields that an evolved example shares with the one it evolved from."""


class Lineage(Record):
    """The parent of an evolved example, and the operation between the two."""

    id: str
    parent: str
    family: str
    operation: str
    round: int


@dataclass(frozen=True, slots=True)
class EvolutionAttempt:
    """One operation on one example in one round."""

    parent: Example
    operation: Operation
    round: int
    tries: int
    """Number of earlier attempts; each attempt is another draw of the teacher."""

    @property
    def subject(self) -> str:
        """Name of the attempt within its round."""
        return f"{self.parent.id} {self.operation}"

    def eliminated(self, evolved: Evolved, decision: Decision, request: str) -> Eliminated:
        """The record of a question that the decision drops."""
        return Eliminated.model_validate(
            {
                "parent": self.parent.id,
                "operation": self.operation,
                "round": self.round,
                "rule": decision.rule,
                "reason": decision.reason,
                "question": evolved.question,
                "answer": evolved.answer,
                "evidence": evolved.evidence,
                "request": request,
            }
        )

    def example(self, answer: Parsed[Evolved]) -> Example:
        """The example that a reply becomes."""
        evolved = answer.value
        question = nfc(collapse_spaces(evolved.question))
        return Example.make(
            **{
                **{name: getattr(self.parent, name) for name in CARRIED_OVER},
                "prompt": (*self.parent.prompt[:-1], Message(role="user", content=question)),
                "completion": Message(role="assistant", content=nfc(evolved.answer.strip())),
                "evidence": nfc(evolved.evidence.strip()),
                "kind": "evolved",
                **answer.made_by,
                "parent": self.parent.id,
                "operation": self.operation,
            }
        )


def draw_attempts(
    parents: Sequence[tuple[Example, int]],
    round_number: int,
    operations: Sequence[Operation],
    per_example: int,
    seed: int,
) -> Iterator[EvolutionAttempt]:
    """The attempts of one round on (example, number of earlier attempts).

    The operations of an example depend on the seed, the round and its question only.
    """
    for parent, tries in parents:
        ranks = {
            operation: seeded_rank(seed, f"{operation} {round_number}", parent.question)
            for operation in dict.fromkeys(operations)
        }
        for operation in sorted(ranks, key=lambda name: ranks[name])[:per_example]:
            yield EvolutionAttempt(parent, operation, round_number, tries)
