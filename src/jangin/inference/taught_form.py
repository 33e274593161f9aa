"""What conversations a tuned model was taught: their turns and system messages.

Trained on single questions, a model answers worse after earlier turns, and after a system message
that no training row had. So neither is sent to it unless somebody wants it.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Self

from jangin.core.digest import short_digest
from jangin.core.records import Message
from jangin.core.store import RUNTIME

History = Literal["auto", "all", "none"]
"""Which earlier turns a model gets: those of the kind that it was taught, all, or none."""
FORM = "taught.json"
"""Below `runtime` of a trained model."""
_MANY = 50
"""With as many system messages in training, a new one is nothing new."""


class LeftOut(NamedTuple):
    """What of a conversation a model does not get."""

    turns: bool = False
    system: bool = False


@dataclass(frozen=True, slots=True)
class TaughtForm:
    """The form of the training rows of a model; by default nothing is known about them."""

    several_turns: bool = True
    system_messages: frozenset[str] | None = None
    """Digests; None where any system message is as good as those of training."""

    @classmethod
    def of(cls, prompts: Iterable[Sequence[Message]]) -> Self:
        """The form of training prompts."""
        several, seen, rows = False, set[str](), 0
        for prompt in prompts:
            rows += 1
            several = several or _has_turns(prompt)
            seen |= {short_digest(turn.content.strip()) for turn in prompt if turn.role == "system"}
        return cls(several, frozenset(seen) if len(seen) < _MANY else None) if rows else cls()

    @classmethod
    def read(cls, artifact: Path) -> Self:
        """The form stored with a trained model; models of older versions say nothing."""
        path = artifact / RUNTIME / FORM
        if not path.is_file():
            return cls()
        stored = json.loads(path.read_text(encoding="utf-8"))
        seen = stored["system_messages"]
        return cls(stored["several_turns"], None if seen is None else frozenset(seen))

    def write(self, path: Path) -> None:
        """Store it with the model."""
        seen = None if self.system_messages is None else sorted(self.system_messages)
        stored = {"several_turns": self.several_turns, "system_messages": seen}
        path.write_text(json.dumps(stored), encoding="utf-8")

    def unlike(self, messages: Sequence[Message]) -> LeftOut:
        """What of a conversation, which ends with a question, training never showed."""
        system = next((turn.content for turn in messages if turn.role == "system"), None)
        known = self.system_messages
        return LeftOut(
            not self.several_turns and _has_turns(messages),
            system is not None and known is not None and short_digest(system.strip()) not in known,
        )

    def left_out(self, messages: Sequence[Message], history: History) -> LeftOut:
        """What of a conversation is not sent."""
        if history == "all":
            return LeftOut()
        left = self.unlike(messages)
        return left._replace(turns=True) if history == "none" and _has_turns(messages) else left


def _has_turns(messages: Sequence[Message]) -> bool:
    return sum(turn.role != "system" for turn in messages) > 1


def what_is_sent(messages: Sequence[Message], left: LeftOut) -> list[Message]:
    """The conversation without what is left out."""
    system = [turn for turn in messages if turn.role == "system" and not left.system]
    turns = [turn for turn in messages if turn.role != "system"]
    return [*system, *(turns[-1:] if left.turns else turns)]
