"""What a report reads from artifacts; variants that share an artifact are one group.

Which artifacts a section is about is asked of the artifacts themselves (does it have this table,
this file?), so that a new stage is shown without being added to a list.
"""

import difflib
import json
import platform
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any, TypeVar

from pydantic import BaseModel

from jangin import __version__
from jangin.core.digest import digest_value
from jangin.core.parquet import count_rows, read_rows, read_table
from jangin.core.records import Chunk, Document, Example
from jangin.core.store import RUNTIME, Artifact
from jangin.evaluation.stored import read_predictions
from jangin.evaluation.tasks.task import Prediction
from jangin.project.file import Project, dump_yaml
from jangin.project.stages import STAGES
from jangin.text.language import HANGUL_SYLLABLE

R = TypeVar("R", bound=BaseModel)
Artifacts = Mapping[str, Mapping[str, Artifact]]
"""{variant: {stage: artifact}}: what is finished of every variant."""

METRICS = "metrics.jsonl"
"""Lines of a training, one per logged step."""
MACHINE_FIGURES = f"{RUNTIME}/training.json"
"""Device, memory and versions of a training."""
MOST_SAMPLES = 20
SEED = 0


@dataclass(frozen=True, slots=True)
class Group:
    """One artifact and the variants that share it."""

    variants: tuple[str, ...]
    artifact: Artifact

    @property
    def stage(self) -> str:
        """Name of the stage that made the artifact."""
        return self.artifact.manifest.stage

    def has(self, file: str) -> bool:
        """True if the artifact contains this file, such as `failed.parquet`."""
        return (self.artifact.path / file).exists()


def groups_of(artifacts: Artifacts, stage: str) -> list[Group]:
    """The different artifacts of a stage, in the order of the variants."""
    return _grouped((variant, stages.get(stage)) for variant, stages in artifacts.items())


def groups_with(artifacts: Artifacts, file: str) -> list[Group]:
    """The different artifacts that contain a file, stage by stage in the order of `STAGES`."""
    return [
        group for stage in STAGES for group in groups_of(artifacts, stage.name) if group.has(file)
    ]


def newest_with(artifacts: Artifacts, file: str) -> list[Group]:
    """The artifacts that contain a file, of every variant only that of its last such stage."""
    newest: dict[str, Artifact] = {}
    for group in groups_with(artifacts, file):
        newest |= dict.fromkeys(group.variants, group.artifact)
    return _grouped((variant, newest.get(variant)) for variant in artifacts)


def _grouped(artifacts: Iterable[tuple[str, Artifact | None]]) -> list[Group]:
    groups: dict[str, Group] = {}  # by key
    for variant, artifact in artifacts:
        if artifact is not None:
            key = artifact.manifest.key
            others = groups[key].variants if key in groups else ()
            groups[key] = Group((*others, variant), artifact)
    return list(groups.values())


def rows_of(artifact: Artifact, kind: str, record_type: type[R]) -> list[R]:
    """Rows of a table; empty where the artifact does not have it."""
    path = artifact.path / f"{kind}.parquet"
    return read_table(path, record_type) if path.exists() else []


def rows_with_ids(
    artifact: Artifact, kind: str, record_type: type[R], ids: Collection[str]
) -> list[R]:
    """The rows of a table with these ids; empty where the artifact does not have the table."""
    path = artifact.path / f"{kind}.parquet"
    return read_rows(path, record_type, ids) if path.exists() else []


def count_of(artifact: Artifact, kind: str) -> int:
    """Number of rows of a table, without reading them; 0 where the artifact does not have it."""
    path = artifact.path / f"{kind}.parquet"
    return count_rows(path) if path.exists() else 0


def guess_language(artifacts: Artifacts) -> str:
    """`ko` where most documents are Korean, or most questions where there are no documents."""
    for group in groups_with(artifacts, "documents.parquet"):
        languages = [d.language for d in rows_of(group.artifact, "documents", Document)]
        return "ko" if 2 * languages.count("ko") >= len(languages) else "en"
    for group in groups_with(artifacts, "examples.parquet"):
        rows = rows_of(group.artifact, "examples", Example)
        korean = sum(HANGUL_SYLLABLE.search(row.question) is not None for row in rows)
        return "ko" if 2 * korean >= len(rows) else "en"
    return "ko"


