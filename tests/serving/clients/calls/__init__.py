"""What the checks of the official Python client share."""

import openai
import rows
from checks import wait
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
