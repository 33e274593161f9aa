"""Decisions between two documents."""

import json

import pytest

from jangin.cli.main import app
from jangin.core.errors import ConfigError
from jangin.core.parquet import write_table
from jangin.core.store import Store
from jangin.examples.curation.contradictions import Conflict, ConflictSide
from jangin.examples.reviews.log import (
    NamedDocument,
    ReviewableTexts,
    decide_documents,
    decide_on,
    document_decisions,
    read_log,
    withdraw_documents,
)
from jangin.examples.reviews.sheet import export_lines, read_decisions, read_sheet, write_sheet
from jangin.project.contradictions import document_pairs, undecided
from jangin.project.file import open_project
from tests.serving.pages.review.test_routes import kim, rows

__all__ = ("kim", "rows")
OWN_ROWS = NamedDocument(id="own:faq.csv", source="faq.csv")
OLD, NEW, THIRD = (NamedDocument(id=f"d{n}", source=f"{n}.md") for n in ("old", "new", "third"))


def side(document, answer, example):
    return ConflictSide(
        document=document.id, source=document.source, page=3, section="",
        question="연체료는 얼마인가요?", answer=answer, evidence="", example=example,
        family=example,
    )  # fmt: skip


def conflict(name, *documents):
    sides = tuple(side(each, f"{each.id} 100원", f"{name}-{each.id}") for each in documents)
    return Conflict(id=name, difference="amount", sides=sides)


def test_a_conflict_is_open_until_nothing_in_it_is_left_to_decide():
    two, three = conflict("c2", OLD, NEW), conflict("c3", OLD, NEW, THIRD)

    def open_after(*decisions):
        return [each.id for each in undecided([two, three], decisions)]

    wording = ReviewableTexts(question="연체료는 얼마인가요?", answer="dold 100원")
    both = decide_documents("both_hold", NEW, OLD, "kim")
    assert open_after() == ["c2", "c3"]
    assert open_after(decide_documents("replaces", NEW, OLD, "kim")) == ["c3"]
    assert open_after(both) == ["c3"]
    assert open_after(both, withdraw_documents("undo", NEW, OLD, "kim")) == ["c2", "c3"]
    assert open_after(decide_on("c2-dold", wording, "reject", "kim", reason="wrong")) == ["c3"]
    thirds = [decide_documents("replaces", NEW, each, "kim") for each in (OLD, THIRD)]
    assert open_after(*thirds) == []


def test_a_passage_without_a_row_is_settled_by_what_people_say_of_the_row():
    row, passage = conflict("c", OLD, NEW).sides
    blank = dict.fromkeys(("question", "example", "family"), "")
    one_row = Conflict(id="c", difference="amount", sides=(row, passage.model_copy(update=blank)))
    assert one_row.question == row.question
    wording = ReviewableTexts(question=row.question, answer=row.answer)
    decided = [decide_on(row.example, wording, verdict, "kim") for verdict in ("accept", "reject")]
    assert undecided([one_row], []) == [one_row]
    assert [undecided([one_row], [each]) for each in decided] == [[], []]
    two_rows = conflict("c", OLD, NEW)
    assert undecided([two_rows], decided[:1]) == [two_rows], "the other row is still there"


@pytest.fixture
def contradicting(project, rows, request):
    """Two or more documents of the project that its curation says contradict each other."""
    named = sorted({(row.source, row.document_id) for row in rows.values()})[:2]
    documents = [NamedDocument(id=name, source=source) for source, name in named]
    documents += getattr(request, "param", [])
    folder = Store(project / "store").latest("curate").path
    manifest = folder / "manifest.json"
    before = manifest.read_text("utf-8")
    state = json.loads(before)
    state["summary"]["contradictions"] = 1
    write_table(folder / "conflicts.parquet", Conflict, [conflict("c1", *documents)])
    manifest.write_text(json.dumps(state), "utf-8")
    yield documents
    manifest.write_text(before, "utf-8")
    (folder / "conflicts.parquet").unlink()