@dataclass(frozen=True, slots=True)
class Lengths:
    """Distribution of one length, for a histogram."""

    name: str
    variants: tuple[str, ...]
    values: tuple[int, ...]

    def percentile(self, percent: int) -> int:
        """Value at this percentile, by nearest rank."""
        ordered = sorted(self.values)
        return ordered[max(-(-percent * len(ordered) // 100), 1) - 1]


def lengths(artifacts: Artifacts) -> list[Lengths]:
    """Characters of questions and answers of the newest examples, and of chunks."""
    distributions = []
    for group in newest_with(artifacts, "examples.parquet"):
        rows = rows_of(group.artifact, "examples", Example)
        for name, values in (
            ("question_characters", [len(row.question) for row in rows]),
            ("answer_characters", [len(row.answer) for row in rows]),
        ):
            distributions.append(Lengths(name, group.variants, tuple(values)))
    for group in newest_with(artifacts, "chunks.parquet"):
        chunks = rows_of(group.artifact, "chunks", Chunk)
        sizes = tuple(len(chunk.text) for chunk in chunks)
        distributions.append(Lengths("chunk_characters", group.variants, sizes))
    return [distribution for distribution in distributions if distribution.values]


def token_percentiles(artifacts: Artifacts) -> list[tuple[tuple[str, ...], Mapping[str, int]]]:
    """(variants, {p5, p50, p95, p100}) of the tokens of an example, where they were counted."""
    return [
        (group.variants, group.artifact.manifest.summary["tokens"])
        for group in newest_with(artifacts, "examples.parquet")
        if "tokens" in group.artifact.manifest.summary
    ]


def machine_figures(artifact: Artifact) -> Mapping[str, Any]:
    """What a training recorded about the machine; empty where it recorded nothing."""
    path = artifact.path / MACHINE_FIGURES
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


@dataclass(frozen=True, slots=True)
class SampleAnswer:
    """The answer of one model."""

    variant: str
    prediction: Prediction


@dataclass(frozen=True, slots=True)
class AnswersToQuestion:
    """The answers of the models to one question; the first is that of the main variant."""

    answers: tuple[SampleAnswer, ...]

    @property
    def main(self) -> Prediction:
        """The answer that the sample was drawn by."""
        return self.answers[0].prediction


@dataclass(frozen=True, slots=True)
class Samples:
    """Questions drawn evenly from those answered right and wrong, and the number of each."""

    variant: str
    rows: tuple[AnswersToQuestion, ...]
    all_right: int
    all_wrong: int

    @property
    def right(self) -> int:
        """Number of drawn questions whose main answer is right."""
        return sum(sample.main.right for sample in self.rows)


def samples(artifacts: Artifacts, variant: str) -> Samples:
    """Twenty answers of the tuned model of a variant, beside those of every other model."""
    answers = {
        name: read_predictions(stages["evaluate"])
        for name, stages in artifacts.items()
        if "evaluate" in stages
    }
    mine = [p for p in answers[variant] if p.system == "tuned"] or answers[variant]
    right, wrong = ([p for p in mine if p.right is exact] for exact in (True, False))
    half = MOST_SAMPLES // 2
    some_right = _draw(right, max(half, MOST_SAMPLES - len(wrong)))
    some_wrong = _draw(wrong, MOST_SAMPLES - len(some_right))
    drawn = sorted((*some_right, *some_wrong), key=_draw_order)
    rows = []
    for prediction in drawn:
        others = [
            SampleAnswer(name, other)
            for name in (variant, *(name for name in answers if name != variant))
            for other in answers[name]
            if other.example_id == prediction.example_id
            and (name, other.system) != (variant, prediction.system)
            and (other.system == "tuned" or name == variant)
        ]
        others.sort(key=lambda answer: answer.prediction.system == "base")
        rows.append(AnswersToQuestion((SampleAnswer(variant, prediction), *others)))
    return Samples(variant, tuple(rows), len(right), len(wrong))


def _draw(predictions: Sequence[Prediction], most: int) -> list[Prediction]:
    """At most `most` predictions, the test sets in turn; the draw is the same every time."""
    queues: dict[str, list[Prediction]] = {}
    for prediction in sorted(predictions, key=_draw_order):
        queues.setdefault(prediction.evidence_set, []).append(prediction)
    drawn: list[Prediction] = []
    while len(drawn) < most and any(queues.values()):
        for queue in queues.values():
            if queue and len(drawn) < most:
                drawn.append(queue.pop(0))
    return drawn


def _draw_order(prediction: Prediction) -> str:
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
    rows = []
    for name, lines in texts.items():
        marked: set[int] = set()
        for other in texts.values():
            matcher = difflib.SequenceMatcher(None, other, lines, autojunk=False)
            for tag, _, _, start, end in matcher.get_opcodes():
                marked |= set(range(start, end)) if tag != "equal" else set()
        rows.append(Settings(name, tuple((line, n in marked) for n, line in enumerate(lines))))
    return rows


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
    """A program that the results may depend on."""

    program: str
    version: str
    recorded: bool
    """True if an artifact records it; False if it is installed where the report was made."""


_DIGEST = re.compile(r" [0-9a-f]{12}$")
"""Of the files of models, at the end of the version of a program."""


def versions(artifacts: Artifacts) -> list[Version]:
    """Versions recorded in artifacts, then those installed on this machine."""
    seen: dict[Version, None] = {}
    for stages in artifacts.values():
        for artifact in stages.values():
            for name, value in artifact.manifest.inputs.items():
                if name.startswith("machine:"):
                    shown = _DIGEST.sub("", value)
                    seen[Version(name.removeprefix("machine:"), shown, recorded=True)] = None
            torch = machine_figures(artifact).get("torch")
            if torch:
                seen[Version("torch", str(torch), recorded=True)] = None
    seen[Version("jangin", __version__, recorded=False)] = None
    seen[Version("python", platform.python_version(), recorded=False)] = None
    for name in ("torch", "transformers", "peft", "polars", "pyarrow"):
        try:
            seen[Version(name, metadata.version(name), recorded=False)] = None
        except metadata.PackageNotFoundError:
            continue
    return [v for v in seen if v.recorded or replace(v, recorded=True) not in seen]
