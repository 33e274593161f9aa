"""The recipe of CONTRIBUTING for a synthesis mode, followed on a copy of the package."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import jangin
from jangin.core.digest import short_digest
from jangin.core.prompts import shipped
from jangin.examples.evolve import Evolved, Gain
from jangin.examples.judge import Grades
from jangin.examples.paraphrase import Paraphrases, Verdicts
from jangin.examples.synthesis.grounded_answers import AnsweredQuestions
from jangin.examples.synthesis.instruction import Tasks
from jangin.examples.synthesis.modes import MODES
from jangin.examples.synthesis.multiple_choice import ChoiceItems
from jangin.examples.synthesis.question_answer import Pairs
from jangin.examples.synthesis.summary import SummaryReply
from jangin.examples.synthesize import STAGE, SynthesizeConfig
from jangin.llm.replies import schema_text

TOY_MODE = '''
"""Mode `title`: the heading that a teacher gives a chunk."""

from typing import Literal

from pydantic import BaseModel

from jangin.examples.checks.row_checks import check_question
from jangin.examples.synthesis.teacher import Estimate, ModeConfig, SynthesisMode
from jangin.examples.synthesis.passage_rows import (
    ReplyFormat,
    ask_about_passages,
    check_drafts,
    passage_question,
)
from jangin.examples.synthesis.teacher import SynthesisOutput


class Title(ModeConfig):
    """A heading of each chunk."""

    type: Literal["title"]
    max_words: int = 5
    """Longest heading."""


class TitleReply(BaseModel):
    title: str


REPLY = ReplyFormat(TitleReply, lambda reply: [reply], lambda reply: (reply.title, ""))


def questions_of(teacher, config, passages):
    most = config.max_words
    return [passage_question(teacher, p, "title", TitleReply, most=most) for p in passages]


def make(teacher, config, passages, novelty):
    def example(draft):
        title, passage = draft.item.title, draft.passage
        decision = check_question(title, "", passage.source, "ko", teacher.thresholds)
        return draft.example("Title?", title, "", decision) if decision.keep else decision

    output = SynthesisOutput()
    questions = questions_of(teacher, config, passages)
    drafts = ask_about_passages(teacher, passages, questions, REPLY, "titles", output)
    output.examples += [row.example for _, row in check_drafts(drafts, example, teacher, output)]
    return output


def estimate(teacher, config, passages):
    return Estimate(questions_of(teacher, config, passages), later=1)


TITLE = SynthesisMode(config=Title, templates=("title",), make=make, estimate=estimate)
'''
TOY_TEMPLATE = """
title:
  en:
    system: ""
    user: "Give a title of at most $most words. $source, $section: $text"
"""
TOY_RUN = """
import json, sys
from pathlib import Path

from jangin.core.model_protocols import FakeChat
from jangin.core.ledger import Ledger
from jangin.core.parquet import read_table, write_table
from jangin.core.records import Chunk, Document, Example, Page
from jangin.core.stage import Services, StageContext
from jangin.core.store import Artifact
from jangin.examples.synthesize import STAGE, SynthesizeConfig

folder = Path(sys.argv[1])
texts = ["연차휴가는 15일이다.", "병가는 60일이다."]
page = Page(number=1, start=0, end=100, method="text")
place = {"document_id": "d", "source": "a.md", "start": 0, "page": 1, "section": ""}
document = Document(id="d", source="a.md", text="", pages=(page,), language="ko")
rows = {
    "documents": (Document, [document]),
    "chunks": (Chunk, [Chunk(id=t[:2], text=t, end=len(t), **place) for t in texts]),
}
inputs = {}
for kind, (record, records) in rows.items():
    (folder / kind).mkdir(parents=True)
    write_table(folder / kind / f"{kind}.parquet", record, records)
    inputs[kind] = Artifact(folder / kind, None)

def teach(request):
    user = request.messages[-1].content
    return json.dumps({"title": "위 조항" if "병가" in user else "연차휴가"}, ensure_ascii=False)

