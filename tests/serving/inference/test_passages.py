"""Models of the project that were trained with passages: on `/v1`, on the page and in `chat`."""

import io
import re
import sys
import time

import pytest

import jangin
from jangin.cli.chat import Conversation
from jangin.cli.main import main
from jangin.project.session import open_session
from jangin.serving.state.project import FRESH_SECONDS
from tests.reading_project import PROJECT, write_project
from tests.serving.pages.conftest import Browser
from tests.serving.running import run_workbench

QUESTION = "How many days is leave?"
CLOSED = {"models": {"sft": {"passages": None}}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A project with a model that reads and one that does not."""
    folder = tmp_path_factory.mktemp("reading")
    sft = {**PROJECT["models"]["sft"], "length": {"type": "steps", "steps": 20}}
    models = {"catalog": PROJECT["models"]["catalog"], "sft": {**sft, "learning_rate": 1e-2}}
    write_project(folder, models=models, variants={"reads": {}, "closed": CLOSED})
    jangin.open(folder).run(progress=None)
    return folder


@pytest.fixture(scope="module")
def running(folder):
    with run_workbench(folder / "server", project=folder / "project.yaml") as server:
        yield server


@pytest.fixture
def client(running):
    return running.client()


def asked(client, model="reads", **more):
    messages = [{"role": "user", "content": QUESTION}]
    return client.chat.completions.create(
        model=model, messages=messages, max_tokens=8, temperature=0, **more
    )


def test_a_chat_is_answered_from_the_passages_and_cites_them(client):
    reply = asked(client)
    message = reply.choices[0].message
    (annotation,) = message.annotations
    cited = annotation.url_citation
    assert cited.title == "rules.md, page 1, Rules > Leave"
    assert cited.model_extra["x_quote"] == "Leave is fifteen days a year."
    assert (cited.model_extra["x_page"], cited.model_extra["x_section"]) == (1, "Rules > Leave")
    assert (cited.start_index, cited.end_index) == (0, len(message.content))
    without = asked(client, extra_body={"passages": False})
    assert without.choices[0].message.annotations == []
    assert reply.usage.prompt_tokens > without.usage.prompt_tokens + 10


def test_a_stream_ends_with_the_same_citations(client):
    whole = asked(client).choices[0].message
    chunks = list(asked(client, stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert "".join(delta.content or "" for delta in deltas) == whole.content
    (cited,) = [delta.annotations for delta in deltas if "annotations" in delta.model_extra]
    assert cited == [each.model_dump() for each in whole.annotations]
    assert chunks[-1].choices[0].finish_reason == "length"


def test_a_response_cites_whole_and_streamed(client):
    body = {"model": "reads", "input": QUESTION, "max_output_tokens": 8, "temperature": 0}
    (item,) = client.responses.create(**body).output
    (cited,) = item.content[0].annotations
    assert (cited.type, cited.filename) == ("file_citation", "rules.md")
    assert cited.index == len(item.content[0].text)
    assert cited.model_extra["x_quote"] == "Leave is fifteen days a year."
    events = list(client.responses.create(**body, stream=True))
    (added,) = [e for e in events if e.type == "response.output_text.annotation.added"]
    (streamed,) = events[-1].response.output[0].content[0].annotations
    assert added.to_dict()["annotation"]["x_quote"] == streamed.model_extra["x_quote"]
    without = client.responses.create(**body, extra_body={"passages": False})
    assert without.output[0].content[0].annotations == []
    count = client.responses.input_tokens.count
    few = count(model="reads", input=QUESTION, extra_body={"passages": False}).input_tokens
    assert count(model="reads", input=QUESTION).input_tokens > few + 10


def test_a_model_that_was_trained_without_passages_gets_none(client):
    reply, without = (
        asked(client, "closed"),
        asked(client, "closed", extra_body={"passages": False}),
    )
    assert reply.choices[0].message.annotations == []
    assert reply.usage.prompt_tokens == without.usage.prompt_tokens


@pytest.mark.parametrize(
    ("variant", "language", "heading"),
    [
        ("reads", "en", "Read for this answer:"),
        ("closed", "ko", "문서의 내용(모델은 읽지 않았습니다):"),
    ],
)
def test_the_page_shows_the_passages_with_their_place_and_picture(
    running, variant, language, heading
):
    with Browser(running.root, language) as browser:
        html = browser.get("/playground").text
        model = re.search(rf'value="(model:[^"]*:{variant})"', html)[1]
        page = browser.submit("/playground/whole", model=model, question=QUESTION, max_tokens=8)
        assert page.status_code == 200
        assert heading in page.text
        assert "<strong>[1] rules.md" in page.text
        assert "Rules &gt; Leave" in page.text
        assert '<mark class="evidence">Leave is fifteen days a year.</mark>' in page.text
        picture = re.search(r'hx-get="(/pictures/[^"]+)"', page.text)[1].replace("&amp;", "&")
        figure = browser.get(picture)
        assert figure.status_code == 200
        marked = re.search(r"<mark[^>]*>([^<]*)", figure.text)
        assert marked[1] == "Leave is fifteen days a year."


@pytest.mark.parametrize(("language", "why"), [("en", "matched:"), ("ko", "맞은 낱말:")])
def test_a_page_shows_what_the_index_finds_and_why(running, language, why):
    with Browser(running.root, language) as browser:
        assert 'href="/data/search' in browser.get("/data").text
        page = browser.get("/data/search", params={"question": "leave", "variant": "reads"}).text
        assert "1. rules.md" in page
        assert "Rules &gt; Leave" in page
        assert re.search(rf"0\.\d{{3}} · {why} leave", page)
        assert "Leave is fifteen days a year." in page
        picture = re.search(r'hx-get="(/pictures/[^"]+)"', page)[1].replace("&amp;", "&")
        assert "<mark" in browser.get(picture).text
        nothing = browser.get("/data/search", params={"question": "zzz", "variant": "reads"}).text
        assert "hx-get" not in nothing


@pytest.fixture
def chat(monkeypatch, capsys, folder):
    def talk(*words):
        given = ["jangin", "chat", "-p", str(folder), "--variant", "reads", *words]
        monkeypatch.setattr(sys, "argv", [*given, "--max-new-tokens", "8"])
        monkeypatch.setattr(sys, "stdin", io.StringIO(QUESTION))
        with pytest.raises(SystemExit):
            main()
        return capsys.readouterr()

    return talk


def test_the_chat_of_the_terminal_shows_what_was_read(chat):
    printed = chat().out
    assert "read for this answer:" in printed
    assert "[1] rules.md, page 1, Rules > Leave\n    Leave is fifteen days a year." in printed
    printed = chat("--no-passages")
    assert "rules.md" not in printed.out
    assert "trained to read passages and gets none" in printed.err


def test_an_edited_document_is_cited_after_the_next_index_while_server_and_chat_run(
    folder, client, capsys
):
    def quote():
        return asked(client).choices[0].message.annotations[0].url_citation.model_extra["x_quote"]

    def said(conversation):
        capsys.readouterr()
        conversation.take(QUESTION)
        return capsys.readouterr().out

    path = folder / "documents" / "rules.md"
    path.write_text(path.read_text("utf-8").replace("fifteen", "twenty"), "utf-8")
    assert quote() == "Leave is fifteen days a year."
    with open_session(folder / "project.yaml") as session:
        conversation = Conversation(session, "reads", 8)
        assert "Leave is fifteen days a year." in said(conversation)
        jangin.open(folder).run("index", progress=None)
        time.sleep(FRESH_SECONDS)
        assert quote() == "Leave is twenty days a year."
        assert "Leave is twenty days a year." in said(conversation)
