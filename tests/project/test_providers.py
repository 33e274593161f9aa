"""With nothing but a key, or a server on this machine: `new`, `plan`, `run`, `doctor`."""

import io
import json
import re
import sys

import pytest
import yaml

from jangin.cli.project import _asked_for
from jangin.llm.learned import FILE
from jangin.llm.prices import PRICES
from jangin.llm.providers import BY_NAME, PROVIDERS, provider_at
from jangin.project.file import open_project
from jangin.project.setup.scaffold import Choices, Known, project_text, usual_teacher
from tests.cli.test_main import TEXT, jangin
from tests.llm.provider_stubs import Providers, stubs

__all__ = ("jangin",)
NAMES = tuple(BY_NAME)


@pytest.fixture(scope="module")
def running():
    providers = Providers()
    with providers.serve() as address:
        yield providers, address


@pytest.fixture
def world(running, monkeypatch, tmp_path):
    """The stand-ins; a function that makes some of them reachable, as the only ones there are."""
    providers, address = running
    providers.stubs = stubs()

    def reach(*names):
        for row in PROVIDERS:
            up = row.name in names
            where = f"{address}/{row.name}/v1" if up else "http://127.0.0.1:1/v1"
            monkeypatch.setenv(f"JANGIN_{row.name.upper()}_URL", where)
            if row.key_variable:
                monkeypatch.delenv(row.key_variable, raising=False)
                if up:
                    monkeypatch.setenv(row.key_variable, "sk-right")
        return providers.stubs

    monkeypatch.setenv("JANGIN_KEYS", str(tmp_path / "keys"))
    return reach


