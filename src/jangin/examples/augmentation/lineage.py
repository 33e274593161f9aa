"""How one question becomes another: an attempt, what it is drawn by, and the example it makes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jangin.core.digest import seeded_rank
from jangin.core.records import Example, Message, Record
from jangin.examples.augmentation.elimination import Eliminated, Evolved, Fault, Operation
from jangin.llm.structured import Parsed
from jangin.text.normalize import nfc

CARRIED_OVER = ("family", "chunk_ids", "document_id", "source", "page", "section", "seed_word")
"""Fields that an evolved example shares with the one it evolved from."""


class Descent(Record):
    """Where an evolved example comes from."""

    id: str
    parent: str
    family: str
    operation: str
    round: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One operation on one example in one round."""

    parent: Example
    operation: Operation
    round: int
    tries: int
    """How often this example was tried before; a new try is a new draw of the teacher."""

    @property
    def subject(self) -> str:
        """Name of the attempt within its round."""
        return f"{self.parent.id} {self.operation}"

    def eliminated(self, evolved: Evolved, fault: Fault, request: str) -> Eliminated:
        """The record of a question that was given up."""
        return Eliminated(
            parent=self.parent.id,
            operation=self.operation,
            round=self.round,
            rule=fault.rule,
            reason=fault.reason,
            question=evolved.question,
            answer=evolved.answer,
            evidence=evolved.evidence,
            request=request,
        )

    def example(self, answer: Parsed[Evolved]) -> Example:
        """The example that a reply makes."""
        evolved = answer.value
        question = nfc(" ".join(evolved.question.split()))
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


def draw(
    parents: Sequence[tuple[Example, int]],
    number: int,
    operations: Sequence[Operation],
    per_example: int,
    seed: int,
) -> Iterator[Attempt]:
    """The attempts of one round, from (example, tries before).

    What one gets depends on its question alone: not on the others, nor on how its source was read.
    """
    for parent, tries in parents:
        places = {
            operation: seeded_rank(seed, f"{operation} {number}", parent.question)
            for operation in dict.fromkeys(operations)
        }
        for operation in sorted(places, key=lambda name: places[name])[:per_example]:
            yield Attempt(parent, operation, number, tries)
