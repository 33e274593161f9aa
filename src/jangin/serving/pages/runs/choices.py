"""What a person chooses to start a project: teacher, base model, recipe."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

from jangin.llm.endpoint import find_key, keep_key
from jangin.llm.offers import Available, available
from jangin.llm.providers import BY_NAME, PROVIDERS, Provider
from jangin.models.catalog import Size
from jangin.project.setup.scaffold import (
    RECIPES,
    Choices,
    Endpoint,
    Known,
    OwnRows,
    PretrainedBase,
    Recorded,
    StarterBase,
    teacher_of,
)
from jangin.serving.pages.visit import PageError

SIZES: tuple[Size, ...] = get_args(Size)
MOST_LISTED = 50
MOST_LINE_BYTES = 4_000_000
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
"""In capitals, as they are everywhere: a key that is pasted here by mistake has small letters."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029\ufeff]")


@dataclass(frozen=True, slots=True)
class Options:
    """What there is to choose from on this machine."""

    replies: Mapping[str, int]
    """{file of recorded replies beside the project file: number of replies}."""
    hub_models: tuple[str, ...]
    """Ids of the models in the cache of `huggingface_hub`."""
    local_models: tuple[tuple[str, str], ...]
    """(`local` or `gguf`, path relative to the project file)."""
    teachers: tuple[Available, ...] = ()
    """Providers whose key is known, and servers that answer on this machine."""

    @property
    def usable(self) -> tuple[Available, ...]:
        """Those that can be asked."""
        return tuple(each for each in self.teachers if not each.problem)

    @property
    def providers(self) -> tuple[tuple[Provider, Available | None], ...]:
        """The table of providers with what is known of each, those that can be asked first."""
        known = {each.provider.name: each for each in self.teachers}
        rows = [(row, known.get(row.name)) for row in PROVIDERS]
        return tuple(sorted(rows, key=lambda row: row[1] not in self.usable))

    @property
    def teacher(self) -> str:
        """The teacher that can answer already; empty where there is none."""
        return "recorded" if self.replies else "provider" if self.usable else ""


def options_of(folder: Path) -> Options:
    """Collect the choices from the project's folder and the cache of models."""
    recordings = sorted(path for path in folder.glob("*.jsonl") if is_recording(path))
    return Options(
        {path.name: count_lines(path) for path in recordings[:MOST_LISTED]},
        tuple(cached_models())[:MOST_LISTED],
        tuple(local_models(folder))[:MOST_LISTED],
        tuple(available()),
    )


def is_recording(path: Path) -> bool:
    """True for a file of recorded replies."""
    return bool(recorded_model(path))


def count_lines(path: Path) -> int:
    """Number of lines of a file, read in pieces."""
    with path.open("rb") as stream:
        return sum(piece.count(b"\n") for piece in iter(lambda: stream.read(1 << 20), b""))


def recorded_model(path: Path) -> str:
    """Name of the model in a file of recorded replies; empty where it is none."""
    try:
        with path.open("rb") as stream:
            row = json.loads(stream.readline(MOST_LINE_BYTES))
        return str(row["request"]["model"]) if "reply" in row else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def cached_models() -> list[str]:
    """Ids of hub models whose config is in the cache."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return [
        folder.name.removeprefix("models--").replace("--", "/", 1)
        for folder in sorted(Path(HF_HUB_CACHE).glob("models--*"))
        if any(folder.glob("snapshots/*/config.json"))
    ]


def local_models(folder: Path) -> list[tuple[str, str]]:
    """Model folders and GGUF files in the project's folder, or in `models` there."""
    known: list[tuple[str, str]] = []
    for parent in (folder, folder / "models"):
        if not parent.is_dir():
            continue
        for path in sorted(parent.iterdir()):
            if path.name.startswith("."):
                continue
            name = path.relative_to(folder).as_posix()
            if path.suffix == ".gguf" and path.is_file():
                known.append(("gguf", name))
            elif (path / "config.json").is_file():
                known.append(("local", name))
    return known


