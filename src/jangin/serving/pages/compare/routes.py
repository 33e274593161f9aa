"""`/compare`: the results, every question with all answers, and blind judgements."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Query
from fastapi.responses import RedirectResponse, Response

from jangin.core.errors import DataError
from jangin.evaluation.blind_judgements import BlindStanding
from jangin.evaluation.grade_labels import LOG as GRADES
from jangin.evaluation.grade_labels import AnswerLabel, GradeSample, texts_of
from jangin.report.charts import svg as charts
from jangin.report.data.verdict import grades_text, opinion_lines
from jangin.report.i18n.translate import Words, p_text
from jangin.report.page import short
from jangin.serving.pages.compare.answers import (
    CHANGES,
    AnswerFilter,
    AnswerTable,
    Change,
    ComparedSystem,
    source_of_example,
)
from jangin.serving.pages.compare.blind import CHOICES, BlindReview, log_of, read_lines
from jangin.serving.pages.compare.overview import Comparison, Comparisons
from jangin.serving.pages.project import ProjectDep
from jangin.serving.pages.rendering import render
from jangin.serving.pages.visit import NamedDep, NothingYetError, PageError, Visit, VisitDep, needs
from jangin.serving.state.project import OpenProject

if TYPE_CHECKING:
    from markupsafe import Markup


# What people prefer, drawn as the report draws shares.


def standing_chart(standings: Sequence[BlindStanding], words: Words) -> "Markup":
    """The win rate of A with its interval, of all questions and by test set."""
    from markupsafe import Markup

    bars = [
        charts.Bar(
            words(f"name_{row.evidence_set}") if row.evidence_set else words("judged_all"),
            f"{words.percent(rate.estimate)} [{words.interval(rate.low, rate.high)}]",
            rate.estimate,
            rate.low,
            rate.high,
            0,
        )
        for row in standings
        for rate in (row.report.win_rate,)
    ]
    title = words("win_rate")
    drawn = charts.forest("people", title, words("judged_note"), [(title, bars)] if bars else [])
    return Markup(drawn)  # noqa: S704  # made by ElementTree


router = APIRouter(prefix="/compare", dependencies=needs("review"))
PARTS = (
    ("/compare", "compare_tab_results"),
    ("/compare/answers", "compare_tab_answers"),
    ("/compare/blind", "compare_tab_blind"),
    ("/compare/check", "compare_tab_check"),
)
"""(address, key of the name) of the pages of this room."""
BLIND = "/compare/blind"
SHOWN = ("verdict", "glance", "random_base", "many", "checked")
"""What the page of results shows of the report's context above its section of results."""
MOST_SEARCH = 200

Pair = Annotated[str, Query(max_length=200)]


def _comparison(visit: Visit, project: OpenProject) -> Comparison:
    return visit.server.get(Comparisons).of(project)


