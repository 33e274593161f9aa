"""`cluster:` and `--cluster`: which cluster a run uses, and that it is no part of any key."""

import pickle
import socket
import threading
from dataclasses import replace

import pytest

from jangin.core.digest import digest_file
from jangin.core.errors import ConfigError, MachineError
from jangin.core.execution import ray_connection
from jangin.core.execution.ray_connection import connected
from jangin.core.execution.settings import LocalMachine, RayCluster
from jangin.core.stage import always
from jangin.project.file import parse_project
from jangin.project.plan import locations
from jangin.project.remote import open_bucket
from jangin.project.session import cluster_of, open_session

STAGES = "name: test\ndocuments:\n  load: {folder: documents}\n  chunk:\n"


@pytest.fixture
def project(tmp_path):
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "one.md").write_text("# One\n\nThe rule.\n")

    def parse(cluster=""):
        return parse_project(STAGES + cluster, tmp_path / "project.yaml")

    return parse


def test_a_file_without_cluster_works_on_this_machine(project):
    assert cluster_of(project()) == LocalMachine()
    assert cluster_of(project("cluster: {type: ray}"), "local") == LocalMachine()


def test_the_option_overrides_the_address_and_keeps_the_rest(project):
    loaded = project("cluster: {type: ray, wait_minutes: 1, address: 'a:1'}")
    assert cluster_of(loaded, "b:2") == RayCluster(type="ray", address="b:2", wait_minutes=1)
    assert cluster_of(project(), "auto") == RayCluster(type="ray")


@pytest.mark.parametrize("address", ["ray://a:1", "a", "a:b", "http://a:1"])
def test_what_is_no_address_is_refused(project, address):
    with pytest.raises(ConfigError, match=r"is no address\. Write host:port"):
        cluster_of(project(), address)
    with pytest.raises(ConfigError, match=r"project.yaml:\d: cluster"):
        project(f"cluster: {{type: ray, address: '{address}'}}")


def test_resources_of_an_unknown_stage_are_refused(project):
    with pytest.raises(ConfigError, match=r"cluster.resources.lode: there is no stage .* load, "):
        cluster_of(project("cluster: {type: ray, resources: {lode: {cpus: 2}}}"))


def test_variants_cannot_run_on_different_clusters(project):
    loaded = project("variants: {a: {}, b: {cluster: {type: ray}}}")
    with pytest.raises(ConfigError, match="one run has one cluster"):
        cluster_of(loaded)


def keys(loaded, **options):
    with open_session(loaded, creates_store=False, **options) as session:
        steps = session.plan(next(iter(loaded.variants)))
        steps[0] = replace(steps[0], stage=replace(steps[0].stage, maps=always))
        return [(step.key, dict(step.inputs)) for step in steps], locations(steps, session.cluster)


def test_the_cluster_is_no_part_of_a_key_and_the_plan_says_where(project):
    here, said = keys(project())
    there, told = keys(
        project("cluster: {type: ray, address: 'gpu1:6379', resources: {load: {memory_gb: 2}}}")
    )
    assert here == there
    assert here[0][0]
    assert said == []
    assert told[0].startswith("On the nodes of Ray at gpu1:6379: load (1 CPU, 2 GB a call)")


def test_nodes_get_the_bucket_of_the_project_and_its_options(project, tmp_path):
    loaded = project("store: s3://bucket/rules\nstore_options: {region: eu}\n")
    with open_session(loaded, creates_store=False) as session:
        files = session.files_for_nodes()
    assert (files.store, files.file) == (tmp_path / "store", tmp_path / "project.yaml")
    assert files.url == "s3://bucket/rules"
    opens = pickle.loads(pickle.dumps(files.bucket)).open
    assert (opens.func, opens.args) == (open_bucket, (files.url, {"region": "eu"}))
    document = tmp_path / "documents" / "one.md"
    assert files.digest(document) == digest_file(document)


def test_what_needs_a_folder_that_nodes_share_is_known_before_a_run(project):
    teacher = "{type: endpoint, model: m, base_url: 'http://127.0.0.1:1/v1', sent_from: nodes}"
    asking = f"examples: {{synthesize: {{teacher: t}}}}\nteachers: {{t: {teacher}}}\n"
    for further, needs in (
        ("", []),
        (asking, ["the teacher t of synthesize has `sent_from: nodes`"]),
        (asking.replace(", sent_from: nodes", ""), []),
    ):
        with open_session(project(further), creates_store=False) as session:
            files = session.files_for_nodes(session.plan("main"))
        assert files.needs_folder == needs
        assert files.bucket is None


def test_where_nothing_answers_there_is_one_sentence():
    pytest.importorskip("ray")
    with (
        pytest.raises(MachineError, match=r"no Ray cluster answers at 127.0.0.2:1 \(cluster"),
        connected(RayCluster(type="ray", address="127.0.0.2:1")),
    ):
        pass


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR\r\n", b""])
def test_another_server_at_the_address_is_no_cluster(answer, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr(ray_connection, "_REACH_SECONDS", 100)  # silence would prove nothing
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def serve():
            connection = server.accept()[0]
            with connection:
                connection.recv(100)
                connection.sendall(answer)

        serving = threading.Thread(target=serve)
        serving.start()
        with (
            pytest.raises(MachineError, match=f"the server at {address} .cluster.address. is no"),
            connected(RayCluster(type="ray", address=address)),
        ):
            pass
        serving.join()


def test_without_ray_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with (
        pytest.raises(MachineError, match=r"pip install 'jangin\[ray\]'"),
        connected(RayCluster(type="ray")),
    ):
        pass


def test_an_address_of_the_ray_client_in_the_environment_is_refused(monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with (
        pytest.raises(MachineError, match="RAY_ADDRESS is 'ray://head:10001'"),
        connected(RayCluster(type="ray")),
    ):
        pass
