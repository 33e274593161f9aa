"""A node that does not see the driver's folders works on files from a bucket: `make test-cluster`.

It has an empty folder in place of that of the tests, and it alone has room for two CPUs.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import yaml

from jangin.core.errors import StoreError
from jangin.core.execution.settings import RayCluster
from jangin.core.execution.transfer import ProjectFiles, bucket_access
from jangin.core.executor import InProcess, Resources, map_all
from jangin.core.records import Message
from jangin.documents import load, reading
from jangin.evaluation.evaluate import STAGE as EVALUATE
from jangin.evaluation.systems import local
from jangin.models.loading import REFERENCE
from jangin.models.starter import make_starter
from jangin.project.remote import open_bucket
from jangin.project.session import open_session
from jangin.text.dedup import lsh, near_duplicates
from jangin.text.dedup.near_duplicates import DuplicateRules, find_duplicates
from jangin.text.dedup.spread import Spread
from tests.core.execution.cluster import work
from tests.core.execution.cluster.machines import wait_for_nodes
from tests.core.execution.cluster.test_faults import command
from tests.core.execution.cluster.test_stages import check_vectors, questions
from tests.evaluation.test_evaluate import context_of
from tests.evaluation.test_local import context, on, tables
from tests.inference.test_encoder import tiny
from tests.s3_server import KEYS, moto_server
from tests.tiny_project import KEYS as PROJECT
from tests.tiny_project import write_project

__all__ = ("context", "context_of", "tiny")
"""Fixtures of other files."""
APART = "127.0.0.5"
URL = "s3://bucket/rules"
THERE = Resources(cpus=2)
"""What only the node without the folders has."""


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    with (
        moto_server(tmp_path_factory.mktemp("moto")) as endpoint,
        pytest.MonkeyPatch.context() as patch,
    ):
        make = ["curl", "-sSf", "-X", "PUT", "-H", "Content-Length: 0", f"{endpoint.url}/bucket"]
        subprocess.run(make, check=True)
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": endpoint.url}.items():
            patch.setenv(name, value)
        yield endpoint


def wait_for(count, settings):
    """Wait until the cluster has this many nodes."""
    from jangin.core.execution.ray_connection import connected

    with connected(settings):
        wait_for_nodes(count)


class Node:
    """The node without the folders."""

    def __init__(self, cluster, hidden):
        self.cluster, self.hidden = cluster, hidden
        self.temporary = cluster.folder / "apart"
        self.temporary.mkdir(exist_ok=True)
        self.start()

    def start(self, **environment):
        self.machine = self.cluster.start(
            APART,
            cpus=2,
            without=self.hidden,
            environment={"TMPDIR": str(self.temporary), **environment},
        )

    def received(self):
        """Files that it has got from the driver, by their digests."""
        return {path.name for path in self.temporary.glob("jangin-files-*/files/*/*")} - {"lock"}


@pytest.fixture(scope="module")
def node(cluster, endpoint, tmp_path_factory):
    settings = RayCluster(type="ray", address=cluster.address)
    wait_for(2, settings)  # two that start at the same time may wait for one another
    started = Node(cluster, tmp_path_factory.getbasetemp())
    wait_for(3, settings)
    yield started
    started.machine.end()


@pytest.fixture
def executor(node, settings, tmp_path):
    """An executor on all three nodes."""
    from jangin.core.execution.ray_connection import connected, on_ray

    said = []
    (tmp_path / "project.yaml").write_text("name: test\n")
    bucket = bucket_access(URL, partial(open_bucket, URL, {}))
    files = ProjectFiles(tmp_path / "store", tmp_path / "project.yaml", bucket)
    with connected(settings):
        wait_for_nodes(3)
        with on_ray(settings, files, 1, said.append) as opened:
            assert said[-1].endswith(f"3 nodes, 4 CPUs, 0 GPUs; 1 get their files from {URL}")
            yield opened
    assert not objects("transfer")


def objects(folder):
    """Names of the objects below a folder of the bucket."""
    import obstore

    return [
        each["path"] for some in obstore.list(open_bucket(URL, {}).store, folder) for each in some
    ]


def elsewhere(executor, stage):
    """The executor with calls that only the node without the folders has room for."""
    return replace(executor, overrides={stage: THERE}).for_stage(stage)


def test_a_file_is_read_there_and_another_written_here(executor, node, tmp_path):
    large = tmp_path / "large"
    large.write_bytes(os.urandom(3 << 20))
    before = node.received()
    call = partial(work.copy_backwards, tmp_path / "out")
    results = dict(executor.map(call, [large], THERE))
    assert results == {0: f"{APART} {3 << 20}"}
    assert (tmp_path / "out" / "large").read_bytes() == large.read_bytes()[::-1]
    shutil.rmtree(tmp_path / "out")
    dict(executor.map(call, [large], THERE))
    assert (tmp_path / "out" / "large").exists()
    assert len(node.received() - before) == 1


@pytest.mark.parametrize("kill", [False, True])
def test_near_duplicates_are_those_of_one_process(executor, node, tmp_path, monkeypatch, kill):
    monkeypatch.setattr(lsh, "PART", 100)
    monkeypatch.setattr(near_duplicates, "PAIRS_AT_ONCE", 2000)
    texts = questions(2000)
    rules, groups = DuplicateRules(guard=True), [index // 2 for index in range(len(texts))]
    here = find_duplicates(texts, rules, groups=groups)
    spread = Spread(
        executor if kill else elsewhere(executor, "curate"),
        tmp_path / "journal",
        texts_from=1,
        pairs_from=1,
    )
    cuts = 0

    class Texts(list):
        def __getitem__(self, index):
            nonlocal cuts
            cuts += isinstance(index, slice)
            if kill and cuts == 9:
                node.machine.kill()
            return super().__getitem__(index)

    try:
        assert find_duplicates(Texts(texts), rules, groups=groups, spread=spread) == here
    finally:
        if kill:
            wait_for_nodes(2)
            node.start()
            wait_for_nodes(3)
    assert cuts >= 9
    assert not list((tmp_path / "journal").iterdir())


def test_an_encoder_gives_the_vectors_of_this_process(executor, tiny, tmp_path):
    check_vectors(elsewhere(executor, "rank"), tiny, tmp_path)


def test_a_base_whose_weights_are_elsewhere_answers_as_in_this_process(executor, tmp_path):
    weights, base = tmp_path / "elsewhere", tmp_path / "base"
    texts = questions(20)
    make_starter(weights, texts, size="0.5M", vocabulary_size=400, context_length=128, seed=0)
    for name in ("model", "runtime"):
        (base / name).mkdir(parents=True)
    for path in [*weights.glob("*token*"), *weights.glob("*.jinja")]:
        (base / "model" / path.name).write_bytes(path.read_bytes())
    (base / "model" / REFERENCE).write_text('{"id": "elsewhere", "revision": null}')
    (base / "runtime" / "location.json").write_text(json.dumps({"path": str(weights)}))
    groups = [[(Message(role="user", content=text),) for text in texts[:3]]] * 2
    answers = partial(local.GroupAnswers, "base", {"base": (base, None)}, 8, None)
    expected = answers()(groups[0])[0]
    there = map_all(elsewhere(executor, "evaluate"), answers, groups, "answered questions")
    assert [result[0] for _, result in there] == [expected] * 2
    assert any(answer.text for answer in expected.values())


def test_an_evaluation_is_that_of_this_process(executor, context, monkeypatch):
    monkeypatch.setattr(local, "PROMPTS_AT_ONCE", 8)
    here = on(context, InProcess(), "here")
    EVALUATE.run(here)
    there = on(context, elsewhere(executor, "evaluate"), "there")
    EVALUATE.run(there)
    assert tables(there) == tables(here)
    assert there.summary == here.summary


@pytest.fixture
def project(tmp_path):
    """A project that shares its store, with documents in several parts, one of them large."""
    documents = tmp_path / "project" / "documents"
    documents.mkdir(parents=True)
    for number in range(300):
        rules = "".join(
            f"<p>제{i}조 이 규정은 {number}번 문서의 {i}번째이다.</p>" for i in range(8)
        )
        text = f"<html><body><h1>Document {number}</h1>{rules}</body></html>"
        (documents / f"{number:04d}.html").write_text(text, "utf-8")
    lines = (f"제{number}조 {number}번째 규정은 이 문서에 있다." for number in range(20_000))
    (documents / "long.txt").write_text("\n\n".join(lines), "utf-8")
    (documents / "broken.docx").write_bytes(b"PK no document")

    def write(**keys):
        keys = {
            "name": "test",
            "store": f"{URL}/{tmp_path.name}",
            "documents": {"load": {"folder": "documents", "ocr": {"type": "never"}}, "chunk": {}},
        } | keys
        path = tmp_path / "project" / "project.yaml"
        path.write_text(yaml.safe_dump(keys, allow_unicode=True))
        return path

    write()
    return write


def contents(path, **options):
    """{stage: content} of a run."""
    with open_session(path, **options) as session:
        session.run(["main"], "chunk")
        return {name: one.manifest.content for name, one in session.artifacts("main").items()}


@pytest.mark.parametrize("kill", [False, True])
def test_stages_give_the_artifacts_of_one_machine(
    project, cluster, settings, node, tmp_path, monkeypatch, kill
):
    monkeypatch.setattr(reading, "FEW_SECONDS", 0)
    monkeypatch.setattr(load, "PART_FILES", 30)
    monkeypatch.setattr(load, "PARTED_FROM", 3)
    expected = contents(project(store=""), store=tmp_path / "local")
    stages = {"load": {"cpus": 2}, "chunk": {"cpus": 2}}
    there = {"type": "ray", "address": cluster.address, "resources": {} if kill else stages}
    killing = iter(range(10**9))

    def advance(self, bar, steps=1, note=""):
        if kill and next(killing) == 60:
            node.machine.kill()

    monkeypatch.setattr("jangin.core.stage.Progress.advance", advance)
    before = node.received()
    try:
        assert contents(project(cluster=there)) == expected
    finally:
        if kill:
            wait_for(2, settings)
            node.start()
            wait_for(3, settings)
    assert kill or len(node.received() - before) > 300
    assert not objects("transfer")
    parts = [*(tmp_path / "project" / "store").glob("chunk/*/chunks.parquet/part-*")]
    assert len(parts) > 5


@pytest.mark.usefixtures("node")
def test_the_way_of_each_node_is_shown(project, cluster):
    ended = command("cluster", "-p", str(project()), "--cluster", cluster.address)
    assert ended.returncode == 0, ended.stderr
    ways = {line.split(":")[0]: line for line in ended.stdout.splitlines()}
    assert "files: shared folder; jangin" in ways["127.0.0.2"]
    assert f"files: {URL}/" in ways[APART]
    assert "All 3 nodes can work on" in ended.stdout


@pytest.mark.usefixtures("node")
def test_without_a_bucket_the_node_is_named(project, cluster):
    ended = command("run", "-p", str(project(store="")), "--cluster", cluster.address)
    assert ended.returncode == 2
    assert f"error: node {APART} does not see the store" in ended.stderr
    assert "or share the store in a bucket: `store: s3://" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_node_that_does_not_reach_the_bucket_is_named(project, cluster, settings, node):
    node.machine.kill()
    wait_for(2, settings)
    node.start(AWS_ENDPOINT_URL="http://127.0.0.1:1")
    wait_for(3, settings)
    try:
        ended = command("run", "-p", str(project()), "--cluster", cluster.address)
    finally:
        node.machine.kill()
        wait_for(2, settings)
        node.start()
        wait_for(3, settings)
    assert ended.returncode == 2
    assert f"error: node {APART} does not see the store" in ended.stderr
    assert f"It cannot use {URL}/" in ended.stderr
    assert "no connection" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not list((project().parent / "store").glob("*/*/manifest.json"))


TEACHER = {
    "type": "endpoint",
    "model": "m",
    "base_url": "http://127.0.0.1:1/v1",
    "sent_from": "nodes",
}


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"models": {"sft": {"nodes": {"count": 2, "launcher": "ray"}}}},
            "sft has `nodes: {launcher: ray}`",
        ),
        (
            {"models": {"evaluate": {"engine": {"type": "vllm", "python": sys.executable}}}},
            "evaluate has `engine: {type: vllm}`",
        ),
        (
            {"teachers": {"t": TEACHER}, "examples": {"evolve": {"teacher": "t"}}},
            "the teacher t of evolve has `sent_from: nodes`",
        ),
    ],
)
def test_what_needs_a_folder_is_refused_before_any_work(tmp_path, cluster, change, said):
    keys = {**PROJECT, "store": f"{URL}/{tmp_path.name}"}
    for name, more in change.items():
        known = keys.get(name, {})
        keys[name] = known | {key: known.get(key, {}) | value for key, value in more.items()}
    write_project(tmp_path / "project", keys)
    ended = command("run", "-p", str(tmp_path / "project"), "--cluster", cluster.address)
    assert ended.returncode == 2, ended.stderr
    assert f"error: {said}, which needs a folder that all nodes share, but node {APART}" in (
        ended.stderr
    )
    assert ended.stderr.count("\n") == 1
    assert not list((tmp_path / "project" / "store").glob("*/*/manifest.json"))


def test_where_the_only_node_for_a_call_dies_the_map_waits_for_another(executor, node, tmp_path):
    said = []

    def say(line):
        said.append(line)
        node.start()

    waiting = replace(executor, wait_seconds=200, message=say)
    (tmp_path / "small").write_bytes(b"small")
    done = []
    call = partial(work.copy_backwards, tmp_path / "out")
    for index, _ in waiting.map(call, [tmp_path / "small"] * 40, THERE):
        done.append(index)
        if len(done) == 3:
            node.machine.kill()
    wait_for_nodes(3)
    assert sorted(done) == list(range(40))
    (line,) = said
    assert line.startswith("a call of this stage needs 2 CPUs, which none of the 2 nodes")
    assert line.endswith(
        "; waiting 3.33 minutes for one. If none comes, change `cluster.resources` in the project "
        "file."
    )


def test_an_object_that_is_lost_during_a_run_is_named(executor, tmp_path):
    large = tmp_path / "lost"
    large.write_bytes(os.urandom(3 << 20))
    executor.transfer.pack(large)
    (name,) = objects("transfer")
    open_bucket(URL, {}).delete(name)
    with pytest.raises(StoreError, match=r"is missing in the bucket, where it was for .*/lost"):
        list(executor.map(partial(work.copy_backwards, Path(tmp_path / "out")), [large], THERE))
    assert not (tmp_path / "out").exists()
