"""`jangin show prompts`: the wordings that teachers are asked with."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from jangin.core.errors import ConfigError
from jangin.core.prompts import Prompt, Prompts, Wording
from jangin.project.file import open_project
from jangin.project.stages import STAGES


def prompts(project: Path, variant: str | None = None) -> Iterator[tuple[str, str]]:
    """(heading, full text) of the prompts that a variant uses, by default the first.

    All shipped wordings if no project file is named and the working directory has none.
    """
    own: Mapping[str, Mapping[str, Wording]] = {}
    asked_by: dict[str, list[str]] = {}
    if project.exists() or project != Path("project.yaml"):
        loaded = open_project(project)
        if variant is not None and variant not in loaded.variants:
            known = ", ".join(loaded.variants)
            raise ConfigError(f"{loaded.path} has no variant {variant!r}. Known variants: {known}.")
        chosen = loaded.variants[variant or next(iter(loaded.variants))]
        own = chosen.prompts
        for stage in STAGES:
            config = chosen.stage_config(stage.name)
            for name in stage.prompts(config) if config is not None else ():
                asked_by.setdefault(name, []).append(stage.name)
    for prompt in Prompts(own).all():
        if asked_by and prompt.name not in asked_by:
            continue
        wording = "your own" if prompt.language in own.get(prompt.name, {}) else "shipped"
        stages = f", used by {', '.join(asked_by[prompt.name])}" if prompt.name in asked_by else ""
        parts = [f"{part}:\n{_indented(text)}" for part, text in _texts(prompt) if text]
        yield f"{prompt.label}  {wording}{stages}", "\n".join(parts)


def _texts(prompt: Prompt) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("system", prompt.system), ("user", prompt.user)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())
