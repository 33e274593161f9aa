from contextlib import closing
from urllib.parse import quote

import openai
import pytest
import yaml

from jangin.serving.models.registry import Registry, project_models, slug_of
from jangin.serving.protocol.errors import ApiError
from jangin.serving.state.caller import LOCAL_CALLER
from jangin.serving.state.server import Server
from jangin.serving.state.settings import ServerSettings
from jangin.serving.state.tables import Audit, Permission, StoredModel
from tests.serving.running import run_server

OWN, FOREIGN, SHARED = "ft:org/tiny:local:a:11111111", "ft:tiny:other:b:2", "ft:tiny:other:c:3"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    starter = {"base": {"type": "starter"}}
    entries = {"org/name:1": starter, "gpt-4o-mini": starter}
    (folder / "server.yaml").write_text(yaml.safe_dump({"models": entries}))
    with run_server(folder / "data", folder / "server.yaml") as running:
        yield running


@pytest.fixture
def rows(running, tmp_path):
    """Three fine-tuned models: one's own, another project's, and one that it shares."""
    with running.server.database.write() as session:
        for number, name in enumerate((OWN, FOREIGN, SHARED)):
            project = "local" if name == OWN else "other"
            session.add(
                StoredModel(
                    name=name,
                    project=project,
                    created_at=1000 + number,
                    base=str(tmp_path),
                    kind="adapter",
                    path=str(tmp_path / str(number)),
                )
            )
        session.add(Permission(id="cp_1", created_at=1, model=SHARED, project="local"))
    yield
    with running.server.database.write() as session:
        session.query(StoredModel).delete()
        session.query(Permission).delete()


@pytest.mark.usefixtures("rows")
def test_the_list_holds_own_and_shared_models_and_all_aliases(client):
    ids = [model.id for model in client.models.list()]
    assert ids == [SHARED, OWN, "gpt-4o-mini", "org/name:1"]


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("name", [OWN, "org/name:1", SHARED])
def test_ids_with_slashes_and_colons_arrive_in_every_spelling(running, client, name):
    assert client.models.retrieve(name).id == name
    raw = client._client  # the SDK's own HTTP client
    for path in (name, quote(name, safe=""), quote(name, safe="/")):
        reply = raw.get(f"{running.url}/models/{path}", headers={"authorization": "Bearer any"})
        assert (reply.status_code, reply.json()["id"]) == (200, name)


@pytest.mark.usefixtures("rows")
def test_a_deleted_model_is_gone_and_the_audit_log_says_who(running, client):
    deleted = client.models.delete(OWN)
    assert (deleted.id, deleted.object, deleted.deleted) == (OWN, "model", True)
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(OWN)
    with pytest.raises(openai.NotFoundError):
        client.models.delete(OWN)
    with running.server.database.read() as session:
        assert session.query(Audit).filter(Audit.object == OWN).one().action == "model.delete"


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize(
    ("name", "status"), [(FOREIGN, 404), (SHARED, 403), ("gpt-4o-mini", 403), ("gone", 404)]
)
def test_only_ones_own_fine_tuned_models_can_be_deleted(client, name, status):
    with pytest.raises(openai.APIStatusError) as caught:
        client.models.delete(name)
    assert caught.value.status_code == status


def test_an_alias_of_a_starter_says_that_a_job_makes_it(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "?"}]
        )
    assert caught.value.code == "model_not_available"


def test_finished_variants_of_a_project_are_models(tiny):
    project, _, _ = tiny
    (model,) = project_models(project.path)
    assert model.name == "ft:starter-0.5m:tiny:main"
    assert (model.adapter_folder / "model" / "config.json").exists()
    assert (model.base_folder / "model" / "config.json").exists()


def test_a_variant_is_also_called_by_its_own_name_unless_an_alias_has_it(tiny, tmp_path):
    project, _, _ = tiny
    starter = {"base": {"type": "starter"}}
    for models, listed in (({}, True), ({"main": starter}, False)):
        folder = tmp_path / str(listed)
        settings = ServerSettings(folder=folder, project=project.path, models=models)
        with closing(Server(settings)) as server:
            registry = Registry(server)
            names = [named.id for named in registry.names(LOCAL_CALLER)]
            assert names.count("main") == names.count("ft:starter-0.5m:tiny:main") == 1
            whole = registry.resolve("ft:starter-0.5m:tiny:main", LOCAL_CALLER)
            if listed:
                assert registry.resolve("main", LOCAL_CALLER) == whole
            else:
                with pytest.raises(ApiError, match="starter"):
                    registry.resolve("main", LOCAL_CALLER)


def test_names_become_parts_of_ids():
    assert slug_of("Qwen/Qwen3-0.6B") == "qwen3-0.6b"
    assert slug_of("나의 프로젝트: 1") == "나의-프로젝트-1"
