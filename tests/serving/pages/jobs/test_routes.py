"""Jobs, models, files and keys as pages: what they show, whose it is, and what is logged."""

import re

import pytest
from sqlalchemy import insert, select

from jangin.serving.pages.jobs import MOST_POINTS, job_curves
from jangin.serving.security.keys import add_key
from jangin.serving.state.tables import Audit, Checkpoint, File, Job, JobEvent, Key, StoredModel
from tests.serving.pages.conftest import Browser
from tests.serving.running import run_workbench

pytestmark = pytest.mark.slow
HOSTILE = "<script>alert('x')</script>"
MODEL = "ft:base:local:one:AAAAAAAA"
TUNED = "ft:base:local:two:BBBBBBBB"
FOREIGN = "only-for-others"
CHAT = (
    '{"messages": [{"role": "user", "content": "며칠?"}, {"role": "assistant", "content": "%d일"}]}'
)


def a_job(number, project="claims", **fields):
    return Job(
        **{
            "id": f"ftjob-{number}", "project": project, "created_at": 100 + number, "seq": number,
            "status": "succeeded", "model": "base", "training_file": "file-1",
            "method_type": "supervised", "hyperparameters": {"n_epochs": 2}, "seed": 1,
            "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
            "owner_key": "k", "result_files": [], **fields,
        }
    )  # fmt: skip


def a_file(name, project="claims", **fields):
    return File(
        **{
            "id": name, "project": project, "created_at": 1, "bytes": 3, "filename": "a.jsonl",
            "purpose": "fine-tune", "status": "processed", "sha256": "0", "owner_key": "k",
            **fields,
        }
    )  # fmt: skip


def a_model(name, project="claims", **fields):
    given = {"job_id": "ftjob-1", "kind": "adapter", **fields}
    return StoredModel(name=name, project=project, created_at=5, base="/b", path="/p", **given)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jobs") / "data"
    with run_workbench(folder, require_keys=True, owner="claims") as running:
        yield running


@pytest.fixture(scope="module")
def keys(running):
    """{name: key}, after objects of two projects were written."""
    texts = {}
    scopes = ["files", "jobs", "models", "inference", "review"]
    with running.server.database.write() as session:
        for name, project, rights in (
            ("claims", "claims", scopes),
            ("sales", "sales", scopes),
            ("chief", "claims", ["admin"]),
            ("sales-chief", "sales", ["admin"]),
            ("reader", "claims", ["review"]),
        ):
            _, texts[name] = add_key(session, name=name, project=project, scopes=rights, now=1)
        session.add_all(a_job(number) for number in range(2, 30))
        session.add(a_job(1, suffix=HOSTILE, fine_tuned_model=MODEL, status="succeeded"))
        # Of a server elsewhere: this one would start it, and it would fail, when it is resumed.
        elsewhere = {"lease_owner": "elsewhere", "lease_until": 2**40}
        session.add(a_job(90, status="paused", **elsewhere))
        session.add(a_job(99, project="sales", model=FOREIGN, training_file="file-2"))
        session.add_all((a_file("file-1", filename=f"{HOSTILE}.jsonl"), a_file("file-9")))
        session.add(a_file("file-2", project="sales", filename=FOREIGN))
        session.add_all((a_model(MODEL), a_model(TUNED, parent=MODEL, job_id="ftjob-2")))
        session.add(a_model(f"{MODEL}:ckpt-step-3"))
        session.add(a_model(f"ft:x:{FOREIGN}", project="sales", job_id="ftjob-99"))
        session.flush()
        for name in ("file-1", "file-9", "file-2"):
            with running.server.storage.writer(name) as stream:
                stream.write("\n".join(CHAT % n for n in range(12)).encode())
        session.add(
            Checkpoint(
                id="c1", job_id="ftjob-1", created_at=4, step=3, metrics={"valid_loss": 0.5},
                model_name=f"{MODEL}:ckpt-step-3", path="/p",
            )
        )  # fmt: skip
        session.execute(insert(JobEvent), list(events(2_500)))
    return texts


