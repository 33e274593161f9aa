"""Every call of the API by the official Python client, from 1.109 to the newest."""

import asyncio
import base64
import csv
import hashlib
import http.server
import io
import json
import threading
import time

import openai
import rows
from checks import (
    BASE_URL,
    CHAT_MODEL,
    COMPLETION_MODEL,
    KEY,
    OTHER_CHAT_MODEL,
    check,
    needs,
    request,
    run,
    state,
    wait,
)
from openai import OpenAI

client = OpenAI()
TERMINAL = {"succeeded", "failed", "cancelled"}
QUICK = {"n_epochs": 1, "batch_size": 4, "learning_rate_multiplier": 1}
QUESTION = [{"role": "user", "content": rows.FACTS[0][0]}]


def raises(status, call, *, code="any", param="any", message=""):
    """The call fails with a status; returns the error."""
    try:
        result = call()
    except openai.APIStatusError as error:
        assert error.status_code == status, (error.status_code, error.body)
        assert set(error.body) >= {"message", "type", "param", "code"}, error.body
        assert code in ("any", error.code), error.body
        assert param in ("any", error.param), error.body
        assert message in error.message, error.body
        return error
    raise AssertionError(f"no error, but {result}")


def upload(data, name="train.jsonl", purpose="fine-tune", **more):
    return client.files.create(file=(name, data), purpose=purpose, **more)


def finished(job_id):
    return wait(lambda: client.fine_tuning.jobs.retrieve(job_id), lambda j: j.status in TERMINAL)


# Conventions of every endpoint.


@check
def conventions_a_request_without_key_is_refused():
    status, _, body = request("GET", "/models", headers={})
    assert status == 401, (status, body)
    assert json.loads(body)["error"]["code"] == "invalid_api_key", body


@check
def conventions_replies_carry_the_request_id_and_version():
    reply = client.models.with_raw_response.list()
    assert reply.headers["x-request-id"].startswith("req_")
    assert reply.headers["openai-version"] == "2020-10-01"
    assert int(reply.headers["openai-processing-ms"]) >= 0
    needs(hasattr(client.models.list(), "_request_id"), "no _request_id on lists")


@check
def conventions_an_unknown_url_and_method_have_the_error_envelope():
    for method, path, status in (("POST", "/nonsense", 404), ("PUT", "/files", 405)):
        got, _, body = request(method, path, b"{}")
        error = json.loads(body)["error"]
        assert got == status, (got, body)
        assert error["type"] == "invalid_request_error", body
        assert f"({method} /v1{path})" in error["message"], body


@check
def conventions_a_slash_at_the_end_and_foreign_headers_are_accepted():
    headers = {"Authorization": f"Bearer {KEY}", "OpenAI-Organization": "org-x", "api-key": "y"}
    status, _, body = request("GET", "/models/", headers=headers)
    assert status == 200, (status, body)


@check
def conventions_wrong_json_is_a_clear_400():
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    for body in (b"{", b"[]", b"", b"\xff\xfe", b"null"):
        status, _, reply = request("POST", "/fine_tuning/jobs", body, headers)
        assert status == 400, (body, status, reply)
        assert json.loads(reply)["error"]["type"] == "invalid_request_error"


# Files and uploads.


@check
def files_create_retrieve_list_and_content():
    data = rows.chat()
    file = upload(data, "한글 자료.jsonl")
    assert file.id.startswith("file-"), file
    assert len(file.id) == 29, file
    assert (file.object, file.bytes, file.purpose) == ("file", len(data), "fine-tune"), file
    assert file.filename == "한글 자료.jsonl", file
    assert file.status in ("uploaded", "processed"), file
    state.train = file.id
    done = client.files.wait_for_processing(file.id, poll_interval=0.1, max_wait_seconds=20)
    assert done.status == "processed", done
    assert client.files.content(file.id).read() == data
    assert client.files.retrieve_content(file.id).encode() == data
    with client.files.with_streaming_response.content(file.id) as reply:
        assert b"".join(reply.iter_bytes()) == data
    assert file.id in [each.id for each in client.files.list()]
    assert file.id not in [each.id for each in client.files.list(purpose="batch")]


