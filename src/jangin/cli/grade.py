"""`jangin grade`: hold the grader of answers against one's own eyes."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from jangin.cli.grade_file import grade_file
from jangin.cli.options import HERE, ProjectOption, StoreOption, user_name
from jangin.cli.terminal import console, read_key

if TYPE_CHECKING:
    from jangin.evaluation.grade_labels import AnswerLabel, GradeSample
    from jangin.evaluation.tasks.prediction import Prediction

KEYS = "[b]r[/] right  [b]w[/] wrong  [b]s[/] skip  [b]u[/] undo  [b]q[/] quit"
LABELS: "dict[str, AnswerLabel]" = {
    **dict.fromkeys(("r", "y", "1"), "right"),
    **dict.fromkeys(("w", "n", "2"), "wrong"),
    **dict.fromkeys(("s", " ", "3"), "skip"),
}


def grade(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="JSONL or CSV with question, gold, answer and, optionally, evidence and right."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Of a file: one line a row with right, reason, detail.")
    ] = False,
    sample: Annotated[
        int, typer.Option(min=1, help="Answers of the project to look at yourself.")
    ] = 20,
    project: ProjectOption = HERE,
    store: StoreOption = None,
    by: Annotated[str, typer.Option(help="Your name in the log; default: your user name.")] = "",
) -> None:
    """Say of twenty answers whether they are right, and see how often the grader agrees.

    Right and wrong answers of every system are drawn; which system gave one and how it was graded
    is not shown. What you say is kept in grades.jsonl beside the project file, and the report shows
    the agreement beside its verdict. Without a terminal, the keys are read from the input.

    With a FILE, its answers are graded and no project is needed: shares and reasons and, where the
    rows have your own verdict in `right` (true or false), how often the grader agrees and the rows
    that differ.
    """
    if file is not None:
        grade_file(file, as_json)
        return
    from jangin.evaluation.grade_labels import LOG, GradeSample
    from jangin.project.session import open_session
    from jangin.report.data.judged import agreement_text
    from jangin.report.i18n.translate import Words

    with open_session(project, store, creates_store=False) as session:
        artifacts = {name: session.artifacts(name) for name in session.project.variants}
        evaluations = {
            name: stages["evaluate"] for name, stages in artifacts.items() if "evaluate" in stages
        }
        drawn = GradeSample(evaluations, session.project.folder / LOG, sample)
    _ask(drawn, by or user_name())
    agreement = drawn.agreement()
    if agreement is None:
        return
    console.print(agreement_text(agreement, Words("en")), highlight=False)
    for row, said in agreement.differing:
        graded = "right" if row.right else f"wrong ({row.reason}: {row.detail})"
        console.print(
            f"  you: {said}, grader: {escape(graded)}: {escape(row.question)} "
            f"expected: {escape(row.gold)}; answer: {escape(row.prediction)}",
            highlight=False,
        )


def _ask(drawn: "GradeSample", by: str) -> None:
    """Show one answer after the other until all are labelled, or the person quits."""
    while left := drawn.left(by):
        _show(drawn, left[0], len(drawn.drawn) - len(left) + 1)
        key = read_key() if sys.stdin.isatty() else sys.stdin.readline().strip().lower()
        if key == "u":
            drawn.undo(by)
        elif key in LABELS:
            drawn.say(left[0], LABELS[key], by)
        elif key in ("", "q", "\x04"):
            return


def _show(drawn: "GradeSample", row: "Prediction", number: int) -> None:
    passage = max(drawn.evidence.get(row.example_id, ()), key=len, default="")
    origin = f"{row.source}, page {row.page}" if row.page else row.source
    console.rule(f"{number} of {len(drawn.drawn)}", align="left")
    for name, text in (
        (f"passage ({origin})" if origin else "passage", passage),
        ("question", row.question),
        ("expected", row.gold),
        ("answer", row.prediction),
    ):
        if text:
            console.print(f"[dim]{name}:[/] {escape(text)}", highlight=False)
    console.print(KEYS, highlight=False)
