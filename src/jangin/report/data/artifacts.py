"""What a report reads from artifacts; variants that share an artifact are told of once."""

import difflib
import json
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any, TypeVar

from pydantic import BaseModel

from jangin import __version__
from jangin.core.digest import digest_value
from jangin.core.jsonl import read_jsonl
from jangin.core.parquet import count_rows, read_table
from jangin.core.records import Chunk, Document, Example
from jangin.core.store import RUNTIME, Artifact
from jangin.evaluation.results import Prediction
from jangin.project.file import Project, dump_yaml
from jangin.training.loop.config import StepMetrics

R = TypeVar("R", bound=BaseModel)
Made = Mapping[str, Mapping[str, Artifact]]

MOST_SAMPLES = 20
SEED = 0
_HANGUL = re.compile("[가-힣]")


@dataclass(frozen=True, slots=True)
class Group:
    """One artifact and the variants that share it."""

    variants: tuple[str, ...]
    artifact: Artifact


def groups_of(made: Made, stage: str) -> list[Group]:
    """The different artifacts of a stage, in the order of the variants."""
    found: dict[str, list[str]] = {}
    for variant, stages in made.items():
        if stage in stages:
            found.setdefault(stages[stage].manifest.key, []).append(variant)
    return [Group(tuple(names), made[names[0]][stage]) for names in found.values()]


def rows_of(artifact: Artifact, kind: str, record_type: type[R]) -> list[R]:
    """Rows of a table; none where the stage did not write it."""
    path = artifact.path / f"{kind}.parquet"
    return read_table(path, record_type) if path.exists() else []


def count_of(artifact: Artifact, kind: str) -> int:
    """Rows of a table, without reading them."""
    path = artifact.path / f"{kind}.parquet"
    return count_rows(path) if path.exists() else 0


def guess_language(made: Made) -> str:
    """`ko` where most documents are Korean, or most questions where there are no documents."""
    for group in groups_of(made, "load"):
        languages = [d.language for d in rows_of(group.artifact, "documents", Document)]
        return "ko" if 2 * languages.count("ko") >= len(languages) else "en"
    for stage in ("synthesize", "curate", "read"):
        for group in groups_of(made, stage):
            rows = rows_of(group.artifact, "examples", Example)
            korean = sum(_HANGUL.search(row.question) is not None for row in rows)
            return "ko" if 2 * korean >= len(rows) else "en"
    return "ko"