def choices_of(
    form: Mapping[str, str], folder: Path, documents: str, rows: Sequence[OwnRows] = ()
) -> Choices:
    """The choices that a form makes.

    Raises:
        PageError: one of them is missing or cannot be.

    """
    recipe = form.get("recipe", RECIPES[0])
    if recipe not in RECIPES:
        raise PageError(400, "start_choose", what=recipe[:40])
    return Choices(
        name=_line(form.get("name", "")) or folder.resolve().name,
        documents=documents,
        teacher=_teacher(form, folder),
        base=_base(form),
        recipe=recipe,
        budget_usd=_budget(form.get("budget", "")),
        rows=tuple(rows),
    )


def _teacher(form: Mapping[str, str], folder: Path) -> Known | Endpoint | Recorded:
    kind = form.get("teacher", "")
    if kind == "recorded":
        name = form.get("replies", "")
        if Path(name).name != name or not is_recording(folder / name):
            raise PageError(400, "start_no_replies")
        return Recorded(recorded_model(folder / name), name)
    if kind == "provider":
        return _known(form)
    if kind != "endpoint":
        raise PageError(400, "start_choose", what="teacher")
    model = _line(form.get("model", ""))
    if not model:
        raise PageError(400, "start_no_model")
    address = _line(form.get("base_url", ""))
    try:
        parts = urlsplit(address)
        is_right = parts.scheme in ("http", "https") and parts.netloc and not parts.username
    except ValueError:  # such as a bracket that is not closed
        is_right = False
    if not is_right:
        raise PageError(400, "start_wrong_address", address=address[:80])
    return Endpoint(model, address, _variable(form.get("key_variable", "")))


def _known(form: Mapping[str, str]) -> Known:
    """A teacher of the table of providers; a key that is given is tried before it is kept."""
    provider = BY_NAME.get(form.get("provider", ""))
    if provider is None:
        raise PageError(400, "start_choose", what=form.get("provider", "")[:40])
    variable, key = provider.key_variable, "".join(form.get("key", "").split())
    before = os.environ.get(variable)
    if key and variable:
        os.environ[variable] = key
    elif variable and not find_key(variable):
        raise PageError(400, "start_no_key", name=provider.title)
    answer = next(iter(available((provider,))), Available(provider, ()))
    if answer.problem:
        if key and before is None:
            del os.environ[variable]
        elif key and before is not None:
            os.environ[variable] = before
        raise PageError(400, "start_key_refused", why=answer.problem)
    if key and form.get("keep_key"):
        keep_key(variable, key)
    teacher = teacher_of(answer)
    model = _line(form.get("provider_model", ""))
    if teacher is None and not model:
        raise PageError(400, "start_no_model")
    if teacher is None:
        return Known(provider, model, None)
    if not model or model == teacher.model:
        return teacher
    offer = next((each for each in answer.offers if each.model == model), None)
    return replace(
        teacher,
        model=model,
        checked=None if offer is None else teacher.checked,
        price=None if offer is None else offer.price,
    )


def _variable(name: str) -> str:
    """The name of an environment variable; a key itself is refused and not repeated."""
    stripped = name.strip()
    if stripped and not _VARIABLE.fullmatch(stripped):
        raise PageError(400, "start_key_is_no_name")
    return stripped


def _base(form: Mapping[str, str]) -> StarterBase | PretrainedBase:
    kind = form.get("base", "starter")
    if kind == "starter":
        size = form.get("size", "3M")
        if size not in SIZES:
            raise PageError(400, "start_choose", what=size[:40])
        return StarterBase(size)
    if kind == "hub":
        name = _line(form.get("hub", ""))
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
            raise PageError(400, "start_wrong_hub_name", name=name[:80])
        return PretrainedBase("hub", name)
    if kind == "local":
        path = _line(form.get("path", ""))
        if not path:
            raise PageError(400, "start_no_path")
        return PretrainedBase("gguf" if path.endswith(".gguf") else "local", path)
    raise PageError(400, "start_choose", what=kind[:40])


def _budget(text: str) -> float | None:
    if not text.strip():
        return None
    try:
        usd = float(text)
    except ValueError:
        usd = 0.0
    if not 0 < usd < 1_000_000:
        raise PageError(400, "start_wrong_budget")
    return usd


def _line(text: str) -> str:
    """A text on one line."""
    return " ".join(_CONTROL.sub(" ", text).split())[:300]
