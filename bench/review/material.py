"""Rule books of invented organisations as chunks and rows, for planting faults in them."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jangin.core.records import Chunk, Example, Message


@dataclass(frozen=True, slots=True)
class Aspect:
    """One thing that a rule says about a subject."""

    sentence: str
    """With {s} for the subject and {v} for the value."""
    questions: tuple[str, ...]
    values: tuple[str, ...]
    answer: str = "{v}"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of fees: two columns of keys, and columns of figures."""

    title: str
    keys: tuple[str, str]
    rows: tuple[tuple[str, str], ...]
    columns: tuple[str, ...]
    question: str
    """With {g}, {n} and {c}: group, name, column."""
    vague: str
    """With {g} and {c} only."""
    unit: str


@dataclass(frozen=True, slots=True)
class Domain:
    """All that the rule books of one organisation are made of."""

    name: str
    files: Mapping[str, Sequence[str]]
    """{file: its subjects}."""
    aspects: Sequence[Aspect]
    common: Sequence[Aspect]
    """Sentences without their subject, which stands in the heading: {s} in the questions only."""
    tables: Sequence[Table]
    heading: str = "제{n}조({s})"


def make_row(question: str, answer: str, evidence: str, chunk: Chunk, **fields: object) -> Example:
    """A row about a chunk."""
    return Example.make(
        (Message(role="user", content=question),),
        Message(role="assistant", content=answer),
        chunk_ids=(chunk.id,),
        kind="original",
        evidence=evidence,
        document_id=chunk.document_id,
        source=chunk.source,
        page=chunk.page,
        section=chunk.section,
        **fields,
    )


def make_chunk(source: str, section: str, text: str, page: int) -> Chunk:
    """A chunk of a document that is called like its file."""
    name = f"{source} {section}"
    return Chunk(
        id=name, document_id=source, source=source, text=text, start=0, end=len(text),
        page=page, section=section,
    )  # fmt: skip