def documents(folder):
    (folder / "documents").mkdir(parents=True)
    (folder / "documents" / "규정.md").write_text(TEXT, encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_provider_is_found_planned_and_asked(name, world, jangin, tmp_path):
    server = world(name)[name]
    folder = documents(tmp_path / "rules")
    code, printed = jangin("new", folder)
    assert code == 0, printed
    assert f"The teacher is {server.model} of {BY_NAME[name].title}" in printed
    text = (folder / "project.yaml").read_text("utf-8")
    assert yaml.safe_load(text)["teachers"]["writer"].keys() <= {"provider", "model", "price"}
    code, printed = jangin("plan", "-p", folder)
    assert code == 0, printed
    assert "!" not in printed
    assert server.bodies == []
    code, printed = jangin("run", "synthesize", "-p", folder)
    assert code == 0, printed
    assert "1 question" in printed
    known = folder / "store" / FILE
    learned = json.loads(known.read_text("utf-8")) if known.exists() else {}
    refused = {field for row in learned.values() for field in row["refused"]}
    # A request at temperature 0 with the first sample has no seed.
    assert refused >= server.learned - {"seed"}
    asked = len(server.bodies)
    assert jangin("run", "synthesize", "-p", folder)[0] == 0
    assert len(server.bodies) == asked
    budget = "budget: {usd: 5}\n"
    (folder / "project.yaml").write_text(budget + text, encoding="utf-8")
    printed = jangin("plan", "-p", folder)[1]
    assert "price of model" not in printed


def test_a_key_that_is_refused_is_named_and_another_teacher_taken(
    world, jangin, tmp_path, monkeypatch
):
    world("openai", "ollama")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    printed = jangin("new", tmp_path / "a")[1]
    assert re.search(
        r"OpenAI cannot be the teacher: the key is .*401.*Incorrect API key", printed, re.S
    )
    assert "The teacher is qwen3:8b of Ollama, on this machine." in printed
    assert "sk-wrong" not in printed
    world("gemini", "ollama", "llamacpp")
    printed = jangin("new", tmp_path / "b")[1]
    assert "The teacher is gemini-3.8-flash of Google Gemini, over the internet." in printed
    assert "Others that work here: ollama (qwen3:8b), llamacpp (m.gguf)." in printed
    world()
    printed = jangin("new", tmp_path / "c")[1]
    assert "No teacher works yet" in printed
    written = open_project(tmp_path / "c").variants["main"].teachers["writer"]
    assert (written.provider, written.model) == ("openai", usual_teacher().model)


def test_a_plan_names_what_is_offered_in_place_of_a_model_that_is_gone(world, jangin, tmp_path):
    servers = world("openai")
    servers["openai"].listed[:] = ["gpt-6-luna", "gpt-4.1-mini", "text-embedding-3-large"]
    folder = documents(tmp_path)
    for model, said in (
        ("gpt-5-mini", r"does not offer model 'gpt-5-mini'\. It offers gpt-4.1-mini, gpt-6-luna\."),
        ("gpt-4.1-mini", r"switches model 'gpt-4.1-mini' off on 2027-01-14\. .*gpt-6-luna"),
    ):
        text = project_text(Choices("rules")).replace("model: gpt-6-luna", f"model: {model}")
        (folder / "project.yaml").write_text(text, encoding="utf-8")
        printed = jangin("plan", "-p", folder)[1]
        assert re.search(said, printed), printed
        assert BY_NAME["openai"].models_page in printed


def test_doctor_says_who_answers_and_what_was_learned(world, jangin, tmp_path, monkeypatch):
    world("openai", "vllm")
    folder = documents(tmp_path / "rules")
    jangin("new", folder)
    assert jangin("run", "synthesize", "-p", folder)[0] == 0
    monkeypatch.chdir(folder)
    printed = " ".join(jangin("doctor")[1].split())
    assert re.search(r"OpenAI at \S+, 1 model\b", printed)
    assert re.search(r"vLLM at \S+, 1 model\b", printed)
    assert "gpt-6-luna: left out max_tokens, temperature, 8,192 tokens for reason" in printed
    assert "sk-right" not in printed


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        ("{provider: geminy, model: m}", r"yaml:3.*'geminy'; did you mean 'gemini'\?.*openai"),
        ("{provider: zzz, model: m}", r"project.yaml:3.*no provider 'zzz'\. .*openai, gemini"),
        ("{provider: gemini}", r"project.yaml:3.*model"),
        ("{type: endpoint, model: m}", r"project.yaml:3.*`provider`, or `base_url`"),
        ("{provider: openai, model: m, price: no.json}", r"no.json is not litellm's table"),
    ],
)
def test_a_teacher_that_is_written_wrongly_is_a_sentence(teacher, said, world, jangin, tmp_path):
    world("openai")
    folder = documents(tmp_path)
    text = f"name: x\nteachers:\n  w: {teacher}\ndocuments: {{load: {{folder: documents}}, chunk:}}"
    (folder / "project.yaml").write_text(f"{text}\nexamples: {{synthesize: {{teacher: w}}}}\n")
    code, printed = jangin("run", "-p", folder)
    assert code == 2
    assert re.search(said, printed, re.S), printed
    assert "Traceback" not in printed


def test_every_row_of_the_table_has_what_its_kind_needs():
    assert len({row.address for row in PROVIDERS}) == len(PROVIDERS)
    for row in PROVIDERS:
        assert row.is_local == (not row.key_variable)
        assert row.is_local == row.address.startswith("http://127.0.0.1:")
        assert provider_at(row.address) is (None if row.is_local else row)
        if row.suggestion is not None:
            host = row.address.split("/")[2]
            assert row.suggestion.model in PRICES[host]


def test_a_terminal_asks_which_teacher_where_there_are_several(monkeypatch, capsys):
    usable = [Known(BY_NAME[name], f"model of {name}", None) for name in ("gemini", "ollama")]
    for typed, picked in (("2\n", 1), ("\n", 0), ("x\n9\n", 1)):
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        assert _asked_for(usable) is usable[picked]
    assert "2  Ollama: model of ollama" in capsys.readouterr().out
