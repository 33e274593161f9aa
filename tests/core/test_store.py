import contextlib
import json
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jangin.core.errors import StoreError
from jangin.core.parquet import TableWriter, part_path, read_table, write_table
from jangin.core.records import Message
from jangin.core.store import JOURNAL, MANIFEST, RUNTIME, Store, disk_errors

KEY, OTHER_KEY = "ab" * 32, "cd" * 32


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def publish(store, key=KEY, summary=None):
    return store.publish("chunk", 1, key, {"size": 3}, {"documents": "d"}, summary or {})


def make(store, key=KEY, **files):
    workspace = store.workspace("chunk", key, keep=True)
    for name, text in files.items():
        (workspace / name).write_text(text)
    return publish(store, key)


def test_a_published_artifact_is_found_with_all_that_was_said_about_it(store):
    workspace = store.workspace("chunk", KEY, keep=False)
    (workspace / "model").mkdir()
    (workspace / "model" / "a.txt").write_text("a")
    made = publish(store, summary={"chunks": 3})
    found = store.find("chunk", KEY)
    assert found == made
    assert found.path == store.root / "chunk" / KEY[:16]
    assert (found.path / "model" / "a.txt").read_text() == "a"
    assert list(found.manifest.files) == ["model/a.txt"]
    assert (found.manifest.config, found.manifest.inputs) == ({"size": 3}, {"documents": "d"})
    assert found.manifest.summary == {"chunks": 3}
    assert not store.partial("chunk", KEY).exists()


def test_what_was_not_published_is_not_found(store):
    assert store.find("chunk", KEY) is None
    store.workspace("chunk", KEY, keep=False)
    assert store.find("chunk", KEY) is None
    assert store.latest("chunk") is None


def test_content_depends_on_files_alone(store):
    one, other = make(store, **{"a.txt": "1"}), make(store, OTHER_KEY, **{"a.txt": "1"})
    assert one.manifest.content == other.manifest.content
    assert make(store, **{"a.txt": "2"}).manifest.content != one.manifest.content
    assert make(store, **{"b.txt": "1"}).manifest.content != one.manifest.content


def test_the_same_rows_in_another_parquet_file_are_the_same_content(store):
    contents = set()
    for compression in ("zstd", "none"):
        path = store.workspace("chunk", KEY, keep=False) / "rows.parquet"
        write_table(path, Message, [Message(role="user", content="b")])
        if compression == "none":
            pq.write_table(pq.read_table(path), path, compression=compression)
        contents.add(publish(store).manifest.content)
    assert len(contents) == 1


def test_runtime_files_are_kept_but_are_no_part_of_the_content(store):
    plain = make(store, **{"a.txt": "1"}).manifest
    workspace = store.workspace("chunk", KEY, keep=False)
    (workspace / "a.txt").write_text("1")
    (workspace / RUNTIME).mkdir()
    (workspace / RUNTIME / "seconds.json").write_text("7")
    timed = publish(store)
    assert timed.manifest.content == plain.content
    assert f"{RUNTIME}/seconds.json" in timed.manifest.files
    assert (timed.path / RUNTIME / "seconds.json").exists()


def test_a_file_that_a_library_wrote_for_its_owner_alone_gets_the_permissions_of_the_umask(store):
    folder = store.workspace("chunk", KEY, keep=False)
    (folder / "weights").touch(mode=0o600)
    (folder / "open").touch()
    artifact = publish(store)
    modes = {path.name: path.stat().st_mode for path in artifact.path.iterdir()}
    assert modes["weights"] == modes["open"]


def test_the_journal_goes_when_the_artifact_is_complete(store):
    workspace = store.workspace("chunk", KEY, keep=False)
    (workspace / JOURNAL).mkdir()
    (workspace / JOURNAL / "done.jsonl").write_text("{}")
    made = publish(store)
    assert not (made.path / JOURNAL).exists()
    assert made.manifest.files == {}


def test_a_nested_file_called_like_the_manifest_is_content(store):
    workspace = store.workspace("chunk", KEY, keep=False)
    (workspace / "model").mkdir()
    (workspace / "model" / MANIFEST).write_text("{}")
    assert list(publish(store).manifest.files) == [f"model/{MANIFEST}"]


def test_a_workspace_is_kept_or_starts_clean(store):
    (store.workspace("chunk", KEY, keep=False) / "half.txt").write_text("half")
    assert (store.workspace("chunk", KEY, keep=True) / "half.txt").exists()
    assert not (store.workspace("chunk", KEY, keep=False) / "half.txt").exists()


