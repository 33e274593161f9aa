"""What `jangin gc` calls unused, and that deleting it loses nothing that is used."""

import os
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from jangin.core.errors import ConfigError, StoreError
from jangin.project.session import open_session
from jangin.project.setup.housekeeping import TRASH, clean, take_inventory
from jangin.project.tracking.outbox import write_run
from jangin.project.tracking.table import config_of
from jangin.project.tracking.tracker import RunContent
from jangin.report.terminal.tables import inventory_notes

TEXT = "# 규정\n\n## 제1조\n\n직원은 해마다 15일의 연차휴가를 쓴다. 3일 전에 알린다.\n"
PROJECT = """\
name: small
documents:
  load: {folder: documents}
  chunk: {max_characters: 900}
variants:
  short: {documents: {chunk: {max_characters: 300}}}
  long:
"""
DAY = 86400


def write(folder, text=PROJECT, name="project.yaml"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def run(path, *, store=None):
    with open_session(path, store) as session:
        session.run(session.choose(None))


def states(path):
    with open_session(path) as session:
        return {step.state for name in session.choose(None) for step in session.plan(name)}


def artifacts(folder):
    return {path.parent for path in (folder / "store").glob("*/*/manifest.json")}


@pytest.fixture(scope="module")
def twice_run(tmp_path_factory):
    """A project that ran with two settings of `chunk`, the first of which no variant has now."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "documents").mkdir()
    (folder / "documents" / "규정.md").write_text(TEXT, encoding="utf-8")
    path = write(folder, PROJECT.replace("900", "700"))
    run(path)
    write(folder)
    run(path)
    return folder


@pytest.fixture
def folder(twice_run, tmp_path):
    """A copy of it."""
    shutil.copytree(twice_run, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.mark.slow
def test_what_no_variant_reaches_is_unused_and_deleted_and_all_else_stays_cached(folder):
    before = artifacts(folder)
    ledger = (folder / "store" / "ledger.sqlite").read_bytes()
    for cache in ("pictures/a-document", "tables"):
        (folder / "store" / cache).mkdir(parents=True)
        (folder / "store" / cache / "kept").write_bytes(b"x" * 500)
    inventory = take_inventory([folder])
    assert inventory.cache_bytes == 1000
    assert inventory.freed_bytes == 1000 + inventory.unused_bytes
    assert any("1.0 kB of pictures and tables" in line for line in inventory_notes(inventory, 14))
    (unused,) = inventory.unused
    assert unused.stage == "chunk"
    assert unused.bytes > 0
    assert artifacts(folder) == before
    assert [row.variant for row in inventory.variants] == ["short", "long"]
    assert all(0 < row.own_bytes < row.bytes for row in inventory.variants)
    assert inventory.used_bytes < sum(row.bytes for row in inventory.variants)
    assert clean(inventory) == [unused]
    assert artifacts(folder) == before - {unused.path}
    assert (folder / "store" / "ledger.sqlite").read_bytes() == ledger
    assert states(folder) == {"cached"}
    assert not (folder / "store" / "pictures").exists()
    assert take_inventory([folder]).freed_bytes == 0


@pytest.mark.slow
def test_where_a_variant_is_out_of_date_its_last_run_is_kept(folder):
    (folder / "documents" / "규정.md").write_text(TEXT + "\n새 문장이다.\n", encoding="utf-8")
    assert len(take_inventory([folder]).unused) == 1
    run(folder)
    stages = sorted(unused.stage for unused in take_inventory([folder]).unused)
    assert stages == ["chunk", "chunk", "chunk", "load"]


def test_what_runs_from_before_they_named_their_file_made_is_kept(folder):
    database = sqlite3.connect(folder / "store" / "ledger.sqlite")
    with database:
        database.execute("DELETE FROM memos")
    database.close()
    (folder / "documents" / "규정.md").write_text(TEXT + "\n새 문장이다.\n", encoding="utf-8")
    assert [unused.stage for unused in take_inventory([folder]).unused] == ["chunk"]


@pytest.mark.slow
def test_other_project_files_of_the_store_keep_what_they_use(folder):
    other = write(folder, PROJECT.replace("900", "700"), "real.yaml")
    (folder / "notes.yaml").write_text("name: no project\n", encoding="utf-8")
    inventory = take_inventory([folder])
    assert inventory.unused == ()
    assert inventory.others == (other.resolve(),)
    (folder / "elsewhere").mkdir()
    far = folder / "elsewhere" / "far.yaml"
    far.write_text(PROJECT.replace("900", "500").replace("documents}", "../documents}"))
    run(far, store=folder / "store")
    inventory = take_inventory([folder])
    assert inventory.unused == ()
    assert set(inventory.others) == {other.resolve(), far.resolve()}
    far.unlink()
    inventory = take_inventory([folder])
    assert [unused.stage for unused in inventory.unused] == ["chunk"]
    assert inventory.gone == (far.resolve(),)


def test_a_project_file_of_the_store_that_is_wrong_stops_it_and_is_named(folder):
    other = write(
        folder,
        PROJECT.replace("  chunk: {max_characters: 9", "  chunck: {max_characters: 9"),
        "real.yaml",
    )
    with pytest.raises(ConfigError) as caught:
        take_inventory([folder])
    assert str(caught.value).startswith(f"{other.resolve()}:4: documents.chunck: ")
    assert "Nothing was deleted" in str(caught.value)


def test_stores_are_cleaned_one_at_a_time(folder, tmp_path_factory):
    path = write(tmp_path_factory.mktemp("second"))
    with pytest.raises(ConfigError) as caught:
        take_inventory([folder, path])
    assert str(folder / "store") in str(caught.value)


@pytest.mark.slow
def test_unfinished_work_is_deleted_by_age_unless_a_variant_resumes_it(folder):
    (unused,) = take_inventory([folder]).unused
    with open_session(folder) as session:
        used = session.find("long", "chunk").path
    partials = [path.with_name(f"{path.name}.partial") for path in (unused.path, used)]
    old, resumed = partials
    for path in partials:
        path.mkdir()
        (path / "rows").write_text("x" * 1000)
    clean(take_inventory([folder]))
    (waiting,) = take_inventory([folder]).waiting
    assert waiting.path == old
    past = time.time() - 15 * DAY
    for path in (*partials, *(path / "rows" for path in partials)):
        os.utime(path, (past, past))
    (unused,) = clean(take_inventory([folder]))
    assert unused.path == old
    assert resumed.exists()


def test_what_a_rebuilt_artifact_replaced_is_unused_at_once(folder):
    with open_session(folder) as session:
        path = session.find("long", "chunk").path
    replaced = path.with_name(f"{path.name}.old.partial")
    shutil.copytree(path, replaced)
    assert replaced in [unused.path for unused in take_inventory([folder]).unused]


def test_a_file_that_a_run_deletes_meanwhile_is_not_counted(folder, monkeypatch):
    def walked(top):
        for parent, folders, files in walk(top):
            yield parent, folders, [*files, "deleted"]

    (before,) = take_inventory([folder]).unused
    walk = os.walk
    monkeypatch.setattr(os, "walk", walked)
    (unused,) = take_inventory([folder]).unused
    assert (unused.path, unused.bytes) == (before.path, before.bytes)


def test_nothing_is_deleted_while_a_run_holds_a_lock(folder):
    inventory = take_inventory([folder])
    before = artifacts(folder)
    with (
        inventory.store.lock("load", "0" * 64),
        pytest.raises(StoreError, match=str(os.getpid())),
    ):
        clean(inventory)
    assert artifacts(folder) == before
    assert len(clean(inventory)) == 1


@pytest.mark.slow
def test_a_kill_between_two_folders_leaves_a_valid_store_that_the_next_call_cleans(folder):
    write(folder, PROJECT.replace("900", "500"))
    run(folder)
    inventory = take_inventory([folder])
    assert len(inventory.unused) == 2
    child = os.fork()
    if child == 0:
        renamed = Path.rename

        def die(path, target):
            renamed(path, target)
            os._exit(9)

        Path.rename = die
        clean(inventory)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert len(list((folder / "store" / TRASH).iterdir())) == 1
    assert states(folder) == {"cached"}
    rest = take_inventory([folder])
    assert len(rest.unused) == 1
    assert rest.trash_bytes > 0
    clean(rest)
    assert not (folder / "store" / TRASH).exists()
    assert states(folder) == {"cached"}


@pytest.mark.slow
def test_what_a_tracker_still_has_to_get_is_kept(folder):
    (unused,) = take_inventory([folder]).unused
    write(folder, PROJECT + "track: [tensorboard]\n")
    known = {"project": "small", "variant": "long", "stage": "chunk", "key": unused.key}
    write_run(
        folder / "store",
        RunContent(
            **known,
            state="finished",
            folder=unused.path,
            project_folder=folder,
            parameters={},
            trackers=(config_of("tensorboard").label,),
        ),
    )
    assert take_inventory([folder]).unused == ()
