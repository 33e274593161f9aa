"""Whether a judge is one of the systems that it judges, and what that does to its verdicts.

Models are told apart by name: an endpoint or a folder may call the same weights anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jangin.core.records import SplitExample
from jangin.core.stage import StageContext
from jangin.evaluation.systems.system import SystemConfig
from jangin.metrics.pairwise import SelfPreference, self_preference

Kinship = Literal["none", "itself", "base", "teacher"]
"""The judge is the system, is the base that it was tuned from, or wrote what it was tuned on."""

STRENGTH: tuple[Kinship, ...] = ("itself", "base", "teacher")
POINTS = {"a": 1.0, "tie": 0.5, "b": 0.0}


@dataclass(frozen=True, slots=True)
class Kin:
    """A judge's nearest relation among the two systems."""

    kinship: Kinship = "none"
    system: str = ""
    """Its label; empty where the judge is as near to both."""


def kin_of(context: StageContext[Any], judge: str, pair: tuple[str, str]) -> Kin:
    """How the judge, by its name under `teachers`, is related to the systems `pair`."""
    model = _name(context.services.chat(judge).model)
    base = ""
    if context.has("base"):
        base = _name(str(context.inputs["base"].manifest.summary.get("id", "")))
    rows = context.read("splits", SplitExample)
    teachers = {_name(row.example.teacher) for row in rows if row.split == "train"}
    systems = {system.label: system for system in context.config.system_configs}

    def kinship(system: SystemConfig) -> Kinship:
        if system.endpoint:
            hosted = _name(context.services.chat(system.endpoint).model)
            return "itself" if model == hosted else "none"
        asked = system.local_model
        if asked is not None and model == base:
            return "itself" if asked == "base" else "base"
        return "teacher" if asked in ("tuned", "sft") and model in teachers else "none"

    found = {label: kinship(systems[label]) for label in pair}
    for nearest in STRENGTH:
        near = [label for label in pair if found[label] == nearest]
        if near:
            return Kin(nearest, near[0] if len(near) == 1 else "")
    return Kin()


def _name(model: str) -> str:
    """`Qwen3-0.6B` is `Qwen/Qwen3-0.6B`; an empty name is nobody's."""
    return model.rsplit("/", maxsplit=1)[-1].casefold()


def preference_for(
    system: str,
    judge: str,
    judged: Mapping[str, Sequence[Any]],
    clusters: Mapping[str, str],
    seed: int,
) -> SelfPreference | None:
    """The judge's preference for the system that it is, beside judges that are none of the two.

    `judged` is {judge: its `JudgedPair`s of one evidence set}; the others are not related.
    """
    points = {}
    for name, rows in judged.items():
        mine = [row for row in rows if system in (row.a, row.b)]
        points[name] = {
            row.example_id: POINTS[row.winner] if row.a == system else 1 - POINTS[row.winner]
            for row in mine
        }
    return self_preference({n: p for n, p in points.items() if p}, judge, clusters, seed)
