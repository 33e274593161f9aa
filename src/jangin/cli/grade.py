"""`jangin grade`: hold the grader of answers against one's own eyes."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from jangin.cli.grade_file import JudgeOption, grade_file
from jangin.cli.options import HERE, ProjectOption, StoreOption, user_name
from jangin.cli.terminal import console, read_key
from jangin.core.errors import ConfigError
from jangin.report.terminal.console import words

if TYPE_CHECKING:
    from jangin.evaluation.grade_labels import AnswerLabel, GradeSample
    from jangin.evaluation.tasks.prediction import Prediction

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
    judge: Annotated[
        str,
        typer.Option(
            help="Of a file: name of a model under `teachers` of the project that gives a second "
            "opinion, two requests a row.",
            show_default=False,
        ),
    ] = "",
    by: Annotated[str, typer.Option(help="Your name in the log; default: your user name.")] = "",
) -> None:
    """Say of twenty answers whether they are right, and see how often the grader agrees.

    Right and wrong answers of every system are drawn; which system gave one and how it was graded
    is not shown. What you say is kept in grades.jsonl beside the project file, and the report shows
    the agreement beside its verdict. Without a terminal, the keys are read from the input.

    Where the project has a judge under `evaluate.second_opinion`, up to half as many answers on
    which judge and grader differ come first. They are harder than others, so they count only for
    who is right where the two differ; all shares are those of the evenly drawn answers.

    With a FILE, its answers are graded and no project is needed: shares and reasons and, where the
    rows have your own verdict in `right` (true or false), how often the grader agrees and the rows
    that differ. With --judge, a model of the project is asked, too: where it differs, and how often
    grader, judge and both together agree with you. Its replies are kept in the project's store.
    """
    if file is not None:
        grade_file(file, as_json, JudgeOption(judge, project, store) if judge else None)
        return
    if judge:
        raise ConfigError(
            "--judge is for a FILE of answers. For the answers of a project, set "
            "`models.evaluate.second_opinion: {judge: NAME}` in its file and run it."
        )
    _look_at_sample(project, store, sample, by or user_name())


def _look_at_sample(project: Path, store: Path | None, count: int, by: str) -> None:
    """Have a person look at answers of the project, then print what all labels say."""
    from jangin.evaluation.grade_labels import LOG, GradeSample
    from jangin.project.session import open_session
    from jangin.report.data.judged import grades_text, opinion_lines

    with open_session(project, store, creates_store=False) as session:
        artifacts = {name: session.artifacts(name) for name in session.project.variants}
        evaluations = {
            name: stages["evaluate"] for name, stages in artifacts.items() if "evaluate" in stages
        }
        drawn = GradeSample(evaluations, session.project.folder / LOG, count)
    _ask(drawn, by)
    checked, say = drawn.checked(), words()
    if checked is None:
        return
    for line in (grades_text(checked, say), *opinion_lines(drawn.judges, say)):
        console.print(escape(line), highlight=False)
    for row, said in checked.differing:
        graded = say("right")
        if not row.right:
            graded = say("grade_wrong", reason=say(f"reason_{row.reason}"), detail=row.detail)
        shown = {"question": row.question, "gold": row.gold, "answer": row.prediction}
        line = say("grade_they_differ", said=say(said), graded=graded, **shown)
        console.print(f"  {escape(line)}", highlight=False)


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
    say = words()
    passage = max(drawn.evidence.get(row.example_id, ()), key=len, default="")
    origin = f"{row.source}, {say('page', page=row.page)}" if row.page else row.source
    shown = say("compare_check_passage") + (f" ({origin})" if origin else "")
    console.rule(say("grade_number", number=number, count=len(drawn.drawn)), align="left")
    for name, text in (
        (shown, passage),
        (say("question"), row.question),
        (say("gold"), row.gold),
        (say("answer"), row.prediction),
    ):
        if text:
            console.print(f"[dim]{escape(name)}:[/] {escape(text)}", highlight=False)
    console.print(say("grade_keys"), highlight=False)
