"""`jangin grade`: hold the grader of answers against one's own eyes."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from jangin.cli.options import HERE, ProjectOption, StoreOption, user_name
from jangin.cli.terminal import console, read_key
from jangin.core.errors import ConfigError, DataError
from jangin.report.terminal.console import words
from jangin.text.numbers import dollars

if TYPE_CHECKING:
    from jangin.core.stage import StageContext
    from jangin.evaluation.grade_labels import AnswerLabel, GradeSample
    from jangin.evaluation.second_opinion import AnswerToJudge, JudgedAnswer, SecondOpinion
    from jangin.evaluation.tasks.task import Prediction
    from jangin.metrics.facts import FactGrade
    from jangin.project.session import Session


# `jangin grade FILE`: answers graded by their facts, beside a judge and the verdicts of people.


_REMEDY = (
    'Write one object a line: {"question": "...", "gold": "...", "answer": "...", '
    '"evidence": "...", "right": true}; evidence and right may be left out.'
)
_RIGHT = frozenset(("1", "true", "yes", "y", "x", "o", "right", "예", "맞음", "참"))
_WRONG = frozenset(("0", "false", "no", "n", "wrong", "아니요", "틀림", "거짓"))


@dataclass(frozen=True, slots=True)
class AnswerToGrade:
    """An answer to grade, and where it stands."""

    line: int
    question: str
    gold: str
    answer: str
    evidence: tuple[str, ...]
    right: bool | None
    """The verdict of a person; None where there is none."""


@dataclass(frozen=True, slots=True)
class JudgeOption:
    """A teacher of a project as the judge, with the project and its store."""

    name: str
    project: Path
    store: Path | None


def grade_file(file: Path, as_json: bool, judge: JudgeOption | None = None) -> None:
    """Grade the answers of a file and print shares, reasons and, beside `right`, the agreement.

    A judge is asked for a second opinion, in both orders; it changes no grade.

    Raises:
        DataError: the file cannot be read, or a row is not what it should be.
        ConfigError: the project has no such teacher, or lacks its key.

    """
    from jangin.metrics.facts import grade_facts

    rows = list(read_answers(file))
    grades = [grade_facts(row.answer, row.gold, row.question, row.evidence) for row in rows]
    judged = _judged(rows, judge, quiet=as_json) if judge else None
    if as_json:
        _print_json(rows, grades, judged)
        return
    _show_shares(rows, grades)
    if judge and judged:
        _show_opinions(file, judge.name, rows, grades, judged)
    if any(row.right is not None for row in rows):
        _show_agreement(file, rows, grades, judged)


def _print_json(
    rows: "list[AnswerToGrade]", grades: "list[FactGrade]", judged: "list[JudgedAnswer] | None"
) -> None:
    for index, (row, result) in enumerate(zip(rows, grades, strict=True)):
        fields: dict[str, Any] = {"line": row.line, "right": result.right}
        fields |= {"unclear": result.unclear, "reason": result.reason, "detail": result.detail}
        if judged:
            fields |= {"judge": judged[index].opinion, "judge_reasons": judged[index].reasons}
        if row.right is not None:
            fields["label"] = row.right
        typer.echo(json.dumps(fields, ensure_ascii=False))


def _judged(
    rows: "list[AnswerToGrade]", judge: JudgeOption, *, quiet: bool
) -> "list[JudgedAnswer]":
    """The judge's replies to each row; known ones come from the ledger of the project's store.

    Raises: ConfigError: the project has no such teacher, or lacks its key.
    """
    from jangin.core.events import Progress
    from jangin.evaluation.second_opinion import AnswerToJudge, SecondOpinion, ask_judge
    from jangin.project.session import open_session
    from jangin.report.terminal.progress import Bars

    answers = [
        AnswerToJudge(f"{row.line}", row.question, (row.gold,), row.answer, row.evidence)
        for row in rows
    ]
    with ExitStack() as stack:
        progress = Progress() if quiet else stack.enter_context(Bars())
        session = stack.enter_context(open_session(judge.project, judge.store, progress))
        config = SecondOpinion(judge=judge.name)
        context = _context(session, judge.name)
        if not quiet:
            _announce(context, config, answers)
        judged, _ = ask_judge(context, config, answers)
    return judged


def _context(session: "Session", judge: str) -> "StageContext[Any]":
    """What a judge is asked with, outside any stage.

    Raises: ConfigError: the project has no such teacher, or lacks its key.
    """
    from jangin.core.config import StageConfig
    from jangin.core.stage import StageContext

    variants = session.project.variants
    variant = next((name for name, own in variants.items() if judge in own.teachers), None)
    if variant is None:
        known = ", ".join(sorted({name for own in variants.values() for name in own.teachers}))
        raise ConfigError(
            f"{session.project.path}: there is no {judge!r} under `teachers`. "
            + (f"Choose one of: {known}." if known else "Add it there.")
        )
    session.check_teacher(variant, judge)
    session.ledger.stage = "grade"
    return StageContext(StageConfig(), {}, session.store.root, session.services(variant))


def _announce(
    context: "StageContext[Any]", config: "SecondOpinion", answers: "list[AnswerToJudge]"
) -> None:
    """Say how many requests have no reply yet, and what they cost at most."""
    from jangin.evaluation.second_opinion import requests_of
    from jangin.llm.replies import count_unpaid

    chat = context.services.chat(config.judge)
    questions = requests_of(context, config, chat.model, answers)
    count = count_unpaid(context, chat, questions)
    calls = context.calls
    _say(
        words()(
            "opinion_send",
            judge=config.judge,
            count=count,
            tokens=calls.prompt_tokens + calls.reply_tokens,
            usd="" if calls.unpriced or not calls.usd else f", {dollars(calls.usd)}",
            known=len(questions) - count,
        )
    )


def read_answers(path: Path) -> Iterator[AnswerToGrade]:
    """The rows of a file of answers.

    Raises: DataError: it cannot be read, or a row lacks a column or has another kind of value.
    """
    lines = _csv_rows(path) if path.suffix.lower() in (".csv", ".tsv") else _json_rows(path)
    count = 0
    for line, fields in lines:
        count += 1
        texts = {}
        for name in ("question", "gold", "answer"):
            value = fields.get(name)
            if not isinstance(value, str):
                problem = "is missing" if value is None else f"is {value!r}, not a text"
                raise DataError(f"{path}:{line}: `{name}` {problem}. {_REMEDY}")
            texts[name] = value
        if not texts["gold"].strip():
            raise DataError(f"{path}:{line}: `gold` is empty. Write the reference answer there.")
        evidence = _evidence(path, line, fields.get("evidence"))
        right = _verdict(path, line, fields.get("right"))
        yield AnswerToGrade(line, **texts, evidence=evidence, right=right)
    if not count:
        raise DataError(f"{path}: has no rows. {_REMEDY}")


def _json_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    from jangin.core.jsonl import read_json_lines

    if not path.is_file():
        raise DataError(f"{path}: there is no such file. {_REMEDY}")
    for line, fields in read_json_lines(path, _REMEDY):
        if not isinstance(fields, dict):
            raise DataError(f"{path}:{line}: is no object. {_REMEDY}")
        yield line, fields


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    import csv

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
            reader = csv.DictReader(file, delimiter=delimiter, strict=True)
            for fields in reader:
                named = {str(name).strip().lower(): value for name, value in fields.items()}
                yield reader.line_num, named
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path}: cannot be read ({error}). Save it as CSV in UTF-8, with a header."
        ) from error


def _evidence(path: Path, line: int, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DataError(
            f"{path}:{line}: `evidence` is {value!r}. Write a text or a list of texts, or leave "
            "it out."
        )
    return tuple(text for text in texts if text.strip())


def _verdict(path: Path, line: int, value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if not word:
        return None
    if word not in _RIGHT | _WRONG:
        raise DataError(
            f"{path}:{line}: `right` is {value!r}. Write true or false, or leave it empty."
        )
    return word in _RIGHT


def _show_shares(rows: list[AnswerToGrade], grades: "list[FactGrade]") -> None:
    say = words()
    right = sum(result.right for result in grades)
    _say(say("grade_shares", count=len(rows), share=_share(right, len(grades))))
    if unclear := sum(result.unclear for result in grades):
        most = say.percent((right + unclear) / len(grades), 1)
        _say(say("grade_unclear", count=unclear, most=most))
    reasons = Counter((result.reason, result.unclear) for result in grades)
    for (reason, is_unclear), count in reasons.most_common():
        mark = f" ({say('unclear')})" if is_unclear else ""
        _say(f"  {count:>6,}  {say(f'reason_{reason}')}{mark}")
    if bare := sum(not row.evidence for row in rows):
        _say(say("grade_bare", count=bare))


def _show_opinions(
    file: Path,
    judge: str,
    rows: list[AnswerToGrade],
    grades: "list[FactGrade]",
    judged: "list[JudgedAnswer]",
) -> None:
    """Where judge and grader agree, and each row on which they differ."""
    from jangin.evaluation.second_opinion import differs

    say = words()
    pairs = list(zip(grades, judged, strict=True))
    decided = sum(said.opinion != "undecided" for said in judged)
    differing = sum(differs(said.opinion, result.right) for result, said in pairs)
    _say("\n" + say("opinion_of", judge=judge))
    if decided:
        share = _share(decided - differing, decided)
        _say("  " + say("opinion_agrees", share=share, count=decided))
    _say(
        "  "
        + say(
            "opinion_undecided",
            undecided=len(rows) - decided,
            count=len(rows),
            unusable=sum(said.unusable for said in judged),
            replies=2 * len(rows),
        )
    )
    for row, (result, said) in zip(rows, pairs, strict=True):
        if differs(said.opinion, result.right):
            where, opinion = f"{file}:{row.line}", say(said.opinion)
            shown = {"graded": _grade(result), "opinion": opinion, "reason": said.reasons[0]}
            _say("\n" + say("opinion_says", where=where, **shown))
            _show_row(row)


def _show_agreement(
    file: Path,
    rows: list[AnswerToGrade],
    grades: "list[FactGrade]",
    judged: "list[JudgedAnswer] | None",
) -> None:
    from jangin.metrics.agreement import Agreement, Calibration
    from jangin.report.data.verdict import agreement_lines, calibration_lines

    say = words()
    labelled = [index for index, row in enumerate(rows) if row.right is not None]
    labels = [bool(rows[index].right) for index in labelled]
    graded = [grades[index].right for index in labelled]
    _say("\n" + say("grade_beside", count=len(labelled)))
    if judged is None:
        unclear = [grades[index].unclear for index in labelled]
        lines = agreement_lines(Agreement.of(graded, labels, unclear), say)
    else:
        opinions = [judged[index].opinion for index in labelled]
        lines = calibration_lines(Calibration.of(graded, opinions, labels), say)
    for line in lines:
        _say(f"  {line}")
    for index in labelled:
        row, result = rows[index], grades[index]
        if result.right != row.right:
            said = say("right" if row.right else "wrong")
            shown = {"where": f"{file}:{row.line}", "said": said, "graded": _grade(result)}
            _say("\n" + say("grade_you_say", **shown))
            _show_row(row)


def _grade(result: "FactGrade") -> str:
    say = words()
    if result.right:
        return say("right")
    key = "grade_not_sure" if result.unclear else "grade_wrong"
    return say(key, reason=say(f"reason_{result.reason}"), detail=result.detail)


def _show_row(row: AnswerToGrade) -> None:
    say = words()
    for key, text in (("question", row.question), ("gold", row.gold), ("answer", row.answer)):
        _say(f"  {say(key)}: {text}")


def _share(part: int, whole: int) -> str:
    from jangin.metrics.statistics import wilson_interval
    from jangin.report.data.verdict import share_text

    return share_text(wilson_interval(part, whole), words())


def _say(text: str) -> None:
    console.print(escape(text), highlight=False, soft_wrap=True)


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
    from jangin.report.data.verdict import grades_text, opinion_lines

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
