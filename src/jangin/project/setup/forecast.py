"""Estimate every stage of a plan, also those that wait for others, without a network or a key."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jangin.core.digest import digest_value
from jangin.core.errors import ConfigError, JanginError, counted
from jangin.core.events import Progress
from jangin.core.parquet import read_table
from jangin.core.records import Chunk, Example
from jangin.core.stage import Calls, Cost, Services, StageContext
from jangin.core.store import FORMAT, Artifact, Manifest
from jangin.documents.load import LoadConfig
from jangin.examples.paraphrase import ParaphraseConfig, TeacherSource
from jangin.examples.synthesis.coverage import Coverage
from jangin.examples.synthesize import SynthesizeConfig
from jangin.llm.ask import budget_of
from jangin.llm.budget import Budget
from jangin.llm.offers import ModelLists
from jangin.llm.token_estimates import TOKENS_PER_ASCII_CHARACTER, TOKENS_PER_OTHER_CHARACTER
from jangin.project.plan import PlannedStage, last_artifact
from jangin.project.session import Session
from jangin.project.setup.provisional import (
    Level,
    QuickReading,
    read_quickly,
    rows_of_chunk,
    write_tables,
)
from jangin.project.setup.replay import Replay, replay
from jangin.project.stages import find_stage
from jangin.project.teachers import EndpointTeacher

LIKELY_PER_ASCII = 0.25
LIKELY_PER_OTHER = 0.8
"""Tokens per character that tokenizers of today usually take; plans are bounded by more."""
REPLY_OF_CALL = {"judge": 150.0, "evolve": 200.0, "evaluate": 60.0}
"""{stage: tokens of a usual reply}."""
REPLY_OF_ROW = 90.0
"""Tokens of a question with answer and evidence as JSON."""
REPLY_OF_WORDING = 25.0
REPLY_OF_STYLE = 10.0
"""Tokens of the name of its style."""
SHARE_OF_LONGEST = 0.3
"""Share of the longest reply that a usual one takes, for all other stages."""
EVALUATION_PROMPT = 300
"""Tokens of a question to a hosted system, at most."""


@dataclass(frozen=True, slots=True)
class StageEstimate:
    """Requests and cost of a stage on made-up inputs."""

    cost: Cost
    calls: Calls


@dataclass(slots=True)
class Forecast:
    """The steps of a plan with the cost of each, and the usual requests beside the upper bound."""

    steps: list[PlannedStage]
    """`calls` are the upper bound; a step that waits has an estimated cost."""
    likely: list[Calls]
    """Usual requests of each step."""
    unknown: list[str] = field(default_factory=list)
    """Stages that could not be estimated."""
    refusals: list[str] = field(default_factory=list)
    """Why teachers could not be opened, such as one without a price where there is a budget, and
    models that are not offered, or not for long."""
    reading: QuickReading | None = None
    seconds: float = 0.0


def forecast(session: Session, variants: Iterable[str]) -> Forecast:
    """Plan the variants, and estimate what waits. Nothing is written to the store.

    Documents that have not been loaded are read without OCR and within a time limit.
    """
    began = time.monotonic()
    result = Forecast([], [])
    with TemporaryDirectory() as folder:
        walk, lists = _Walk(session, Path(folder)), ModelLists()
        for name in variants:
            steps = session.plan(name)
            refused = _refusals(session, name, steps, lists)
            result.refusals = list(dict.fromkeys((*result.refusals, *refused)))
            likely, most = (walk.estimates(name, steps, level) for level in LEVELS)
            for step, usual, upper in zip(steps, likely, most, strict=True):
                result.likely.append(usual.calls if usual is not None else Calls())
                result.steps.append(_with_estimate(step, usual, upper))
                if (
                    upper is None
                    and step.state == "waits"
                    and step.stage.name not in result.unknown
                ):
                    result.unknown.append(step.stage.name)
        result.reading = walk.reading
    result.seconds = time.monotonic() - began
    return result


def _refusals(
    session: Session, variant: str, steps: Sequence[PlannedStage], lists: ModelLists
) -> Iterator[str]:
    """Problems of the teachers of steps that will run.

    Errors of opening them, with which their stages stop, then models that are not offered, or not
    for long.
    """
    services, teachers = session.services(variant), session.project.variants[variant].teachers
    running = [step for step in steps if step.state != "cached"]
    names = dict.fromkeys(name for step in running for name in step.stage.teachers(step.config))
    for name in names:
        try:
            services.chat(name)
        except ConfigError as error:
            yield str(error)
    for teacher in map(teachers.__getitem__, names):
        if isinstance(teacher, EndpointTeacher):
            address, key, provider = teacher.base_url, teacher.key_variable, teacher.known_provider
            if problem := lists.problem(teacher.model, address, key, provider):
                yield problem


LEVELS: tuple[Level, Level] = ("likely", "most")


def _with_estimate(
    step: PlannedStage, usual: StageEstimate | None, upper: StageEstimate | None
) -> PlannedStage:
    if upper is None or usual is None or step.state == "cached":
        return step
    if upper.calls.count < usual.calls.count:  # what was there before has more rows
        upper = usual
    if step.state != "waits":
        return replace(step, calls=upper.calls).paced()
    few, many, text = usual.calls.count, upper.calls.count, usual.cost.text
    if many:
        calls = counted(many, "call") if few == many else f"{few:,} to {counted(many, 'call')}"
        text = text.replace(counted(usual.cost.calls, "call"), calls, 1)
    cost = replace(usual.cost, text=f"estimated: {text}" if text else "")
    return replace(step, cost=cost, calls=upper.calls).paced()


@dataclass(slots=True)
class _Walk:
    """Goes through the stages of variants; what they share is estimated once."""

    session: Session
    root: Path
    reading: QuickReading | None = None
    guesses_chunks: bool = False
    """True while the chunks of the variant may end elsewhere in a run."""
    readings: dict[str, QuickReading | None] = field(default_factory=dict)
    known: dict[str, tuple[StageEstimate | None, Artifact | None]] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    """Contents of the provisional artifacts whose rows are those of a run."""

    def estimates(
        self, variant: str, steps: Sequence[PlannedStage], level: Level
    ) -> list[StageEstimate | None]:
        """One estimate for each step; None for a finished stage, or where there is none."""
        services = replace(self.session.services(variant), progress=Progress())
        by_kind: dict[str, Artifact] = {}
        invented: set[str] = set()
        out: list[StageEstimate | None] = []
        for step in steps:
            if "chunks" in step.stage.makes:
                self.guesses_chunks = _guesses_chunks(step, by_kind)
            estimate, artifact = None, step.artifact
            if artifact is None:
                estimate, artifact = self._estimate(step, by_kind, services, level)
                if estimate is not None and estimate.calls.unrecorded:
                    estimate = self._checked(estimate, step, by_kind, invented)
            out.append(estimate)
            for kind in step.stage.makes:
                if artifact is not None:
                    by_kind[kind] = artifact
                    as_it_will_be = (
                        step.artifact is not None
                        or step.stage.name in AS_IN_A_RUN
                        or artifact.manifest.content in self.whole
                    )
                    (invented.discard if as_it_will_be else invented.add)(kind)
                elif kind not in KEEPS.get(step.stage.name, ()):
                    by_kind.pop(kind, None)
        return out

    def _estimate(
        self, step: PlannedStage, by_kind: Mapping[str, Artifact], services: Services, level: Level
    ) -> tuple[StageEstimate | None, Artifact | None]:
        kinds = [kind for kind in step.stage.inputs(step.config) if kind in by_kind]
        needed = {*step.stage.reads, *step.stage.wants(step.config)} - MODELS
        lacking = needed.difference(kinds)
        if lacking:
            return None, None
        inputs = {kind: str(by_kind[kind].folder) for kind in kinds}
        own = level if step.stage.name not in SAME_AT_EACH_LEVEL else ""
        name = digest_value([step.stage.name, step.config.identity(), inputs, own])
        if name not in self.known:
            workspace = self.root / name[:24]
            workspace.mkdir()
            context = StageContext(step.config, dict(by_kind), workspace, services)
            reading = self._read(step, services)
            past = None
            if self.reading is None or self.reading.factor == 1:
                last = last_artifact(step.variant, step.stage, self.session.store, services)
                past = replay(step.stage, context, last)
                if past is not None and last is not None and step.stage.name == "synthesize":
                    self._remember(past, step, last, services)
            artifact = _made(context, level, reading, past)
            estimate = _cost(step, context, level, services)
            if past is not None and estimate is not None:
                if past.complete:
                    self.whole.add(context.workspace.name)
                estimate = _with_replay(estimate, past, level)
            if estimate is not None and self.reading is not None:
                estimate = _times(estimate, self.reading.factor)
            self.known[name] = (estimate, artifact)
        return self.known[name]

    def _remember(
        self, past: Replay, step: PlannedStage, last: Artifact, services: Services
    ) -> None:
        """Note what the last run got of each chunk, for those that are asked about again."""
        chunks = find_stage("chunk")
        cut = last_artifact(step.variant, chunks, self.session.store, services) if chunks else None
        if not (last.path / "coverage.parquet").exists() or cut is None:
            return
        rows = read_table(last.path / "coverage.parquet", Coverage)
        past.usual = {row.chunk_id: row.rows for row in rows}
        asks = {f"prompt:{n}": services.prompts.digest(n) for n in step.stage.prompts(step.config)}
        for name in step.stage.teachers(step.config):
            chat = services.chat(name)
            asks[f"teacher:{name}"] = f"{chat.model} {chat.source}".strip()
        known = last.manifest.inputs
        if last.manifest.config != step.config.identity() or any(
            known.get(name) != value for name, value in asks.items()
        ):
            return
        texts = {row.id: row.text for row in read_table(cut.path / "chunks.parquet", Chunk)}
        before: dict[str, list[Example]] = {}
        for row in read_table(last.path / "examples.parquet", Example):
            for name in row.chunk_ids[:1]:
                if name in texts:
                    before.setdefault(texts[name], []).append(row)
        past.before = before

    def _checked(
        self,
        estimate: StageEstimate,
        step: PlannedStage,
        by_kind: Mapping[str, Artifact],
        invented: set[str],
    ) -> StageEstimate:
        """The estimate with those requests without a recorded reply that are the run's own.

        Requests on made-up rows, and on text in place of a scan, have no reply in any recording:
        of these count only those of a kind that was never recorded.
        """
        calls, unrecorded = estimate.calls, estimate.calls.unlike
        if not invented.intersection(step.stage.inputs(step.config)):
            unknown: set[str] = set()
            if self.reading is not None and "chunks" in by_kind:
                table = by_kind["chunks"].path / "chunks.parquet"
                rows = read_table(table, Chunk) if self.reading.borrowed else []
                unknown = {row.id for row in rows if row.document_id in self.reading.borrowed}
            own = tuple(each for each in calls.unrecorded if each not in unknown)
            # An untrained tokenizer may cut some chunks elsewhere, but not all of them.
            if len(own) == calls.count or not self.guesses_chunks:
                unrecorded = own
        return replace(estimate, calls=replace(calls, unrecorded=unrecorded))

    def _read(self, step: PlannedStage, services: Services) -> QuickReading | None:
        """What the documents hold, where the stage is `load` or works on a provisional table."""
        if not isinstance(step.config, LoadConfig):
            return self.reading
        folder = str(step.config.folder)
        if folder not in self.readings:
            try:
                self.readings[folder] = read_quickly(
                    step.config, services.project_folder, services.ledger
                )
            except JanginError:
                self.readings[folder] = None
        self.reading = self.readings[folder]
        return self.reading


def _guesses_chunks(step: PlannedStage, by_kind: Mapping[str, Artifact]) -> bool:
    """True where chunks are measured by a tokenizer that a run will train first."""
    if step.artifact is not None or "base" not in by_kind:
        return False
    has_tokenizer = (by_kind["base"].path / "model" / "tokenizer.json").exists()
    return "base" in step.stage.inputs(step.config) and not has_tokenizer


MODELS = frozenset(("model", "sft_model"))
"""Kinds whose content no estimate needs."""
KEEPS = {"select": ("base",), "pretrain": ("base",)}
"""{stage: kinds that are estimated as well by what was there before}."""
SAME_AT_EACH_LEVEL = frozenset(("load", "chunk", "catalog", "read"))
AS_IN_A_RUN = SAME_AT_EACH_LEVEL
"""Stages whose provisional tables are those of a run, but for text that only OCR can read."""


def _made(
    context: StageContext[Any],
    level: Level,
    reading: QuickReading | None,
    past: Replay | None,
) -> Artifact | None:
    try:
        if not write_tables(context, level, reading, past):
            return None
    except (JanginError, OSError, KeyError, ValueError):
        return None
    manifest = Manifest(
        format=FORMAT,
        stage="",
        version=0,
        key="",
        config={},
        inputs={},
        files={},
        content=context.workspace.name,
        summary={},
        created_at=datetime.now(UTC),
    )
    return Artifact(context.workspace, manifest)


def _cost(
    step: PlannedStage, context: StageContext[Any], level: Level, services: Services
) -> StageEstimate | None:
    try:
        cost = step.stage.cost(context)
        budget = _budget(step, services)
    except (JanginError, OSError, KeyError, ValueError):
        return None
    calls = context.calls
    apart = cost.calls - calls.count
    if apart > 0:  # requests that the stage counts without writing them
        longest = int(getattr(context.config, "max_new_tokens", 0) or 256)
        prompt, reply = apart * EVALUATION_PROMPT, apart * longest
        unpriced = apart if budget.price is None else 0
        calls.add(Calls(apart, prompt, reply, budget.usd(prompt, reply), unpriced))
    if level == "likely":
        calls = _usual(step, context, calls, budget)
    return StageEstimate(cost, calls)


def _with_replay(estimate: StageEstimate, past: Replay, level: Level) -> StageEstimate:
    """The estimate with the requests that a replay has no reply to."""
    calls = estimate.calls
    if past.stopped or (level == "most" and not past.complete):
        return estimate
    kept = replace(past.calls, unrecorded=calls.unrecorded, unlike=calls.unlike)
    return StageEstimate(replace(estimate.cost, calls=kept.count), kept)


def _times(estimate: StageEstimate, factor: float) -> StageEstimate:
    """The estimate for all chunks, where only some of them are present."""
    calls, cost = estimate.calls, estimate.cost
    if factor == 1:
        return estimate
    numbers = ("count", "prompt_tokens", "reply_tokens", "unpriced")
    more = {name: round(getattr(calls, name) * factor) for name in numbers}
    text = f"{cost.text}; for 1/{factor:.1f} of the chunks" if cost.text else ""
    return StageEstimate(replace(cost, text=text), replace(calls, usd=calls.usd * factor, **more))


def _budget(step: PlannedStage, services: Services) -> Budget:
    """Price of the first teacher of a stage."""
    for name in step.stage.teachers(step.config):
        return budget_of(services.chat(name)) or Budget("")
    return Budget("")


def _usual(step: PlannedStage, context: StageContext[Any], calls: Calls, budget: Budget) -> Calls:
    """The same requests with the tokens that they usually take."""
    if not calls.count:
        return calls
    per_character = budget.tokens_per_character or TOKENS_PER_OTHER_CHARACTER
    shares = (LIKELY_PER_OTHER / per_character, LIKELY_PER_ASCII / TOKENS_PER_ASCII_CHARACTER)
    prompt = round(calls.prompt_tokens * min(1.0, sum(shares) / 2))
    reply = min(calls.reply_tokens, round(calls.count * _reply(step, context, calls)))
    return replace(calls, prompt_tokens=prompt, reply_tokens=reply, usd=budget.usd(prompt, reply))


def _reply(step: PlannedStage, context: StageContext[Any], calls: Calls) -> float:
    """Tokens of a usual reply."""
    config = step.config
    if isinstance(config, SynthesizeConfig) and context.has("chunks"):
        chunks = context.read("chunks", Chunk)
        rows = sum(rows_of_chunk(config, row, "likely") for row in chunks)
        return 20 + REPLY_OF_ROW * rows / max(1, len(chunks) * len(config.active_modes))
    if isinstance(config, ParaphraseConfig) and isinstance(config.source, TeacherSource):
        source = config.source
        named = REPLY_OF_STYLE if source.styles else 0
        return 20 + (REPLY_OF_WORDING + named) * source.count
    usual = REPLY_OF_CALL.get(step.stage.name)
    return SHARE_OF_LONGEST * calls.reply_tokens / calls.count if usual is None else usual
