"""The review without scripts: a queue, one row at a time, and what can go wrong with a form."""

import json
import re

import pytest

import jangin
from jangin.core.parquet import read_table
from jangin.core.records import Example
from jangin.core.store import Store
from jangin.examples.reviews.log import ReviewableTexts, append_decisions, decide
from tests.serving.pages.conftest import Browser
from tests.serving.pages.review.conftest import row_of, token_of
from tests.serving.running import run_workbench


@pytest.fixture
def rows(project):
    """{id: example} of the rows to review."""
    artifact = Store(project / "store").latest("synthesize")
    table = read_table(artifact.path / "examples.parquet", Example)
    return {row.id: row for row in table}


@pytest.fixture
def lee(workbench):
    """A second reviewer."""
    with Browser(workbench.root) as client:
        client.get("/preferences")
        client.submit("/preferences", name="lee", language="ko", theme="auto")
        yield client


@pytest.fixture
def kim(browser):
    browser.submit("/preferences", name="kim", language="ko", theme="auto")
    return browser


def test_a_name_is_asked_before_the_first_decision_and_only_then(workbench, decisions):
    with Browser(workbench.root) as new:
        assert "내 판단: 0개" in new.get("/review?state=all").text, "reading needs no name"
        asked = new.get("/review/next", params={"kind": "original"})
        assert asked.url.path == "/name"
        assert "누구십니까?" in asked.text
        sent = new.submit("/review/items/0123456789abcdef", decision="accept")
        assert sent.url.path == "/name"
        assert new.submit("/name", name="  ", then="/review").status_code == 400
        assert new.submit("/name", name="x", then="//elsewhere.example/").url.host == "127.0.0.1"
        new.submit("/preferences", name="")
        page = new.submit("/name", name=" 김 하나 ", then="/review/next?kind=original")
        assert "kind=original" in str(page.url)
        after = new.submit(f"/review/items/{row_of(page)}", decision="accept", token=token_of(page))
        assert "내 판단: 1개" in after.text
        assert [d.by for d in decisions()] == ["김 하나"]


def test_a_whole_round_without_scripts(kim, decisions):
    queue = kim.get("/review")
    assert "검토 시작" in queue.text
    first = kim.get("/review/next")
    row = row_of(first)
    assert "근거로 든 글" in first.text
    second = kim.submit(f"/review/items/{row}", decision="accept", token=token_of(first))
    assert row_of(second) != row
    assert "저장했습니다: 승인" in second.text
    rated = kim.submit(f"/review/items/{row_of(second)}", decision="rate", score="4")
    assert row_of(rated) == row_of(second)
    flag = kim.submit(f"/review/items/{row_of(second)}", decision="flag", reason="글자가 깨짐")
    assert "글자가 깨짐" in flag.text
    kim.submit(
        f"/review/items/{row_of(second)}", decision="reject", reason="wrong", token=token_of(flag)
    )
    told = [(d.decision, d.by, d.reason, d.score) for d in decisions()]
    assert told == [
        ("accept", "kim", "", None),
        ("rate", "kim", "", 4),
        ("flag", "kim", "글자가 깨짐", None),
        ("reject", "kim", "wrong", None),
    ]
    back = kim.submit(f"/review/items/{row}", decision="undo")
    assert row_of(back) == row_of(second)
    assert "되돌렸습니다" in back.text
    assert decisions()[-1].decision == "undo"
    assert "의견" not in kim.get("/review?state=accepted&words=zzz").text.split("<main")[0]
    assert row in kim.get("/review?state=accepted").text
    listed = kim.get("/review").text
    assert "이미 판단한 예제 1개는 가렸습니다" in listed
    assert 'href="/review?state=all"' in listed
    everything = kim.get("/review?state=all").text
    assert "가렸습니다" not in everything
    assert "글자가 깨짐" in everything, "the note of a flag"