@check
def files_list_pages_are_exclusive_and_complete():
    mine = [upload(rows.chat(), f"page-{n}.jsonl").id for n in range(5)]
    first = client.files.list(limit=2)
    assert [each.id for each in first.data] == mine[:2:-1], (first.data, mine)
    assert first.has_more is True
    assert (first.first_id, first.last_id) == (mine[4], mine[3]) if hasattr(
        first, "first_id"
    ) else True
    every = [each.id for each in client.files.list(limit=2)]
    assert every[:5] == mine[::-1], every
    assert len(every) == len(set(every))
    upward = [each.id for each in client.files.list(order="asc", limit=3)]
    assert upward == every[::-1]
    for limit, code in ((0, "integer_below_min_value"), (10_001, "integer_above_max_value")):
        raises(400, lambda limit=limit: client.files.list(limit=limit), code=code, param="limit")
    raises(400, lambda: client.files.list(after="file-unknown"), param="after")


@check
def files_delete_and_errors():
    file = upload(rows.chat(), "gone.jsonl")
    deleted = client.files.delete(file.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (file.id, "file", True)
    raises(404, lambda: client.files.retrieve(file.id), param="id", message=file.id)
    raises(404, lambda: client.files.content(file.id))
    raises(404, lambda: client.files.delete(file.id))
    raises(400, lambda: upload(rows.chat(), purpose="nonsense"))
    raises(400, lambda: upload(rows.chat(), "table.csv"))
    raises(400, lambda: upload(b""))


@check
def files_expire_when_asked():
    policy = {"anchor": "created_at", "seconds": 3600}
    try:
        file = upload(rows.chat(), expires_after=policy)
    except TypeError:
        file = upload(rows.chat(), extra_body={"expires_after": policy})
    assert file.expires_at == file.created_at + 3600, file


@check
def uploads_in_parts():
    data = rows.chat()
    begun = client.uploads.create(
        bytes=len(data), filename="parts.jsonl", mime_type="text/jsonl", purpose="fine-tune"
    )
    assert begun.id.startswith("upload_"), begun
    assert (begun.status, begun.expires_at) == ("pending", begun.created_at + 3600), begun
    halves = [
        client.uploads.parts.create(begun.id, data=part) for part in (data[:100], data[100:])
    ]
    assert all(part.id.startswith("part_") and part.upload_id == begun.id for part in halves)
    ids = [part.id for part in halves]
    raises(400, lambda: client.uploads.complete(begun.id, part_ids=ids, md5="0" * 32))
    done = client.uploads.complete(begun.id, part_ids=ids, md5=hashlib.md5(data).hexdigest())
    assert (done.status, done.file.bytes) == ("completed", len(data)), done
    assert client.files.content(done.file.id).read() == data
    raises(400, lambda: client.uploads.complete(begun.id, part_ids=ids))


@check
def uploads_cancel_and_wrong_sum():
    begun = client.uploads.create(
        bytes=10, filename="x.jsonl", mime_type="text/jsonl", purpose="fine-tune"
    )
    part = client.uploads.parts.create(begun.id, data=b"1234")
    raises(400, lambda: client.uploads.complete(begun.id, part_ids=[part.id]))
    assert client.uploads.cancel(begun.id).status == "cancelled"
    raises(400, lambda: client.uploads.parts.create(begun.id, data=b"1"))
    raises(404, lambda: client.uploads.cancel("upload_unknown"))


@check
def uploads_by_the_helper_in_chunks():
    data = rows.chat()
    done = client.uploads.upload_file_chunked(
        file=data,
        filename="big.jsonl",
        bytes=len(data),
        mime_type="text/jsonl",
        purpose="fine-tune",
        part_size=300,
    )
    assert client.files.content(done.file.id).read() == data


# Fine-tuning jobs.


@check
def jobs_create_right_after_the_file():
    valid = upload(rows.chat(4), "valid.jsonl").id
    job = client.fine_tuning.jobs.create(
        training_file=upload(rows.chat()).id,
        validation_file=valid,
        model=CHAT_MODEL,
        seed=42,
        suffix="pricer",
        metadata={"client": openai.__version__},
        method={"type": "supervised", "supervised": {"hyperparameters": QUICK}},
    )
    state.job = job.id
    assert job.id.startswith("ftjob-"), job
    assert len(job.id) == 30, job
    assert (job.object, job.model, job.seed) == ("fine_tuning.job", CHAT_MODEL, 42), job
    assert job.status in ("validating_files", "queued", "running"), job
    assert (job.validation_file, job.fine_tuned_model) == (valid, None), job
    assert job.result_files == [], job
    assert job.trained_tokens is None, job
    assert job.organization_id, job
    assert job.hyperparameters.n_epochs == 1, job
    assert job.method.supervised.hyperparameters.batch_size == 4, job
    assert job.error is None or job.error.message is None, job


@check
def jobs_retrieve_and_list():
    job = client.fine_tuning.jobs.retrieve(state.job)
    assert job.id == state.job
    page = client.fine_tuning.jobs.list(limit=1)
    assert page.data[0].id == state.job
    assert isinstance(page.has_more, bool)
    assert state.job in [each.id for each in client.fine_tuning.jobs.list(limit=1)]
    try:
        matching = client.fine_tuning.jobs.list(metadata={"client": openai.__version__})
    except TypeError:
        matching = client.fine_tuning.jobs.list(
            extra_query={"metadata[client]": openai.__version__}
        )
    assert state.job in [each.id for each in matching]
    other = client.fine_tuning.jobs.list(extra_query={"metadata[client]": "none"})
    assert [each.id for each in other] == []


@check
def jobs_refuse_wrong_requests():
    create = client.fine_tuning.jobs.create
    train = state.train
    raises(
        400,
        lambda: create(model="gpt-99", training_file=train),
        code="model_not_available",
        param="model",
    )
    raises(400, lambda: create(model=CHAT_MODEL, training_file="file-unknown"))
    raises(
        400,
        lambda: create(model=CHAT_MODEL, training_file=train, extra_body={"rank": 3}),
        code="unknown_parameter",
        param="rank",
        message="Unknown parameter: 'rank'.",
    )
    raises(400, lambda: create(model=CHAT_MODEL, training_file=train, suffix="x" * 65))
    raises(400, lambda: create(model=CHAT_MODEL, training_file=train, seed=-1))
    for wrong in ({"n_epochs": 51}, {"batch_size": 0}, {"learning_rate_multiplier": 0}):
        raises(
            400,
            lambda wrong=wrong: create(
                model=CHAT_MODEL, training_file=train, hyperparameters=wrong
            ),
        )
    raises(
        400,
        lambda: create(
            model=CHAT_MODEL,
            training_file=train,
            method={"type": "reinforcement"},
        ),
    )
    batch_file = upload(rows.batch("x"), purpose="batch").id
    raises(
        400, lambda: create(model=CHAT_MODEL, training_file=batch_file), code="invalid_purpose"
    )
    status, _, body = request(
        "POST",
        "/fine_tuning/jobs",
        json.dumps({"model": CHAT_MODEL}).encode(),
        {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
    )
    error = json.loads(body)["error"]
    assert status == 400, body
    assert error["code"] == "missing_required_parameter", body
    assert error["message"] == "Missing required parameter: 'training_file'.", body
    raises(
        404,
        lambda: client.fine_tuning.jobs.retrieve("ftjob-unknown"),
        code="fine_tune_not_found",
        param="fine_tune_id",
    )


@check
def jobs_succeed_and_are_complete():
    job = finished(state.job)
    assert job.status == "succeeded", job
    parts = job.fine_tuned_model.split(":")
    assert parts[0] == "ft", job.fine_tuned_model
    assert parts[3] == "pricer", job.fine_tuned_model
    assert len(parts[4]) == 8, job.fine_tuned_model
    assert job.trained_tokens > 0, job
    assert job.finished_at >= job.created_at, job
    assert job.hyperparameters.batch_size == 4, job
    assert job.estimated_finish is None, job
    assert len(job.result_files) == 1, job
    state.model, state.result = job.fine_tuned_model, job.result_files[0]


@check
def jobs_events_are_complete_and_newest_first():
    events = list(client.fine_tuning.jobs.list_events(state.job, limit=3))
    assert len({event.id for event in events}) == len(events)
    assert all(event.id.startswith("ftevent-") for event in events)
    messages = [event.message for event in reversed(events)]
    assert messages[0] == f"Created fine-tuning job: {state.job}", messages
    assert messages[1].startswith("Validating training file: file-"), messages
    assert " and validation file: file-" in messages[1], messages
    for text in (
        "Files validated, moving job to queued state",
        "Fine-tuning job started",
        f"New fine-tuned model created: {state.model}",
    ):
        assert text in messages, messages
    assert messages[-1] == "The job has successfully completed", messages
    assert any("served locally by" in text for text in messages), messages
    steps = [event for event in events if event.type == "metrics"][::-1]
    assert steps, messages
    total = steps[0].data["total_steps"]
    assert [event.data["step"] for event in steps] == list(range(1, total + 1)), steps
    assert steps[0].message.startswith(f"Step 1/{total}: training loss="), steps[0]
    assert {"train_loss", "train_mean_token_accuracy"} <= set(steps[0].data), steps[0]
    assert "full_valid_loss" in steps[-1].data, steps[-1]
    assert len(client.fine_tuning.jobs.list_events(state.job, limit=2).data) == 2


@check
def jobs_result_file_is_base64_of_a_numeric_table():
    file = client.files.retrieve(state.result)
    assert (file.purpose, file.filename) == ("fine-tune-results", "step_metrics.csv"), file
    content = client.files.content(state.result).read()
    table = list(csv.reader(io.StringIO(base64.b64decode(content).decode())))
    header = "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
    assert ",".join(table[0]).startswith(header), table[0]
    assert [int(float(row[0])) for row in table[1:]] == list(range(1, len(table))), table
    assert all(float(cell) == float(cell) for row in table[1:] for cell in row if cell)
    assert all(len(row) == len(table[0]) for row in table)
    status, _, plain = request("GET", f"/files/{state.result}/content?encoding=plain")
    assert status == 200
    assert plain.decode().startswith(header)


@check
def jobs_checkpoints_and_permissions():
    checkpoints = client.fine_tuning.jobs.checkpoints.list(state.job).data
    assert checkpoints, "no checkpoint"
    last = checkpoints[0]
    assert last.id.startswith("ftckpt_"), last
    assert last.fine_tuned_model_checkpoint == state.model, last
    assert last.fine_tuning_job_id == state.job, last
    assert last.metrics.full_valid_loss is not None, last
    needs(hasattr(client.fine_tuning, "checkpoints"), "no permissions")
    permissions = client.fine_tuning.checkpoints.permissions
    made = permissions.create(state.model, project_ids=["proj_other"]).data
    assert made[0].project_id == "proj_other", made
    assert made[0].id.startswith("cp_"), made
    listed = permissions.retrieve(state.model)
    assert made[0].id in [each.id for each in listed.data], listed
    gone = permissions.delete(made[0].id, fine_tuned_model_checkpoint=state.model)
    assert gone.deleted is True


@check
def jobs_with_too_few_examples_fail_with_the_known_message():
    job = client.fine_tuning.jobs.create(
        model=CHAT_MODEL, training_file=upload(rows.chat(3)).id
    )
    job = finished(job.id)
    assert job.status == "failed", job
    assert job.error.code == "invalid_n_examples", job.error
    assert job.error.param == "training_file", job.error
    assert job.error.message.startswith(
        "Training file has 3 example(s), but must have at least 10 examples"
    ), job.error
    last = client.fine_tuning.jobs.list_events(job.id, limit=1).data[0]
    assert (last.level, last.message) == ("error", job.error.message), last
    raises(400, lambda: client.fine_tuning.jobs.cancel(job.id), message="already")


@check
def jobs_with_wrong_rows_fail_and_name_the_example():
    lines = rows.chat().decode().split("\n")
    row = json.loads(lines[6])
    del row["messages"][2]["role"]
    lines[6] = json.dumps(row)
    wrong = {"role": "\n".join(lines).encode(), "preference": rows.preference()}
    for name, data in wrong.items():
        job = client.fine_tuning.jobs.create(model=CHAT_MODEL, training_file=upload(data).id)
        job = finished(job.id)
        assert (job.status, job.error.code) == ("failed", "invalid_training_file"), job
        assert name != "role" or "Example 7, message 3" in job.error.message, job.error


@check
def jobs_cancel():
    job = client.fine_tuning.jobs.create(
        model=CHAT_MODEL, training_file=state.train, hyperparameters={"n_epochs": 50}
    )
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    time.sleep(1)
    job = client.fine_tuning.jobs.retrieve(job.id)
    assert (job.status, job.result_files) == ("cancelled", []), job
    assert job.finished_at is not None, job
    raises(400, lambda: client.fine_tuning.jobs.cancel(job.id))
    raises(404, lambda: client.fine_tuning.jobs.cancel("ftjob-unknown"))


@check
def jobs_pause_and_resume():
    needs(hasattr(client.fine_tuning.jobs, "pause"), "no pause")
    jobs = client.fine_tuning.jobs
    job = jobs.create(
        model=CHAT_MODEL,
        training_file=state.train,
        hyperparameters={"n_epochs": 30, "batch_size": 1},
    )
    wait(
        lambda: [e.type for e in jobs.list_events(job.id, limit=1).data],
        lambda types: "metrics" in types or jobs.retrieve(job.id).status in TERMINAL,
        every=0.1,
    )
    jobs.pause(job.id)
    wait(lambda: jobs.retrieve(job.id).status, lambda status: status == "paused", 60)
    raises(400, lambda: jobs.pause(job.id))
    assert jobs.resume(job.id).status in ("queued", "running")
    assert finished(job.id).status == "succeeded"
    steps = [e.data["step"] for e in jobs.list_events(job.id, limit=100) if e.type == "metrics"]
    assert steps[::-1] == list(range(1, len(steps) + 1)), steps
    raises(400, lambda: jobs.resume(job.id))


@check
def jobs_with_preferences():
    job = client.fine_tuning.jobs.create(
        model=state.model,
        training_file=upload(rows.preference(), "dpo.jsonl").id,
        method={"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 1, "beta": 0.2}}},
    )
    assert job.method.dpo.hyperparameters.beta == 0.2, job
    job = finished(job.id)
    assert job.status == "succeeded", job.error
    reply = client.chat.completions.create(
        model=job.fine_tuned_model, messages=QUESTION, max_tokens=3
    )
    assert reply.choices


@check
def jobs_with_prompts_and_completions():
    job = client.fine_tuning.jobs.create(
        model=COMPLETION_MODEL,
        training_file=upload(rows.completion()).id,
        hyperparameters=QUICK,
    )
    job = finished(job.id)
    assert job.status == "succeeded", job.error
    reply = client.completions.create(model=job.fine_tuned_model, prompt="질문", max_tokens=3)
    assert reply.object == "text_completion"


@check
def jobs_with_empty_hyperparameters_get_numbers():
    job = client.fine_tuning.jobs.create(
        model=OTHER_CHAT_MODEL, training_file=state.train, hyperparameters={}
    )
    assert job.hyperparameters.n_epochs == "auto", job
    job = finished(job.id)
    assert job.status == "succeeded", job.error
    chosen = job.hyperparameters
    assert all(
        isinstance(value, int | float)
        for value in (chosen.n_epochs, chosen.batch_size, chosen.learning_rate_multiplier)
    ), chosen


# Models and inference.


@check
def models_list_retrieve_and_delete():
    ids = [model.id for model in client.models.list()]
    assert state.model in ids, ids
    assert CHAT_MODEL in ids, ids
    model = client.models.retrieve(state.model)
    assert (model.id, model.object) == (state.model, "model"), model
    assert isinstance(model.created, int), model
    raises(404, lambda: client.models.retrieve("ft:none"), code="model_not_found")
    raises(404, lambda: client.models.retrieve("org/none"), code="model_not_found")


@check
def chat_of_the_tuned_model():
    reply = client.chat.completions.create(
        model=state.model, messages=QUESTION, max_tokens=7, seed=42, temperature=0
    )
    assert reply.id.startswith("chatcmpl-"), reply
    assert (reply.object, reply.model) == ("chat.completion", state.model), reply
    assert reply.choices[0].message.role == "assistant", reply
    assert reply.choices[0].message.refusal is None, reply
    assert reply.choices[0].finish_reason in ("stop", "length"), reply
    usage = reply.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage
    assert 0 < usage.completion_tokens <= 7, usage
    again = client.chat.completions.create(
        model=state.model, messages=QUESTION, max_tokens=7, seed=42, temperature=0
    )
    assert again.choices[0].message.content == reply.choices[0].message.content
    state.answer = reply.choices[0].message.content


@check
def chat_streams_the_same_text():
    stream = client.chat.completions.create(
        model=state.model,
        messages=QUESTION,
        max_tokens=7,
        seed=42,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == state.answer, (text, state.answer)
    assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] in ("stop", "length")
    assert chunks[-1].usage.completion_tokens <= 7, chunks[-1]
    assert {c.object for c in chunks} == {"chat.completion.chunk"}


@check
def chat_several_choices_logprobs_and_stop():
    reply = client.chat.completions.create(
        model=state.model,
        messages=QUESTION,
        max_completion_tokens=5,
        n=3,
        temperature=1,
        logprobs=True,
        top_logprobs=4,
    )
    assert [choice.index for choice in reply.choices] == [0, 1, 2], reply
    tokens = reply.choices[0].logprobs.content
    assert all(token.logprob <= 0 for token in tokens), tokens
    assert all(len(token.top_logprobs) == 4 for token in tokens), tokens
    first = tokens[0].top_logprobs
    assert [t.logprob for t in first] == sorted((t.logprob for t in first), reverse=True)
    if state.answer:
        stopped = client.chat.completions.create(
            model=state.model,
            messages=QUESTION,
            max_tokens=7,
            temperature=0,
            stop=[state.answer[0]],
        )
        assert stopped.choices[0].message.content == "", stopped
        assert stopped.choices[0].finish_reason == "stop", stopped


@check
def chat_follows_a_json_schema():
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["서울", "부산"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    reply = client.chat.completions.create(
        model=state.model,
        messages=QUESTION,
        max_tokens=60,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "city", "strict": True, "schema": schema},
        },
    )
    assert json.loads(reply.choices[0].message.content)["city"] in ("서울", "부산"), reply


@check
def chat_ignores_harmless_parameters_and_refuses_wrong_ones():
    create = client.chat.completions.create
    reply = create(
        model=CHAT_MODEL,
        messages=[{"role": "developer", "content": "짧게"}, *QUESTION],
        max_tokens=2,
        user="me",
        store=False,
        metadata={"a": "b"},
        service_tier="auto",
        frequency_penalty=0.5,
        presence_penalty=0.5,
        logit_bias={"5": -100},
        extra_body={"top_k": 5},
    )
    assert reply.choices
    parts = [{"role": "user", "content": [{"type": "text", "text": "안녕"}]}]
    assert create(model=CHAT_MODEL, messages=parts, max_tokens=2).choices
    raises(404, lambda: create(model="nope", messages=QUESTION), code="model_not_found")
    raises(400, lambda: create(model=CHAT_MODEL, messages=[]))
    raises(400, lambda: create(model=CHAT_MODEL, messages=QUESTION, temperature=3))
    raises(400, lambda: create(model=CHAT_MODEL, messages=QUESTION, top_logprobs=3))
    raises(400, lambda: create(model=CHAT_MODEL, messages=[{"role": "x", "content": "a"}]))
    raises(
        400,
        lambda: create(
            model=CHAT_MODEL, messages=[{"role": "user", "content": "긴 글 " * 60_000}]
        ),
        code="context_length_exceeded",
        param="messages",
    )


@check
def chat_asynchronously():
    async def ask():
        async with openai.AsyncOpenAI() as own:
            calls = (
                own.chat.completions.create(model=state.model, messages=QUESTION, max_tokens=4)
                for _ in range(8)
            )
            return await asyncio.gather(*calls)

    assert len(asyncio.run(ask())) == 8


@check
def completions_with_echo_and_logprobs():
    text = rows.FACTS[0][0]
    reply = client.completions.create(
        model=state.model, prompt=text, max_tokens=0, echo=True, logprobs=2
    )
    choice = reply.choices[0]
    assert choice.text == text, choice
    assert "".join(choice.logprobs.tokens) == text, choice.logprobs
    assert choice.logprobs.token_logprobs[0] is None, choice.logprobs
    assert all(value <= 0 for value in choice.logprobs.token_logprobs[1:])
    assert choice.logprobs.text_offset[0] == 0, choice.logprobs
    assert len(choice.logprobs.top_logprobs[1]) >= 2, choice.logprobs
    both = client.completions.create(
        model=state.model, prompt=[text, "둘"], max_tokens=2, temperature=0
    )
    assert [each.index for each in both.choices] == [0, 1], both
    tokens = client.completions.create(model=state.model, prompt=[5, 6, 7], max_tokens=2)
    assert tokens.usage.prompt_tokens == 3, tokens
    stream = client.completions.create(
        model=state.model, prompt=text, max_tokens=4, temperature=0, stream=True
    )
    parts = [chunk.choices[0].text for chunk in stream]
    whole = client.completions.create(
        model=state.model, prompt=text, max_tokens=4, temperature=0
    )
    assert "".join(parts) == whole.choices[0].text
    raises(400, lambda: client.completions.create(model=state.model, prompt="a", suffix="b"))


@check
def responses_minimal():
    reply = client.responses.create(
        model=state.model, input="안녕하세요", instructions="짧게", max_output_tokens=16
    )
    assert reply.id.startswith("resp_"), reply
    assert reply.status in ("completed", "incomplete"), reply
    assert isinstance(reply.output_text, str)
    assert reply.usage.output_tokens <= 16, reply.usage
    with client.responses.stream(
        model=state.model, input=[{"role": "user", "content": "안녕"}], max_output_tokens=16
    ) as stream:
        kinds = [event.type for event in stream]
    assert kinds[0] == "response.created", kinds
    assert kinds[-1] in ("response.completed", "response.incomplete"), kinds
    raises(
        400,
        lambda: client.responses.create(
            model=state.model, input="a", previous_response_id="resp_1"
        ),
    )


@check
def embeddings_need_an_encoder_and_moderations_do_not_exist():
    try:
        reply = client.embeddings.create(model="text-embedding-3-small", input=["가", "나"])
        assert len(reply.data) == 2
    except openai.APIStatusError as error:
        assert error.status_code in (400, 404), error
        assert error.body["message"], error
    raises(404, lambda: client.moderations.create(input="a"))


# Graders, batches, webhooks.


@check
def graders_validate_and_run():
    needs(hasattr(client.fine_tuning, "alpha"), "no graders")
    graders = client.fine_tuning.alpha.graders
    exact = {
        "type": "string_check",
        "name": "exact",
        "input": "{{sample.output_text}}",
        "reference": "{{item.gold}}",
        "operation": "eq",
    }
    assert graders.validate(grader=exact).grader.name == "exact"
    raises(400, lambda: graders.validate(grader={**exact, "operation": "is"}))
    multi = {
        "type": "multi",
        "name": "both",
        "graders": {
            "exact": exact,
            "close": {
                "type": "text_similarity",
                "name": "close",
                "input": "{{sample.output_text}}",
                "reference": "{{item.gold}}",
                "evaluation_metric": "rouge_l",
            },
        },
        "calculate_output": "0.5 * exact + 0.5 * close",
    }
    result = graders.run(grader=multi, item={"gold": "a b"}, model_sample="a b")
    assert result.reward == 1, result
    assert result.sub_rewards == {"exact": 1, "close": 1}, result
    assert result.metadata.errors.formula_parse_error is False, result
    score = {
        "type": "label_model",
        "name": "judge",
        "model": state.model,
        "input": [{"role": "user", "content": "{{sample.output_text}}"}],
        "labels": ["good", "bad"],
        "passing_labels": ["good"],
    }
    result = graders.run(grader=score, item={}, model_sample="a")
    assert result.reward in (0, 1), result
    assert result.metadata.token_usage > 0, result


@check
def batches_run_requests_of_a_file():
    data = rows.batch(state.model) + b'\n{"custom_id": "bad", "method": "POST", "url": '
    data += b'"/v1/chat/completions", "body": {"model": "nope", "messages": []}}\n'
    file = upload(data, "batch.jsonl", "batch")
    made = client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"a": "b"},
    )
    assert made.id.startswith("batch_"), made
    assert made.status == "validating", made
    assert made.expires_at == made.created_at + 86400, made
    done = wait(
        lambda: client.batches.retrieve(made.id),
        lambda b: b.status in ("completed", "failed", "expired", "cancelled"),
    )
    assert done.status == "completed", done
    counts = done.request_counts
    assert (counts.total, counts.completed, counts.failed) == (6, 5, 1), counts
    lines = client.files.content(done.output_file_id).text.splitlines()
    replies = {line["custom_id"]: line for line in map(json.loads, lines)}
    assert set(replies) == {f"row-{n}" for n in range(5)}, replies
    first = replies["row-0"]
    assert first["id"].startswith("batch_req_"), first
    assert first["response"]["status_code"] == 200, first
    assert first["response"]["body"]["object"] == "chat.completion", first
    assert first["error"] is None, first
    errors = client.files.content(done.error_file_id).text.splitlines()
    assert json.loads(errors[0])["custom_id"] == "bad", errors
    assert client.batches.list(limit=1).data[0].id == made.id
    assert client.files.retrieve(done.output_file_id).purpose == "batch_output"