def events(count):
    for step in range(1, count + 1):
        data = {"step": step, "train_loss": 3 / step, "total_steps": count}
        text = f"Step {step}/{count}: training loss=1.00"
        if step % 500 == 0:
            data["valid_loss"] = 2.0
            text += ", validation loss=2.00"
        yield {
            "id": f"ftevent-{step}", "job_id": "ftjob-1", "created_at": step, "level": "info",
            "message": text, "type": "metrics", "data": data,
        }  # fmt: skip


@pytest.fixture
def visitor(running, keys):
    """Signs in with a key by its name."""
    browsers = []

    def sign_in(name):
        browser = Browser(running.root)
        browsers.append(browser)
        browser.post("/sign-in", data={"key": keys[name]})
        browser.get("/preferences")
        return browser

    yield sign_in
    for browser in browsers:
        browser.close()


def test_jobs_are_listed_page_by_page_and_texts_are_data(visitor):
    browser = visitor("claims")
    first = browser.get("/jobs").text
    rest = browser.get(re.search(r'rel="next" href="([^"]+)"', first)[1]).text
    ids = [re.findall(r'href="/jobs/(ftjob-\d+)"', page) for page in (first, rest)]
    assert len(ids[0]) == 20
    assert not {*ids[0]} & {*ids[1]}
    assert len({*ids[0], *ids[1]}) == 30
    assert FOREIGN not in first + rest
    page = browser.get("/jobs/ftjob-1").text
    assert HOSTILE not in rest + page
    assert "&lt;script&gt;" in page
    assert page.count("<svg") >= 1
    assert "0.500" in page


def test_curves_are_sampled_and_the_log_is_read_page_by_page(running, visitor):
    browser = visitor("claims")
    with running.server.database.read() as session:
        curves, total = job_curves(session, "ftjob-1")
    assert total == 2_500
    assert len(curves.steps) <= MOST_POINTS
    assert [step for step, _ in curves.points("valid_loss")] == [500, 1000, 1500, 2000, 2500]
    assert curves.steps[-1] == 2_500
    page = browser.get("/jobs/ftjob-1").text
    assert page.index("스텝 2500/") < page.index("스텝 2471/")
    older = browser.get(re.search(r'rel="next" href="([^"#]+)', page)[1]).text
    assert "스텝 2470/" in older
    assert "스텝 2471/" not in older
    columns = browser.get("/jobs/ftjob-1/curves.json").json()
    assert len(columns["steps"]) == len(columns["train_loss"])
    stream = browser.get("/jobs/ftjob-1/stream?after=ftevent-2499").text
    assert re.findall("id: (.+)", stream) == ["ftevent-2500"]
    assert "스텝" in stream
    headers = {"last-event-id": "ftevent-2498"}
    stream = browser.get("/jobs/ftjob-1/stream?after=x", headers=headers).text
    assert re.findall("id: (.+)", stream) == ["ftevent-2499", "ftevent-2500"]


def test_a_job_is_created_and_changed_as_over_the_api(running, visitor):
    browser = visitor("claims")
    assert "a.jsonl" in browser.get("/jobs/new?file=file-9").text
    wrong = browser.submit("/jobs/new", model="base", training_file="file-9", n_epochs="many")
    assert wrong.status_code == 400
    missing = browser.submit("/jobs/new", model="base", training_file="file-2")
    assert missing.status_code == 400
    page = browser.submit("/jobs/ftjob-90/resume")
    assert page.status_code == 200
    assert "/jobs/ftjob-90/cancel" in page.text
    browser.submit("/jobs/ftjob-90/cancel")
    again = browser.submit("/jobs/ftjob-90/cancel")
    assert again.status_code == 400
    assert "작업 ftjob-90은 이미 취소되었습니다" in again.text
    with running.server.database.read() as session:
        actions = session.scalars(select(Audit.action).where(Audit.object == "ftjob-90")).all()
    assert actions == ["job.resume", "job.cancel"]