def test_two_reviewers_never_get_the_same_row(kim, lee):
    mine, theirs = row_of(kim.get("/review/next")), row_of(lee.get("/review/next"))
    assert mine != theirs
    assert row_of(kim.get("/review/next")) == mine
    assert "lee 님도 이 예제를 보고 있습니다" in kim.get(f"/review/items/{theirs}").text
    page = kim.get(f"/review/items/{mine}")
    after = kim.submit(f"/review/items/{mine}", decision="accept", token=token_of(page))
    assert row_of(after) not in (mine, theirs)


def warned(reviewer, row, sent):
    """What the form sends back after the warning that the source does not say this."""
    warning = reviewer.submit(f"/review/items/{row}", **sent)
    assert warning.status_code == 409
    assert "근거에 이 내용이 없습니다" in warning.text
    return re.search(r'name="sure" value="([0-9a-f]+)"', warning.text)[1]


def test_an_edit_beyond_its_evidence_is_saved_only_after_a_warning(kim, rows, decisions):
    page = kim.get("/review/next")
    row = rows[row_of(page)]
    address = f"/review/items/{row.id}"
    sent = {"decision": "edit", "token": token_of(page), "question": row.question,
            "evidence": row.evidence}  # fmt: skip
    sure = warned(kim, row.id, sent | {"answer": "9,999일"})
    assert decisions() == []
    other = kim.submit(address, **sent, answer="8,888일", sure=sure)
    assert other.status_code == 409, "another text is another question"
    kim.submit(address, **sent, answer="9,999일", sure=sure)
    assert [d.after.answer for d in decisions()] == ["9,999일"]
    assert "고치기 전의 글에 대한 것입니다" in kim.get(address).text
    page = kim.get(address)
    kept = kim.submit(address, **sent | {"token": token_of(page)}, answer=row.evidence)
    assert kept.status_code == 200, "the evidence itself needs no warning"
    assert decisions()[-1].after.answer == row.evidence


def test_an_edit_is_saved_with_both_texts(kim, decisions):
    page = kim.get("/review/next")
    row = row_of(page)
    sent = {"decision": "edit", "token": token_of(page), "question": "며칠입니까?",
            "answer": "첫째 줄\r\n둘째 줄", "evidence": ""}  # fmt: skip
    kim.submit(f"/review/items/{row}", **sent, sure=warned(kim, row, sent))
    (decision,) = decisions()
    assert decision.after == ReviewableTexts(question="며칠입니까?", answer="첫째 줄\n둘째 줄")
    assert decision.before.question != decision.after.question
    assert "며칠입니까?" in kim.get(f"/review/items/{row}").text


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        ({"answer": "  "}, "답이 비어 있습니다"),
        ({"question": ""}, "질문이 비어 있습니다"),
        ({"answer": "내가 쓴 답", "evidence": "원문에 없는 글"}, "원문에 없는 글"),
    ],
)
def test_an_edit_that_cannot_be_kept_stays_in_the_form(kim, decisions, texts, sentence):
    page = kim.get("/review/next")
    row = row_of(page)
    form = {"question": "내가 쓴 질문", "answer": "내가 쓴 답", "evidence": "", **texts}
    response = kim.submit(f"/review/items/{row}", decision="edit", token=token_of(page), **form)
    assert response.status_code == 400
    assert sentence in response.text
    for text in form.values():
        assert text.strip() in response.text
    assert decisions() == []


def test_a_row_that_another_tab_changed_is_not_overwritten_and_both_texts_are_shown(
    kim, lee, decisions
):
    page = kim.get("/review/next")
    row = row_of(page)
    other = lee.get(f"/review/items/{row}")
    form = {"decision": "edit", "question": "질문", "evidence": ""}
    theirs = {"answer": "이영희의 답", "token": token_of(other), **form}
    lee.submit(f"/review/items/{row}", **theirs, sure=warned(lee, row, theirs))
    mine = {"answer": "김철수의 답", **form}
    mine["sure"] = warned(kim, row, mine | {"token": token_of(page)})
    refused = kim.submit(f"/review/items/{row}", token=token_of(page), **mine)
    assert refused.status_code == 409
    assert "lee 님이 그사이 이 예제를 판단했습니다" in refused.text
    assert "이영희의 답" in refused.text
    assert "김철수의 답" in refused.text
    assert f'name="sure" value="{mine["sure"]}"' in refused.text
    assert len(decisions()) == 1
    kim.submit(f"/review/items/{row}", token=token_of(refused), **mine)
    assert [d.after.answer for d in decisions()] == ["이영희의 답", "김철수의 답"]


