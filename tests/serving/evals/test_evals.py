"""Evals by OpenAI's own client."""

import datetime
import json
import re
import time
from typing import Literal

import openai
import pytest
from pydantic import BaseModel, Field
from sqlalchemy import select

from jangin.serving.evals.runner import EvalRunner
from jangin.serving.evals.sources import ItemSchema
from jangin.serving.state.tables import EvalItem, EvalRun

SCHEMA = {"type": "object", "properties": {"question": {"type": "string"}}}
CUSTOM = {"type": "custom", "item_schema": SCHEMA, "include_sample_schema": True}
EXACT = {
    "type": "string_check", "name": "exact", "operation": "eq",
    "input": "{{sample.output_text}}", "reference": "{{item.answer}}",
}  # fmt: skip
CLOSE = {
    "type": "text_similarity", "name": "close", "evaluation_metric": "fuzzy_match",
    "input": "{{sample.output_text}}", "reference": "{{item.answer}}", "pass_threshold": 0.8,
}  # fmt: skip
SCORE = {
    "type": "score_model", "name": "score", "model": "tiny", "range": [0, 1], "pass_threshold": 0,
    "input": [{"role": "user", "content": "{{item.question}}: {{sample.output_text}}"}],
}  # fmt: skip
LABEL = {
    "type": "label_model", "name": "label", "model": "tiny", "labels": ["a", "b"],
    "passing_labels": ["a", "b"], "input": [{"role": "developer", "content": "{{item.question}}"}],
}  # fmt: skip
ROWS = [{"item": {"question": f"{n}?", "answer": "x"}} for n in range(3)]
ASKED = {"type": "template", "template": [{"role": "user", "content": "{{item.question}}"}]}


def source(kind, rows, **options):
    given = {"type": "file_content", "content": rows}
    return {"type": kind, "source": given, **options}


def sampled(kind="completions", **options):
    options = {"model": "tiny", "input_messages": ASKED, **options}
    options.setdefault("sampling_params", {"max_completion_tokens": 8, "temperature": 0})
    return source(kind, ROWS, **options)


@pytest.fixture
def evaluation(client):
    return client.evals.create(
        name="e", data_source_config=CUSTOM, testing_criteria=[EXACT, CLOSE], metadata={"k": "v"}
    )


def ended(client, run):
    while run.status in ("queued", "in_progress"):
        time.sleep(0.05)
        run = client.evals.runs.retrieve(run.id, eval_id=run.eval_id)
    return run


def items(client, run, **options):
    return list(client.evals.runs.output_items.list(run.id, eval_id=run.eval_id, **options))


def test_answers_of_a_file_are_graded(client, evaluation):
    lines = [
        {"item": {"answer": "서울"}, "sample": {"output_text": "서울"}},
        {"item": {"answer": "서울특별시"}, "sample": {"output_text": "서울특별사"}},
        {"item": {"other": "부산"}, "sample": {"output_text": "부산"}},
    ]
    data = "\n".join(map(json.dumps, lines)).encode()
    file = client.files.create(file=("rows.jsonl", data), purpose="evals")
    run = client.evals.runs.create(
        evaluation.id, name="r",
        data_source={"type": "jsonl", "source": {"type": "file_id", "id": file.id}},
    )  # fmt: skip
    run = ended(client, run)
    assert (run.status, run.name) == ("completed", "r")
    counts = run.result_counts
    assert (counts.total, counts.passed, counts.failed, counts.errored) == (3, 1, 1, 1)
    criteria = {c.testing_criteria: (c.passed, c.failed) for c in run.per_testing_criteria_results}
    assert criteria == {"exact": (1, 2), "close": (2, 1)}
    first, second, third = items(client, run)
    assert [first.status, second.status, third.status] == ["pass", "fail", "error"]
    assert second.datasource_item == lines[1]["item"]
    assert [r.passed for r in second.results] == [False, True]
    assert third.results[0].sample["errors"] == ["invalid_variable_error"]
    assert [i.id for i in items(client, run, status="fail")] == [second.id]
    again = client.evals.runs.output_items.retrieve(first.id, eval_id=run.eval_id, run_id=run.id)
    assert again.model_dump() == first.model_dump()


@pytest.mark.parametrize("kind", ["completions", "responses"])
def test_a_model_answers_and_models_grade(client, kind):
    evaluation = client.evals.create(
        data_source_config=CUSTOM, testing_criteria=[SCORE | {"range": [0, 9]}, LABEL]
    )
    run = ended(client, client.evals.runs.create(evaluation.id, data_source=sampled(kind)))
    assert run.status == "completed"
    assert run.result_counts.total == 3
    asked = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "0?"}], max_tokens=8, temperature=0
    )
    first = items(client, run)[0]
    assert first.sample.output[0].content == asked.choices[0].message.content
    assert first.sample.input[0].content == "0?"
    assert {result.name for result in first.results} == {"score", "label"}
    (usage,) = run.per_model_usage
    assert usage.invocation_count >= 3