def test_files_are_uploaded_checked_downloaded_and_deleted(running, visitor):
    browser = visitor("claims")
    headers = {"x-csrf-token": browser.token, "hx-request": "true"}
    files = {"file": ("neu.jsonl", "\n".join(CHAT % n for n in range(12)))}
    reply = browser.post("/files", data={"purpose": "fine-tune"}, files=files, headers=headers)
    address = reply.headers["hx-redirect"]
    page = browser.get(address).text
    assert "학습에 쓸 수 있음" in page
    assert browser.get(f"{address}/download").text.startswith('{"messages"')
    browser.submit(f"{address}/delete")
    assert browser.get(address).status_code == 404
    bad = {"file": ("x.exe", "no")}
    refused = browser.post("/files", data={"purpose": "fine-tune"}, files=bad, headers=headers)
    assert refused.status_code == 400
    with running.server.database.read() as session:
        file_id = address.rsplit("/", 1)[-1]
        actions = session.scalars(select(Audit.action).where(Audit.object == file_id)).all()
    assert actions == ["file.create", "file.delete"]


def test_models_are_a_tree_and_can_be_shared_and_deleted(visitor):
    browser, other = visitor("claims"), visitor("sales")
    page = browser.get("/models").text
    assert page.index(MODEL) < page.index(TUNED)
    assert FOREIGN not in page
    assert MODEL not in other.get("/models").text
    browser.submit("/models/share", name=MODEL, project="sales")
    assert MODEL in other.get("/models").text
    page = browser.get("/models/one", params={"name": MODEL}).text
    permission = re.search(r'name="permission" value="([^"]+)"', page)[1]
    assert other.submit("/models/delete", name=MODEL).status_code == 403
    browser.submit("/models/unshare", name=MODEL, permission=permission)
    assert MODEL not in other.get("/models").text
    browser.submit("/models/delete", name=TUNED)
    assert TUNED not in browser.get("/models").text


def test_administrators_make_and_revoke_keys_of_their_project_and_see_who_did_what(
    running, visitor
):
    chief, other = visitor("chief"), visitor("sales-chief")
    page = chief.submit("/keys", name="새 키", project="sales", scope="jobs").text
    text = re.search(r'value="(sk-jangin-\w+)"', page)[1]
    assert text not in chief.get("/keys").text
    with running.server.database.read() as session:
        row = session.scalars(select(Key).where(Key.name == "새 키")).one()
        who = session.scalars(select(Audit.key_id).where(Audit.object == row.id)).one()
        chief_id = session.scalars(select(Key.id).where(Key.name == "chief")).one()
    assert (row.project, row.scopes, who) == ("sales", ["jobs"], chief_id)
    page = other.get("/keys").text
    assert "새 키" in page
    assert "claims" not in page
    other.submit("/keys", name="eigen", project="claims")
    with running.server.database.read() as session:
        assert session.scalars(select(Key.project).where(Key.name == "eigen")).one() == "sales"
    assert other.submit("/keys/revoke", key=chief_id).status_code == 404
    other.submit("/keys/revoke", key=row.id)
    with running.server.database.read() as session:
        assert session.scalars(select(Key.revoked_at).where(Key.id == row.id)).one()
    assert chief.submit("/keys", name=" ").status_code == 400


def test_objects_of_another_project_are_not_there(visitor):
    browser = visitor("sales")
    assert FOREIGN in browser.get("/jobs").text
    for address in (
        "/jobs/ftjob-1", "/jobs/ftjob-1/state", "/jobs/ftjob-1/curves.json",
        "/jobs/ftjob-1/stream", "/jobs/ftjob-1/export", "/files/file-1", "/files/file-1/download",
        f"/models/one?name={MODEL}",
    ):  # fmt: skip
        assert browser.get(address).status_code == 404, address
    for address in ("cancel", "pause", "resume"):
        assert browser.submit(f"/jobs/ftjob-1/{address}").status_code == 404
    assert browser.submit("/files/file-1/delete").status_code == 404
    for address in ("share", "unshare", "delete"):
        fields = {"name": MODEL, "project": "sales", "permission": "p"}
        assert browser.submit(f"/models/{address}", **fields).status_code in (403, 404)
    pages = [browser.get(address).text for address in ("/jobs", "/files", "/models", "/jobs/new")]
    assert "ftjob-1<" not in "".join(pages)
    assert "file-1" not in "".join(pages)


def test_rooms_need_their_scopes(visitor):
    browser = visitor("reader")
    for address in ("/jobs", "/jobs/new", "/models", "/files", "/keys", "/jobs/ftjob-1"):
        assert browser.get(address).status_code == 403, address
    assert browser.submit("/keys", name="x").status_code == 403
    assert visitor("claims").get("/keys").status_code == 403