config = SynthesizeConfig.model_validate({"teacher": "t", "modes": [{"type": "title"}]})
chat = FakeChat(teach)
services = Services(folder, lambda name: chat, Ledger(folder / "ledger.sqlite"))
context = StageContext(config, inputs, folder, services)
plan = STAGE.cost(context)
STAGE.run(context)
examples = read_table(folder / "examples.parquet", Example)
print(json.dumps({
    "calls": plan.calls,
    "plan": plan.text,
    "prompts": STAGE.prompts(config),
    "wants": STAGE.wants(config),
    "answers": [example.answer for example in examples],
    "rejected": context.summary["rejected"],
    "asked": chat.calls[0].messages[-1].content,
    "settings": "Title" in SynthesizeConfig.model_json_schema()["$defs"],
}, ensure_ascii=False))
"""


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.slow
def test_a_new_mode_is_one_file_one_template_and_one_row(tmp_path):
    package = tmp_path / "src" / "jangin"
    ignored = shutil.ignore_patterns("__pycache__", "training", "evaluation", "report")
    shutil.copytree(Path(jangin.__file__).parent, package, ignore=ignored)

    synthesis = package / "examples" / "synthesis"
    (synthesis / "title.py").write_text(TOY_MODE, encoding="utf-8")
    (package / "core" / "templates" / "title.yaml").write_text(TOY_TEMPLATE, encoding="utf-8")
    row = "from jangin.examples.synthesis.summary import SUMMARY\n"
    replaced(
        synthesis / "modes.py", row, f"{row}from jangin.examples.synthesis.title import TITLE\n"
    )
    replaced(synthesis / "modes.py", "    SUMMARY,\n", "    SUMMARY,\n    TITLE,\n")

    run = subprocess.run(
        [sys.executable, "-c", TOY_RUN, str(tmp_path / "run")],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    facts = json.loads(run.stdout)
    assert (facts["answers"], facts["rejected"]) == (["연차휴가"], {"self_contained": 1})
    assert (facts["calls"], "up to 1" in facts["plan"]) == (2, True)
    assert facts["prompts"] == ["title", "repair", "nothing"]
    assert facts["wants"] == ["documents", "chunks"]
    assert "at most 5 words" in facts["asked"]
    assert facts["settings"]


def test_modes_have_names_and_prompts_of_their_own():
    names = [mode.name for mode in MODES]
    assert len(set(names)) == len(names)
    templates = [template for mode in MODES for template in mode.templates]
    assert len(set(templates)) == len(templates)
    assert set(templates) <= set(shipped())
    kinds = {kind for mode in MODES for kind in mode.wants}
    assert kinds | {"examples"} == set(
        STAGE.may_read
    )  # the rows of `read`, beside which it puts its own


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_every_mode_of_the_table_can_be_named_in_a_project(mode):
    config = SynthesizeConfig.model_validate({"teacher": "t", "modes": [{"type": mode.name}]})
    assert type(config.modes[0]) is mode.config
    assert STAGE.prompts(config) == (*mode.templates, "repair", "nothing")
    assert STAGE.wants(config) == mode.wants


@pytest.mark.parametrize(
    ("reply_type", "digest"),
    [
        (Pairs, "3ff41691aee94831"),
        (ChoiceItems, "4526e820ccdbf594"),
        (SummaryReply, "bb2fd2ee5b69862f"),
        (Tasks, "8f7c36f7121e167a"),
        (AnsweredQuestions, "eb37942cb69db20a"),
        (Grades, "620f8d6a5e442a31"),
        (Paraphrases, "c4f9cb06ee283d0f"),
        (Evolved, "36f136f5d754a595"),
        (Gain, "7901ec36fa6254ff"),
        (Verdicts, "51563819f934cb10"),
    ],
)
def test_a_reply_schema_stays_so_that_paid_replies_are_found_again(reply_type, digest):
    """Names and docstrings of these classes are in the schema, and so in every request's digest."""
    assert short_digest(schema_text(reply_type)) == digest