def make_material(domain: Domain, rng: random.Random) -> tuple[list[Example], list[Chunk]]:
    """Every subject with all aspects, in sections of four sentences; and the tables."""
    rows: list[Example] = []
    chunks: list[Chunk] = []
    number = 0
    for source, subjects in domain.files.items():
        for place, subject in enumerate(subjects):
            number += 1
            section = domain.heading.format(n=number, s=subject)
            aspects = [*domain.aspects]
            rng.shuffle(aspects)
            told = [*aspects, *domain.common]
            said = []
            for aspect in told:
                value = rng.choice(aspect.values)
                said.append((aspect, value, aspect.sentence.format(s=subject, v=value)))
            text = f"{section}\n" + " ".join(sentence for _, _, sentence in said)
            chunk = make_chunk(source, section, text, 1 + place // 3)
            chunks.append(chunk)
            for aspect, value, sentence in said:
                question = rng.choice(aspect.questions).format(s=subject)
                rows.append(make_row(question, aspect.answer.format(v=value), sentence, chunk))
    for table in domain.tables:
        rows += _of_table(table, chunks, rng)
    return rows, chunks


def _of_table(table: Table, chunks: list[Chunk], rng: random.Random) -> list[Example]:
    lines = ["| " + " | ".join((*table.keys, *table.columns)) + " |"]
    lines.append("| " + " | ".join("---" for _ in (*table.keys, *table.columns)) + " |")
    figures = {}
    for group, name in table.rows:
        for column in table.columns:
            figures[group, name, column] = f"{rng.randrange(11, 999) * 1000:,}"
        cells = [figures[group, name, column] for column in table.columns]
        lines.append("| " + " | ".join((group, name, *cells)) + " |")
    chunk = make_chunk(f"{table.title}.xlsx", table.title, "\n".join(lines), 1)
    chunks.append(chunk)
    rows = []
    for (group, name, column), figure in figures.items():
        evidence = next(line for line in lines if line.startswith(f"| {group} | {name} |"))
        question = table.question.format(g=group, n=name, c=column)
        rows.append(make_row(question, f"{figure}{table.unit}", evidence, chunk))
    return rows


Plant = Callable[["Planter", Example], Example | None]


@dataclass
class Planter:
    """Makes a faulty row out of a right one; None where the row does not lend itself to it."""

    domain: Domain
    rng: random.Random
    rows: Sequence[Example]
    chunks: list[Chunk]
    statements: Sequence[str]
    """With {s} for a subject: prompts that are no question, or depend on the text."""
    odd: Sequence[tuple[str, str]]
    """(letters, as they are misread)."""
    forms: Sequence[str]
    """With {v}: answers of another form."""

    def changed(self, row: Example, **texts: str) -> Example:
        """The row with other texts."""
        chunk = next(c for c in self.chunks if c.id == row.chunk_ids[0])
        question, answer = texts.get("question", row.question), texts.get("answer", row.answer)
        return make_row(question, answer, texts.get("evidence", row.evidence), chunk)

    def subject(self, row: Example) -> str:
        """The subject of the row's section."""
        inner = row.section.partition("(")[2].rstrip(")")
        return inner or row.section.lstrip("0123456789. ")

    def conflict(self, row: Example) -> Example | None:
        """An older version of the document says another number."""
        value = self.other_number(row.answer)
        if value is None or row.answer not in row.evidence:
            return None
        old = make_chunk(
            f"2019 {row.source}", row.section, row.evidence.replace(row.answer, value), row.page
        )
        self.chunks.append(old)
        return make_row(row.question, value, row.evidence.replace(row.answer, value), old)

    def other_number(self, text: str) -> str | None:
        """The text with another number."""
        import re

        match = re.search(r"\d[\d,]*", text)
        if match is None:
            return None
        number = int(match[0].replace(",", ""))
        other = number + self.rng.choice((1, 2, 3, 5)) * (1000 if number > 999 else 1)
        return text[: match.start()] + f"{other:,}" + text[match.end() :]

    def cut_off(self, row: Example) -> Example | None:
        """The end of the question is gone, or a word in its middle."""
        words = row.question.rstrip("?.").split()
        if len(words) < 3:
            return None
        kind = self.rng.randrange(3)
        if kind == 0:
            return self.changed(
                row, question=" ".join(words[: self.rng.randrange(1, len(words) - 1)])
            )
        if kind == 1 and row.question[0] >= "가":
            return self.changed(row, question=f"받을 수 있는 {words[-1]}?")
        if row.question[0] >= "가":
            return self.changed(row, question=f"{self.subject(row)}은(는) {words[-1]}?")
        return self.changed(row, question=" ".join(words[:-1]) + " the?")

    def no_question(self, row: Example) -> Example | None:
        """A task or statement, or one that depends on the text."""
        return self.changed(
            row,
            question=self.rng.choice([*self.statements]).format(
                s=self.subject(row), e=row.evidence
            ),
        )

    def fragment(self, row: Example) -> Example | None:
        """A particle, or a stretch that begins or ends within a phrase."""
        words = row.evidence.split()
        if row.evidence.startswith("|") or len(words) < 5:
            return None
        particles = (
            ("은", "를", "에서", "의", "및", "까지")
            if row.question[0] >= "가"
            else ("of", "the", "and", "is", "to the")
        )
        if self.rng.random() < 0.5:
            return self.changed(row, answer=self.rng.choice(particles))
        inner = [
            w for w in words[1:-1] if w[-1] in "을를의와과에" or w in ("the", "of", "to", "and")
        ]
        if not inner:
            return None
        end = words.index(inner[-1])
        return self.changed(row, answer=" ".join(words[max(0, end - 2) : end + 1]))

    def wrong(self, row: Example) -> Example | None:
        """A number or name that the evidence does not have."""
        value = self.other_number(row.answer)
        if value is None or self.rng.random() < 0.3:
            others = [
                r.answer
                for r in self.rows
                if r.answer not in row.evidence and r.section != row.section
            ]
            value = self.rng.choice(others)
        return self.changed(row, answer=value)

    def table(self, row: Example) -> Example | None:
        """The question leaves out the row of its table."""
        if not row.evidence.startswith("|"):
            return None
        table = next(t for t in self.domain.tables if t.title == row.section)
        group = row.evidence.split("|")[1].strip()
        same = sum(g == group for g, _ in table.rows)
        column = next(c for c in table.columns if c in row.question)
        return (
            self.changed(row, question=table.vague.format(g=group, c=column)) if same > 1 else None
        )

    def form(self, row: Example) -> Example | None:
        """A right answer in a form of its own."""
        return self.changed(
            row, answer=self.rng.choice([*self.forms]).format(v=row.answer, e=row.evidence)
        )

    def letters(self, row: Example) -> Example | None:
        """OCR misread letters of the evidence and of the answer."""
        for letters, misread in self.rng.sample([*self.odd], len(self.odd)):
            if letters in row.answer:
                evidence = row.evidence.replace(letters, misread)
                return self.changed(
                    row, answer=row.answer.replace(letters, misread), evidence=evidence
                )
        return None

    def places(self, row: Example) -> Example | None:
        """The question leaves out the subject, which several sections have."""
        subject = self.subject(row)
        if subject in row.evidence or row.evidence.startswith("|"):
            return None
        for aspect in self.domain.common:
            for question in aspect.questions:
                if question.format(s=subject) == row.question:
                    bare = (
                        question.replace("{s}의 ", "")
                        .replace(" of the {s}", "")
                        .replace(" for the {s}", "")
                    )
                    return (
                        None
                        if "{s}" in bare
                        else self.changed(row, question=bare[0].upper() + bare[1:])
                    )
        return None

    def columns(self, row: Example) -> Example | None:
        """A sentence that goes on in another column, with the number from there."""
        if row.evidence.startswith("|"):
            return None
        other = self.rng.choice(
            [r for r in self.rows if r.section != row.section and not r.evidence.startswith("|")]
        )
        left, right = row.evidence.split(), other.evidence.split()
        across = " ".join((*left[: len(left) // 2], other.section, *right[len(right) // 2 :]))
        chunk = make_chunk(row.source, f"{row.section} ", f"{row.section}\n{across}", row.page)
        self.chunks.append(chunk)
        return make_row(row.question, other.answer, across, chunk)


KINDS = (
    "conflict", "cut_off", "no_question", "fragment", "wrong", "table", "form", "letters",
    "places", "columns",
)  # fmt: skip


def planted(
    module: object, seed: int, each: int, total: int
) -> tuple[list[Example], list[Chunk], dict[str, str]]:
    """(rows, chunks, {id of a faulty row: its kind}) of a module of this bench."""
    rng = random.Random(seed)
    rows, chunks = make_material(module.DOMAIN, rng)
    planter = Planter(module.DOMAIN, rng, rows, chunks, module.STATEMENTS, module.ODD, module.FORMS)
    mixed, kinds = plant(planter, each, total)
    return mixed, chunks, kinds


def plant(planter: Planter, each: int, total: int) -> tuple[list[Example], dict[str, str]]:
    """`total` rows, of which `each` of every kind are faulty; and {id of a faulty row: its kind}."""
    rows = [*planter.rows]
    planter.rng.shuffle(rows)
    faulty: dict[str, Example] = {}
    kinds: dict[str, str] = {}
    used: set[str] = set()
    for kind in KINDS:
        count = 0
        for row in rows:
            if count == each:
                break
            if row.id in used:
                continue
            bad = getattr(planter, kind)(row)
            if bad is None or bad.id in faulty or bad.id == row.id:
                continue
            used.update({row.id} if kind != "conflict" else set())
            faulty[bad.id], kinds[bad.id] = bad, kind
            count += 1
            if kind == "conflict":  # both versions are there
                used.add(row.id)
                kinds.setdefault(row.id, "conflict twin")
    clean = [row for row in rows if row.id not in used or kinds.get(row.id) == "conflict twin"]
    twins = [row for row in clean if row.id in kinds]
    others = [row for row in clean if row.id not in kinds]
    mixed = [*faulty.values(), *twins, *others[: total - len(faulty) - len(twins)]]
    planter.rng.shuffle(mixed)
    return mixed, kinds
