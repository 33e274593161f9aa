"""What the models of the project were taught: how they are asked, and where an answer is from."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from jangin.core.records import Example
from jangin.documents.passages import PassageHit, Passages
from jangin.evaluation.confidence import ConfidenceGroup, group_of, read_confidence
from jangin.inference.ask import Neighbour, Trace
from jangin.inference.dialogue import Dialogue
from jangin.project.release.trained import TrainedModel, last_trained
from jangin.serving.pages.preparing import preparing
from jangin.serving.state.project import OpenProject, Snapshot, VariantState
from jangin.text.known_questions import ask_other_things


@dataclass(frozen=True, slots=True)
class Source:
    """What was taught for a question."""

    trace: Trace
    confidence: ConfidenceGroup | None
    """Held-out questions with such a trace; None without evaluation or without such questions."""
    neighbour: Neighbour | None = None
    """For a question that was not taught: the nearest example, if any question shares a word."""

    may_ask_other: bool = False
    """Whether the example asks for another kind of thing, such as how long instead of when."""

    @property
    def example(self) -> Example | None:
        """The example that the page names."""
        return self.trace.example or (self.neighbour.example if self.neighbour else None)


@dataclass(frozen=True, slots=True)
class TaughtModel:
    """The model of a variant with its training examples; its weights are not loaded."""

    dialogue: Dialogue
    outdated: str
    """How old it is and what changed since, in English; empty while it is up to date."""
    _groups: tuple[ConfidenceGroup, ...]

    def read(self, question: str, passages: Passages | None) -> list[PassageHit]:
        """What an answer is generated from, or stands beside it, best first."""
        return replace(self.dialogue, passages=passages).search(question)

    @property
    def reads(self) -> bool:
        """Whether it was trained with passages."""
        return self.dialogue.passage_prompt is not None

    def source(self, question: str, answer: str) -> Source | None:
        """Where an answer was learned; None where no training example has a source."""
        reply = self.dialogue.reply(question, answer)
        if not reply.sourced:
            return None
        group, taught = group_of(self._groups, reply.trace), reply.trace.example
        if taught is None:
            return Source(reply.trace, group, self.dialogue.neighbour(question, answer))
        other = ask_other_things(question, self.dialogue.template.extract(taught.question))
        return Source(reply.trace, group, may_ask_other=other)


def best_variant(variants: Mapping[str, VariantState]) -> str:
    """The variant whose tuned model was right most often on held-out questions.

    The last one where none was evaluated.
    """

    def share(name: str) -> float:
        evaluation = variants[name].last.get("evaluate")
        right = evaluation.manifest.summary.get("right") if evaluation is not None else None
        sets = right if isinstance(right, dict) else {}
        held_out = [of.get("tuned", 0.0) for name, of in sets.items() if name != "seen_questions"]
        return sum(held_out) / len(held_out) if held_out else -1.0

    return max(reversed(list(variants)), key=share)


@dataclass(slots=True)
class TaughtModels:
    """The models of a project; their examples are read once for each training."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _seen: dict[str, tuple[Snapshot, TaughtModel | None]] = field(default_factory=dict)
    _read: dict[str, tuple[str, TaughtModel]] = field(default_factory=dict)

    def of(self, project: OpenProject, variant: str) -> TaughtModel | None:
        """The last model of a variant; None where none was trained."""
        snapshot = project.snapshot()
        with preparing("pages_preparing_models"), self._lock:
            known = self._seen.get(variant)
            if known is None or known[0] is not snapshot:
                with project.session() as session:
                    trained = last_trained(session, variant)
                model = self._open(variant, trained) if trained is not None else None
                known = self._seen[variant] = (snapshot, model)
            return known[1]

    def _open(self, variant: str, trained: TrainedModel) -> TaughtModel:
        key = f"{trained.maker('splits').manifest.key}:{trained.maker('model').manifest.key}"
        known = self._read.get(variant)
        if known is None or known[0] != key:
            dialogue = trained.dialogue()
            evaluation = trained.artifacts.get("evaluate")
            groups = read_confidence(evaluation, dialogue.taught) if evaluation else []
            model = TaughtModel(dialogue, "", tuple(groups))
            known = self._read[variant] = (key, model)
        return TaughtModel(known[1].dialogue, trained.outdated, known[1]._groups)