@check
def batches_cancel_and_refuse():
    file = upload(rows.batch(state.model), "batch.jsonl", "batch")
    create = client.batches.create
    made = create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    assert client.batches.cancel(made.id).status in ("cancelling", "cancelled", "completed")
    wait(lambda: client.batches.retrieve(made.id).status, lambda s: s in ("cancelled", "completed"))
    wrong = {"endpoint": "/v1/nothing", "completion_window": "24h"}
    raises(400, lambda: create(input_file_id=file.id, **wrong))
    right = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
    raises(400, lambda: create(input_file_id="file-unknown", **right))
    raises(400, lambda: create(input_file_id=state.train, **right))
    raises(404, lambda: client.batches.retrieve("batch_unknown"))
    broken = upload(b'{"custom_id": "a"}\nno json\n', "broken.jsonl", "batch")
    failed = create(input_file_id=broken.id, **right)
    failed = wait(lambda: client.batches.retrieve(failed.id), lambda b: b.status == "failed", 30)
    assert [error.line for error in failed.errors.data][-1] == 2, failed.errors


class Receiver(http.server.BaseHTTPRequestHandler):
    deliveries = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.deliveries.append((dict(self.headers), body.decode()))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_words):
        pass


@check
def webhooks_are_signed_and_delivered():
    needs(hasattr(client, "webhooks"), "no webhooks")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    body = {
        "name": "mine",
        "url": f"http://127.0.0.1:{server.server_port}/hook",
        "event_types": ["batch.completed", "fine_tuning.job.cancelled"],
    }
    if hasattr(client.webhooks, "create"):
        hook = client.webhooks.create(**body)
        hook_id, secret = hook.id, hook.signing_secret
        assert client.webhooks.test(hook_id, event_type="batch.completed").status_code == 200
        assert hook_id in [each.id for each in client.webhooks.list()]
    else:
        reply = client.post("/webhook_endpoints", body=body, cast_to=object)
        hook_id, secret = reply["id"], reply["signing_secret"]
        client.post(
            f"/webhook_endpoints/{hook_id}/test",
            body={"event_type": "batch.completed"},
            cast_to=object,
        )
    wait(lambda: len(Receiver.deliveries), lambda count: count == 1, 10)
    headers, text = Receiver.deliveries[0]
    event = client.webhooks.unwrap(text, headers, secret=secret)
    assert event.type == "batch.completed", event
    job = client.fine_tuning.jobs.create(model=CHAT_MODEL, training_file=state.train)
    client.fine_tuning.jobs.cancel(job.id)
    wait(lambda: len(Receiver.deliveries), lambda count: count == 2, 20)
    headers, text = Receiver.deliveries[1]
    event = client.webhooks.unwrap(text, headers, secret=secret)
    assert (event.type, event.data.id) == ("fine_tuning.job.cancelled", job.id), event
    try:
        client.webhooks.unwrap(text + " ", headers, secret=secret)
        raise AssertionError("a changed text has a valid signature")
    except openai.InvalidWebhookSignatureError:
        pass
    client.delete(f"/webhook_endpoints/{hook_id}", cast_to=object)
    server.shutdown()