def test_latest_is_the_newest_finished_one(store):
    make(store, **{"a.txt": "1"})
    newest = make(store, OTHER_KEY, **{"a.txt": "2"})
    store.workspace("chunk", "ef" * 32, keep=False)
    assert store.latest("chunk") == newest


def test_publishing_a_key_again_replaces_it(store):
    make(store, **{"a.txt": "1"})
    make(store, **{"b.txt": "1"})
    assert sorted(p.name for p in store.find("chunk", KEY).path.iterdir()) == ["b.txt", MANIFEST]


def run_script(text, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


HOLD = """
    import sys, time
    from pathlib import Path
    from jangin.core.store import Store
    with Store(Path(sys.argv[1])).lock("chunk", sys.argv[2]):
        print("locked", flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def holder(store):
    """Another process that holds the lock until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), str(store.root), KEY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.communicate()


def test_a_key_that_another_process_works_on_is_refused_with_its_number(store, holder):
    with (
        pytest.raises(StoreError, match=r"process .*\) is working on chunk") as caught,
        store.lock("chunk", KEY),
    ):
        pytest.fail("two processes hold one lock")
    assert f"(process {holder.pid} on {platform.node()})" in str(caught.value)
    assert "--store" in str(caught.value)
    with store.lock("chunk", OTHER_KEY):
        pass


@pytest.mark.slow
def test_a_killed_process_leaves_no_lock(store, holder):
    holder.kill()
    holder.wait()
    with store.lock("chunk", KEY):
        assert (store.root / "chunk" / f"{KEY[:16]}.lock").read_text().split() == [
            str(os.getpid()),
            platform.node(),
        ]


def test_a_lock_is_free_again_after_an_error(store):
    for _ in range(2):
        with contextlib.suppress(KeyError), store.lock("chunk", KEY):
            raise KeyError


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from jangin.core import store as module
    from jangin.core.store import Store
    store = Store(Path(sys.argv[1]))
    workspace = store.workspace("chunk", sys.argv[2], keep=True)
    (workspace / "a.txt").write_text("new")
    real = getattr(os, sys.argv[3])
    def die(*arguments, **named):
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(os, sys.argv[3], die)
    store.publish("chunk", 1, sys.argv[2], {}, {}, {})
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["fsync", "rename"])
def test_a_kill_while_publishing_leaves_no_half_artifact(store, moment):
    process = run_script(KILLED, store.root, KEY, moment)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert store.find("chunk", KEY) is None
    assert store.latest("chunk") is None
    assert (store.partial("chunk", KEY) / "a.txt").read_text() == "new"
    made = publish(store)
    assert list(made.manifest.files) == ["a.txt"]
    assert store.find("chunk", KEY) == made


@pytest.mark.slow
def test_a_kill_while_writing_leaves_what_was_finished(store):
    make(store, OTHER_KEY, **{"a.txt": "old"})
    process = run_script(KILLED, store.root, KEY, "fsync")
    process.communicate()
    assert store.find("chunk", OTHER_KEY) is not None
    assert store.latest("chunk").manifest.key == OTHER_KEY


def test_an_artifact_of_a_newer_jangin_is_refused(store):
    path = make(store).path / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    for look in (lambda: store.find("chunk", KEY), lambda: store.latest("chunk")):
        with pytest.raises(StoreError, match=r"newer jangin \(store format 99.*Upgrade jangin"):
            look()


@pytest.mark.parametrize("text", ["", "{", '{"format": 1}', "null", "\x00"])
def test_a_damaged_manifest_is_named_with_the_folder_to_delete(store, text):
    path = make(store).path
    (path / MANIFEST).write_text(text)
    with pytest.raises(StoreError, match=r"manifest.json is damaged. Delete the folder") as caught:
        store.find("chunk", KEY)
    assert str(path) in str(caught.value)


def test_a_manifest_with_keys_of_a_later_minor_version_is_read(store):
    path = make(store).path / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "colour": "blue"}))
    assert store.find("chunk", KEY) is not None


@pytest.fixture
def full_disk(tmp_path):
    """A real file system of 64 KiB, where this machine lets us mount one."""
    folder = tmp_path / "full"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder):
    with contextlib.suppress(OSError), (folder / "fill").open("wb", buffering=0) as stream:
        while stream.write(b"x" * 512):
            pass


