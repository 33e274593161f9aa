"""What all pages of the data share: the variant that they are about, and how values are shown."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from jangin.core.store import Artifact
from jangin.project.tables.rows import is_id
from jangin.report.i18n.translate import Words
from jangin.serving.pages.project import OpenProject
from jangin.serving.pages.visit import PageError

TECHNICAL = frozenset(
    ("template", "temperature", "sample", "weights", "seed_word", "start", "end", "teacher")
)
_DIGEST = re.compile(r"\b[0-9a-f]{16}\b")
_DIGEST_WITH_PARTICLE = re.compile(r"\b[0-9a-f]{16}(과|와|은|는|이|가|을|를)?")
_PARTICLES = {"과": "와", "은": "는", "이": "가", "을": "를"}
"""{particle after a consonant: after a vowel}."""
LONGEST_CELL = 180
"""Characters of a value in a table; all of it is on the page of the row."""


@dataclass(frozen=True, slots=True)
class DataRoom:
    """The artifacts of one variant, and the names of all variants."""

    variant: str
    variants: tuple[str, ...]
    artifacts: Mapping[str, Artifact]
    """{stage: artifact} in the order in which data flows."""

    def address(self, path: str = "", **fields: object) -> str:
        """An address in this room, with the variant where there are several."""
        return address(f"/data{path}", variant=self._named, **fields)

    @property
    def _named(self) -> str:
        return self.variant if len(self.variants) > 1 else ""


def data_room(project: OpenProject, variant: str) -> DataRoom:
    """The data of a variant, by default of the first that has any.

    Raises: PageError: there is no such variant.
    """
    states = project.snapshot().variants
    if variant and variant not in states:
        raise PageError(404, "data_no_variant", variant=variant)
    chosen = variant or next((name for name, state in states.items() if state.last), "")
    chosen = chosen or next(iter(states))
    return DataRoom(chosen, tuple(states), states[chosen].last)


def address(path: str, **fields: object) -> str:
    """A path with a query of the fields that are not empty."""
    given = [(key, value) for key, value in fields.items() if value not in ("", None, False)]
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


def column_name(words: Words, column: str) -> str:
    """What a column is called."""
    return words.known(f"column_{column}", column.replace("_", " "))


def is_technical(column: str) -> bool:
    """True for fields that say how a row came about and not what it says."""
    return is_id(column) or column in TECHNICAL


def value_text(words: Words, column: str, value: Any) -> str:
    """A value as text; what stages write in English in the language of the page."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return words(f"data_{'yes' if value else 'no'}")
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    text = str(value)
    if column in ("reason", "remedy"):
        return reason_text(words, text)
    if column == "split":
        return words.known(f"set_{text}", text)
    if column == "rule":
        return words.known(f"rule_{text}", text)
    return words.known(f"value_{column}_{text}", text) if len(text) < 30 else text


def reason_text(words: Words, text: str) -> str:
    """A reason in the language of the page, without ids: a link leads to the other row."""
    shown = words.reason(text)
    if words.language == "en":
        return _DIGEST.sub(words("data_another_row"), shown)
    # The particle after an id fits the id.
    return _DIGEST_WITH_PARTICLE.sub(
        lambda match: words("data_another_row") + _PARTICLES.get(match[1], match[1] or ""), shown
    )


def cell_text(words: Words, column: str, value: Any) -> str:
    """A value as text of bounded length on one line."""
    text = " ".join(value_text(words, column, value).split())
    return text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}…"