def _parts(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    """The pages of this room; none to choose blindly where one answer is that of random weights."""
    if comparison.has_random_rival:
        return tuple(part for part in PARTS if part[0] != BLIND)
    return PARTS


def _answers(comparison: Comparison) -> AnswerTable:
    """The index of answers; raises `PageError` where nothing was evaluated."""
    table = comparison.answers()
    if table is None or not len(table):
        raise NothingYetError("compare_nothing")
    return table


def _pair(table: AnswerTable, a: str, b: str) -> tuple[ComparedSystem, ComparedSystem]:
    """The two systems of an address, or those that are compared usually."""
    first, second = table.usual_pair()
    chosen = table.system(a) or first, table.system(b) or second
    return chosen if chosen[0] != chosen[1] else (_other(table, chosen[1]), chosen[1])


def _other(table: AnswerTable, system: ComparedSystem) -> ComparedSystem:
    return next((one for one in table.systems if one != system), system)


@router.get("")
def results(visit: VisitDep, project: ProjectDep) -> Response:
    """Verdict, glance, variants side by side, and the report's section of results."""
    comparison = _comparison(visit, project)
    logs = (log_of(project.folder), project.folder / GRADES)
    seen = tuple(log.stat().st_mtime_ns if log.exists() else 0 for log in logs)
    overview = comparison.overview(visit.words, seen)
    return render(
        visit,
        "compare/results.html.jinja",
        parts=_parts(comparison),
        overview=overview,
        p_text=p_text,
        outdated=comparison.evaluations.outdated,
        reviewed=comparison.evaluations.reviewed,
        has_random_rival=comparison.has_random_rival,
        evaluated=bool(comparison.evaluations.by_variant),
        **{name: overview.context[name] for name in SHOWN},
    )


@router.get("/report.html")
def report(visit: VisitDep, project: ProjectDep) -> Response:
    """The report as one file, as `jangin report` writes it."""
    html = _comparison(visit, project).report(visit.words)
    return _download(html, "report.html", "text/html; charset=utf-8")


@router.get("/table.{kind}")
def table_file(kind: Literal["csv", "json"], visit: VisitDep, project: ProjectDep) -> Response:
    """The table of the variants, as `jangin compare -o` writes it."""
    text = _comparison(visit, project).table_file(kind)
    if not text:
        raise NothingYetError("compare_nothing")
    media = "text/csv; charset=utf-8" if kind == "csv" else "application/json"
    return _download(text, f"compare.{kind}", media)


def _download(text: str, name: str, media_type: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type=media_type, headers=headers)


@router.get("/answers")
def answers(
    visit: VisitDep,
    project: ProjectDep,
    a: Pair = "",
    b: Pair = "",
    show: str = "",
    set: str = "",
    q: Annotated[str, Query(max_length=MOST_SEARCH)] = "",
    after: str = "",
) -> Response:
    """Every question with the answers of all systems, filtered."""
    comparison = _comparison(visit, project)
    table = _answers(comparison)
    first, second = _pair(table, a, b)
    change: Change = next((known for known in CHANGES if known == show), "")
    chosen = AnswerFilter(first, second, change, set if set in table.test_sets else "", q)
    kept = {"a": first.key, "b": second.key, "show": change, "set": chosen.evidence_set, "q": q}
    page = table.page(chosen, after)
    return render(
        visit,
        "compare/answers.html.jinja",
        parts=_parts(comparison),
        table=table,
        chosen=chosen,
        page=page,
        changes=CHANGES,
        address=lambda **changed: _address("/compare/answers", kept | changed),
        question_address=lambda key: _address("/compare/question", kept | {"key": key}),
        short=short,
    )


@router.get("/question")
def question(
    visit: VisitDep, project: ProjectDep, key: str, a: Pair = "", b: Pair = ""
) -> Response:
    """One question with the whole answers and where its source is."""
    comparison = _comparison(visit, project)
    table = _answers(comparison)
    row = table.question(key)
    if row is None:
        raise PageError(404, "compare_no_question")
    first, second = _pair(table, a, b)
    return render(
        visit,
        "compare/question.html.jinja",
        parts=_parts(comparison),
        row=row,
        source=source_of_example(comparison.evaluations.artifacts, row.example_id),
        first=first,
        second=second,
        back=_address("/compare/answers", {"a": first.key, "b": second.key}),
    )


def _address(path: str, values: dict[str, str]) -> str:
    query = urlencode({name: value for name, value in values.items() if value})
    return f"{path}?{query}" if query else path


def _review(visit: Visit, project: OpenProject, a: str, b: str, chosen_set: str) -> BlindReview:
    table = _answers(_comparison(visit, project))
    if len(table.systems) < 2:
        raise NothingYetError("compare_one_system")
    kept = chosen_set if chosen_set in table.test_sets else ""
    return BlindReview(table, log_of(project.folder), *_pair(table, a, b), visit.reviewer, kept)


def _of_address(
    visit: VisitDep, project: ProjectDep, a: Pair = "", b: Pair = "", set: str = ""
) -> BlindReview:
    return _review(visit, project, a, b, set)


def _of_form(
    visit: NamedDep,
    project: ProjectDep,
    a: Annotated[str, Form()],
    b: Annotated[str, Form()],
    set: Annotated[str, Form()] = "",
) -> BlindReview:
    return _review(visit, project, a, b, set)


ReviewOfAddress = Annotated[BlindReview, Depends(_of_address)]
"""The blind review of the two systems that the address names."""


def _of_judge(_visit: NamedDep, review: ReviewOfAddress) -> BlindReview:
    return review


OwnReviewOfAddress = Annotated[BlindReview, Depends(_of_judge)]
"""The same for someone who has said who they are."""
ReviewOfForm = Annotated[BlindReview, Depends(_of_form)]
"""The blind review of the two systems that the form names."""


def _fields(review: BlindReview) -> dict[str, str]:
    return {"a": review.a.key, "b": review.b.key, "set": review.evidence_set}


@router.get("/blind")
def blind(
    visit: VisitDep, project: ProjectDep, a: Pair = "", b: Pair = "", set: str = ""
) -> Response:
    """Which two systems to judge; what was judged so far."""
    comparison = _comparison(visit, project)
    table = _answers(comparison)
    if comparison.has_random_rival:
        raise NothingYetError("compare_blind_random")
    if len(table.systems) < 2:
        raise NothingYetError("compare_one_system")
    review = _review(visit, project, a, b, set)
    lines = read_lines(log_of(project.folder))
    pairs = dict.fromkeys((line.a, line.b) for line in lines if line.kind == "judgement")
    return render(
        visit,
        "compare/blind.html.jinja",
        parts=PARTS,
        table=table,
        review=review,
        progress=review.progress(),
        known=[
            (one, two)
            for first, second in pairs
            if (one := _system_of(table, first)) and (two := _system_of(table, second))
        ],
        address=_address,
    )


def _system_of(table: AnswerTable, contestant: Any) -> ComparedSystem | None:
    return next((one for one in table.systems if one.contestant == contestant), None)


@router.get("/blind/judge")
def judge_next(visit: VisitDep, review: OwnReviewOfAddress, key: str = "") -> Response:
    """The next question of this person, its two answers without names; or the one of `key`."""
    return _judging(visit, review, key, undone=bool(key))


def _judging(visit: Visit, review: BlindReview, key: str = "", undone: bool = False) -> Response:
    progress = review.progress()
    shown = review.shown(key) if key else review.next_question()
    if shown is None and not visit.is_fragment:
        return RedirectResponse(_address("/compare/blind/standing", _fields(review)), 303)
    template = "judging.html.jinja" if visit.is_fragment else "judge.html.jinja"
    return render(
        visit,
        f"compare/{template}",
        parts=PARTS,
        review=review,
        progress=progress,
        shown=shown,
        undone=undone,
        choices=CHOICES,
        fields=_fields(review),
        standing=_address("/compare/blind/standing", _fields(review)),
        here_address=_address("/compare/blind/judge", _fields(review)),
    )


@router.post("/blind/judge")
def save_judgement(
    visit: VisitDep,
    review: ReviewOfForm,
    key: Annotated[str, Form()],
    choice: Annotated[Literal["first", "second", "tie", "both_bad"], Form()],
) -> Response:
    """Save a judgement, then show the next question."""
    review.judge(key, choice)
    return _after(visit, review)


@router.post("/blind/undo")
def undo_judgement(visit: VisitDep, review: ReviewOfForm) -> Response:
    """Withdraw this person's last judgement and show that question again."""
    return _after(visit, review, key=review.undo())


def _after(visit: Visit, review: BlindReview, key: str = "") -> Response:
    if visit.is_fragment:
        return _judging(visit, review, key, undone=bool(key))
    fields = _fields(review) | ({"key": key} if key else {})
    return RedirectResponse(_address("/compare/blind/judge", fields), 303)


@router.get("/blind/standing")
def standing(visit: VisitDep, review: ReviewOfAddress) -> Response:
    """What was judged so far; the names only to someone who asked for them."""
    ranked = review.standings()
    return render(
        visit,
        "compare/standing.html.jinja",
        parts=PARTS,
        review=review,
        progress=review.progress(),
        standings=ranked,
        chart=standing_chart(ranked, visit.words),
        p_text=p_text,
        people=review.judges(),
        fields=_fields(review),
        judge_address=_address("/compare/blind/judge", _fields(review)),
    )


@router.post("/blind/reveal")
def reveal(review: ReviewOfForm) -> Response:
    """Tell this person which system is which, and note that."""
    if not review.progress().named:
        review.reveal()
    return RedirectResponse(_address("/compare/blind/standing", _fields(review)), 303)


def _sample(visit: VisitDep, project: ProjectDep) -> GradeSample:
    evaluations = _comparison(visit, project).evaluations.by_variant
    try:
        return GradeSample(evaluations, project.folder / GRADES)
    except DataError as error:
        if evaluations:
            raise
        raise NothingYetError("compare_nothing") from error


SampleDep = Annotated[GradeSample, Depends(_sample)]
"""The twenty answers that a person is asked to look at."""


@router.get("/check")
def check(visit: NamedDep, project: ProjectDep, sample: SampleDep) -> Response:
    """An answer to look at, without its system and its grade; at the end, the agreement."""
    left = sample.left(visit.reviewer)
    row = left[0] if left else None
    evidence = sample.evidence.get(row.example_id, ()) if row else ()
    checked = None if row else sample.checked()
    return render(
        visit,
        "compare/check.html.jinja",
        parts=_parts(_comparison(visit, project)),
        row=row,
        passage=max(evidence, key=len, default=""),
        done=len(sample.drawn) - len(left),
        count=len(sample.drawn),
        checked=checked,
        grades_text=grades_text(checked, visit.words),
        opinions=[] if row else opinion_lines(sample.judges, visit.words),
    )


@router.post("/check")
def save_label(
    visit: NamedDep,
    sample: SampleDep,
    question: Annotated[str, Form()],
    gold: Annotated[str, Form()],
    answer: Annotated[str, Form()],
    label: Annotated[AnswerLabel, Form()],
) -> Response:
    """Save what a person says of an answer, then show the next one."""
    shown = _as_sent((question, gold, answer))
    row = next((row for row in sample.drawn if _as_sent(texts_of(row)) == shown), None)
    if row is None:
        raise PageError(404, "compare_no_question")
    sample.say(row, label, visit.reviewer)
    return RedirectResponse("/compare/check", 303)


def _as_sent(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Texts as a form sends them back, with line breaks of one kind."""
    return tuple(text.replace("\r\n", "\n").replace("\r", "\n") for text in texts)


@router.post("/check/undo")
def undo_label(visit: NamedDep, sample: SampleDep) -> Response:
    """Withdraw this person's last label and show that answer again."""
    sample.undo(visit.reviewer)
    return RedirectResponse("/compare/check", 303)
