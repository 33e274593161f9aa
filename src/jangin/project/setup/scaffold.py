"""`jangin new` and the page that starts a project: the project file for a few choices."""

import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

import yaml

from jangin.core.errors import ConfigError, DataError
from jangin.documents.load import LoadConfig, find_files
from jangin.documents.readers.folder import PROJECT_FILE, USUAL_FORMATS
from jangin.llm.offers import Available
from jangin.llm.prices import Price
from jangin.llm.providers import PROVIDERS, Provider
from jangin.models.catalog import Size

Recipe = Literal["questions", "compare", "preferences"]
RECIPES: tuple[Recipe, ...] = ("questions", "compare", "preferences")
"""Questions and answers about documents; the same with and without paraphrases as two variants;
the same followed by preference training."""
_PLAIN = re.compile(r"[\w가-힣./-][\w가-힣./: @+-]*")


@dataclass(frozen=True, slots=True)
class Known:
    """A teacher of the table of providers."""

    provider: Provider
    model: str
    checked: date | None
    """Day on which the provider offered the model; None where it is not known to."""
    price: Price | None = None
    """Where the provider's list of models has it."""

    def lines(self) -> list[str]:
        """The settings of the teacher."""
        seen = f"offered on {self.checked}; see " if self.checked is not None else "see "
        lines = [
            f"provider: {self.provider.name:<14} # or type: endpoint with any base_url",
            f"model: {scalar(self.model):<17} # {seen}{self.provider.models_page}",
        ]
        if self.price is not None:
            price = json.dumps(self.price.model_dump(exclude_none=True)).replace('"', "")
            lines.append(f"price: {price}   # of {self.checked}")
        return lines


def usual_teacher() -> Known:
    """The teacher of a new project where no other was chosen."""
    provider = PROVIDERS[0]
    if provider.suggestion is None:
        raise ValueError("the first provider has no suggestion")
    return Known(provider, provider.suggestion.model, provider.suggestion.checked)


def teacher_of(available: Available) -> Known | None:
    """A teacher of a provider that can be used; None where no model of it is known."""
    offer = available.best()
    if offer is None:
        return None
    suggestion = available.provider.suggestion
    checked = datetime.now(UTC).date()
    if not available.offers and suggestion is not None:
        checked = suggestion.checked
    return Known(available.provider, offer.model, checked, price=offer.price)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A teacher behind an OpenAI-compatible URL."""

    model: str
    base_url: str
    key_variable: str = ""
    """Name of the environment variable of the key; empty if none is needed."""

    def lines(self) -> list[str]:
        """The settings of the teacher."""
        address = f"base_url: {scalar(self.base_url)}   # or any OpenAI-compatible server"
        key = [f"key_variable: {scalar(self.key_variable)}"] if self.key_variable else []
        return ["type: endpoint", f"model: {scalar(self.model)}", address, *key]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A teacher whose replies are in a file."""

    model: str
    replies: str = "replies.jsonl"

    def lines(self) -> list[str]:
        """The settings of the teacher."""
        return [
            "type: recorded           # replies from a file: no network, no costs",
            f"model: {scalar(self.model)}",
            f"replies: {scalar(self.replies)}",
        ]


@dataclass(frozen=True, slots=True)
class StarterBase:
    """A small new model."""

    size: Size = "3M"

    def lines(self) -> list[str]:
        """The settings of the base."""
        note = "# a small new model without knowledge; or {type: local, path: FOLDER}"
        return [f"type: starter          {note}", f"size: {self.size}"]


@dataclass(frozen=True, slots=True)
class PretrainedBase:
    """A model that was trained elsewhere."""

    type: Literal["hub", "local", "gguf"]
    name: str
    """Id on the hub, or path of the folder or file."""

    def lines(self) -> list[str]:
        """The settings of the base."""
        key = "id" if self.type == "hub" else "path"
        return [f"type: {self.type}", f"{key}: {scalar(self.name)}"]


@dataclass(frozen=True, slots=True)
class OwnRows:
    """A table of questions and answers that is taught beside what the teacher writes."""

    path: str
    """Relative to the project file."""
    question: str
    """Name of its column."""
    answer: str
    all_of: tuple[str, tuple[str, ...]] | None = None
    """(column, its cells) where rows that it marks as not for use are used, too."""


def own_rows_lines(rows: OwnRows) -> tuple[str, str]:
    """The settings of one table under `read`."""
    prompt, completion = (
        json.dumps(f"{{{name}}}", ensure_ascii=False) for name in (rows.question, rows.answer)
    )
    steps = ""
    if rows.all_of is not None:
        column, cells = rows.all_of
        kept = json.dumps({"type": "filter", "column": column, "values": cells}, ensure_ascii=False)
        steps = f", steps: [{kept}]"
    return (
        f"path: {scalar(rows.path)}",
        f"format: {{type: table, prompt: {prompt}, completion: {completion}{steps}}}",
    )


@dataclass(frozen=True, slots=True)
class Choices:
    """Contents of a new project file; the defaults are those of `jangin new`."""

    name: str
    documents: str = "documents"
    """Folder relative to the project file."""
    teacher: Known | Endpoint | Recorded = field(default_factory=usual_teacher)
    base: StarterBase | PretrainedBase = field(default_factory=StarterBase)
    recipe: Recipe = "questions"
    budget_usd: float | None = None
    rows: tuple[OwnRows, ...] = ()
    """Tables of questions and answers of one's own."""


