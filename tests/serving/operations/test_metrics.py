"""`/metrics` is what Prometheus reads: counts of requests, jobs and files."""

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from jangin import __version__
from jangin.serving.security.keys import add_key
from jangin.serving.state.tables import Job
from tests.serving.running import run_server


@pytest.fixture
def own(tmp_path):
    with run_server(tmp_path / "data") as running:
        yield running


def samples(running, **options):
    reply = httpx2.get(f"{running.root}/metrics", **options)
    assert reply.status_code == 200
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


@pytest.mark.slow
def test_requests_are_counted_by_route_and_status(own):
    client = own.client()
    file = client.files.create(file=("a.bin", b"12345"), purpose="user_data")
    client.files.retrieve(file.id)
    for name in ("nothing", "else"):
        httpx2.get(f"{own.root}/{name}")
    values = samples(own)
    assert values["jangin_requests_total", "/files", "200", "POST"] == 1
    assert values["jangin_requests_total", "/files/{file_id}", "200", "GET"] == 1
    assert values["jangin_requests_total", "", "", "404"] == 2
    assert values["jangin_request_duration_seconds_count", "/files", "POST"] == 1
    assert (values["jangin_files",], values["jangin_files_bytes",]) == (1, 5)
    assert values["process_resident_memory_bytes",] > 1e7
    assert values["jangin_build_info", __version__] == 1
    assert values["jangin_disk_free_bytes",] > 0
    assert not [name for name, *_ in values if name.endswith("_created")]
    assert file.id not in httpx2.get(f"{own.root}/metrics").text


def test_jobs_are_counted_by_status(own):
    with own.server.database.write() as session:
        for number, status in enumerate(("paused", "failed", "failed")):
            session.add(
                Job(
                    id=f"ftjob-{number}", project="x", created_at=1, seq=number, status=status,
                    model="m", seed=1, method_type="supervised", owner_key="k", training_file="f",
                )
            )  # fmt: skip
        session.add(
            Job(
                id="ftjob-done", project="x", created_at=1, seq=9, status="succeeded", model="m",
                seed=1, method_type="supervised", owner_key="k", training_file="f", started_at=100,
                finished_at=350,
            )
        )  # fmt: skip
    values = samples(own)
    assert (values["jangin_jobs", "paused"], values["jangin_jobs", "failed"]) == (1, 2)
    assert values["jangin_job_duration_seconds_sum", "succeeded"] == 250
    assert values["jangin_job_duration_seconds_count", "succeeded"] == 1
    assert values["jangin_queue_age_seconds",] == 0


def test_the_oldest_job_that_waits_has_an_age(own):
    with own.server.database.write() as session:
        session.add(
            Job(
                id="ftjob-waits", project="x", created_at=own.server.now() - 500, seq=1,
                status="queued", model="m", seed=1, method_type="supervised", owner_key="k",
                training_file="f", lease_owner="elsewhere", lease_until=own.server.now() + 10_000,
            )
        )  # fmt: skip
    assert 500 <= samples(own)["jangin_queue_age_seconds",] < 600


def test_refused_keys_are_counted(own):
    refused = {"authorization": "Bearer sk-jangin-none"}
    assert httpx2.get(f"{own.url}/files", headers=refused).status_code == 401
    assert samples(own)["jangin_refused_keys_total",] == 1


def test_a_server_with_keys_shows_metrics_to_their_scope_only(tmp_path):
    with run_server(tmp_path / "data", require_keys=True) as running:
        with running.server.database.write() as session:
            keys = {
                scope: add_key(session, name="x", project="p", scopes=[scope], now=1)[1]
                for scope in ("metrics", "files")
            }
        assert httpx2.get(f"{running.root}/metrics").status_code == 401
        files = {"authorization": f"Bearer {keys['files']}"}
        assert httpx2.get(f"{running.root}/metrics", headers=files).status_code == 403
        assert samples(running, headers={"authorization": f"Bearer {keys['metrics']}"})