def test_messages_of_an_item_are_asked(client, evaluation):
    rows = [{"item": {"answer": "x", "chat": [{"role": "user", "content": "하나"}]}}]
    reference = {"type": "item_reference", "item_reference": "item.chat"}
    options = {"model": "tiny", "input_messages": reference}
    run = client.evals.runs.create(
        evaluation.id,
        data_source=source("completions", rows, **options)
        | {"sampling_params": {"max_completion_tokens": 2}},
    )
    (item,) = items(client, ended(client, run))
    assert item.sample.input[0].content == "하나"


def test_evals_are_listed_changed_and_deleted(client, evaluation, running):
    assert client.evals.retrieve(evaluation.id).model_dump() == evaluation.model_dump()
    assert evaluation.id in [each.id for each in client.evals.list()]
    assert client.evals.update(evaluation.id, name="new").metadata == {"k": "v"}
    run = ended(client, client.evals.runs.create(evaluation.id, data_source=sampled()))
    assert [each.id for each in client.evals.runs.list(evaluation.id, status="completed")] == [
        run.id
    ]
    with pytest.raises(openai.BadRequestError):
        client.evals.runs.cancel(run.id, eval_id=evaluation.id)
    assert client.evals.delete(evaluation.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.evals.retrieve(evaluation.id)
    with running.server.database.read() as session:
        for table, column in ((EvalRun, EvalRun.id), (EvalItem, EvalItem.run_id)):
            assert not session.scalars(select(table).where(column == run.id)).all()


def test_a_run_is_cancelled_and_another_process_continues_one(client, evaluation, running):
    runner = running.server.get(EvalRunner)
    runs = client.evals.runs
    cancelled = runs.create(evaluation.id, data_source=sampled())
    try:
        runs.cancel(cancelled.id, eval_id=evaluation.id)
    except openai.BadRequestError:
        pass  # it was over already
    else:
        assert runs.retrieve(cancelled.id, eval_id=evaluation.id).status == "canceled"
    done = ended(client, runs.create(evaluation.id, data_source=sampled()))
    with running.server.database.write() as session:  # as if its process had died after a row
        row = session.scalars(select(EvalRun).where(EvalRun.id == done.id)).one()
        row.status, row.results = "in_progress", {}
        for item in session.scalars(select(EvalItem).where(EvalItem.run_id == done.id)):
            if item.number:
                session.delete(item)
    runner.wake()
    again = ended(client, runs.retrieve(done.id, eval_id=evaluation.id))
    assert sorted(i.datasource_item_id for i in items(client, again)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("criterion", "param"),
    [
        (EXACT | {"operation": "is"}, "testing_criteria.0.operation"),
        (EXACT | {"input": "{{row.x}}"}, "testing_criteria.0.input"),
        ({k: v for k, v in CLOSE.items() if k != "pass_threshold"},
         "testing_criteria.0.pass_threshold"),
        ({"type": "python", "name": "p", "source": "def grade(s, i): return 1"},
         "testing_criteria.0.type"),
    ],
)  # fmt: skip
def test_a_grader_that_cannot_run_is_refused(client, criterion, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.evals.create(data_source_config=CUSTOM, testing_criteria=[criterion])
    assert caught.value.param == param


STRICT = {
    "type": "object",
    "properties": {"n": {"type": ["integer", "null"]}, "tags": {"type": "array",
                   "items": {"enum": ["a", "b"]}}},
    "required": ["n"], "additionalProperties": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ({"n": 1, "tags": ["a"]}, ""),
        ({"n": None}, ""),
        ({}, "item: 'n' is a required"),
        ({"n": "1"}, "item.n: '1' is not of type 'integer', 'null'"),
        ({"n": True}, "item.n: True is not of type 'integer', 'null'"),
        ({"n": 1, "tags": ["a", "c"]}, "item.tags[1]: 'c' is not one of"),
        ({"n": 1, "x": 1}, "item: Additional properties are not allowed ('x'"),
    ],
)
def test_items_have_the_form_of_the_schema(client, item, problem):
    config = CUSTOM | {"item_schema": STRICT}
    evaluation = client.evals.create(data_source_config=config, testing_criteria=[EXACT])
    data = json.dumps({"item": {"n": 1}}) + "\n" + json.dumps({"item": item}) + "\n"
    file = client.files.create(file=("rows.jsonl", data.encode()), purpose="evals")
    create = client.evals.runs.create
    given = {"type": "jsonl", "source": {"type": "file_id", "id": file.id}}
    run = ended(client, create(evaluation.id, data_source=given))
    assert run.status == ("failed" if problem else "completed")
    if problem:
        assert run.error.message.startswith(f"Line 2: {problem}")
        with pytest.raises(openai.BadRequestError, match=re.escape(problem)) as caught:
            create(evaluation.id, data_source=source("jsonl", [{"item": {"n": 1}}, {"item": item}]))
        assert caught.value.param == "data_source.source.content.1.item"


@pytest.mark.parametrize(
    ("schema", "where"),
    [
        ({"pattern": "^(?!a)"}, ""),
        ({"items": {"patternProperties": {"a": True}}}, ""),
        ({"$ref": "http://127.0.0.1/a"}, ""),
        ({"$ref": "#/default", "default": {"unevaluatedItems": False}}, ""),
        ({"enum": list(range(5000))}, ""),
        ({"type": "text"}, ".type"),
        ({"properties": {"a": {"items": {"minLength": "1"}}}}, ".properties.a.items.minLength"),
        ({"properties": {"a": 1}}, ".properties.a"),
    ],
)
def test_a_schema_that_is_not_checked_is_refused(client, schema, where):
    config = CUSTOM | {"item_schema": schema}
    with pytest.raises(openai.BadRequestError) as caught:
        client.evals.create(data_source_config=config, testing_criteria=[EXACT])
    assert caught.value.param == f"data_source_config.item_schema{where}"


class Speaker(BaseModel):
    name: str = Field(min_length=1, pattern="^[A-Z]")
    since: datetime.date | None = None


class Talk(BaseModel):
    speakers: list[Speaker]
    kind: Literal["talk", "poster"]
    rooms: set[int] = set()
    answers: "list[Talk]" = []


def test_a_schema_that_pydantic_writes_checks_items():
    form = ItemSchema(Talk.model_json_schema())
    speaker = {"name": "Ada", "since": "2024-02-01"}
    talk = {"speakers": [speaker], "kind": "talk", "rooms": [1, 2], "answers": []}
    assert form.problem_of(talk | {"answers": [talk]}) == ""
    for wrong, where in (
        ({"speakers": [speaker | {"name": "ada"}]}, "item.speakers[0].name: 'ada' does not match"),
        ({"speakers": [{"name": ""}]}, "item.speakers[0].name: '' "),
        ({"speakers": [speaker | {"since": 4}]}, "item.speakers[0].since: 4 "),
        ({"answers": [{"speakers": []}]}, "item.answers[0]: 'kind' is a required"),
        ({"rooms": [1, 1.0]}, "item.rooms: [1, 1.0] has non-unique"),
    ):
        assert form.problem_of(talk | wrong).startswith(where)


BRANCHES = {f"a{n}": {"anyOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 10} for n in range(20)}


@pytest.mark.parametrize(
    ("schema", "item", "word"),
    [
        ({"$defs": BRANCHES | {"a20": {"type": "null"}}, "$ref": "#/$defs/a0"}, {}, "work"),
        ({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, {}, "refers to itself"),
        ({"items": {"enum": list(range(4900))}}, [4899] * 10_000, "work"),
        ({"anyOf": [{"type": "null"}] * 1000}, "x" * 1_000_000, "work"),
        ({"pattern": "(a+)+$"}, "a" * 100_000 + "b", "does not match"),
        ({"uniqueItems": True}, [{"a": n} for n in range(20_000)], ""),
        ({"multipleOf": 0.1}, 10**400, "too large"),
    ],
)
def test_items_are_checked_with_bounded_work(schema, item, word):
    begin = time.process_time()
    problem = ItemSchema(schema).problem_of(item)
    assert word in problem
    assert len(problem) < 500
    assert bool(problem) is bool(word)
    assert time.process_time() - begin < 20


def test_evals_are_not_ordered_by_their_last_change(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.evals.list(order_by="updated_at")
    assert caught.value.param == "order_by"
    listed = client.evals.list(order_by="created_at", order="desc", limit=2).data
    assert [each.created_at for each in listed] == sorted(
        (each.created_at for each in listed), reverse=True
    )


def test_what_is_not_there_is_refused(client, evaluation):
    with pytest.raises(openai.BadRequestError) as caught:
        client.evals.create(
            data_source_config={"type": "stored_completions"}, testing_criteria=[EXACT]
        )
    assert "data_source_config" in caught.value.param
    create = client.evals.runs.create
    with pytest.raises(openai.NotFoundError):
        create(evaluation.id, data_source=sampled(model="none"))
    data = b'{"question": "x"}\n'
    file = client.files.create(file=("rows.jsonl", data), purpose="evals")
    given = {"type": "jsonl", "source": {"type": "file_id", "id": file.id}}
    run = ended(client, create(evaluation.id, data_source=given))
    assert run.status == "failed"
    assert "Line 1" in run.error.message