def test_a_full_disk_is_one_sentence_and_the_store_stays_sound(full_disk):
    if full_disk is None:
        pytest.skip("only root may mount a small disk; the next test needs none")
    store = Store(full_disk / "store")
    finished = make(store, OTHER_KEY, **{"a.txt": "old"})
    workspace = store.workspace("chunk", KEY, keep=False)
    (workspace / "b.txt").write_text("new")
    fill(full_disk)
    rows = [Message(role="user", content=f"{number:064x}") for number in range(2000)]
    for work in (
        lambda: publish(store),
        lambda: write_table(workspace / "rows.parquet", Message, rows),
    ):
        full = pytest.raises(StoreError, match=r"the disk is full while")
        with full, disk_errors(store.root):
            work()
    with pytest.raises(StoreError, match="the disk is full"), store.lock("chunk", KEY):
        pytest.fail("locked without saying by whom")
    assert store.find("chunk", KEY) is None
    assert store.find("chunk", OTHER_KEY) == finished
    (full_disk / "fill").unlink()
    with store.lock("chunk", KEY):
        assert list(publish(store).manifest.files) == ["b.txt"]


LIMITED = """
    import resource, signal, sys
    from pathlib import Path
    from jangin.core.errors import StoreError
    from jangin.core.store import Store, disk_errors
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    store = Store(Path(sys.argv[1]))
    store.workspace("chunk", sys.argv[2], keep=True)
    try:
        with disk_errors(store.root):
            store.publish("chunk", 1, sys.argv[2], {}, {}, {})
    except StoreError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_manifest_cut_short_by_a_limit_on_files_is_no_artifact(store):
    out, _ = run_script(LIMITED, store.root, KEY).communicate()
    assert "larger than this disk or `ulimit -f` allows" in out
    assert store.find("chunk", KEY) is None
    assert publish(store).manifest.files == {}


def test_a_folder_that_may_not_be_written_is_one_sentence():
    with pytest.raises(StoreError, match=r"cannot be written: .*--store"), disk_errors(Path("x")):
        raise PermissionError(13, "Permission denied")


def test_other_errors_of_the_system_pass_through():
    with pytest.raises(FileNotFoundError), disk_errors(Path("x")):
        Path("/nowhere/at/all").read_text()


def compete(root, barrier, results):
    store = Store(Path(root))
    barrier.wait()
    try:
        with store.lock("chunk", KEY):
            if store.find("chunk", KEY) is None:
                make(store, **{"a.txt": "1"})
                results.put("made")
            else:
                results.put("found")
    except StoreError:
        results.put("refused")


@pytest.mark.slow
def test_of_many_processes_exactly_one_makes_an_artifact(store):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(3), context.Queue()
    workers = [
        context.Process(target=compete, args=(str(store.root), barrier, results)) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    outcomes = [results.get(timeout=200) for _ in workers]
    for worker in workers:
        worker.join()
    assert outcomes.count("made") == 1
    assert store.find("chunk", KEY) is not None


def test_a_full_disk_is_told_from_the_words_of_a_foreign_error_too(tmp_path):
    class ForeignError(Exception):
        pass

    with pytest.raises(StoreError, match="the disk is full"), disk_errors(tmp_path):
        raise ForeignError("I/O error: No space left on device (os error 28)")
    with pytest.raises(StoreError, match="the disk is full"), disk_errors(tmp_path):
        raise ForeignError("I/O error: Disk quota exceeded (os error 122)")
    with pytest.raises(StoreError, match=r"larger than .*ulimit"), disk_errors(tmp_path):
        raise ForeignError("I/O error: File too large (os error 27)")
    with pytest.raises(ForeignError), disk_errors(tmp_path):
        raise ForeignError("something else")


def make_parts(store, key, *sizes):
    """An artifact whose table `rows` has parts with this many of the same numbered messages."""
    rows = [Message(role="user", content=str(number)) for number in range(sum(sizes))]
    workspace, start = store.workspace("chunk", key, keep=False), 0
    for number, size in enumerate(sizes):
        path = part_path(workspace / "rows.parquet", number)
        with TableWriter(path, Message, part=True) as writer:
            writer.add(rows[start : start + size])
        start += size
    return rows, publish(store, key)


def test_the_content_of_a_table_in_parts_does_not_depend_on_the_cuts(store):
    rows, one = make_parts(store, KEY, 5, 3)
    same, other = make_parts(store, OTHER_KEY, 1, 0, 7)
    assert rows == same == read_table(one.path / "rows.parquet", Message)
    assert one.manifest.content == other.manifest.content
    assert sorted(one.manifest.files) == [
        "rows.parquet",
        "rows.parquet/part-00000.parquet",
        "rows.parquet/part-00001.parquet",
    ]
    _, more = make_parts(store, "ef" * 32, 5, 4)
    assert more.manifest.content != one.manifest.content


def test_a_part_that_was_deleted_is_named(store):
    _, artifact = make_parts(store, KEY, 2, 2)
    part_path(artifact.path / "rows.parquet", 1).unlink()
    with pytest.raises(StoreError, match=r"lacks rows\.parquet/part-00001\.parquet"):
        store.find("chunk", KEY)
