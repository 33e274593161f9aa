"""Graders, batches and webhooks."""

import http.server
import json
import threading

import openai
import rows
from calls import client, raises, upload
from checks import BASE_URL, CHAT_MODEL, check, needs, request, state, wait


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
    made = create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
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
    failed = wait(lambda: client.batches.retrieve(failed.id), lambda b: b.status == "failed")
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
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
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
    wait(lambda: len(Receiver.deliveries), lambda count: count == 1)
    headers, text = Receiver.deliveries[0]
    event = client.webhooks.unwrap(text, headers, secret=secret)
    assert event.type == "batch.completed", event
    job = client.fine_tuning.jobs.create(model=CHAT_MODEL, training_file=state.train)
    client.fine_tuning.jobs.cancel(job.id)
    wait(lambda: len(Receiver.deliveries), lambda count: count == 2)
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
