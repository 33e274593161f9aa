"""`jangin review`: look at examples in the terminal, or exchange decisions as CSV or XLSX."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.markup import escape
from rich.panel import Panel
from rich.text import Text

from jangin.cli.options import HERE, LastVariantOption, ProjectOption, StoreOption, user_name
from jangin.cli.terminal import console, edit_text, errors, read_key
from jangin.core.errors import ConfigError, counted
from jangin.report.terminal.console import heading, said, words

if TYPE_CHECKING:
    from jangin.examples.curation.contradictions import Conflict
    from jangin.examples.reviews.index import ReviewLeases
    from jangin.examples.reviews.log import (
        DecisionKind,
        NamedDocument,
        ReviewableTexts,
        ReviewDecision,
    )
    from jangin.examples.reviews.queue import QueueItem
    from jangin.project.session import Session

KEYS = (
    "[b]a[/] accept  [b]e[/] edit  [b]r[/] reject  [b]d[/] duplicate  [b]1-5[/] rate  "
    "[b]f[/] flag the document\n[b]s[/] [b]j[/] next  [b]k[/] previous  [b]u[/] undo  "
    "[b]/[/] search  [b]?[/] help  [b]q[/] quit"
)
HELP = """\
a      accept: the example is right as it is; no other score drops it
e      edit question, answer and evidence in your editor ($EDITOR)
r      reject, with a reason from a list or in your own words
d      reject as a duplicate
1-5    rate; `judge: calibration` can compare these with the judge's scores
f      flag a problem of the document itself, such as a misread page
s, j   next; k: previous
u      undo your last decision here
/      show only examples with these words in question, answer or passage; empty: all
q      quit; every decision is saved when you press its key"""
MOVES = {
    **dict.fromkeys(("s", "j", "\r", "\n", " ", "\x1b[C", "\x1b[B"), 1),
    **dict.fromkeys(("k", "\x1b[D", "\x1b[A"), -1),
}
"""{key: step}; arrows send the escape sequences of a VT100."""
PASSAGE_HEAD = "=== passage (for reading only) ===\n"
REJECTED_HEAD = "=== rejected answer ===\n"
FORM = """\
Change the texts below the headings, then save and close. An empty file changes nothing.
=== question ===
{question}
=== answer ===
{answer}
=== evidence (a quotation from the passage, letter by letter; may be empty) ===
{evidence}
=== passage (for reading only) ===
{passage}
"""


ToOption = Annotated[
    Path | None,
    typer.Option(
        help="Write the queue for colleagues: .csv, .xlsx, or .zip for Argilla; the decisions: "
        ".jsonl."
    ),
]
FromOption = Annotated[
    Path | None,
    typer.Option(
        "--from", help="Read their decisions from such a file, or from the records.json of Argilla."
    ),
]


ReplacesOption = Annotated[
    tuple[str, str] | None,
    typer.Option(metavar="NEW OLD", help="Of two documents the first one replaces the other."),
]
BothHoldOption = Annotated[
    tuple[str, str] | None,
    typer.Option(
        metavar="ONE OTHER", help="Each of two documents is right, under its own condition."
    ),
]
ConditionsOption = Annotated[
    tuple[str, str] | None,
    typer.Option(
        metavar="WHEN WHEN",
        help="With --both-hold: when each of the two is right, in the same order. The questions "
        "that both answer differently begin with it.",
    ),
]
UndoOption = Annotated[
    tuple[str, str] | None,
    typer.Option(metavar="ONE OTHER", help="Withdraw the decision between two documents."),
]


def review(
    project: ProjectOption = HERE,
    store: StoreOption = None,
    variant: LastVariantOption = None,
    by: Annotated[str, typer.Option(help="Your name in the log; default: your user name.")] = "",
    to: ToOption = None,
    from_: FromOption = None,
    paraphrases: Annotated[
        bool, typer.Option("--paraphrases", help="Paraphrases too, after the questions.")
    ] = False,
    decided: Annotated[
        bool, typer.Option("--decided", help="Also what is already accepted, edited or rejected.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Only count the decisions.")] = False,
    replaces: ReplacesOption = None,
    both_hold: BothHoldOption = None,
    conditions: ConditionsOption = None,
    undo: UndoOption = None,
) -> None:
    """Accept, correct, reject and rate examples, the most suspicious first.

    Decisions are kept in reviews.jsonl beside the project file, and the next `jangin run` applies
    them. Without a terminal, or with --status, the decisions are counted.
    """
    from jangin.project.contradictions import conflicts_of
    from jangin.project.session import open_session
    from jangin.report.data.review_queue import last_pairs, log_of, open_queue

    with open_session(project, store, creates_store=False) as session:
        if from_ is not None:
            _keep_from_documents(session, from_)
        name = session.choose(variant)[-1]
        log = log_of(session, name)
        if _decide_documents(session, name, log, (replaces, both_hold, undo), conditions, by):
            return
        conflicts = conflicts_of(session.last_artifacts(name, ("curate",)))
        back = from_ is not None
        undecided = from_ is None and _print_undecided(session, name, log)
        pairs = last_pairs(session, name)
        queue = open_queue(
            session, name, log, paraphrases=paraphrases or back, everything=back, pairs=pairs
        )
    reviewer = by or user_name()
    if from_ is not None:
        _take_sheet(from_, queue, log, reviewer, conflicts)
        return
    left = [item for item in queue if decided or not item.decided]
    if to is not None:
        session.wrote(to)
        console.print(escape(said(_write(to, left, queue, log, conflicts))), highlight=False)
        return
    if status or not console.is_terminal:
        console.print(said(_counts(queue)), highlight=False)
        return
    if not left:
        console.print(said(_counts(queue)), said("Show them again with --decided."), sep="\n")
        return
    if undecided:  # the screen of the first example would wipe them away
        _ask(said("Enter shows the examples."))
    _look_through(left, log, reviewer, project)


def _look_through(left: "list[QueueItem]", log: Path, reviewer: str, project: Path) -> None:
    """Show the rows one at a time, and say at the end what was written."""
    from jangin.examples.reviews.index import ReviewLeases

    screen = ReviewScreen(left, log, reviewer, read_key, _ask, edit_text, ReviewLeases(log))
    screen.show()
    text = f"{screen.written:,} decisions in {log}. Apply them with: jangin run -p {project}"
    console.print(escape(said(text)), highlight=False, soft_wrap=True)


def _print_undecided(session: "Session", variant: str, log: Path) -> bool:
    """Name the questions that documents answer differently and nobody has decided about.

    False where there are none.
    """
    from jangin.examples.reviews.log import read_log
    from jangin.project.contradictions import conflict_lines, conflicts_of, undecided

    last = session.last_artifacts(variant, ("curate",))
    waiting = undecided(conflicts_of(last), read_log(log))
    if not waiting:
        return False
    kept = last["curate"].manifest.config.get("conflicts") == "keep"
    for line in conflict_lines(waiting, kept):
        console.print(f"[yellow]{escape(said(line))}[/]", highlight=False, soft_wrap=True)
    return True


def _decide_documents(
    session: "Session",
    variant: str,
    log: Path,
    named: "tuple[tuple[str, str] | None, ...]",
    conditions: "tuple[str, str] | None",
    by: str,
) -> bool:
    """Append decisions between documents, and say what holds; False where none was given.

    `named` are the files of `--replaces`, of `--both-hold` and of `--undo`.
    """
    from jangin.examples.reviews import log as records
    from jangin.project.contradictions import chosen_document, decision_lines, documents_of

    if conditions is not None and named[1] is None:
        raise ConfigError("--conditions belong to --both-hold ONE OTHER. Name the two files there.")
    if not any(named):
        return False
    known = records.read_log(log)
    documents = documents_of(session.last_artifacts(variant, ("load", "curate")), known)
    decisions = []
    kinds: tuple[DecisionKind, ...] = ("replaces", "both_hold", "undo")
    for kind, names in zip(kinds, named, strict=True):
        if names is not None:
            first, second = (chosen_document(documents, each) for each in names)
            decisions.append(_decision(kind, first, second, by or user_name(), conditions))
    records.append_decisions(log, decisions)
    for line in decision_lines(records.document_decisions(records.read_log(log))):
        console.print(escape(said(line)), highlight=False, soft_wrap=True)
    console.print(said("Apply with: jangin run"), highlight=False)
    return True


def _decision(
    kind: "DecisionKind",
    first: "NamedDocument",
    second: "NamedDocument",
    by: str,
    conditions: "tuple[str, str] | None",
) -> "ReviewDecision":
    """A decision between two documents; raises `ConfigError` for conditions that are none."""
    from jangin.examples.reviews.log import conditions_of, decide_documents, withdraw_documents

    if kind == "undo":
        return withdraw_documents(kind, first, second, by)
    if kind == "replaces" or conditions is None:
        return decide_documents(kind, first, second, by)
    try:
        return decide_documents(kind, first, second, by, conditions_of(*conditions))
    except ValueError as error:
        raise ConfigError(f"--conditions: {error}") from error


def _write(
    to: Path,
    left: "Sequence[QueueItem]",
    queue: "Sequence[QueueItem]",
    log: Path,
    conflicts: "Sequence[Conflict]",
) -> str:
    """Write the rows that are left, or all decisions; returns what was written in words."""
    from jangin.core.store import output_errors
    from jangin.examples.reviews.log import read_log
    from jangin.examples.reviews.sheet import argilla_archive, export_lines, write_sheet
    from jangin.project.contradictions import document_pairs, undecided

    if to.suffix == ".jsonl":
        decisions = read_log(log)
        with output_errors(to):
            to.write_text(export_lines(decisions), "utf-8")
        return f"{len(decisions):,} decisions in {to}"
    if to.suffix == ".zip":
        with output_errors(to):
            to.write_bytes(argilla_archive(queue, to.stem))
        return f"{counted(len(queue), 'example')} in {to}"
    decisions = read_log(log)
    pairs = document_pairs(undecided(conflicts, decisions), decisions)
    more = f" and {counted(len(pairs), 'contradiction')} between documents" if pairs else ""
    return f"{counted(write_sheet(to, left, pairs), 'example')}{more} in {to}"


def _keep_from_documents(session: "Session", sheet: Path) -> None:
    """Note that the sheet is no document before stages are asked whether they are up to date.

    Raises: DataError: the file is no sheet of a review, so it may well be a document.
    """
    from jangin.examples.reviews.sheet import read_decision_file, read_sheet

    if sheet.suffix in (".jsonl", ".json"):
        read_decision_file(sheet, {}, [])
    else:
        read_sheet(sheet, [], "")
    session.wrote(sheet)


def _take_sheet(
    path: Path,
    queue: "Sequence[QueueItem]",
    log: Path,
    reviewer: str,
    conflicts: "Sequence[Conflict]",
) -> None:
    """Append the decisions of a sheet to the log, and name the rows that could not be taken."""
    from jangin.examples.reviews.log import append_decisions, read_log
    from jangin.examples.reviews.sheet import read_decision_file, read_sheet
    from jangin.project.contradictions import document_pairs

    if path.suffix in (".jsonl", ".json"):
        items = {item.example.id: item for item in queue}
        imported = read_decision_file(path, items, read_log(log))
        if imported.decisions:
            append_decisions(log, imported.decisions)
        text = (
            f"{len(imported.decisions):,} decisions appended to {log}; {imported.known:,} were in "
            f"it already, {imported.older:,} are older than what it has"
        )
        console.print(escape(said(text)), highlight=False, soft_wrap=True)
        _name_problems(imported.problems)
        return
    sheet = read_sheet(path, queue, reviewer, document_pairs(conflicts, read_log(log)))
    if sheet.decisions:
        append_decisions(log, sheet.decisions)
    text = (
        f"{len(sheet.decisions):,} decisions of {reviewer} appended to {log}; "
        f"{counted(sheet.unchanged, 'row was', 'rows were')} in it already"
    )
    console.print(escape(said(text)), highlight=False, soft_wrap=True)
    _name_problems(sheet.problems)


def _name_problems(problems: "Sequence[str]") -> None:
    """Print them; exit code 1 where there are any."""
    for problem in problems:
        errors.print(
            f"[red]{heading('left out:')}[/] {escape(said(problem))}",
            highlight=False,
            soft_wrap=True,
        )
    if problems:
        raise typer.Exit(1)


def _ask(question: str) -> str:
    """A line of text; empty where the user presses only Enter."""
    return console.input(f"{question} ").strip()


def _counts(queue: "Sequence[QueueItem]") -> str:
    verdicts = Counter(
        item.review.verdict.decision
        for item in queue
        if item.review is not None and item.review.verdict is not None
    )
    rated = sum(item.review is not None and item.review.score is not None for item in queue)
    return (
        f"{counted(len(queue), 'example')}: {verdicts['accept']:,} accepted, {verdicts['edit']:,} "
        f"edited, {verdicts['reject']:,} rejected, {len(queue) - verdicts.total():,} not decided; "
        f"{rated:,} rated"
    )


@dataclass(slots=True)
class ReviewScreen:
    """One example at a time; each key is a decision that is saved at once."""

    items: "list[QueueItem]"
    log: Path
    by: str
    read_key: Callable[[], str]
    ask: Callable[[str], str]
    edit: Callable[[str], str | None]
    leases: "ReviewLeases"
    written: int = 0
    _index: int = 0
    _words: str = ""
    _notice: str = ""
    _last: "list[tuple[str, ReviewDecision]]" = field(default_factory=list)

    def show(self) -> None:
        """Run until the user quits or the end of the queue is reached."""
        if not self._lease(self._index):
            self._move(1)
        try:
            self._show()
        finally:
            if self._index < len(self.items):
                self.leases.release(self.items[self._index].example.id, self.by)

    def _show(self) -> None:
        while 0 <= self._index < len(self.items):
            console.clear()
            console.print(self._page(), highlight=False)
            self._notice = ""
            key = self.read_key()
            if key in ("q", "", "\x04"):
                return
            self._press(key)
        console.print(said("That was the last one."))

    def _press(self, key: str) -> None:
        item = self.items[self._index]
        if key in MOVES:
            self._move(MOVES[key])
        elif key in "12345":
            self._decide("rate", score=float(key), stay=True)
        elif key in self._actions():
            self._actions()[key](item)

    def _actions(self) -> "dict[str, Callable[[QueueItem], None]]":
        return {
            "a": lambda _: self._decide("accept"),
            "e": self._edit,
            "r": lambda _: self._reject(),
            "d": lambda _: self._decide("reject", reason="duplicate"),
            "f": lambda _: self._flag(),
            "u": lambda _: self._undo(),
            "/": self._search,
            "?": lambda _: self._note(HELP),
        }

    def _note(self, text: str) -> None:
        self._notice = text

    def _flag(self) -> None:
        problem = self.ask(said("What is wrong with the document?"))
        if problem:
            self._decide("flag", reason=problem, stay=True)

    def _search(self, item: "QueueItem") -> None:
        self._words = self.ask(said("Words (empty: all)")).casefold()
        if not self._matches(item):
            self._move(1)

    def _matches(self, item: "QueueItem") -> bool:
        text = " ".join((item.wording.question, item.wording.answer, item.passage)).casefold()
        return all(word in text for word in self._words.split())

    def _lease(self, index: int) -> bool:
        """Keep a row from other reviewers; False where one of them looks at it now."""
        return self.leases.take([(self.items[index].example.id, 1)], self.by) is not None

    def _move(self, step: int) -> None:
        index = self._index + step
        while 0 <= index < len(self.items) and not (
            self._matches(self.items[index]) and self._lease(index)
        ):
            index += step
        if index < 0:
            self._notice = "This is the first one."
            return
        if index >= len(self.items) and self._words:
            self._notice = f"No further example contains {self._words!r}. Press / for all."
            return
        self._index = index

    def _edit(self, item: "QueueItem") -> None:
        from jangin.examples.reviews.queue import wording_problem

        wording = item.wording
        form = FORM.format(**wording.model_dump(exclude={"rejected"}), passage=item.passage)
        if wording.rejected is not None:
            form = form.replace(PASSAGE_HEAD, f"{REJECTED_HEAD}{wording.rejected}\n{PASSAGE_HEAD}")
        while True:
            text = self.edit(form)
            after = _read_form(text) if text and text.strip() else None
            if after is None or after == wording:
                self._notice = "Nothing was changed."
                return
            problem = wording_problem(after, item.passage)
            if not problem:
                self._decide("edit", after=after)
                return
            answer = self.ask(f"{escape(said(problem))} {said('Edit again? (Enter: yes, n: no)')}")
            if answer.lower().startswith("n"):
                self._notice = "Nothing was changed."
                return
            form = text or form

    def _reject(self) -> None:
        from jangin.examples.reviews.log import REASONS

        listed = "  ".join(f"{n} {name}" for n, name in enumerate(REASONS, 1))
        reason = self.ask(said(f"Why? {listed}; or your own words; x: not rejected"))
        if reason == "x":
            return
        if reason.isdigit() and 1 <= int(reason) <= len(REASONS):
            reason = REASONS[int(reason) - 1]
        self._decide("reject", reason=reason)

    def _decide(
        self,
        decision: "DecisionKind",
        *,
        after: "ReviewableTexts | None" = None,
        reason: str = "",
        score: float | None = None,
        stay: bool = False,
    ) -> None:
        from jangin.examples.reviews.log import append_decisions, collect_reviews

        item = self.items[self._index]
        new = item.decide(decision, self.by, after=after, reason=reason, score=score)
        append_decisions(self.log, [new])
        history = (*(item.review.history if item.review is not None else ()), new)
        same = [d.model_copy(update={"id": item.example.id}) for d in history]
        review = collect_reviews(same).get(item.example.id)
        self.items[self._index] = replace(item, review=review)
        self.written += 1
        self._last.append((item.example.id, new))
        if decision == "reject":
            self._raise_alike(item)
        if not stay:
            self._move(1)

    def _raise_alike(self, rejected: "QueueItem") -> None:
        """Let the open rows whose question is like a rejected one come next."""
        from jangin.examples.reviews.queue import Suspicion
        from jangin.examples.reviews.reasons import NEAR_REJECTED, asked_words, word_similarity

        question = rejected.wording.question
        words = asked_words(question)
        behind = self.items[self._index + 1 :]
        near: dict[int, QueueItem] = {}
        for n, item in enumerate(behind):
            alike = word_similarity(words, asked_words(item.wording.question)) if words else 0.0
            if alike >= NEAR_REJECTED and not item.decided and item.example.kind != "paraphrase":
                why = Suspicion("near_rejected", alike, {"question": question})
                rest = (each for each in item.signals if each.signal != "near_rejected")
                near[n] = replace(item, signals=(why, *rest))
        others = [item for n, item in enumerate(behind) if n not in near]
        self.items[self._index + 1 :] = [*near.values(), *others]

    def _undo(self) -> None:
        if not self._last:
            self._notice = "There is nothing to undo in this session."
            return
        row, old = self._last.pop()
        self._index = next(n for n, item in enumerate(self.items) if item.example.id == row)
        self._decide("undo", stay=True)
        self._last.pop()
        self._notice = f"Withdrawn: {old.decision}."

    def _page(self) -> Group:
        item = self.items[self._index]
        row, wording = item.example, item.wording
        decided = sum(i.decided for i in self.items)
        head = said(f"[b]{self._index + 1:,}[/] of {len(self.items):,} · {decided:,} decided")
        page = f"page {row.page}" if row.page else ""
        origin = ", ".join(part for part in (row.source, page, row.section) if part)
        lines = [head, escape(origin), *_reasons(item)]
        lines += list(_lineage(item))
        parts: list[Text | Panel] = [Text.from_markup("\n".join(line for line in lines if line))]
        if row.earlier_turns:
            turns = Text(row.earlier_turns, style="dim")
            parts.append(_panel(turns, "earlier turns"))
        parts += [
            Panel(
                Text(wording.question, style="bold"), title=heading("question"), title_align="left"
            ),
            Panel(Text(wording.answer), title=heading("answer"), title_align="left"),
        ]
        if wording.rejected is not None:
            parts.append(
                Panel(Text(wording.rejected), title=heading("rejected answer"), title_align="left")
            )
        if item.passage:
            room = max(console.height - 22, 6) * max(console.width - 4, 20)
            text = highlighted(item.passage, wording.evidence, room)
            parts.append(_panel(text, "passage"))
        elif wording.evidence:
            parts.append(
                Panel(Text(wording.evidence), title=heading("evidence"), title_align="left")
            )
        if self._notice:
            parts.append(Panel(Text(said(self._notice)), border_style="yellow"))
        parts.append(Text.from_markup(said(KEYS), style="dim"))
        return Group(*parts)


def _panel(text: Text, title: str) -> Panel:
    """A text in a box with a title, in the language of the terminal."""
    return Panel(text, title=heading(title), title_align="left")


def _reasons(item: "QueueItem") -> Iterator[str]:
    """Why the row is where it is, in the language of the terminal."""
    for signal in item.signals:
        yield f"[yellow]{escape(signal.said(words().language))}[/]"


def _lineage(item: "QueueItem") -> Iterator[str]:
    row, review = item.example, item.review
    if row.parent:
        yield f"[dim]{row.kind} of {row.parent}[/]"
    for score in row.scores:
        if score.value < 1 and score.reason:
            yield f"[dim]{escape(score.scorer)} {score.value:.2f}: {escape(score.reason)}[/]"
    if review is None:
        return
    if review.verdict is not None:
        reason = f": {review.verdict.reason}" if review.verdict.reason else ""
        by = f" by {review.verdict.by}" if review.verdict.by else ""
        yield f"[green]{review.verdict.decision}{escape(by + reason)}[/]"
    if review.score is not None:
        yield f"[green]rated {review.score:g} of 5[/]"
    if review.flag:
        yield f"[red]document: {escape(review.flag)}[/]"


def highlighted(passage: str, evidence: str, room: int) -> Text:
    """At most `room` characters of the passage around the evidence, which is marked."""
    start, end = _find(passage, evidence)
    first = max(0, min(start - room // 3, len(passage) - room)) if len(passage) > room else 0
    last = min(len(passage), first + room)
    text = Text("…" if first else "")
    text.append(passage[first : max(start, first)])
    text.append(passage[start:end], style="black on bright_yellow")
    text.append(passage[max(end, first) : last])
    text.append("…" if last < len(passage) else "")
    return text


def _find(passage: str, evidence: str) -> tuple[int, int]:
    """Where the evidence is in the passage, however its spaces and lines are broken."""
    import re

    words = evidence.split()
    match = re.search(r"\s+".join(map(re.escape, words)), passage) if words else None
    return match.span() if match else (0, 0)


def _read_form(text: str) -> "ReviewableTexts | None":
    """The texts of an edited form; None where a heading is missing."""
    import re

    from jangin.examples.reviews.log import ReviewableTexts

    pattern = (
        r"^=== question ===\n(.*?)^=== answer ===\n(.*?)^=== evidence [^\n]*===\n(.*?)"
        r"(?:^=== rejected answer ===\n(.*?))?(?:^=== passage [^\n]*===\n|\Z)"
    )
    match = re.search(pattern, text, re.DOTALL | re.MULTILINE)
    if match is None:
        return None
    names = ("question", "answer", "evidence", "rejected")
    texts = {n: t.strip() for n, t in zip(names, match.groups(), strict=True) if t is not None}
    return ReviewableTexts(**texts)
