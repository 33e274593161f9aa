"""What the models of the project were taught: how they are asked, and where an answer is from."""

import threading
from dataclasses import dataclass, field

from jangin.evaluation.confidence import ConfidenceGroup, group_of, read_confidence
from jangin.inference.ask import Trace
from jangin.inference.dialogue import Dialogue
from jangin.project.release.trained import TrainedModel, last_trained
from jangin.serving.pages.project import OpenProject, Snapshot


@dataclass(frozen=True, slots=True)
class Source:
    """What was taught for a question."""

    trace: Trace
    confidence: ConfidenceGroup | None
    """Held-out questions with such a trace; None without evaluation or without such questions."""


@dataclass(frozen=True, slots=True)
class TaughtModel:
    """The model of a variant with its training examples; its weights are not loaded."""

    dialogue: Dialogue
    outdated: str
    """How old it is and what changed since, in English; empty while it is up to date."""
    _groups: tuple[ConfidenceGroup, ...]

    def source(self, question: str, answer: str) -> Source | None:
        """Where an answer was learned; None where no training example has a source."""
        reply = self.dialogue.reply(question, answer)
        if not reply.sourced:
            return None
        return Source(reply.trace, group_of(self._groups, reply.trace))


@dataclass(slots=True)
class TaughtModels:
    """The models of a project; their examples are read once for each training."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _seen: dict[str, tuple[Snapshot, TaughtModel | None]] = field(default_factory=dict)
    _read: dict[str, tuple[str, TaughtModel]] = field(default_factory=dict)

    def of(self, project: OpenProject, variant: str) -> TaughtModel | None:
        """The last model of a variant; None where none was trained."""
        snapshot = project.snapshot()
        with self._lock:
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
