"""Questions that documents answer differently: no file's name or place decides which is right.

Two rows of different documents ask the same if one wording of each has the same content words, or
if the clauses that they quote are the same up to the amounts and each answer has its own clause's
amount. Two rows of one document ask the same if their questions have the same words. They
contradict each other if their answers differ in facts, not in wording: see `text.contradiction`.
A row also contradicts another document of which no row asks the same, if its evidence stands there
with another amount, another date or a negation: see `documents.versions`. The families of both,
with all wordings and what evolved from them, are left out of training and tests until a person
decides. Where there are documents, a table of a user's own rows counts as one more.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import TYPE_CHECKING, NamedTuple

from jangin.core.digest import short_digest
from jangin.core.parquet import batches_of
from jangin.core.reasons import Reason
from jangin.core.records import Example, Record
from jangin.documents.versions import ChangedPassage, Statement, SuspectedVersions
from jangin.examples.formats.additions import FILES
from jangin.examples.reviews.log import (
    ACCEPTED,
    NamedDocument,
    ReviewableTexts,
    ReviewDecision,
    edit,
    renamed,
)
from jangin.text.contradiction import (
    Amount,
    Difference,
    Said,
    agrees,
    aligned,
    alike_passages,
    difference,
    is_clause,
    masked,
    question_key,
    said,
)
from jangin.text.normalize import letters_and_digits, text_key

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ANSWERS = 40
"""Different answers of one document to one question that are compared with those of others."""


class ConflictSide(Record):
    """What one document says."""

    document: str
    """Id of the document, the digest of its bytes; of a table of own rows, `own:` and its name."""
    source: str
    page: int
    section: str
    question: str
    """Empty for a passage about which there is no row."""
    answer: str
    """Of such a passage, its words."""
    evidence: str
    example: str
    """Id of the example with this question; empty for such a passage."""
    family: str


class Conflict(Record):
    """A question that has different answers in documents; none of its rows is taught or asked."""

    id: str
    difference: Difference
    """In what they differ."""
    sides: tuple[ConflictSide, ...]
    """What each document says, in the order of their ids; a document may say several things."""

    @property
    def question(self) -> str:
        """The question of the first file, in order of name, about which there is a row."""
        rows = sorted(self.sides, key=lambda side: (side.source, side.page, side.example))
        return next((side.question for side in rows if side.question), "")

    @property
    def sources(self) -> tuple[str, ...]:
        """The files, in order of name; a single one that contradicts itself."""
        return tuple(sorted({side.source for side in self.sides}))

    def disagree(self, one: ConflictSide, two: ConflictSide) -> bool:
        """True for sides of two documents, and for two of one document that contradict it."""
        if one.document != two.document:
            return True
        same_words = text_key(one.question) == text_key(two.question)
        return same_words and bool(
            difference(said(one.answer), said(two.answer), same_question=True)
        )


class SourcedRow(NamedTuple):
    """What is compared of a row that has a document."""

    row: int
    """Number of the row among all examples."""
    id: str
    family: str
    kind: str
    document: str
    source: str
    page: int
    section: str
    evidence: str
    question: str
    answer: str
    context: str
    """Equal for rows with the same prompt up to the question."""
    accepted: bool = False
    """True if a person accepted or edited it."""


NEEDED = (
    *("id", "family", "kind", "document_id", "source", "page", "section", "evidence"),
    *("prompt", "completion", "scores"),
)
OWN = "own:"
"""Begins the id of a table of own rows, which has no bytes in the store."""


@dataclass(slots=True)
class Contradictions:
    """The conflicts of some rows, and the families that take part in them."""

    conflicts: list[Conflict] = field(default_factory=list)
    of_family: dict[str, Conflict] = field(default_factory=dict)


def sourced_rows(
    batches: "Callable[[Sequence[str]], Iterable[pa.RecordBatch]]", left: Callable[[int], bool]
) -> list[SourcedRow]:
    """The rows of documents and, beside these, of own tables; `left` says which rows count."""
    if not any(any(batch.column(0).to_pylist()) for batch in batches(["document_id"])):
        return []
    rows, first = [], 0
    for batch in batches(NEEDED):
        for index, row in enumerate(batch.select(NEEDED).to_pylist(), first):
            if not row["document_id"] and row["source"] and row["source"] not in FILES.values():
                row["document_id"] = f"{OWN}{row['source']}"
            if row["document_id"] and left(index):
                rows.append(_sourced(index, row))
        first += batch.num_rows
    return rows


def _sourced(index: int, row: Mapping[str, object]) -> SourcedRow:
    prompt: list[dict[str, str]] = row["prompt"]  # type: ignore[assignment]  # rows of Arrow
    last = max((i for i, m in enumerate(prompt) if m["role"] == "user"), default=-1)
    context = [f"{m['role']}:{text_key(m['content'])}" for i, m in enumerate(prompt) if i != last]
    values = {name: row[name] for name in NEEDED[:8]}
    values["document"] = values.pop("document_id")
    scores: list[dict[str, str]] = row["scores"]  # type: ignore[assignment]  # rows of Arrow
    answer: str = row["completion"]["content"]  # type: ignore[index]  # rows of Arrow
    return SourcedRow(
        row=index,
        question=prompt[last]["content"] if last >= 0 else "",
        answer=answer,
        context="\n".join(context),
        accepted=any(score["scorer"] == ACCEPTED for score in scores),
        **values,  # type: ignore[arg-type]  # rows of Arrow
    )


def replaced_rows(
    rows: Iterable[SourcedRow], decisions: Iterable[ReviewDecision]
) -> dict[int, Reason]:
    """{number of a row: why} of the rows of documents that others replace, as people decided."""
    pairs = [each.documents for each in decisions if each.decision == "replaces"]
    known = [
        (old, Reason("replaced", name=new.source, other=old.source))
        for new, old in filter(None, pairs)
    ]
    return {
        row.row: reason
        for row in rows
        for old, reason in known
        if old.is_one(row.document, row.source)
    }


def find_contradictions(
    rows: Sequence[SourcedRow],
    decisions: Iterable[ReviewDecision] = (),
    versions: Sequence[SuspectedVersions] = (),
) -> Contradictions:
    """The conflicts between documents, the same whatever the order of the rows.

    `versions` are the passages of all documents that differ, also those without a row.

    Two documents of which each holds under its own condition contradict each other only where their
    questions have the same words: nobody could tell which of them is meant.
    """
    decided = [(each.decision, each.documents) for each in decisions if each.documents is not None]
    search = _Search(rows, [pair for decision, pair in decided if decision == "both_hold"])
    search.by_question(lambda row: text_key(row.question), same_words=True)
    if len({row.document for row in rows}) > 1:
        search.by_question(lambda row: question_key(row.question), same_words=False)
        search.by_clause()
    old = [pair[1] for decision, pair in decided if decision == "replaces"]
    search.by_passage(
        [
            change
            for pair in versions
            for change in pair.changed
            if not any(
                each.is_one(side.document, side.source)
                for each in old
                for side in (change.one, change.two)
            )
        ]
    )
    return search.result()


def with_conditions(
    rows: Sequence[Example],
    decisions: Sequence[ReviewDecision],
    versions: Sequence[SuspectedVersions] = (),
) -> tuple[list[Example], int]:
    """(the rows with the conditions that people named in their questions, number of changed ones).

    The questions that two documents answer differently begin with the condition of each. A row
    with another question has another id; what evolved from it names the new one.
    """
    named = [each for each in decisions if each.conditions is not None and each.documents]
    if not named:
        return list(rows), 0
    sourced = sourced_rows(lambda names: batches_of(rows, Example, names), lambda _: True)
    others = [each for each in decisions if each.decision != "both_hold"]
    gone = replaced_rows(sourced, others)
    search = find_contradictions([row for row in sourced if row.row not in gone], others, versions)
    conditions: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for each in named:
        for conflict in search.conflicts:
            for document, condition in _conditions(conflict, each):
                for side in conflict.sides:
                    if document.is_one(side.document, side.source):
                        conditions[side.document, side.family].setdefault(condition)
    changed: dict[str, Example] = {}
    for row in rows:
        if own := conditions.get((row.document_id, row.family)):
            question = f"{', '.join(own)}: {row.question}"
            after = ReviewableTexts(question=question, answer=row.answer, evidence=row.evidence)
            changed[row.id] = edit(row, after).model_copy(update={"scores": row.scores})
    return [renamed(changed.get(row.id, row), changed) for row in rows], len(changed)


def _conditions(conflict: Conflict, decision: ReviewDecision) -> list[tuple[NamedDocument, str]]:
    """The two documents of a decision with their conditions, if they disagree in the conflict.

    Two that agree and that a third one contradicts do not.
    """
    pairs = list(zip(decision.documents or (), decision.conditions or (), strict=True))
    ones, twos = (
        [side for side in conflict.sides if document.is_one(side.document, side.source)]
        for document, _ in pairs
    )
    disagree = any(
        not (one.example and two.example)
        or difference(said(one.answer), said(two.answer), same_question=True)
        for one, two in product(ones, twos)
    )
    return pairs if disagree else []


class _Search:
    """Pairs of contradicting rows, and what they add up to."""

    def __init__(
        self,
        rows: Sequence[SourcedRow],
        both_hold: Sequence[tuple[NamedDocument, NamedDocument]],
    ) -> None:
        self._rows = rows
        self._both_hold = both_hold
        self._said: dict[str, Said] = {}
        self._judged: dict[tuple[str, str, bool], Difference] = {}
        self._edges: dict[tuple[int, int], Difference] = {}
        self._passages: dict[int, dict[Statement, Difference]] = defaultdict(dict)
        """{position of a row: passages of other documents that contradict it, without a row}."""

    def by_question(self, key: Callable[[SourcedRow], str], *, same_words: bool) -> None:
        groups: dict[tuple[str, str], list[int]] = defaultdict(list)
        for position, row in enumerate(self._rows):
            if name := key(row):
                groups[row.context, name].append(position)
        for group in groups.values():
            if len(group) < 2:
                continue
            for one, two in combinations(self._distinct(group), 2):
                if self._may_contradict(one, two, same_words=same_words):
                    self._compare(one, two, same_words=same_words)

    def _may_contradict(self, one: int, two: int, *, same_words: bool) -> bool:
        """Within a document only questions themselves do: a wording of another may be too broad."""
        first, second = self._rows[one], self._rows[two]
        if first.document == second.document:
            own = first.document.startswith(OWN)
            return same_words and not own and "paraphrase" not in (first.kind, second.kind)
        return same_words or not self._may_differ(one, two)

    def _may_differ(self, one: int, two: int) -> bool:
        """True if people decided that each of the two documents holds under its condition."""
        return self._each_holds(self._rows[one], self._rows[two])

    def _each_holds(self, first: SourcedRow | Statement, second: SourcedRow | Statement) -> bool:
        return any(
            (a.is_one(first.document, first.source) and b.is_one(second.document, second.source))
            or (b.is_one(first.document, first.source) and a.is_one(second.document, second.source))
            for a, b in self._both_hold
        )

    def _distinct(self, group: Iterable[int]) -> Iterator[int]:
        """One row for each family of a document, up to a number of different answers."""
        seen: set[tuple[str, str]] = set()
        answers: dict[str, set[str]] = defaultdict(set)
        rows = self._rows
        for position in sorted(group, key=lambda p: (rows[p].kind == "paraphrase", rows[p].id)):
            row = rows[position]
            known = answers[row.document]
            key = text_key(row.answer)
            if (row.document, row.family) in seen or len(known | {key}) > MOST_ANSWERS:
                continue
            known.add(key)
            seen.add((row.document, row.family))
            yield position

    def _compare(self, one: int, two: int, *, same_words: bool) -> None:
        first, second = self._rows[one].answer, self._rows[two].answer
        key = (first, second, same_words)
        if key not in self._judged:
            self._judged[key] = difference(
                self._says(first), self._says(second), same_question=same_words
            )
        if self._judged[key]:
            self._edges.setdefault((one, two), self._judged[key])

    def _says(self, text: str) -> Said:
        if text not in self._said:
            self._said[text] = said(text)
        return self._said[text]

    def by_clause(self) -> None:
        """Rows whose clauses differ in an amount that their answers have."""
        own: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        for position, row in enumerate(self._rows):
            if row.kind != "paraphrase" and row.evidence.strip():
                own[row.document, row.context, row.evidence].append(position)
        read_all = {clause: masked(clause[2]) for clause in own}
        clauses = [clause for clause in own if is_clause(read_all[clause][0])]
        read = [read_all[clause] for clause in clauses]
        for one, two in alike_passages(
            [text for text, _ in read], [name for name, _, _ in clauses]
        ):
            if clauses[one][1] != clauses[two][1]:
                continue
            changed = _changed(read[one][1], read[two][1])
            for mine, theirs in aligned(read[one][1], read[two][1]):
                self._join(
                    [p for p in own[clauses[one]] if self._has(p, mine, theirs)],
                    [p for p in own[clauses[two]] if self._has(p, theirs, mine)],
                    changed,
                )

    def by_passage(self, passages: Sequence[ChangedPassage]) -> None:
        """Rows on passages that another document has with other amounts, dates or negation."""
        own: dict[str, list[int]] = defaultdict(list)
        quoted: dict[int, str] = {}
        for position, row in enumerate(self._rows):
            if row.kind != "paraphrase" and (quote := letters_and_digits(row.evidence)):
                own[row.document].append(position)
                quoted[position] = quote
        changed = [each for each in passages if not self._each_holds(each.one, each.two)]
        for each in changed:
            ones, twos = (
                [p for p in own[mine.document] if self._is_on(p, quoted[p], mine, theirs)]
                for mine, theirs in ((each.one, each.two), (each.two, each.one))
            )
            self._join_passages(each, ones, twos)
            for mine, others, passage in ((ones, twos, each.two), (twos, ones, each.one)):
                for p in mine:
                    known = any({(p, o), (o, p)} & self._edges.keys() for o in others)
                    if not known and not self._rows[p].accepted:
                        self._passages[p].setdefault(passage, each.kind)

    def _is_on(self, position: int, quote: str, mine: Statement, theirs: Statement) -> bool:
        """True if what a row says is in a passage that another document has otherwise."""
        row, words = self._rows[position], letters_and_digits(mine.text)
        if row.page != mine.page or not (quote in words or words in quote):
            return False
        changed, _ = _changed(said(mine.text).amounts, said(theirs.text).amounts)
        answer, question = self._says(row.answer), self._says(row.question)
        if not changed:
            return quote in words or _covers(question.words | answer.words, said(mine.text).words)
        if answer.amounts:
            return any(agrees(a, b) for a in answer.amounts for b in changed)
        return bool(question.amounts)

    def _join_passages(
        self, changed: ChangedPassage, ones: Sequence[int], twos: Sequence[int]
    ) -> None:
        """Join the rows of both passages that ask for the same."""
        (first, mine), (second, theirs) = masked(changed.one.text), masked(changed.two.text)
        if first != second:
            self._join(ones, twos, _changed(mine, theirs), changed.kind)
            return
        for amount, other in aligned(mine, theirs):
            self._join(
                [p for p in ones if self._has(p, amount, other)],
                [p for p in twos if self._has(p, other, amount)],
                _changed(mine, theirs),
                changed.kind,
            )

    def _has(self, position: int, amount: Amount, other: Amount) -> bool:
        """True if the answer of a row has an amount, and not the other one."""
        amounts = self._says(self._rows[position].answer).amounts
        return any(agrees(a, amount) for a in amounts) and not any(
            agrees(a, other) for a in amounts
        )

    def _join(
        self,
        ones: Iterable[int],
        twos: Sequence[int],
        changed: tuple[Sequence[Amount], Sequence[Amount]],
        kind: Difference = "amount",
    ) -> None:
        """Join rows that ask for the same; `changed` are the amounts that only one clause has."""
        for one in ones:
            for two in twos:
                if self._may_differ(one, two) or self._ask_for_others(one, two, changed):
                    continue
                self._edges.setdefault((min(one, two), max(one, two)), kind)

    def _ask_for_others(
        self, one: int, two: int, changed: tuple[Sequence[Amount], Sequence[Amount]]
    ) -> bool:
        """True if the questions name other numbers: 휴가 1종 and 휴가 2종 are two matters."""
        numbers = [self._says(self._rows[row].question).amounts for row in (one, two)]
        if all(_changed(*numbers)):
            return True
        return any(
            agrees(amount, own)
            for amounts, mine in zip(numbers, changed, strict=True)
            for amount in amounts
            for own in mine
        )

    def result(self) -> Contradictions:
        """Conflicts of families that are connected by contradicting rows."""
        parent: dict[str, str] = {}

        def root(name: str) -> str:
            while parent.setdefault(name, name) != name:
                name = parent[name]
            return name

        for one, two in self._edges:
            first, second = sorted((root(self._rows[one].family), root(self._rows[two].family)))
            parent[second] = first
        members: dict[str, set[int]] = defaultdict(set)
        kinds: dict[str, set[Difference]] = defaultdict(set)
        for (one, two), kind in self._edges.items():
            members[root(self._rows[one].family)].update((one, two))
            kinds[root(self._rows[one].family)].add(kind)
        passages: dict[str, set[Statement]] = defaultdict(set)
        for one, against in self._passages.items():
            name = root(self._rows[one].family)
            members[name].add(one)
            kinds[name].update(against.values())
            passages[name].update(against)
        originals = {row.id: p for p, row in enumerate(self._rows) if row.id == row.family}
        result = Contradictions()
        for name, positions in members.items():
            chosen = {originals.get(self._rows[p].family, p) for p in positions}
            told = [*_sides(self._rows[p] for p in chosen)]
            documents = {side.document for side in told}
            alone = [each for each in passages[name] if each.document not in documents]
            sides = sorted((*told, *map(_side, alone)), key=_place)
            identity = sorted({row.family for row in (self._rows[p] for p in positions)})
            conflict = Conflict(
                id=short_digest({"conflict": identity}),
                difference=min(kinds[name], key=_ORDER.index),
                sides=tuple(sides),
            )
            result.conflicts.append(conflict)
            result.of_family |= dict.fromkeys(identity, conflict)
        result.conflicts.sort(key=lambda each: (each.sides[0].document, each.id))
        return result


_ORDER: tuple[Difference, ...] = ("amount", "date", "negation", "words", "")


def _sides(rows: Iterable[SourcedRow]) -> Iterator[ConflictSide]:
    for row in {row.family: row for row in rows}.values():
        yield ConflictSide(
            document=row.document,
            source=row.source,
            page=row.page,
            section=row.section,
            question=row.question,
            answer=row.answer,
            evidence=row.evidence,
            example=row.id,
            family=row.family,
        )


def _side(passage: Statement) -> ConflictSide:
    return ConflictSide(
        document=passage.document,
        source=passage.source,
        page=passage.page,
        section=passage.section,
        question="",
        answer=passage.text,
        evidence="",
        example="",
        family="",
    )


def _place(side: ConflictSide) -> tuple[str, str, str]:
    return side.document, side.family, side.answer


def _changed(
    one: Sequence[Amount], two: Sequence[Amount]
) -> tuple[Sequence[Amount], Sequence[Amount]]:
    """The amounts of each that the other has not."""
    first, second = (
        [amount for amount in mine if not any(agrees(amount, other) for other in theirs)]
        for mine, theirs in ((one, two), (two, one))
    )
    return first, second


def _covers(words: Collection[str], passage: Collection[str]) -> bool:
    """True if a row has half of the words of a passage, so that it is about it."""
    return 2 * sum(word in words for word in passage) >= len(passage)


def why(conflict: Conflict, document: str) -> Reason:
    """The reason to leave out a row of a document: what the others say, and where."""
    others = [side for side in conflict.sides if side.document != document]
    sides = others or [*conflict.sides]
    shown = "; ".join(f"{side.source}, page {side.page}: {side.answer!r}" for side in sides[:3])
    return Reason("contradicted" if others else "contradicts_itself", sides=shown)