@dataclass(frozen=True, slots=True)
class Lengths:
    """One distribution to draw."""

    name: str
    variants: tuple[str, ...]
    values: tuple[int, ...]

    def percentile(self, percent: int) -> int:
        """Nearest rank."""
        ordered = sorted(self.values)
        return ordered[max(-(-percent * len(ordered) // 100), 1) - 1]


def lengths(made: Made) -> list[Lengths]:
    """Characters of questions, answers and chunks, of what is furthest along."""
    stages = ("curate", "judge", "paraphrase", "evolve", "synthesize")
    stage = next((name for name in stages if groups_of(made, name)), "curate")
    found = []
    for group in groups_of(made, stage):
        rows = rows_of(group.artifact, "examples", Example)
        for name, values in (
            ("question_characters", [len(row.question) for row in rows]),
            ("answer_characters", [len(row.answer) for row in rows]),
        ):
            found.append(Lengths(name, group.variants, tuple(values)))
    for group in groups_of(made, "chunk"):
        chunks = rows_of(group.artifact, "chunks", Chunk)
        sizes = tuple(len(chunk.text) for chunk in chunks)
        found.append(Lengths("chunk_characters", group.variants, sizes))
    return [distribution for distribution in found if distribution.values]


def token_percentiles(made: Made) -> list[tuple[tuple[str, ...], Mapping[str, int]]]:
    """(variants, {p5, p50, p95, p100}) of the tokens of an example, where they were counted."""
    return [
        (group.variants, group.artifact.manifest.summary["tokens"])
        for group in groups_of(made, "curate")
        if "tokens" in group.artifact.manifest.summary
    ]


def metrics(made: Made) -> list[tuple[tuple[str, ...], list[StepMetrics]]]:
    """(variants, lines of metrics) of every training."""
    found = []
    for stage in ("sft", "continue_sft"):
        for group in groups_of(made, stage):
            lines = list(read_jsonl(group.artifact.path / "metrics.jsonl", StepMetrics))
            if lines:
                found.append((group.variants, lines))
    return found


@dataclass(frozen=True, slots=True)
class Answered:
    """What one model said."""

    variant: str
    prediction: Prediction


@dataclass(frozen=True, slots=True)
class Sample:
    """A question and what the models said to it; the first answer is that of the main variant."""

    answers: tuple[Answered, ...]

    @property
    def main(self) -> Prediction:
        """The answer that the sample was drawn by."""
        return self.answers[0].prediction


@dataclass(frozen=True, slots=True)
class Samples:
    """Questions drawn evenly from those answered right and wrong, and how many there were."""

    variant: str
    rows: tuple[Sample, ...]
    all_right: int
    all_wrong: int

    @property
    def right(self) -> int:
        """Of the drawn ones."""
        return sum(sample.main.right for sample in self.rows)


def samples(made: Made, variant: str) -> Samples:
    """Twenty answers of the tuned model of a variant, beside those of every other model."""
    answers = {
        name: rows_of(stages["evaluate"], "predictions", Prediction)
        for name, stages in made.items()
        if "evaluate" in stages
    }
    mine = [p for p in answers[variant] if p.system == "tuned"] or answers[variant]
    right, wrong = ([p for p in mine if p.right is exact] for exact in (True, False))
    half = MOST_SAMPLES // 2
    some_right = _draw(right, max(half, MOST_SAMPLES - len(wrong)))
    some_wrong = _draw(wrong, MOST_SAMPLES - len(some_right))
    drawn = sorted((*some_right, *some_wrong), key=_place)
    rows = []
    for prediction in drawn:
        others = [
            Answered(name, other)
            for name in (variant, *(name for name in answers if name != variant))
            for other in answers[name]
            if other.example_id == prediction.example_id
            and (name, other.system) != (variant, prediction.system)
            and (other.system == "tuned" or name == variant)
        ]
        others.sort(key=lambda answered: answered.prediction.system == "base")
        rows.append(Sample((Answered(variant, prediction), *others)))
    return Samples(variant, tuple(rows), len(right), len(wrong))


def _draw(predictions: Sequence[Prediction], most: int) -> list[Prediction]:
    """At most so many, the evidence sets in turn, by a draw that is the same every time."""
    queues: dict[str, list[Prediction]] = {}
    for prediction in sorted(predictions, key=_place):
        queues.setdefault(prediction.evidence_set, []).append(prediction)
    drawn: list[Prediction] = []
    while len(drawn) < most and any(queues.values()):
        for queue in queues.values():
            if queue and len(drawn) < most:
                drawn.append(queue.pop(0))
    return drawn


def _place(prediction: Prediction) -> str:
    return digest_value([SEED, prediction.example_id])


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a variant as YAML lines, each with whether another variant differs."""

    variant: str
    lines: tuple[tuple[str, bool], ...]


def settings(variants: Mapping[str, Project]) -> list[Settings]:
    """Settings that decide the result, without folders, addresses and speeds."""
    texts = {
        name: dump_yaml(_without_none(project.identity())).splitlines()
        for name, project in variants.items()
    }
    found = []
    for name, lines in texts.items():
        marked: set[int] = set()
        for other in texts.values():
            matcher = difflib.SequenceMatcher(None, other, lines, autojunk=False)
            for tag, _, _, start, end in matcher.get_opcodes():
                marked |= set(range(start, end)) if tag != "equal" else set()
        numbered = tuple((line, number in marked) for number, line in enumerate(lines))
        found.append(Settings(name, numbered))
    return found


def differences(variants: Mapping[str, Project]) -> list[tuple[str, dict[str, str]]]:
    """(key, {variant: value}) where variants differ; a value is missing where the key is."""
    flat = {name: dict(_flatten(project.identity())) for name, project in variants.items()}
    keys = dict.fromkeys(key for values in flat.values() for key in values)
    return [
        (key, {name: values[key] for name, values in flat.items() if key in values})
        for key in keys
        if len({values.get(key) for values in flat.values()}) > 1
    ]


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _without_none(inner) for key, inner in value.items() if inner is not None}
        return {key: inner for key, inner in kept.items() if inner != {} or value[key] == {}}
    return value


def _flatten(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, value as JSON) of every leaf."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flatten(inner, f"{path}.{key}" if path else str(key))
    elif value is not None:
        yield path, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Version:
    """A program that had a hand in the results."""

    program: str
    version: str
    made: bool
    """True if the artifact says so; False if it is only installed where the report was made."""


def versions(made: Made) -> list[Version]:
    """Versions written into artifacts, then those of this machine."""
    found: dict[Version, None] = {}
    for stages in made.values():
        for artifact in stages.values():
            for name, value in artifact.manifest.inputs.items():
                if name.startswith("machine:"):
                    found[Version(name.removeprefix("machine:"), value, made=True)] = None
        path = stages["sft"].path / RUNTIME / "training.json" if "sft" in stages else None
        if path is not None and path.exists():
            torch = json.loads(path.read_text()).get("torch")
            if torch:
                found[Version("torch", str(torch), made=True)] = None
    found[Version("jangin", __version__, made=False)] = None
    found[Version("python", platform.python_version(), made=False)] = None
    for name in ("torch", "transformers", "peft", "polars", "pyarrow"):
        try:
            found[Version(name, metadata.version(name), made=False)] = None
        except metadata.PackageNotFoundError:
            continue
    return [v for v in found if v.made or replace(v, made=True) not in found]
