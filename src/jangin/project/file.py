"""The project file as one pydantic model; all problems are reported at once, with line numbers."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, ValidationError
from pydantic.json_schema import GenerateJsonSchema

from jangin.core.config import Config, Runtime, StageConfig
from jangin.core.errors import ConfigError
from jangin.core.execution.settings import Cluster, LocalMachine
from jangin.core.prompts import Wording, wording_problems
from jangin.documents.chunk import ChunkConfig
from jangin.documents.index import IndexConfig
from jangin.documents.load import LoadConfig, would_read
from jangin.documents.ocr.corrections import LOG as OCR_LOG
from jangin.documents.queries import QueriesConfig
from jangin.documents.rank import RankConfig
from jangin.documents.search import SearchConfig
from jangin.evaluation.evaluate import EvaluateConfig
from jangin.evaluation.select import SelectConfig
from jangin.examples.curate import CurateConfig
from jangin.examples.evolve import EvolveConfig
from jangin.examples.formats.additions import FILES
from jangin.examples.judge import JudgeConfig
from jangin.examples.paraphrase import ParaphraseConfig
from jangin.examples.read import ReadConfig
from jangin.examples.review import ReviewConfig
from jangin.examples.reviews.log import LOG, document_decisions, read_log
from jangin.examples.split import SplitConfig
from jangin.examples.synthesize import SynthesizeConfig
from jangin.models.catalog import CatalogConfig
from jangin.project.problems import Location, Problem, describe, line_of, relevant
from jangin.project.stages import STAGES
from jangin.project.teachers import Teacher
from jangin.project.tracking.table import AnyTracker
from jangin.project.yaml_source import load_yaml, parse_yaml
from jangin.training.continue_sft import ContinueSftConfig
from jangin.training.dpo import DpoConfig
from jangin.training.preferences import PreferencesConfig
from jangin.training.pretrain import PretrainConfig
from jangin.training.sft import SftConfig
from jangin.training.warm_start import WarmStartConfig

SECTIONS = ("documents", "examples", "models")
TEACHER_KEYS = frozenset({"teacher", "judge", "model", "of"})
"""Keys in the settings of stages that hold the name of a teacher."""


class Spending(Config):
    """A spending limit; a run stops cleanly before it exceeds it."""

    usd: float = Field(gt=0)
    """US dollars. If variants differ, the smallest limit applies."""


class Documents(Config):
    """Settings of the `documents` section. A stage is on when its key is present."""

    load: LoadConfig | None = None
    chunk: ChunkConfig | None = None
    index: IndexConfig | None = None
    queries: QueriesConfig | None = None
    search: SearchConfig | None = None
    rank: RankConfig | None = None


class Examples(Config):
    """Settings of the `examples` section. A stage is on when its key is present."""

    read: ReadConfig | None = None
    synthesize: SynthesizeConfig | None = None
    evolve: EvolveConfig | None = None
    review: ReviewConfig | None = None
    paraphrase: ParaphraseConfig | None = None
    judge: JudgeConfig | None = None
    curate: CurateConfig | None = None
    split: SplitConfig | None = None


class Models(Config):
    """Settings of the `models` section. A stage is on when its key is present."""

    catalog: CatalogConfig | None = None
    select: SelectConfig | None = None
    pretrain: PretrainConfig | None = None
    warm_start: WarmStartConfig | None = None
    sft: SftConfig | None = None
    continue_sft: ContinueSftConfig | None = None
    preferences: PreferencesConfig | None = None
    dpo: DpoConfig | None = None
    evaluate: EvaluateConfig | None = None


class Project(Config):
    """One variant of a project. Sections contain stages; a stage is on when its key is present."""

    name: str = Field(min_length=1)
    """Name of the project and of its model."""
    budget: Runtime[Spending | None] = None
    """Spending limit of all teachers together over the whole life of the store."""
    track: Runtime[tuple[AnyTracker, ...]] = ()
    """Trackers that get settings, metrics and results: `mlflow`, `wandb`, `tensorboard`, `trackio`,
    or a mapping such as `{type: mlflow, uri: ...}`. Each needs the pip extra of its name."""
    cluster: Runtime[Cluster] = LocalMachine()
    """Where stages do their work: on this machine, or `{type: ray}`, on the nodes of a cluster."""
    store: Runtime[Annotated[str, Field(pattern=r"^(s3://[^/\s]+(/\S*)?)?$")]] = ""
    """Bucket of an S3-compatible object store, such as `s3://bucket/rules`, where machines share
    finished artifacts; the folder `store/` is then the working copy. Needs the pip extra `s3`."""
    store_options: Runtime[dict[str, str | bool | int]] = Field(default_factory=dict)
    """Options of that object store, such as `endpoint`, `region` or `virtual_hosted_style_request`
    (see obstore's `S3Config`). Without them, `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`,
    `AWS_SECRET_ACCESS_KEY` and `AWS_PROFILE` apply."""
    teachers: dict[str, Teacher] = Field(default_factory=dict)
    """Models that write or judge, by the name that stages refer to."""
    prompts: dict[str, dict[str, Wording]] = Field(default_factory=dict)
    """Your own wordings, by prompt and language; `jangin show prompts` lists the prompts."""
    documents: Documents = Documents()
    examples: Examples = Examples()
    models: Models = Models()

    def stage_config(self, stage: str) -> StageConfig | None:
        """The settings of a stage, or None when it is off."""
        for section in SECTIONS:
            config = getattr(getattr(self, section), stage, None)
            if isinstance(config, ParaphraseConfig):
                return self._without_tested(self._without_rejected(config))
            if isinstance(config, EvaluateConfig) and self.documents.index is not None:
                return config.beside_retrieval(trained_with_passages=self._reads_passages)
            if isinstance(config, StageConfig):
                return config
        return None

    @property
    def _reads_passages(self) -> bool:
        """Whether the tuned model is trained with passages."""
        stages = (self.models.sft, self.models.continue_sft)
        return any(stage is not None and stage.passages is not None for stage in stages)

    def _without_tested(self, config: ParaphraseConfig) -> ParaphraseConfig:
        """No question is reworded that `split` only asks."""
        split = self.examples.split
        if split is None or config.not_from or not split.test_sources:
            return config
        return config.model_copy(update={"not_from": split.test_sources})

    def _without_rejected(self, config: ParaphraseConfig) -> ParaphraseConfig:
        """No question is reworded that the judge's scores make `curate` drop."""
        judge, curate = self.examples.judge, self.examples.curate
        if judge is None or curate is None or config.min_score or not curate.min_score:
            return config
        return config.model_copy(update={"min_score": curate.min_score})


class ProjectFile(Project):
    """The whole file: a project and its variants."""

    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Named overrides of the file; variants share every artifact whose settings are the same."""


@dataclass(frozen=True, slots=True)
class LoadedProject:
    """A project file that was read and is valid."""

    path: Path
    name: str
    variants: dict[str, Project]
    """By name, in the file's order; one called `main` where the file has no variants."""
    root: yaml.Node | None = field(default=None, compare=False, repr=False)
    """The file with its line marks."""

    @property
    def folder(self) -> Path:
        """Folder in which relative paths of the file start."""
        return self.path.parent

    @property
    def named_files(self) -> frozenset[Path]:
        """Resolved paths that a setting of any variant names, and of what jangin keeps beside it.

        They are not forgotten documents: rows, recorded replies, decisions of people.
        """
        paths = {Path(LOG), Path(OCR_LOG), *map(Path, FILES.values())}
        for project in self.variants.values():
            paths |= {*_paths_in(project)}
        return frozenset({self.path.resolve(), *((self.folder / path).resolve() for path in paths)})

    def locate(self, variant: str, stage: str, keys: tuple[str, ...] = ()) -> str:
        """`FILE:LINE: SECTION.STAGE.KEYS` of a setting, with the line of its deepest known key."""
        location = (section_of(stage), stage, *keys)
        line = _line(self.path, self.root, ("variants", variant, *location))
        return f"{line}: {'.'.join(location)}"


def _paths_in(value: object) -> Iterator[Path]:
    """All paths of settings, those in lists and mappings too; the empty path is none."""
    if isinstance(value, Path):
        if value.parts:
            yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _paths_in(getattr(value, name))
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _paths_in(entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _paths_in(entry)


def _line(path: Path, root: yaml.Node | None, location: Location) -> str:
    """`FILE:LINE` of a setting; without a line where the project was not read from a file."""
    return f"{path}:{line_of(root, location)}" if root is not None else str(path)


def section_of(stage: str) -> str:
    """The section of the project file that a stage belongs to."""
    sections: tuple[tuple[str, type[Config]], ...] = (
        ("documents", Documents),
        ("examples", Examples),
        ("models", Models),
    )
    return next(name for name, config in sections if stage in config.model_fields)


def open_project(path: Path) -> LoadedProject:
    """Read and check a project file; raises `ConfigError` with one line per problem."""
    if path.is_dir():
        path = path / "project.yaml"
    if not path.exists():
        raise ConfigError(
            f"{path} does not exist. Name a project file, or make a new project with: "
            "jangin new NAME"
        )
    return _checked(*load_yaml(path), path)


def parse_project(text: str, path: Path) -> LoadedProject:
    """Check the text of a project file at `path`, which need not be written; otherwise the same."""
    return _checked(*parse_yaml(text.encode(), path), path)


def _checked(data: Any, root: yaml.Node | None, path: Path) -> LoadedProject:
    if not isinstance(data, dict):
        raise ConfigError(
            f"{path}:1: a project file consists of keys such as `name:` and `documents:`. "
            "Start from: jangin new NAME"
        )
    return check_project(data, path, root)


def check_project(
    given: Mapping[str, Any], path: Path, root: yaml.Node | None = None
) -> LoadedProject:
    """The project that these keys describe, as those of a project file at `path`.

    `root` is the file with its line marks. Raises `ConfigError` with one line per problem.
    """
    data = dict(given)
    variants = data.pop("variants", None) or {}
    problems = _variant_problems(variants)
    projects = {}
    if not problems:
        named = variants or {"main": {}}
        for name, overrides in named.items():
            merged = _merge(data, overrides or {})
            merged = _with_review(_with_additions(merged, path.parent), path.parent)
            merged = _with_replaced(_switch(merged), path.parent)
            project = _validate(merged, problems, ("variants", name) if variants else ())
            if project is not None:
                problems += _wiring_problems(project, ("variants", name) if variants else ())
                projects[name] = project
    if problems:
        lines = {f"{_line(path, root, p.location)}: {p.text}": None for p in problems}
        raise ConfigError("\n".join(lines))
    return LoadedProject(path, next(iter(projects.values())).name, projects, root)


def _validate(
    data: dict[str, Any], problems: list[Problem], variant: tuple[str, ...]
) -> Project | None:
    try:
        return Project.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        wrong = relevant(ProjectFile, error.errors())
        problems += [Problem(p["loc"], describe(ProjectFile, p), variant) for p in wrong]
        return None


def _variant_problems(variants: object) -> list[Problem]:
    if not isinstance(variants, dict):
        return [
            Problem(("variants",), "variants: must map the name of each variant to its overrides")
        ]
    return [
        Problem(
            ("variants", str(name)), f"variants.{name}: must be nested keys that override the file"
        )
        for name, overrides in variants.items()
        if overrides is not None and not isinstance(overrides, dict)
    ]


def _has_type_of(value: dict[str, Any], old: dict[str, Any]) -> bool:
    return "type" not in value or bool(value["type"] == old.get("type"))


def _merge(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """`base` updated with `overrides`, key by key; another `type` replaces the whole mapping."""
    merged = dict(base)
    for key, value in overrides.items():
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and _has_type_of(value, old):
            merged[key] = _merge(old, value)
        else:
            merged[key] = value
    return merged


def lacks_user_questions(loaded: LoadedProject) -> bool:
    """Whether a project is tested, and neither on questions of users nor on rows of a table."""
    splits = [
        project.stage_config("split")
        for project in loaded.variants.values()
        if project.stage_config("evaluate") is not None
    ]
    return bool(splits) and not any(
        isinstance(split, SplitConfig) and (split.test_sources or split.test) for split in splits
    )


def _with_additions(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Read the rows that people added beside the project file, unless the file names them."""
    examples = data.get("examples")
    if not isinstance(examples, dict) or not {"read", "synthesize"} & {*examples}:
        return data
    files = [name for name in FILES.values() if (folder / name).is_file()]
    read = examples.get("read") or {}
    if not isinstance(read, dict) or examples.get("read") is False:
        return data
    further = list(read.get("further") or ())
    named = {str(file.get("path")) for file in (read, *further) if isinstance(file, dict)}
    rows = [
        {"path": name, "format": {"type": "chat"}} for name in files if Path(name).name not in named
    ]
    if not rows:
        return data
    first, *others = ([read, *further] if read else []) + rows
    changed = {**examples, "read": {**first, "further": others} if others else first}
    split = examples.get("split", False)
    if FILES["question"] in files and split is not False and isinstance(split or {}, dict):
        sources = {*((split or {}).get("test_sources") or ()), FILES["question"]}
        changed["split"] = {**(split or {}), "test_sources": sorted(sources)}
    return {**data, "examples": changed}


def _switch(data: dict[str, Any]) -> dict[str, Any]:
    """`stage:` alone turns a stage on with defaults, `stage: off` turns it off."""
    switched = dict(data)
    for section in SECTIONS:
        stages = switched.get(section)
        if isinstance(stages, dict):
            switched[section] = {
                name: {} if config is None else config
                for name, config in stages.items()
                if config is not False
            }
        elif stages is None:
            switched.pop(section, None)
    return switched


def _with_review(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Turn the stage `review` on where people have decided about examples, unless it is named."""
    examples = data.get("examples")
    if not isinstance(examples, dict) or "review" in examples or not (folder / LOG).is_file():
        return data
    if not {"read", "synthesize"} & {*examples} or _ignores_reviews(examples):
        return data
    return {**data, "examples": {**examples, "review": {}}}


def _with_replaced(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Let `load.replaces` have what people decided between documents that are read.

    Then nothing of a replaced document is read, asked about, tested or searched.
    """
    examples, documents = data.get("examples"), data.get("documents")
    load = documents.get("load") if isinstance(documents, dict) else None
    review = examples.get("review") if isinstance(examples, dict) else None
    if not isinstance(load, dict) or not isinstance(review, dict):
        return data
    log = folder / str(review.get("path", LOG))
    try:
        if not log.is_file() or b'"replaces"' not in log.read_bytes():
            return data
        config = LoadConfig.model_validate_json(json.dumps(load, default=str), strict=True)
    except (OSError, ValidationError):
        return data  # said where the file is checked, or where the stage reads the log
    replaces = {name: list(olds) for name, olds in config.replaces.items()}
    for each in document_decisions(read_log(log)):
        if each.decision == "replaces" and each.documents is not None:
            new, old = (document.source for document in each.documents)
            if would_read(config, folder, new) and would_read(config, folder, old):
                replaces[new] = sorted({*replaces.get(new, ()), old})
    return {**data, "documents": {**data["documents"], "load": {**load, "replaces": replaces}}}


def _ignores_reviews(examples: Mapping[str, Any]) -> bool:
    """True if the split is configured to use rows as they were before the review."""
    split = examples.get("split")
    return isinstance(split, dict) and split.get("review") == "ignored"


def _key_of_teacher(settings: Any, name: str) -> tuple[str | int, ...]:
    """Path of the first key in the settings of a stage that names this teacher."""
    entries = settings.items() if isinstance(settings, dict) else enumerate(settings)
    for key, value in entries:
        if key in TEACHER_KEYS and value == name:
            return (key,)
        if isinstance(value, dict | list) and (inner := _key_of_teacher(value, name)):
            return (key, *inner)
    return ()


def _wiring_problems(project: Project, variant: tuple[str, ...]) -> list[Problem]:
    """Unknown teachers, and stages whose inputs no stage produces."""
    problems = [
        Problem(("prompts", *location), text, variant)
        for location, text in wording_problems(project.prompts)
    ]
    kinds: set[str] = set()
    for stage in STAGES:
        config = project.stage_config(stage.name)
        if config is None:
            continue
        location = (section_of(stage.name), stage.name)
        for name in stage.teachers(config):
            if name not in project.teachers:
                known = ", ".join(project.teachers) or "none"
                key = (*location, *_key_of_teacher(config.model_dump(mode="json"), name))
                text = (
                    f"{'.'.join(map(str, key))}: no teacher is called {name!r} "
                    f"(known: {known}). Add it under `teachers:`"
                )
                problems.append(Problem(key, text, variant))
        for kind in (*stage.reads, *stage.wants(config)):
            if kind not in kinds:
                makers = " or ".join(s.name for s in STAGES if kind in s.makes)
                text = (
                    f"{'.'.join(location)}: needs {kind}, which no earlier stage produces. "
                    f"Turn on {makers}"
                )
                problems.append(Problem(location, text, variant))
        kinds.update(stage.makes)
    split, review = project.stage_config("split"), project.stage_config("review")
    if isinstance(split, SplitConfig) and split.review == "ignored" and review is not None:
        text = (
            "examples.split.review: `ignored` contradicts the stage examples.review, which is on. "
            "Remove one of the two keys"
        )
        problems.append(Problem(("examples", "split", "review"), text, variant))
    problems += _passage_problems(project, variant)
    if not kinds:
        problems.append(
            Problem((), "no stage is on. Add `documents:` with `load:` to start", variant)
        )
    return problems


def _passage_problems(project: Project, variant: tuple[str, ...]) -> Iterator[Problem]:
    """Stages that would train a model on without the passages that `sft` trains it with."""
    sft = project.stage_config("sft")
    if not isinstance(sft, SftConfig) or sft.passages is None:
        return
    for name in ("continue_sft", "preferences", "dpo"):
        config = project.stage_config(name)
        if config is None or (isinstance(config, SftConfig) and config.passages is not None):
            continue
        remedy = (
            "Set `passages` there, too"
            if name == "continue_sft"
            else "Remove it, or `passages` of sft"
        )
        text = (
            f"models.{name}: `sft` trains with passages, and {name} would train the model to "
            f"answer without them. {remedy}"
        )
        yield Problem(("models", name), text, variant)


class _UntitledFields(GenerateJsonSchema):
    """Leaves out the titles that pydantic derives from field names."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002  pydantic's name
        return False


def project_schema() -> str:
    """JSON Schema of the project file, for editors."""
    schema = ProjectFile.model_json_schema(schema_generator=_UntitledFields)
    schema["title"] = "jangin project file"
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def dump_yaml(data: dict[str, Any]) -> str:
    """YAML text with the keys in order and Hangul unescaped."""
    return str(yaml.safe_dump(data, allow_unicode=True, sort_keys=False))