@check
def extensions_report_and_health():
    status, _, body = request("GET", f"/files/{state.train}/report")
    assert status == 200, body
    assert isinstance(json.loads(body), dict), body
    root = BASE_URL.removesuffix("/v1")
    assert root.startswith("http")


@check
def models_delete_last():
    gone = client.models.delete(state.model)
    assert (gone.id, gone.object, gone.deleted) == (state.model, "model", True), gone
    raises(404, lambda: client.models.retrieve(state.model), code="model_not_found")
    raises(
        404,
        lambda: client.chat.completions.create(model=state.model, messages=QUESTION),
        code="model_not_found",
    )


@check
def strict_validation_accepts_replies():
    """Jobs are left out: their `error` is an object as the hosted service sends it, not null."""
    strict = OpenAI(_strict_response_validation=True)
    for call in (
        lambda: strict.files.list(limit=2),
        lambda: strict.files.retrieve(state.train),
        lambda: strict.fine_tuning.jobs.list_events(state.job, limit=2),
        lambda: strict.fine_tuning.jobs.checkpoints.list(state.job),
        strict.models.list,
        lambda: strict.batches.list(limit=2),
        lambda: strict.chat.completions.create(
            model=CHAT_MODEL, messages=QUESTION, max_tokens=2
        ),
    ):
        call()


run()