@pytest.mark.parametrize("language", ["ko", "en"])
def test_undecided_conflicts_stand_first_in_the_queue_side_by_side(kim, contradicting, language):
    kim.submit("/preferences", name="kim", language=language, theme="auto")
    table = kim.get("/review").text.partition("<tbody>")[2]
    first = table.partition("</tr>")[0]
    for document in contradicting:
        assert f"{document.id} 100원" in first
        assert document.source in first
    assert ("3쪽" if language == "ko" else "page 3") in first
    assert 'href="/review/documents#c1"' in first
    assert 'id="c1"' in kim.get("/review/documents").text
    assert "#c1" not in kim.get("/review?after=0").text, "only on the first page"
    assert "#c1" not in kim.get("/review?words=없는말").text
    assert "#c1" in kim.get("/review?signal=conflict").text
    one, two = (each.source for each in contradicting)
    kim.submit("/review/documents", decision="replaces", first=one, second=two)
    assert "#c1" not in kim.get("/review").text
    kim.submit("/review/documents", decision="undo", first=one, second=two)
    kim.submit("/preferences", name="kim", language="ko", theme="auto")


def test_the_terminal_names_undecided_conflicts_before_the_examples(
    project, contradicting, log, capsys
):
    command = ["review", "--status", "-p", str(project / "project.yaml")]
    app(command, standalone_mode=False)
    shown = capsys.readouterr().out
    assert shown.index("documents disagree: 1 question") < shown.index("not decided;")
    assert f"{contradicting[0].source}, page 3: {contradicting[0].id} 100원" in shown
    one, two = (each.source for each in contradicting)
    app([*command, "--replaces", one, two], standalone_mode=False)
    capsys.readouterr()
    app(command, standalone_mode=False)
    assert "documents disagree" not in capsys.readouterr().out


def test_a_decision_between_documents_is_saved_shown_and_withdrawn(kim, rows, log):
    assert "서로 어긋나는 문서가 없습니다" in kim.get("/review/documents").text
    first, second = sorted({row.source for row in rows.values()})[:2]
    page = kim.submit("/review/documents", decision="replaces", first=first, second=second)
    assert f"유효한 문서: {first}. {second}" in page.text
    (decision,) = document_decisions(read_log(log))
    assert [each.source for each in decision.documents] == [first, second]
    assert decision.by
    undone = kim.submit("/review/documents", decision="undo", first=first, second=second)
    assert "유효한 문서" not in undone.text
    assert document_decisions(read_log(log)) == []


def test_a_document_that_is_not_there_is_refused_and_nothing_is_saved(kim, rows, log):
    name = next(iter(rows.values())).source
    refused = kim.submit("/review/documents", decision="both_hold", first=name, second=f"x{name}")
    assert refused.status_code >= 400
    assert f"x{name}" in refused.text
    assert not log.exists()


def test_a_conflict_that_is_gone_is_refused(kim, log):
    assert kim.submit("/review/documents/wrong", conflict="0", example="a").status_code == 404
    assert not log.exists()


def test_a_document_that_contradicts_itself_is_open_until_one_of_its_answers_is_rejected():
    sides = tuple(side(OLD, text, text) for text in ("100원", "200원"))
    alone = Conflict(id="c", difference="amount", sides=sides)
    agreeing = Conflict(id="a", difference="amount", sides=(sides[0], side(NEW, "100원", "n")))
    wording = ReviewableTexts(question="연체료는 얼마인가요?", answer="100원")
    assert undecided([alone], []) == [alone]
    assert undecided([alone], [decide_on("100원", wording, "reject", "kim")]) == []
    between = [decide_documents("replaces", NEW, OLD, "kim")]
    assert undecided([alone, agreeing], between) == []
    assert document_pairs([alone]) == []


