"""Files that may be two versions of one document, told from their chunks before anything is asked.

Their passages are alike, and some of these differ in numbers, dates or negation. Which one is newer
is a suggestion only: nothing is left out because of it.
"""

import re
import secrets
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

from pydantic import TypeAdapter

from jangin.core.digest import short_digest
from jangin.core.parquet import count_rows, read_table
from jangin.core.records import Chunk
from jangin.core.store import TABLES, Artifact
from jangin.text.contradiction import (
    Amount,
    aligned,
    are_alike,
    difference,
    is_clause,
    masked,
    resembling,
    said,
)

RULES = 1
"""Increase it when `suspected_versions` finds others in the same chunks."""
LEAST = 500
"""Chunks from which on the comparison is worth a file."""
MOST_FILES = 4
"""Results of comparing the files of a project that are kept."""
SHARE = 0.2
"""Least share of the smaller file's passages that the other has in about the same words."""
LONG = 12
"""Words from which on a single passage that differs is enough, whatever the share."""
_SENTENCE_END = re.compile(r"(?<=[^\d\s][.!?。])\s+|\n\s*\n|\n(?=\|)|(?<=\|)\n|(?=[\u2460-\u2473])")
_NUMBER = re.compile(r"\d[\d,.]*")
_IN_FORCE = re.compile(r"시행|발효|개정|effective|in\s+force|comes?\s+into\s+effect|revised", re.I)
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_NAMES = "|".join(f"{name}[a-z]*" for name in _MONTHS)
_YEAR = r"(?P<year>(?:19|20)\d\d)"
_DATES = tuple(
    re.compile(pattern, re.I)
    for pattern in (
        rf"(?<!\d){_YEAR}\s*[년.\-/_]\s*(?P<month>\d{{1,2}})(?:\s*[월.\-/_]\s*(?P<day>\d{{1,2}}))?(?!\d)",
        rf"\b(?P<day>\d{{1,2}})\.?\s+(?P<name>{_NAMES})\.?,?\s+{_YEAR}",
        rf"\b(?P<name>{_NAMES})\.?\s+(?:(?P<day>\d{{1,2}}),?\s+)?{_YEAR}",
    )
)
_YEAR_ALONE = re.compile(rf"(?<!\d){_YEAR}(?P<month>\d\d)?(?P<day>\d\d)?(?!\d)")

Date = tuple[int, int, int]
"""(year, month, day); 0 where it is not written."""


class Statement(NamedTuple):
    """A sentence or a row of a table."""

    document: str
    source: str
    page: int
    start: int
    """Offset of its chunk."""
    section: str
    """Its nearest heading."""
    text: str


class ChangedPassage(NamedTuple):
    """Two passages that are alike, and in what they differ."""

    one: Statement
    two: Statement
    kind: Literal["amount", "date", "negation"]
    values: tuple[tuple[str, str], ...]
    """The differing amounts as written, where they stand at the same places."""


@dataclass(frozen=True, slots=True)
class SuspectedVersions:
    """Two files, in order of their names, with the passages in which they differ."""

    sources: tuple[str, str]
    changed: tuple[ChangedPassage, ...]
    newer: str = ""
    """The file that seems newer; empty where nothing tells."""
    because: Literal["", "in_force", "name"] = ""
    """What tells: dates of lines such as `시행일`, or dates in the names of the files."""
    dates: tuple[str, str] = ("", "")
    """These dates, in the order of the files."""

    @property
    def older(self) -> str:
        """The file that seems older; empty where nothing tells."""
        return next((name for name in self.sources if self.newer and name != self.newer), "")


def suspected_versions(chunks: Sequence[Chunk]) -> list[SuspectedVersions]:
    """Pairs of files that may be versions of one document, those with most changes first.

    The order of the chunks makes no difference.
    """
    if len({chunk.document_id for chunk in chunks}) < 2:
        return []
    rows = sorted(set(_passages(chunks)))
    texts = [f"{_subject(row.section)} {row.text}" for row in rows]
    rough = [_NUMBER.sub("#", text.lower()).split() for text in texts]
    read: dict[int, tuple[str, tuple[Amount, ...]]] = {}
    pairs: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for one, two in resembling(rough, [row.document for row in rows]):
        for each in (one, two):
            if each not in read:
                read[each] = masked(texts[each])
        if is_clause(read[one][0]) and are_alike(read[one][0], read[two][0]):
            pairs[rows[one].source, rows[two].source].append((one, two))
    size = Counter(row.source for row, words in zip(rows, rough, strict=True) if len(words) > 1)
    in_force = _dates_in_force(chunks)
    result = []
    for sources, alike in pairs.items():
        changed, share = _changed(alike, rows, read), _share(alike, size, sources, rows)
        long = any(len(masked(each.one.text)[0].split()) >= LONG for each in changed)
        if changed and (share >= SHARE or long):
            result.append(_suggested(sources, tuple(changed), in_force))
    return sorted(result, key=lambda each: (-len(each.changed), each.sources))


def versions_of(chunks: Artifact) -> list[SuspectedVersions]:
    """Files of an artifact of `chunk` that may be versions; of many chunks, kept in the store."""
    rows = chunks.file("chunks.parquet")
    if count_rows(rows) < LEAST:
        return suspected_versions(read_table(rows, Chunk))
    digest = short_digest([RULES, chunks.manifest.content])
    path = chunks.folder.parent.parent / TABLES / f"versions.{digest}.json"
    form = TypeAdapter(list[SuspectedVersions])
    with suppress(OSError, ValueError):
        return form.validate_json(path.read_bytes())
    suspected = suspected_versions(read_table(rows, Chunk))
    with suppress(OSError):  # on a full disk they are compared again the next time
        path.parent.mkdir(exist_ok=True)
        partial = path.with_suffix(f".{secrets.token_hex(4)}")
        partial.write_bytes(form.dump_json(suspected))
        partial.rename(path)
        files = path.parent.glob("versions.*.json")
        for old in sorted(files, key=lambda file: file.stat().st_mtime)[:-MOST_FILES]:
            old.unlink(missing_ok=True)
    return suspected


