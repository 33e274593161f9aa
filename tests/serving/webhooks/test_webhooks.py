"""Webhooks by the official client, from an event to a verified signature."""

import time

import openai
import pytest
from sqlalchemy import select

from jangin.serving.state.tables import Webhook, WebhookDelivery
from jangin.serving.webhooks import sender
from jangin.serving.webhooks.outbox import EVENT_TYPES, emit
from jangin.serving.webhooks.sender import GIVE_UP, delay
from tests.serving.running import run_server
from tests.serving.webhooks.receiver import Receiver
from tests.shared import silent_port

EVENTS = ["batch.completed", "fine_tuning.job.succeeded"]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sender, "FIRST_DELAY", 1)
        patch.setattr(sender, "POLL_SECONDS", 0.05)
        folder = tmp_path_factory.mktemp("server") / "data"
        with run_server(folder, private_webhooks=True) as running:
            yield running


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


def send(server, event, object_id="ftjob-1", project="local"):
    with server.database.write() as session:
        emit(session, project=project, event=event, object_id=object_id, now=server.now())


@pytest.mark.slow
def test_an_event_arrives_with_a_signature_that_the_client_verifies(server, client, receiver):
    hook = client.webhooks.create(name="mine", url=receiver.url, event_types=EVENTS)
    send(server, "fine_tuning.job.failed")
    send(server, "fine_tuning.job.succeeded", project="other")
    send(server, "fine_tuning.job.succeeded", "ftjob-2")
    headers, text, path = receiver.wait(1)[0]
    event = client.webhooks.unwrap(text, headers, secret=hook.signing_secret)
    assert (event.type, event.data.id, path) == (
        "fine_tuning.job.succeeded",
        "ftjob-2",
        "/hook?a=b",
    )
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.unwrap(
            text.replace("ftjob-2", "ftjob-3"), headers, secret=hook.signing_secret
        )
    assert len(receiver.messages) == 1
    client.webhooks.delete(hook.id)


@pytest.mark.slow
def test_a_failed_delivery_is_repeated_with_the_same_id(server, client):
    with Receiver(500, 302) as receiver:
        hook = client.webhooks.create(name="mine", url=receiver.url, event_types=EVENTS)
        send(server, "batch.completed", "batch_1")
        headers = [headers["webhook-id"] for headers, *_ in receiver.wait(3)]
        assert len(set(headers)) == 1
        client.webhooks.delete(hook.id)


def test_a_delivery_is_given_up_after_three_days(server, client):
    with Receiver(*[500] * 9) as receiver:
        hook = client.webhooks.create(name="mine", url=receiver.url, event_types=EVENTS)
        now = server.now() - GIVE_UP - 1
        with server.database.write() as session:
            emit(session, project="local", event="batch.completed", object_id="b", now=now)
        receiver.wait(1)
        delivery = None
        while delivery is None:
            time.sleep(0.02)
            with server.database.read() as session:
                wanted = select(WebhookDelivery).where(WebhookDelivery.status == "failed")
                delivery = session.scalars(wanted).first()
        assert delivery.last_error == "status 500"
        client.webhooks.delete(hook.id)


def test_pauses_between_attempts_grow():
    assert delay(1) < delay(3) < delay(5) <= 1.1 * 6 * 3600
    assert delay(99) <= 1.1 * 6 * 3600


def test_a_webhook_is_listed_changed_tested_and_deleted(server, client, receiver):
    hook = client.webhooks.create(name="mine", url=receiver.url, event_types=["batch.failed"])
    assert hook.signing_secret.startswith("whsec_")
    listed = client.webhooks.list().data
    assert [each.id for each in listed] == [hook.id]
    assert hook.signing_secret[6:-4] not in str(listed)
    changed = client.webhooks.update(hook.id, name="other")
    assert (changed.name, changed.url) == ("other", receiver.url)
    result = client.webhooks.test(hook.id, event_type="batch.failed")
    assert (result.status_code, result.success) == (200, True)
    new = client.webhooks.rotate_secret(hook.id, keep_old_secret_active_for_24_hours=True)
    send(server, "batch.failed", "batch_2")
    headers, text, _ = receiver.wait(2)[1]
    for secret in (hook.signing_secret, new.signing_secret):
        assert client.webhooks.unwrap(text, headers, secret=secret).data.id == "batch_2"
    assert client.webhooks.delete(hook.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.webhooks.retrieve(hook.id)
    with server.database.read() as session:
        assert session.scalars(select(Webhook)).all() == []
        assert session.scalars(select(WebhookDelivery)).all() == []


def test_wrong_addresses_are_refused(client):
    with pytest.raises(openai.BadRequestError) as error:
        client.webhooks.create(name="a", url="file:///etc/passwd", event_types=["batch.failed"])
    assert (error.value.param, error.value.code) == ("url", "invalid_value")


def test_an_address_without_a_server_is_a_clear_error(client):
    with silent_port() as port:
        url = f"http://127.0.0.1:{port}/"
        hook = client.webhooks.create(name="a", url=url, event_types=["batch.failed"])
        with pytest.raises(openai.BadRequestError, match="was not reached"):
            client.webhooks.test(hook.id, event_type="batch.failed")
    client.webhooks.delete(hook.id)


def test_the_events_of_the_server_are_listed(client):
    assert tuple(client.webhooks.event_types.list().data) == EVENT_TYPES