def project_text(choices: Choices) -> str:
    """The project file for these choices."""
    starter = isinstance(choices.base, StarterBase)
    method = ["type: full             # or {type: lora, r: 16, alpha: 32}"]
    if not starter:
        method = ["type: lora             # or {type: full}", "r: 16", "alpha: 32"]
    blocks = [
        "# A project of jangin. Every key is explained by: jangin schema",
        f"name: {json.dumps(choices.name, ensure_ascii=False)}",
    ]
    if choices.budget_usd is not None:
        blocks += ["budget:", f"  usd: {choices.budget_usd:g}            # a run stops before it"]
    blocks += ["", "teachers:", "  writer:", *_indented(choices.teacher.lines(), 4)]
    note = "# PDF, DOCX, HTML, Markdown and text; scans are read by OCR"
    blocks += ["", "documents:", "  load:", f"    folder: {scalar(choices.documents):<16} {note}"]
    note = "# variants with other base models then share chunks and questions"
    blocks += ["  chunk:", f"    measure: characters      {note}"]
    styles = [] if isinstance(choices.teacher, Recorded) else _STYLES
    blocks += [
        "",
        _EXAMPLES[0],
        *_read_lines(choices.rows),
        *_EXAMPLES[1:],
        *styles,
        *_SPLIT,
        *(_HELD_OUT if styles else ()),
        "",
        "models:",
        "  catalog:",
        "    base:",
    ]
    blocks += [*_indented(choices.base.lines(), 6), "  sft:", "    method:", *_indented(method, 6)]
    blocks += ["    length:", "      type: epochs", f"      epochs: {20 if starter else 3}"]
    if choices.recipe == "preferences":
        blocks += _PREFERENCES
    blocks += ["  evaluate:"]
    if choices.recipe == "compare":
        blocks += _VARIANTS
    return "\n".join(blocks) + "\n"


_EXAMPLES = (
    "examples:",
    "  synthesize:",
    "    teacher: writer",
    "  paraphrase:",
    "    source:",
    "      type: teacher          # or {type: file, path: FILE}",
    "      teacher: writer",
)
_STYLES = (
    "      count: 12",
    "      styles: [keywords, spoken, formal, typo, context, word_order]",
)
_SPLIT = (
    "  curate:",
    "  split:",
)
_HELD_OUT = ("    held_out_styles: 1       # wordings of one style are never taught, only tested",)
_PREFERENCES = (
    "  preferences:",
    "    sources:                 # rejected answers: what the tuned model samples and gets wrong",
    "      - type: sampling",
    "      - type: other_answers",
    "  dpo:",
    "    gate: warn               # a worse model is a warning; the report compares both",
)
_VARIANTS = (
    "",
    "variants:                    # two models that differ in one thing only",
    "  plain:",
    "    examples:",
    "      split:",
    "        training_paraphrases: 0",
    "  paraphrased:",
)


def _read_lines(rows: tuple[OwnRows, ...]) -> list[str]:
    """The block `read` of one's own tables; empty without any."""
    if not rows:
        return []
    first, *further = (own_rows_lines(each) for each in rows)
    lines = ["  read:", *(f"    {line}" for line in first)]
    if further:
        lines.append("    further:")
    for path, format in further:
        lines += [f"      - {path}", f"        {format}"]
    return lines


def _indented(lines: list[str], spaces: int) -> list[str]:
    return [" " * spaces + line for line in lines]


def scalar(text: str) -> str:
    """A text as a YAML value on one line, in quotes where YAML would read something else."""
    if _PLAIN.fullmatch(text) and text == text.strip():
        try:
            value: Any = yaml.safe_load(f"key: {text}")
        except yaml.YAMLError:
            value = None
        if value == {"key": text}:
            return text
    return json.dumps(text, ensure_ascii=False)


def check_new(folder: Path) -> tuple[str, int]:
    """(folder of the documents, their number) of a project that is to be made.

    Raises: ConfigError: there is a project already, or other files without a document among them.
    """
    path = folder / PROJECT_FILE
    if path.exists():
        raise ConfigError(f"{path} already exists. Edit it, or choose another name.")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file. Choose another name.")
    given, count = documents_in(folder)
    if folder.exists() and any(folder.iterdir()) and not count:
        raise ConfigError(
            f"{folder} already exists, is not empty and holds no document ({USUAL_FORMATS}). "
            "Choose another name, or put documents there."
        )
    return given, count


def make_project(folder: Path, teacher: Known | None = None) -> tuple[list[Path], int]:
    """Create a project file; returns (paths that were created, documents that were there).

    A folder that holds documents becomes a project with them: those below `documents` where there
    is such a folder, else all of them where they are. Raises `ConfigError` where there is a project
    already, other files without a document among them, or nothing can be written.
    """
    given, count = check_new(folder)
    path, documents = folder / PROJECT_FILE, folder / "documents"
    choices = Choices(folder.resolve().name, given, teacher or usual_teacher())
    text = project_text(choices)
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if not count:
            documents.mkdir(exist_ok=True)
    except OSError as error:
        # Half a file is no project, and would be in the way of the next try.
        with suppress(OSError):
            path.unlink()
            if is_new:
                folder.rmdir()
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}. Choose another folder."
        ) from error
    return [path] if count else [path, documents], count


def documents_in(folder: Path) -> tuple[str, int]:
    """(folder of the documents relative to `folder`, their number)."""
    for given in ("documents", "."):
        try:
            return given, len(find_files(LoadConfig(folder=Path(given)), folder))
        except DataError:
            continue
    return "documents", 0