@pytest.fixture
def sheet(tmp_path):
    """Writes a sheet of contradictions, fills it in, and reads it back."""

    def filled(name, values, decisions=()):
        pairs = document_pairs([conflict("c2", OLD, NEW)], decisions)
        path = tmp_path / name
        assert write_sheet(path, [], pairs) == 0
        lines = path.read_text("utf-8-sig").splitlines() if path.suffix == ".csv" else []
        if lines:
            cells = dict(zip(lines[0].split(","), range(99), strict=False))
            rows = [line.split(",") for line in lines[1:]]
            assert [row[cells["source"]] for row in rows] == ["new.md", "old.md"]
            assert [row[cells["passage"]] for row in rows] == [
                "연체료는 얼마인가요? dnew 100원", "연체료는 얼마인가요? dold 100원",
            ]  # fmt: skip
            for row, (decision, reason) in zip(rows, values, strict=True):
                row[cells["decision"]], row[cells["reason"]] = decision, reason
            path.write_text("\n".join([lines[0], *map(",".join, rows)]), "utf-8")
        return read_sheet(path, [], "lee", pairs)

    return filled


def test_decisions_between_documents_are_made_in_a_sheet(sheet):
    (new,) = sheet("a.csv", [("accept", ""), ("반려", "")]).decisions
    assert (new.decision, new.by) == ("replaces", "lee")
    assert [each.source for each in new.documents] == ["new.md", "old.md"]
    (old,) = sheet("b.csv", [("reject", ""), ("accept", "")]).decisions
    assert [each.source for each in old.documents] == ["old.md", "new.md"]
    (both,) = sheet("c.csv", [("accept", "신입생"), ("accept", "재학생")]).decisions
    assert (both.decision, both.conditions) == ("both_hold", ("신입생", "재학생"))
    known = sheet("d.csv", [("accept", "신입생"), ("accept", "재학생")], [both])
    assert (known.decisions, known.unchanged, known.problems) == ([], 1, [])
    nothing = sheet("e.csv", [("", ""), ("", "")])
    assert (nothing.decisions, nothing.problems) == ([], [])
    assert sheet("f.xlsx", []).decisions == []


@pytest.mark.parametrize(
    "values", [[("accept", ""), ("", "")], [("reject", ""), ("reject", "")], [("", "x"), ("", "")]]
)
def test_a_sheet_that_decides_on_one_of_two_documents_only_is_named_with_its_row(sheet, values):
    result = sheet("half.csv", values)
    assert result.decisions == []
    (problem,) = result.problems
    assert "half.csv, row 2: new.md and old.md contradict each other" in problem


def test_conditions_that_do_not_differ_are_named_with_the_row_of_the_sheet(sheet):
    result = sheet("same.csv", [("accept", "늘"), ("accept", "늘")])
    (problem,) = result.problems
    assert "same.csv, row 2: each of the two documents needs a condition of its own" in problem


def test_the_other_way_round_is_another_decision_in_an_exchanged_log():
    one, two = (decide_documents("replaces", *pair, "kim") for pair in ((OLD, NEW), (NEW, OLD)))
    data = export_lines([two.model_copy(update={"at": one.at.replace(year=2100)})]).encode()
    imported = read_decisions("log.jsonl", data, {}, [one])
    assert [each.documents for each in imported.decisions] == [(NEW, OLD)]
    again = read_decisions("log.jsonl", export_lines([one]).encode(), {}, [one])
    assert (again.decisions, again.known) == ([], 1)


def test_each_holds_under_a_condition_that_is_written_on_the_page(kim, contradicting, log):
    one, two = (each.source for each in contradicting)
    form = {"decision": "both_hold", "first": one, "second": two}
    refused = kim.submit("/review/documents", **form, when=["신입생", ""])
    assert refused.status_code == 400
    assert "칸을 모두 비워" in refused.text
    page = kim.submit("/review/documents", **form, when=[" 신입생", "재학생"])
    assert f"{one}: 신입생에 해당할 때. {two}: 재학생에 해당할 때." in page.text
    (decision,) = document_decisions(read_log(log))
    assert decision.conditions == ("신입생", "재학생")
    kim.submit("/review/documents", decision="undo", first=one, second=two)


