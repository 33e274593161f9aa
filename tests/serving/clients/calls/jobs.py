"""Fine-tuning jobs."""

import base64
import csv
import io
import json
import time

import openai
import rows
from calls import QUESTION, QUICK, TERMINAL, client, finished, raises, upload
from checks import (
    CHAT_MODEL,
    COMPLETION_MODEL,
    KEY,
    OTHER_CHAT_MODEL,
    check,
    needs,
    request,
    state,
    wait,
)


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
    raises(400, lambda: create(model=CHAT_MODEL, training_file=batch_file), code="invalid_purpose")
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
    (validating,) = [text for text in messages if text.startswith("Validating training file: ")]
    assert " and validation file: file-" in validating, messages
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
    job = client.fine_tuning.jobs.create(model=CHAT_MODEL, training_file=upload(rows.chat(3)).id)
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
        # It may not end between the first step that is seen and the pause.
        hyperparameters={"n_epochs": 50, "batch_size": 1},
    )
    wait(
        lambda: [e.type for e in jobs.list_events(job.id, limit=1).data],
        lambda types: "metrics" in types or jobs.retrieve(job.id).status in TERMINAL,
        every=0.1,
    )
    jobs.pause(job.id)
    wait(lambda: jobs.retrieve(job.id).status, lambda status: status == "paused")
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