def test_a_request_that_was_sent_twice_is_saved_once(kim, decisions):
    page = kim.get("/review/next")
    row, token = row_of(page), token_of(page)
    for _ in range(2):
        assert kim.submit(f"/review/items/{row}", decision="accept", token=token).status_code == 200
    assert len(decisions()) == 1


def test_a_full_disk_is_told_and_nothing_is_saved(kim, log):
    page = kim.get("/review/next")
    log.symlink_to("/dev/full")
    response = kim.submit(f"/review/items/{row_of(page)}", decision="accept", token=token_of(page))
    assert response.status_code == 507
    log.unlink()


def test_a_row_that_is_gone_shows_what_was_decided(kim, log, make_example):
    row = make_example("없어진 질문?", "없어진 답")
    append_decisions(log, [decide(row, "reject", "lee", reason="wrong")])
    response = kim.get(f"/review/items/{row.id}")
    assert response.status_code == 404
    assert "없어진 답" in response.text
    assert kim.get("/review/items/0123456789abcdef").status_code == 404


def test_a_log_with_a_wrong_line_is_one_sentence(kim, log):
    log.write_text('{"id": "x"}\n')
    response = kim.get("/review")
    assert response.status_code == 400
    assert "reviews.jsonl:1" in response.text


def test_a_deleted_document_leaves_its_examples_with_the_text_that_was_read(kim, project):
    page = kim.get("/review/next?source=취업규칙.pdf")
    document = project / "documents" / "취업규칙.pdf"
    hidden = document.rename(project / "hidden.pdf")
    try:
        again = kim.get(f"/review/items/{row_of(page)}")
        assert again.status_code == 200
        assert "근거로 든 글" in again.text
    finally:
        hidden.rename(document)


def test_texts_of_people_are_text(kim, log, rows):
    row = next(iter(rows.values()))
    planted = "<script>alert(1)</script>"
    after = ReviewableTexts(question=planted, answer=planted)
    append_decisions(
        log, [decide(row, "edit", planted, after), decide(row, "flag", "x", None, planted)]
    )
    for address in (f"/review/items/{row.id}", "/review?state=edited", "/review/disagreements"):
        assert planted not in kim.get(address).text


def test_earlier_turns_of_a_chat_are_in_the_queue_on_the_page_of_a_row_and_in_tables(tmp_path):
    turns = ("연차가 있나요?", "네, 있습니다.", "며칠인가요?", "15일입니다.")
    roles = ("user", "assistant") * 2
    messages = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=True)]
    (tmp_path / "chats.jsonl").write_text(json.dumps({"messages": messages}) + "\n")
    keys = "name: chats\nexamples: {read: {path: chats.jsonl, format: {type: chat}}}\n"
    (tmp_path / "project.yaml").write_text(keys, "utf-8")
    jangin.open(tmp_path).run(progress=None)
    (row,) = read_table(Store(tmp_path / "store").latest("read").path / "examples.parquet", Example)
    with (
        run_workbench(tmp_path / "server", project=tmp_path / "project.yaml") as running,
        Browser(running.root) as client,
    ):
        queue, table = client.get("/review"), client.get("/data/tables/read/examples")
        way = client.get(f"/data/examples/{row.id}")
        client.get("/preferences")
        client.submit("/preferences", name="lee", language="ko", theme="auto")
        page = client.get(f"/review/items/{row.id}")
    assert "앞선 대화" in table.text
    for reply in (queue, table, way, page):
        assert all(text in reply.text for text in turns), reply.url
