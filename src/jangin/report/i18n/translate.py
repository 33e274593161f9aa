"""The report in one language: sentences by their keys, and how figures are written."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Literal

from jangin.core.reasons import Reason
from jangin.metrics.scores.table import METRICS, find_metric
from jangin.project.tables import is_id
from jangin.text.korean import with_particles

Language = Literal["ko", "en"]


REASONS = "reasons.po"
"""Catalogue of stored reasons; every other file of a language has sentences by their keys."""


@cache
def strings(language: Language) -> dict[str, str]:
    """{key: sentence} of one language, from its gettext catalogues.

    Raises `ValueError` for a key that two of them have.
    """
    folder = files("jangin.report.i18n") / language
    sentences: dict[str, str] = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name in (REASONS, "__pycache__"):
            continue
        for key, sentence in _entries(path):
            if key in sentences:
                raise ValueError(f"{path}: another catalogue of {language} has {key!r} too")
            sentences[key] = sentence
    return sentences


@cache
def _korean() -> dict[str, str]:
    return dict(_entries(files("jangin.report.i18n") / "ko" / REASONS))


@cache
def reasons() -> list[tuple[re.Pattern[str], str]]:
    """(pattern of a stored English reason, its sentence in Korean), from their catalogue."""
    rows = _entries(files("jangin.report.i18n") / "ko" / REASONS)
    return [
        (re.compile(_FIELD.sub(_group, _NOUN.sub(_any_number, re.escape(e))), re.DOTALL), k)
        for e, k in rows
    ]


def _entries(path: Traversable) -> list[tuple[str, str]]:
    """(msgid, msgstr) of a gettext catalogue, in its order."""
    import polib

    return [(entry.msgid, entry.msgstr) for entry in polib.pofile(path.read_text("utf-8"))]


_VERBS = "are|have|were|give|form|repeat|say|use"
_NOUN = re.compile(rf"(\\\{{\w+\\\}}\\ (?:[a-z]+\\ )??[a-z]+)s\b(?:\\ ({_VERBS})\b)?")
"""Of an escaped English sentence: a field, a noun in the plural, and its verb."""
_SINGULAR = {
    "are": "is",
    "have": "has",
    "were": "was",
    "give": "gives",
    "form": "forms",
    "repeat": "repeats",
    "say": "says",
    "use": "uses",
}
_COUNTED = re.compile(
    r"\{(\w+)\} ((?:[a-z]+ )??[a-z]+?)(ies|s)\b"
    rf"(?:((?: of(?: [\w{{}}]+){{1,4}}?)?) ({_VERBS})\b)?"
)
"""Of an English sentence: the same, where `of ...` may stand before the verb."""


def _any_number(noun: re.Match[str]) -> str:
    """A noun that fits one, too: `core.errors.counted` writes `1 row is`."""
    verb = f"\\ (?:{noun[2]}|{_SINGULAR[noun[2]]})" if noun[2] else ""
    return f"{noun[1]}s?{verb}"


def _of_one(noun: re.Match[str], ones: Sequence[str]) -> str:
    """A counted noun and its verb, in the singular where the field is one of these."""
    if noun[1] not in ones:
        return noun[0]
    rest = f"{noun[4]} {_SINGULAR[noun[5]]}" if noun[5] else ""
    return f"{{{noun[1]}}} {noun[2]}{'y' if noun[3] == 'ies' else ''}{rest}"


_DIGEST = re.compile(r"\b[0-9a-f]{16}(과|와|은|는|이|가|을|를)?")
"""An id and the Korean particle after it."""
_PARTICLES = {"과": "와", "은": "는", "이": "가", "을": "를"}
"""{particle after a consonant: after a vowel}."""
_LOCATED = re.compile(r"((?:\S+:\d+: )?[\w.*-]+\.[\w.*-]+: |\S+:\d+: )([^\n]+)")
"""A message about a line of a file, or about a key: `project.yaml:3: models.sft: unknown key`."""
_LISTED = re.compile(r",? or |, ")
_SHARE = re.compile(r"([\d,]+) of ([^()]+) \((\d+%)\)")
"""Of a list of files: `11 of rows.csv (92%)`."""
_FIELD = re.compile(r"\\{(\w+)\\}")
_ONE_WORD = frozenset(("id", "share", "limit", "figure", "low", "high", "count", "stage"))


def _group(field: re.Match[str]) -> str:
    """The pattern of a field of a reason: a figure or name, or any text."""
    return rf"(?P<{field[1]}>{'[^ ;]+' if field[1] in _ONE_WORD else '.+?'})"


@dataclass(frozen=True, slots=True)
class Words:
    """Sentences and figures in one language."""

    language: Language

    def __call__(self, key: str, **values: Any) -> str:
        """The sentence with this key; whole numbers get thousands separators."""
        shown = {name: f"{v:,}" if isinstance(v, int) else v for name, v in values.items()}
        sentence = strings(self.language)[key]
        if self.language == "ko":
            sentence = with_particles(sentence, shown)
        elif ones := [name for name, value in shown.items() if value == "1"]:
            sentence = _COUNTED.sub(lambda noun: _of_one(noun, ones), sentence)
        return sentence.format(**shown)

    def reason(self, text: str) -> str:
        """A reason that a stage stored, in this language; as it is where there is no translation.

        A sentence, as older versions stored it, is found by its pattern; those joined by `; ` are
        translated one by one.
        """
        reason = text if isinstance(text, Reason) else Reason.read(text)
        if self.language == "en" or not reason:
            return reason
        if reason.key:
            return self._keyed(reason)
        for pattern, korean in reasons():
            match = pattern.fullmatch(text)
            if match is not None:
                values: dict[str, str] = match.groupdict()
                for name, value in values.items():
                    values[name] = self._field(name, value)
                return with_particles(korean, values).format(**values)
        located = _LOCATED.fullmatch(text)
        if located is not None:
            return f"{located[1]}{self.reason(located[2])}"
        for between in ("\n", "; "):
            first, joined, rest = text.partition(between)
            if joined:
                return f"{self.reason(first)}{joined}{self.reason(rest)}"
        return text

    def _keyed(self, reason: Reason) -> str:
        """The Korean sentence of a reason with a key."""
        if reason.parts:
            return "; ".join(map(self.reason, reason.parts))
        values = reason.shown()
        for name, value in values.items():
            inner = reason.values[name]
            values[name] = self._field(name, inner if isinstance(inner, Reason) else value)
        return with_particles(_korean()[Reason.template_of(reason.key)], values).format(**values)

    def reason_without_ids(self, text: str) -> str:
        """The same for a person: another row stands where its id was."""
        shown = self.reason(text)
        if self.language == "en":
            return _DIGEST.sub(self("data_another_row"), shown)
        # The particle after an id fits the id.
        return _DIGEST.sub(
            lambda id_: self("data_another_row") + _PARTICLES.get(id_[1], id_[1] or ""), shown
        )

    def _field(self, name: str, value: str) -> str:
        """What stands in a field of a reason: itself a reason, a name, a list, or as it is."""
        if name in ("reason", "text", "where", "ago", "what"):
            return self.reason(value)
        if name == "sentences":
            return self._sentences(value)
        if name in ("name", "set"):
            return self.known(f"name_{value.replace(' ', '_')}", value)
        if name in ("keys", "words"):
            listed = (word.partition(" in ") for word in _LISTED.split(value.replace("'", "")))
            return ", ".join(f"`{b}`의 `{key}`" if b else f"`{key}`" for key, _, b in listed)
        if name == "given":
            return f"`{value}`"
        if name == "list":
            return _SHARE.sub(r"\2 \1개(\3)", value)
        return value

    def _sentences(self, text: str) -> str:
        """`REASON REMEDY`, or `NAMES: REASON REMEDY`, with both sentences in this language."""
        for start in (0, *(colon.end() for colon in re.finditer(": ", text))):
            names, rest = text[:start], text[start:]
            for gap in re.finditer(r"(?<=\.) ", rest):
                both = (rest[: gap.start()], rest[gap.end() :])
                said = tuple(map(self.reason, both))
                if all(new != old for new, old in zip(said, both, strict=True)):
                    return names + " ".join(said)
        return text

    def known(self, key: str, otherwise: str) -> str:
        """The text with this key, or something else where there is none."""
        return strings(self.language).get(key, otherwise)

    def setting(self, path: str) -> str:
        """A setting with its path in the project file; the path alone where it has no name."""
        name = self.known(f"setting_{path.rpartition('.')[2]}", "")
        return f"{name} ({path})" if name else path

    def figure(self, path: str) -> str:
        """A figure of a summary, named by its keys; keys without a name as they are."""
        return " · ".join(
            self.known(f"figure_{key}", self.known(f"name_{key}", key)) for key in path.split(".")
        )

    def system(self, label: str) -> str:
        """Name of a system: ours in words, any other as the settings call it."""
        return self(label) if label in ("base", "tuned") else label

    def metric(self, name: str) -> str:
        """Display name of a metric."""
        return find_metric(name).display[self.language]

    def measure(self, name: str) -> str:
        """Display name of a metric, with a note where lower is better."""
        lower = "" if find_metric(name).higher_is_better else f" ({self('lower_is_better')})"
        return self.metric(name) + lower

    def is_share(self, name: str) -> bool:
        """True if scores of a metric are in [0, 1] and are shown in percent."""
        return find_metric(name).is_share

    def right(self, name: str) -> str:
        """Name of the share of right answers beside a metric, such as exact match."""
        return find_metric(name).right[self.language]

    def percent(self, share: float, digits: int = 0) -> str:
        """`94%` or `94 %`; a share that is neither 0 nor 1 is never rounded to one of them."""
        while digits < 3 and 0 < share < 1 and round(100 * share, digits) in (0.0, 100.0):
            digits += 1
        gap = "" if self.language == "ko" else "\N{NO-BREAK SPACE}"
        return f"{100 * share:.{digits}f}{gap}%"

    def interval(self, low: float, high: float, digits: int = 0) -> str:
        """`85~98%` or `85 to 98 %`."""
        dash, gap = ("~", "") if self.language == "ko" else (" to ", "\N{NO-BREAK SPACE}")
        return f"{100 * low:.{digits}f}{dash}{100 * high:.{digits}f}{gap}%"

    def duration(self, seconds: float) -> str:
        """`45초`, `12분` or `3시간 20분`; in English `45 s`, `12 min` or `3 h 20 min`."""
        units = ("시간", "분", "초") if self.language == "ko" else (" h", " min", " s")
        if seconds < 90:
            return f"{seconds:.0f}{units[2]}"
        minutes = round(seconds / 60)
        hours = f"{minutes // 60}{units[0]} " if minutes >= 90 else ""
        return f"{hours}{minutes % 60 if hours else minutes}{units[1]}"

    def points(self, difference: float, *, sign: bool = False) -> str:
        """A difference of shares in points: `12.5`, or `+12.5` with its sign."""
        figure = round(100 * difference, 1) or 0.0  # never -0.0
        return f"{figure:{'+' if sign and figure else ''}.1f}".replace("-", "−")


def p_text(p_value: float, *, name: bool = True) -> str:
    """`p = 0.00312`, or `p < 0.0001`; without its name only the figure."""
    small = p_value < 0.0001
    figure = "0.0001" if small else f"{p_value:.3g}" if p_value >= 0.001 else f"{p_value:.4f}"
    if not name:
        return f"< {figure}" if small else figure
    return f"p {'<' if small else '='} {figure}"


# Columns and values of tables as people read them, in one language.


TECHNICAL = frozenset(
    ("template", "temperature", "sample", "weights", "seed_word", "start", "end", "teacher")
)
NAMED = {
    "split": "set", "evidence_set": "name", "dimension": "slice", "rule": "rule",
    "scorer": "scorer",
}  # fmt: skip
"""{column: first part of the keys of its values}."""
SYSTEMS = frozenset(("system", "against", "a", "b"))
HOLDING_IDS = frozenset(("family", "request", "document"))
"""Columns that may hold an id, without being called one."""
_LONG_DIGEST = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{8,}\b")
"""People tell rows apart by its beginning."""
_SCORE = re.compile(r"([a-z_]+) (\d[\d.]*)")
"""Of a cell with all scores of a row."""
LONGEST_CELL = 180
"""Characters of a value in a table; all of it is on the page of the row."""


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
    return _text(words, column, str(value))


def _text(words: Words, column: str, text: str) -> str:
    """A text by the names of its column."""
    if column in ("reason", "remedy", "place"):
        return words.known(f"reason_{text}", "") or words.reason_without_ids(text)
    if is_id(column) or column in HOLDING_IDS:
        return _LONG_DIGEST.sub(r"\1", text)
    if column in NAMED:
        return words.known(f"{NAMED[column]}_{text}", text)
    if column in SYSTEMS:
        return words.system(text)
    if column == "measure" and text in METRICS:
        return words.metric(text)
    if column == "template":
        stage, _, language = text.partition("@")[0].partition("/")
        said = words.known(f"stage_{stage}", stage)
        spoken = words.known(f"value_language_{language}", language)
        return f"{said} ({spoken})" if language else said
    if column == "scores":
        return _SCORE.sub(lambda s: f"{words.known(f'scorer_{s[1]}', s[1])} {s[2]}", text)
    return words.known(f"value_{column}_{text}", text) if len(text) < 30 else text


def cell_text(words: Words, column: str, value: Any) -> str:
    """A value as text of bounded length on one line."""
    text = " ".join(value_text(words, column, value).split())
    return text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}…"