def _passages(chunks: Sequence[Chunk]) -> Iterator[Statement]:
    for chunk in chunks:
        headings = [part.strip() for part in chunk.section.split(" > ")]
        lines = [line for line in chunk.text.split("\n") if line.strip() not in headings]
        for text in _SENTENCE_END.split("\n".join(lines)):
            if text and (words := " ".join(text.split())):
                origin = (chunk.document_id, chunk.source, chunk.page, chunk.start)
                yield Statement(*origin, headings[-1], words)


def _subject(heading: str) -> str:
    """A heading without the number of its article, which other versions number otherwise."""
    return re.sub(
        r"^(?:제\s*\d+\s*[장절조편관](?:의\s*\d+)?|(?:article|section)?\s*[\d.]+)", "", heading
    )


def _share(
    alike: Sequence[tuple[int, int]],
    size: Mapping[str, int],
    sources: tuple[str, str],
    rows: Sequence[Statement],
) -> float:
    """Share of the smaller file's passages that are in the other one, too."""
    smaller = min(sources, key=lambda name: (size[name], name))
    return len({i for pair in alike for i in pair if rows[i].source == smaller}) / size[smaller]


def _changed(
    alike: Sequence[tuple[int, int]],
    rows: Sequence[Statement],
    read: Mapping[int, tuple[str, tuple[Amount, ...]]],
) -> list[ChangedPassage]:
    """The alike passages that differ, each once; one that the other file has, too, does not."""
    same = {i for pair in alike if rows[pair[0]].text == rows[pair[1]].text for i in pair}
    used: set[int] = set()
    result = []
    for one, two in sorted(alike, key=lambda pair: (read[pair[0]][0] != read[pair[1]][0], pair)):
        if {one, two} & (same | used) or _tells_date(rows[one]) or _tells_date(rows[two]):
            continue
        values = tuple((_written(a), _written(b)) for a, b in aligned(read[one][1], read[two][1]))
        kind = difference(said(rows[one].text), said(rows[two].text))
        if read[one][0] == read[two][0] and values:
            kind = kind if kind == "date" else "amount"
        if kind in ("amount", "date", "negation"):
            used |= {one, two}
            shown = () if kind == "negation" else values
            result.append(ChangedPassage(rows[one], rows[two], kind, shown))
    return sorted(result, key=lambda each: each.one)


def _written(amount: Amount) -> str:
    """An amount with the word that it counts; an ordinal as `#2`, in any language."""
    if amount.unit == "nth":
        return f"#{amount.value}"
    if amount.text[-1:].isdigit() and amount.unit:
        return f"{amount.text}{' ' if amount.unit.isascii() else ''}{amount.unit}"
    return amount.text


def _tells_date(row: Statement) -> bool:
    """True for a line of when a version is in force, which differs in any two documents."""
    about = f"{row.section} {row.text}"
    return _IN_FORCE.search(about) is not None and any(p.search(row.text) for p in _DATES)


def _dates_in_force(chunks: Sequence[Chunk]) -> dict[str, Date]:
    """{file: latest date of its lines of when it is in force}."""
    latest: dict[str, Date] = {}
    for row in _passages(chunks):
        if _tells_date(row):
            latest[row.source] = max([latest.get(row.source, (0, 0, 0)), *_dates(row.text)])
    return latest


def _dates(text: str) -> list[Date]:
    matches = [match.groupdict() for pattern in _DATES for match in pattern.finditer(text)]
    return [date for each in matches if (date := _date(each)) is not None]


def _date(groups: dict[str, str | None]) -> Date | None:
    name = (groups.get("name") or "")[:3].lower()
    month = _MONTHS.index(name) + 1 if name else int(groups.get("month") or 0)
    day = int(groups.get("day") or 0)
    return (int(groups["year"] or 0), month, day) if month <= 12 and day <= 31 else None


def _date_in_name(source: str) -> Date | None:
    stem = PurePosixPath(source).stem
    dates = _dates(stem) or [
        date for m in _YEAR_ALONE.finditer(stem) if (date := _date(m.groupdict())) is not None
    ]
    return max(dates, default=None)


def _suggested(
    sources: tuple[str, str], changed: tuple[ChangedPassage, ...], in_force: dict[str, Date]
) -> SuspectedVersions:
    """With the file that seems newer; none where the lines and the names say different things."""
    lines = in_force.get(sources[0]), in_force.get(sources[1])
    names = _date_in_name(sources[0]), _date_in_name(sources[1])
    newer = [max(range(2), key=dates.__getitem__) for dates in map(_told, (lines, names)) if dates]
    if not newer or len(set(newer)) > 1:
        return SuspectedVersions(sources, changed)
    told = _told(lines) or _told(names)
    because: Literal["in_force", "name"] = "in_force" if _told(lines) else "name"
    return SuspectedVersions(
        sources, changed, sources[newer[0]], because, (_shown(told[0]), _shown(told[1]))
    )


def _told(dates: tuple[Date | None, Date | None]) -> tuple[Date, ...]:
    """Both dates if they differ as far as both are written, else nothing."""
    one, two = dates
    if one is None or two is None:
        return ()
    for a, b in zip(one, two, strict=True):
        if not a or not b:
            return ()
        if a != b:
            return one, two
    return ()


def _shown(date: Date) -> str:
    return "-".join(f"{part:02}" for part in date if part)
