"""Load prompt templates by stage, language and version.

The wordings are in `templates/`, one YAML file per stage and `repair.yaml` for all of them:
{prompt: {language: {system, user}}}.
A project file may override them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from string import Template

from jangin.core.config import Config
from jangin.core.digest import short_digest
from jangin.core.records import Message

FALLBACK = "en"


class Wording(Config):
    """A prompt's two texts in one language; `$name` is a field to fill in, `$$` a dollar sign."""

    system: str
    """System message; may be empty."""
    user: str
    """User message."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A system and a user template in one language."""

    name: str
    language: str
    system: str
    user: str

    @property
    def digest(self) -> str:
        """Digest of the wording."""
        return short_digest([self.system, self.user])

    @property
    def label(self) -> str:
        """`name/language@digest`, as stored in examples."""
        return f"{self.name}/{self.language}@{self.digest}"

    @property
    def fields(self) -> frozenset[str]:
        """Names of the fields to fill in."""
        return frozenset(
            name for text in (self.system, self.user) for name in Template(text).get_identifiers()
        )

    def messages(self, **values: object) -> tuple[Message, ...]:
        """The filled-in conversation, without a system turn if that is empty.

        Raises:
            KeyError: A value is missing.

        """
        system = Template(self.system).substitute(values)
        user = Message(role="user", content=Template(self.user).substitute(values))
        return (Message(role="system", content=system), user) if self.system else (user,)


@dataclass(frozen=True, slots=True)
class Prompts:
    """The shipped prompts, overridden by those of a project."""

    own: Mapping[str, Mapping[str, Wording]] = field(default_factory=dict)
    """{name: {language: wording}}; checked by `wording_problems`."""

    def find(self, name: str, language: str) -> Prompt:
        """The template of this name in this language; falls back to English."""
        named = self.languages(name)
        return named.get(language, named[FALLBACK])

    def languages(self, name: str) -> dict[str, Prompt]:
        """All wordings of one prompt, by language."""
        own = {
            language: Prompt(name, language, wording.system, wording.user)
            for language, wording in self.own.get(name, {}).items()
        }
        return {**shipped()[name], **own}

    def digest(self, name: str) -> str:
        """Digest of a prompt in all its languages."""
        return short_digest({lang: p.digest for lang, p in sorted(self.languages(name).items())})

    def all(self) -> list[Prompt]:
        """Every prompt in every language, by name."""
        return [prompt for name in shipped() for prompt in self.languages(name).values()]


@cache
def shipped() -> dict[str, dict[str, Prompt]]:
    """The shipped prompts: {name: {language: prompt}}, sorted by name."""
    import yaml

    prompts = {}
    for path in (files("jangin.core") / "templates").iterdir():
        for name, wordings in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            prompts[name] = {
                language: Prompt(name, language, **wording)
                for language, wording in wordings.items()
            }
    return dict(sorted(prompts.items()))


def wording_problems(
    own: Mapping[str, Mapping[str, Wording]],
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield (location in the section, problem) for wordings that no stage uses or can fill in."""
    for name, wordings in own.items():
        if name not in shipped():
            known = ", ".join(shipped())
            yield (
                (name,),
                f"prompts.{name}: no stage uses a prompt of this name. Known names: {known}",
            )
            continue
        known_fields = shipped()[name][FALLBACK].fields
        for language, wording in wordings.items():
            problem = _wording_problem(Prompt(name, language, **dict(wording)), known_fields)
            if problem:
                yield (name, language), f"prompts.{name}.{language}: {problem}"


def _wording_problem(prompt: Prompt, known: frozenset[str]) -> str:
    if not all(Template(text).is_valid() for text in (prompt.system, prompt.user)):
        return "it has a single $. Write $$ for a dollar sign"
    if unknown := sorted(prompt.fields - known):
        names = ", ".join(f"${name}" for name in sorted(known))
        return f"${unknown[0]} is not a known field. Known fields: {names}"
    if missing := sorted(known - prompt.fields):
        return f"${missing[0]} is missing, so the model would not get it. Add it to the wording"
    return ""
