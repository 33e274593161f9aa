"""Judges related to a system that they judge, and how much they prefer it.

Models are compared by name only: the same weights under another name are not recognised.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jangin.core.records import SplitExample
from jangin.core.stage import StageContext
from jangin.evaluation.systems.system import SystemConfig
from jangin.metrics.pairwise import SelfPreference, self_preference

Relation = Literal["none", "itself", "base", "teacher"]
"""The judge is the system, is the base that it was tuned from, or wrote what it was tuned on."""

BY_STRENGTH: tuple[Relation, ...] = ("itself", "base", "teacher")
POINTS = {"a": 1.0, "tie": 0.5, "b": 0.0}
"""Points of system `a` by winner."""


@dataclass(frozen=True, slots=True)
class JudgeRelation:
    """The strongest relation of a judge to one of the two systems."""

    relation: Relation = "none"
    system: str = ""
    """Label of that system; empty if the judge is related to both in the same way."""


def judge_relation(context: StageContext[Any], judge: str, pair: tuple[str, str]) -> JudgeRelation:
    """Relation of the judge, a name under `teachers`, to the systems with the labels `pair`."""
    model = _name(context.services.chat(judge).model)
    base = ""
    if context.has("base"):
        base = _name(str(context.inputs["base"].manifest.summary.get("id", "")))
    rows = context.read("splits", SplitExample)
    teachers = {_name(row.example.teacher) for row in rows if row.split == "train"}
    systems = {system.label: system for system in context.config.system_configs}

    def relation_to(system: SystemConfig) -> Relation:
        if system.endpoint:
            hosted = _name(context.services.chat(system.endpoint).model)
            return "itself" if model == hosted else "none"
        local = system.local_model
        if local is not None and model == base:
            return "itself" if local == "base" else "base"
        trained = local is not None and local != "base"
        return "teacher" if trained and model in teachers else "none"

    relations = {label: relation_to(systems[label]) for label in pair}
    for relation in BY_STRENGTH:
        related = [label for label in pair if relations[label] == relation]
        if related:
            return JudgeRelation(relation, related[0] if len(related) == 1 else "")
    return JudgeRelation()


def _name(model: str) -> str:
    """The name without its owner, case-folded: `Qwen/Qwen3-0.6B` is `qwen3-0.6b`."""
    return model.rsplit("/", maxsplit=1)[-1].casefold()


def preference_for(
    system: str,
    judge: str,
    judged: Mapping[str, Sequence[Any]],
    clusters: Mapping[str, str],
    seed: int,
) -> SelfPreference | None:
    """How much more often `system` wins with the related judge than with unrelated judges.

    `judged` is {judge: its `JudgedPair`s of one test set}, where all but `judge` are unrelated;
    `clusters` is {example id: family}. None if no question was judged by all of them.
    """
    points = {}
    for name, rows in judged.items():
        of_system = [row for row in rows if system in (row.a, row.b)]
        points[name] = {
            row.example_id: POINTS[row.winner] if row.a == system else 1 - POINTS[row.winner]
            for row in of_system
        }
    return self_preference({n: p for n, p in points.items() if p}, judge, clusters, seed)