@pytest.mark.parametrize("contradicting", [[OWN_ROWS]], indirect=True)
def test_three_documents_are_offered_what_two_are(kim, contradicting, log):
    one, two, three = (each.source for each in contradicting)
    page = kim.get("/review/documents").text
    for source in (one, two, three):
        assert f'value="{source}" checked' in page
        assert f"유효한 문서: {source} (표시한 문서 대신)" in page
        assert f"{source}의 답은 언제 맞습니까" in page
    assert page.count('action="/review/documents/wrong"') == 3
    form = {"decision": "replaces", "first": one}
    refused = kim.submit("/review/documents", **form)
    assert (refused.status_code, log.exists()) == (400, False)
    assert "하나 이상 표시" in refused.text
    page = kim.submit("/review/documents", **form, second=[two])
    assert "표시한 문서 대신" in page.text, "the third one still says otherwise"
    page = kim.submit("/review/documents", **form, second=[two, three])
    assert "표시한 문서 대신" not in page.text
    pairs = [
        tuple(each.source for each in line.documents) for line in document_decisions(read_log(log))
    ]
    assert set(pairs) == {(one, two), (one, three)}
    kim.submit("/review/documents", decision="undo", first=one, second=[two, three])


@pytest.mark.parametrize("contradicting", [[OWN_ROWS]], indirect=True)
def test_each_of_three_documents_holds_under_its_own_condition(kim, contradicting, log):
    one, *others = (each.source for each in contradicting)
    form = {"decision": "both_hold", "first": one, "second": others}
    for wrong in (["신입생", "재학생", ""], ["신입생", "재학생", "신입생"]):
        assert kim.submit("/review/documents", **form, when=wrong).status_code == 400
    assert not log.exists()
    kim.submit("/review/documents", **form, when=["신입생", "재학생", "졸업생"])
    decided = {line.conditions for line in document_decisions(read_log(log))}
    assert decided == {("신입생", "재학생"), ("신입생", "졸업생"), ("재학생", "졸업생")}
    assert "#c1" not in kim.get("/review").text


def test_the_first_click_opens_what_stands_first_in_the_queue(kim, contradicting):
    start = kim.get("/review/next", follow_redirects=False)
    assert start.headers["location"] == "/review/documents#c1"
    page = kim.get("/review/documents").text
    assert 'href="/review/next?after=-2"' in page
    behind = kim.get("/review/next?after=-2", follow_redirects=False)
    assert behind.headers["location"].startswith("/review/items/")


def test_conditions_in_the_terminal_belong_to_both_hold(project, contradicting, log, capsys):
    command = ["review", "-p", str(project / "project.yaml")]
    names = [each.source for each in contradicting]
    for wrong in (["--conditions", "a", "b"], ["--both-hold", *names, "--conditions", "a", "a"]):
        with pytest.raises(ConfigError, match=r"^--conditions"):
            app([*command, *wrong], standalone_mode=False)
    app([*command, "--both-hold", *names, "--conditions", "a", "b"], standalone_mode=False)
    assert f"{names[0]} holds under the condition 'a'" in capsys.readouterr().out
    app([*command, "--undo", *names], standalone_mode=False)


def test_a_replaced_document_is_not_read_until_the_decision_is_withdrawn(
    project, contradicting, log, capsys
):
    command = ["review", "-p", str(project / "project.yaml")]
    new, old = (each.source for each in contradicting)
    path = project / "project.yaml"

    def replaced():
        return [
            variant.stage_config("load").replaces
            for variant in open_project(path).variants.values()
        ]

    before = replaced()
    app([*command, "--replaces", new, old], standalone_mode=False)
    assert replaced() == [{**each, new: (old,)} for each in before]
    app([*command, "--status"], standalone_mode=False)
    assert "not decided;" in capsys.readouterr().out, "rows of the last run can be reviewed"
    app([*command, "--undo", new, old], standalone_mode=False)
    assert replaced() == before
