"""The calls of openai 0.28.1, the last version of the module-level API."""

import base64
import io
import json
import os

import openai
import rows
from checks import CHAT_MODEL, check, run, state, wait

openai.api_base = os.environ["OPENAI_BASE_URL"]
openai.api_key = os.environ["OPENAI_API_KEY"]
QUESTION = [{"role": "user", "content": rows.FACTS[0][0]}]
TERMINAL = {"succeeded", "failed", "cancelled"}


def upload(data, name="train.jsonl"):
    file = io.BytesIO(data)
    return openai.File.create(file=file, purpose="fine-tune", user_provided_filename=name)


def raises(status, call):
    try:
        result = call()
    except openai.error.OpenAIError as error:
        assert error.http_status == status, (error.http_status, error.json_body)
        return error
    raise AssertionError(f"no error, but {result}")


@check
def files():
    data = rows.chat()
    file = upload(data)
    state.train = file["id"]
    assert file["bytes"] == len(data), file
    assert openai.File.retrieve(file["id"])["filename"] == "train.jsonl"
    assert openai.File.download(file["id"]) == data
    assert file["id"] in [each["id"] for each in openai.File.list()["data"]]
    gone = upload(data)["id"]
    assert openai.File.delete(gone)["deleted"] is True
    raises(404, lambda: openai.File.retrieve(gone))


@check
def fine_tuning_job():
    job = openai.FineTuningJob.create(
        training_file=state.train,
        model=CHAT_MODEL,
        hyperparameters={"n_epochs": 1},
        suffix="old",
    )
    assert job["object"] == "fine_tuning.job", job
    assert job["id"] in [each["id"] for each in openai.FineTuningJob.list(limit=5)["data"]]
    job = wait(lambda: openai.FineTuningJob.retrieve(job["id"]), lambda j: j["status"] in TERMINAL)
    assert job["status"] == "succeeded", job
    events = openai.FineTuningJob.list_events(id=job["id"], limit=2)["data"]
    assert events[0]["message"] == "The job has successfully completed", events
    table = base64.b64decode(openai.File.download(job["result_files"][0])).decode()
    assert table.startswith("step,train_loss,train_accuracy"), table[:80]
    state.model = job["fine_tuned_model"]


@check
def fine_tuning_job_cancel():
    job = openai.FineTuningJob.create(training_file=state.train, model=CHAT_MODEL)
    assert openai.FineTuningJob.cancel(job["id"])["status"] == "cancelled"


@check
def models():
    assert state.model in [each["id"] for each in openai.Model.list()["data"]]
    assert openai.Model.retrieve(state.model)["id"] == state.model
    raises(404, lambda: openai.Model.retrieve("none"))


@check
def chat_and_stream():
    words = {"model": state.model, "messages": QUESTION, "max_tokens": 6, "temperature": 0}
    reply = openai.ChatCompletion.create(**words)
    parts = [
        chunk["choices"][0]["delta"].get("content", "")
        for chunk in openai.ChatCompletion.create(**words, stream=True)
    ]
    assert "".join(part or "" for part in parts) == reply["choices"][0]["message"]["content"]


@check
def completion():
    reply = openai.Completion.create(model=state.model, prompt="가", max_tokens=3)
    assert reply["object"] == "text_completion", reply


@check
def legacy_fine_tunes_name_their_successor():
    error = raises(404, lambda: openai.FineTune.list())
    assert "fine_tuning/jobs" in json.dumps(error.json_body), error.json_body


@check
def model_delete():
    assert openai.Model.delete(state.model)["deleted"] is True


run()
