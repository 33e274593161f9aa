"""`/v1/x/compare` on real models: a tiny base and full weights tuned from it."""

import json

import openai
import pytest

from jangin.serving.state.caller import LOCAL
from jangin.serving.state.tables import Job, StoredModel
from tests.serving.inference.conftest import (
    FULL,
    TUNED,
    artifacts,
    conversations,
    one_thread,
    running,
    tokenizer,
)

__all__ = ("artifacts", "conversations", "one_thread", "running", "tokenizer")
CLOSE = {
    "type": "text_similarity", "name": "close", "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}", "evaluation_metric": "fuzzy_match",
}  # fmt: skip


def compare(client, **body):
    return client.post("/x/compare", body={"max_tokens": 4, **body}, cast_to=dict)


def chat(question, answer):
    return {"messages": [{"role": "user", "content": question},
                         {"role": "assistant", "content": answer}]}  # fmt: skip


@pytest.fixture(scope="module")
def file(client):
    """Questions of which the first one is answered as the base does."""
    asked = [{"role": "user", "content": "연차휴가는 며칠입니까?"}]
    reply = client.chat.completions.create(
        model="tiny", messages=asked, max_tokens=4, temperature=0
    )
    rows = [chat(asked[0]["content"], reply.choices[0].message.content.strip() or "x")]
    rows += [chat(f"{n}번 질문은 무엇입니까?", f"답 {n}") for n in range(5)]
    content = "\n".join(map(json.dumps, rows)).encode()
    return client.files.create(file=("q.jsonl", content), purpose="fine-tune").id


@pytest.mark.slow
def test_two_models_are_compared_with_what_chance_can_do(client, server, file):
    with server.database.write() as session:
        session.add(Job(id="ftjob-1", project=LOCAL, created_at=1, seq=1, model="tiny", seed=1,
                        method_type="supervised", training_file=file, owner_key="k",
                        status="succeeded"))  # fmt: skip
        session.query(StoredModel).filter_by(name=FULL).update({"job_id": "ftjob-1"})
    reply = compare(client, file=file, models=["tiny", FULL], limit=5)
    assert (reply["rows"], reply["questions"], reply["measure"]) == (6, 5, "character_f1")
    base, full = reply["models"]
    assert (base["model"], full["model"], base["n"]) == ("tiny", FULL, 5)
    assert 0 <= base["right_low"] <= base["right"] <= base["right_high"] <= 1
    assert base["trained_on"] == {"exact": 0, "near": 0}
    assert full["trained_on"]["exact"] == 5
    assert reply["difference"]["smallest_visible"] is None
    assert "may be equally good" in reply["verdict"]
    assert "5 of the questions copy" in reply["verdict"]
    assert len(reply["examples"]) == 5
    again = compare(client, file=file, models=["tiny", FULL], limit=5)
    assert again == reply

    graded = compare(client, file=file, models=["tiny", TUNED], grader=CLOSE)
    assert graded["measure"] == "grader:close"
    assert graded["models"][0]["right"] > 0
    assert graded["models"][1]["trained_on"] is None
    assert all(0 <= score <= 1 for each in graded["examples"] for score in each["scores"])


def test_what_cannot_be_compared_is_refused(client, file):
    for body, words in (
        ({"models": ["tiny", "tiny"]}, "twice"),
        ({"models": ["tiny"]}, "array too short"),
        ({"models": ["tiny", TUNED], "grader": {"type": "x"}}, "Supported values"),
        ({"models": ["tiny", TUNED], "limit": 5000}, "maximum value"),
    ):
        with pytest.raises(openai.BadRequestError, match=words):
            compare(client, file=file, **body)
    with pytest.raises(openai.NotFoundError, match="none"):
        compare(client, file=file, models=["tiny", "none"])
    bad = client.files.create(file=("bad.jsonl", b'{"a": 1}\n'), purpose="fine-tune").id
    with pytest.raises(openai.BadRequestError, match="expected either prompt/completion"):
        compare(client, file=bad, models=["tiny", TUNED])
