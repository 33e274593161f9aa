"""Styles and automatic numbers of a Word document: heading levels, `제1조`, `가.`, bullets."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jangin.documents.office.ordinals import ordinal
from jangin.documents.readers.archive import attribute, child, children, number

LEVELS = 9
BULLET = "- "
FORMATS = {
    "decimal": "decimal", "none": "none", "bullet": "none", "upperRoman": "ROMAN",
    "lowerRoman": "roman", "upperLetter": "LETTER", "lowerLetter": "letter", "ordinal": "ordinal",
    "decimalZero": "zero", "ganada": "ganada", "chosung": "chosung", "koreanDigital": "hangul",
    "koreanCounting": "hangul", "koreanLegal": "hangul", "koreanDigital2": "hanja",
    "decimalEnclosedCircle": "circle", "decimalEnclosedCircleChinese": "circle",
    "decimalEnclosedParen": "paren", "decimalEnclosedFullstop": "stop",
    "decimalFullWidth": "full_width", "ideographDigital": "hanja_digits",
    "chineseCounting": "hanja", "japaneseCounting": "hanja", "ideographTraditional": "gapja",
    "ideographEnclosedCircle": "circle_hanja",
}  # fmt: skip
"""Word's names of number formats, and the styles of `ordinals` that print them."""


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a list."""

    style: str
    text: str
    """The number as it is printed, `%1` for that of the first level: `제%1조`."""
    start: int
    restart: int
    """The level whose numbers restart this one; 0 for none, 1 for the first."""
    suffix: str
    """What follows the number: `tab`, `space` or `nothing`."""
    is_bullet: bool
    is_decimal: bool
    """True if the numbers of upper levels are printed in digits, against their own format."""


@dataclass(slots=True)
class _List:
    """An abstract list: its levels, and the current count of each."""

    levels: dict[int, Level] = field(default_factory=dict)
    counts: list[int | None] = field(default_factory=lambda: [None] * LEVELS)


@dataclass(frozen=True, slots=True)
class Style:
    """A paragraph style with what it inherits."""

    name: str = ""
    outline: int | None = None
    """Level in the outline, 0 for the highest."""
    list_id: str | None = None
    list_level: int | None = None
    hidden: bool = False


class Numbering:
    """Counts the numbered paragraphs of a document in their order."""

    def __init__(self, root: Any) -> None:
        """Read `word/numbering.xml`; None for a document without lists."""
        self._lists: dict[str, _List] = {}
        self._of: dict[str, tuple[str, dict[int, int], dict[int, Level]]] = {}
        self._begun: set[tuple[str, int]] = set()
        links: dict[str, str] = {}
        named: dict[str, str] = {}
        for element in children(root, "abstractNum"):
            key = attribute(element, "abstractNumId")
            self._lists[key] = _List(dict(map(_level, children(element, "lvl"))))
            if (link := child(element, "numStyleLink")) is not None:
                links[key] = attribute(link, "val")
            if (name := child(element, "styleLink")) is not None:
                named[attribute(name, "val")] = key
        for element in children(root, "num"):
            target = child(element, "abstractNumId")
            key = attribute(target, "val") if target is not None else ""
            key = named.get(links.get(key, ""), key)
            starts, levels = {}, {}
            for override in children(element, "lvlOverride"):
                level = number(attribute(override, "ilvl"))
                if (start := child(override, "startOverride")) is not None:
                    starts[level] = number(attribute(start, "val"), 1)
                if (own := child(override, "lvl")) is not None:
                    levels[level] = _level(own)[1]
            self._of[attribute(element, "numId")] = (key, starts, levels)

    def count(self, list_id: str, level: int) -> str | None:
        """The number of the next paragraph of a list with the blank after it, `- ` for a bullet.

        None if there is no such list or level.
        """
        if list_id not in self._of or not 0 <= level < LEVELS:
            return None
        key, starts, own = self._of[list_id]
        known = self._lists.get(key)
        if known is None:
            return None
        levels = known.levels | own
        if level not in levels:
            return None
        if level in starts and (list_id, level) not in self._begun:
            known.counts[level] = None
            first = starts[level]
        else:
            first = levels[level].start
        self._begun.add((list_id, level))
        before = known.counts[level]
        known.counts[level] = first if before is None else before + 1
        for deeper in range(level + 1, LEVELS):
            restart = levels[deeper].restart if deeper in levels else deeper
            if level < restart:
                known.counts[deeper] = None
        for upper in range(level):
            if known.counts[upper] is None and upper in levels:
                known.counts[upper] = levels[upper].start
        return _printed(levels, level, known.counts)


def _printed(levels: Mapping[int, Level], level: int, counts: list[int | None]) -> str:
    shown = levels[level]
    if shown.is_bullet:
        return BULLET

    def one(match: re.Match[str]) -> str:
        index = int(match[1]) - 1
        value = counts[index] if 0 <= index < LEVELS else None
        if value is None or index not in levels:
            return ""
        style = levels[index].style
        legal = shown.is_decimal and style not in ("none", "zero")
        return ordinal("decimal" if legal else style, value)

    text = re.sub(r"%([1-9])", one, shown.text).strip()
    return f"{text} " if text and shown.suffix != "nothing" else text


def _level(element: Any) -> tuple[int, Level]:
    def value(name: str, default: str) -> str:
        node = child(element, name)
        return default if node is None else attribute(node, "val")

    index = number(attribute(element, "ilvl"))
    kind = value("numFmt", "decimal")
    legal = child(element, "isLgl")
    return index, Level(
        style=FORMATS.get(kind, "decimal"),
        text=value("lvlText", ""),
        start=number(value("start", "0")),
        restart=number(value("lvlRestart", str(index)), index),
        suffix=value("suff", "tab"),
        is_bullet=kind == "bullet",
        is_decimal=legal is not None and attribute(legal, "val", "1") not in ("0", "false"),
    )


def read_styles(root: Any) -> dict[str, Style]:
    """{id: style} of `word/styles.xml`, with what styles inherit; the default style is under ``."""
    raw: dict[str, Any] = {}
    default = ""
    for element in children(root, "style"):
        raw[attribute(element, "styleId")] = element
        if attribute(element, "type") == "paragraph" and attribute(element, "default") in (
            "1",
            "true",
        ):
            default = attribute(element, "styleId")
    done: dict[str, Style] = {}
    for key in raw:
        _inherit(key, raw, done)
    done[""] = done.get(default, Style())
    return done


def _inherit(key: str, raw: Mapping[str, Any], done: dict[str, Style]) -> None:
    """Fill in a style and those that it is based on, the base first; a circle ends."""
    chain: list[str] = []
    while key in raw and key not in done and key not in chain:
        chain.append(key)
        base = child(raw[key], "basedOn")
        key = "" if base is None else attribute(base, "val")
    style = done.get(key, Style())
    for one in reversed(chain):
        element = raw[one]
        name = child(element, "name")
        list_id, level = list_of(child(element, "pPr"))
        outline = outline_of(child(element, "pPr"))
        vanish = child(element, "rPr", "vanish")
        style = Style(
            name="" if name is None else attribute(name, "val"),
            outline=style.outline if outline is None else outline,
            list_id=style.list_id if list_id is None else list_id,
            list_level=style.list_level if level is None else level,
            hidden=style.hidden if vanish is None else is_on(vanish),
        )
        done[one] = style


def list_of(properties: Any) -> tuple[str | None, int | None]:
    """(list, level) that paragraph properties set, each None if they do not."""
    numbering = child(properties, "numPr")
    key, level = child(numbering, "numId"), child(numbering, "ilvl")
    return (
        None if key is None else attribute(key, "val"),
        None if level is None else number(attribute(level, "val")),
    )


def outline_of(properties: Any) -> int | None:
    """Level in the outline that paragraph properties set: 0 to 8, 9 for text; None if unset."""
    outline = child(properties, "outlineLvl")
    return None if outline is None else number(attribute(outline, "val"), 9)


def is_on(element: Any) -> bool:
    """True for a switch such as `<w:vanish/>` that is there and not off."""
    return element is not None and attribute(element, "val", "1") not in ("0", "false", "off")
