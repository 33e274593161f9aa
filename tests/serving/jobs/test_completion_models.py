"""A model of kind `completion` learns the tokens that `/completions` sends, and nothing around."""

import json

import pytest

from jangin.core.events import Progress
from jangin.core.records import Message
from jangin.models.loading import load_tokenizer
from jangin.models.tokens.chat_template import render_rows
from jangin.serving.jobs.pipeline import Pipeline
from jangin.serving.models.registry import STARTER, base_of, entry_of
from jangin.serving.state.caller import LOCAL_CALLER
from jangin.serving.state.settings import ModelEntry, ServerSettings
from tests.serving.jobs.conftest import upload, wait_for
from tests.serving.jobs.test_pipeline import spec
from tests.serving.running import run_server

TINY = {"type": "starter", "size": "0.5M", "vocabulary_size": 400}
LABELS = {"great": " good", "useful": " good", "broken": " bad", "awful": " bad"}
ROWS = [
    {"prompt": f"It is {word}, {times} times.\n\n###\n\n", "completion": label}
    for word, label in LABELS.items()
    for times in range(1, 7)
]


@pytest.mark.slow
def test_the_trained_label_is_the_most_likely_completion(tmp_path):
    models = {"ours": {"base": TINY, "kind": "completion"}}
    (tmp_path / "server.yaml").write_text(json.dumps({"models": models}))
    with run_server(tmp_path / "data", tmp_path / "server.yaml") as running:
        client = running.client()
        job = client.fine_tuning.jobs.create(
            model="ours",
            training_file=upload(client, ROWS),
            seed=7,
            hyperparameters={"n_epochs": 10, "batch_size": 4, "learning_rate_multiplier": 3},
        )
        job = wait_for(client, job.id)
        assert job.status == "succeeded", job.error
        model = job.fine_tuned_model
        base = running.server.models.resolve(model, LOCAL_CALLER).base_folder
        for row in ROWS[::6]:
            body = {"model": model, "prompt": row["prompt"]}
            sent = client.post("/tokenize", cast_to=dict, body=body)["tokens"]
            assert trained_row(base, row) == (sent, f"{row['completion']}<|end|>")
            (choice,) = client.completions.create(
                **body, max_tokens=8, temperature=0, logprobs=3
            ).choices
            assert (choice.text, choice.finish_reason) == (row["completion"], "stop")
            likely = choice.logprobs.top_logprobs[0]
            assert max(likely, key=likely.get) == row["completion"]


def trained_row(base, row):
    """(tokens before the trained ones, the trained ones as text)."""
    tokenizer = load_tokenizer(base)
    roles = (("user", row["prompt"]), ("assistant", row["completion"]))
    turns = [Message(role=role, content=text) for role, text in roles]
    ids, trained = render_rows(tokenizer, [turns], ["row 1"]).row(0)
    return ids[~trained].tolist(), tokenizer.decode(ids[trained])


@pytest.mark.slow
def test_a_job_that_continues_one_has_its_template(tmp_path):
    kinds = {}
    for kind in ("chat", "completion"):
        entry = ModelEntry.model_validate({"base": TINY, "kind": kind})
        first = Pipeline(spec(tmp_path, ROWS, id=f"{kind}-1", entry=entry), Progress())
        base = first.prepare().base
        parents = {"parent": base, "parent_base": base}
        again = spec(tmp_path, ROWS, id=f"{kind}-2", entry=entry, **parents)
        pieces = Pipeline(again, Progress()).prepare().preview[0]["pieces"]
        kinds[kind] = "".join(piece["text"] for piece in pieces)
    assert kinds["completion"] == f"{ROWS[0]['prompt']} good<|end|>"
    assert kinds["chat"] == (f"<|bos|><|user|>{ROWS[0]['prompt']}<|end|><|assistant|> good<|end|>")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("babbage-002", "completion"),
        ("davinci-002", "completion"),
        ("gpt-4.1-nano-2025-04-14", "chat"),
    ],
)
def test_hosted_completion_models_are_some_without_a_table_too(name, kind):
    assert entry_of(ServerSettings(), name) == ModelEntry(base=STARTER, kind=kind)


def test_a_template_of_the_entry_itself_is_kept():
    hub = {"type": "hub", "id": "some/model"}
    for kind, given, used in (
        ("chat", "auto", "auto"),
        ("completion", "auto", "raw"),
        ("completion", "alpaca", "alpaca"),
    ):
        entry = ModelEntry.model_validate({"base": hub | {"chat_template": given}, "kind": kind})
        assert base_of(entry).chat_template == used
