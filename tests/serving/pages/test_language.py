"""Every page of three projects in Korean: no English sentence, no name of a key, no digest."""

import json
import shutil

import polars as pl
import pytest
import yaml

import jangin
from tests.serving.pages.conftest import Browser
from tests.serving.pages.project import MODELS, finish_project
from tests.serving.pages.walked import LATIN, Page, foreign, walk
from tests.serving.running import run_workbench
from tests.shared import make_once

pytestmark = pytest.mark.long

STARS = ("정말 좋아요", "자주 쓰게 됩니다", "그저 그래요", "자꾸 멈춥니다", "지우고 싶어요")
OF_WHAT = ("검색", "지도", "알림", "결제", "글꼴", "로그인", "화면", "속도", "사진", "목록")
TABLE = {"type": "table", "prompt": "{질문}", "completion": "{답}"}
WHOLE = {"unseen_sections": 0, "held_out_paraphrases": 0, "validation": 0.1, "test": 0.2}


def finish(folder, keys, table):
    """Write a project with one table and run it."""
    folder.mkdir(exist_ok=True)
    (folder / "rows.csv").write_text("\n".join(",".join(row) for row in table), "utf-8")
    text = yaml.safe_dump(keys, allow_unicode=True, sort_keys=False)
    (folder / "project.yaml").write_text(text, "utf-8")
    jangin.open(folder).run(progress=lambda _line: None)


def finish_stars(folder):
    """Classification: two variants, baselines, labels in an order."""
    rows = [
        (f"{what} {said}", str(5 - star)) for what in OF_WHAT for star, said in enumerate(STARS)
    ]
    labels = ["1", "2", "3", "4", "5"]
    systems = ["base", "tuned", {"type": "baseline", "method": "constant"}]
    keys = {
        "name": "별점",
        "examples": {"read": {"path": "rows.csv", "format": TABLE}, "split": WHOLE},
        "models": MODELS
        | {
            "evaluate": {
                "task": {"type": "labels", "labels": labels, "ordered": True, "good_from": "4"},
                "systems": systems,
                "max_new_tokens": 4,
                "few_shot": 0,
            }
        },
        "variants": {"기본": None, "빠르게": {"models": {"sft": {"learning_rate": 0.002}}}},
    }
    finish(folder, keys, [("질문", "답"), *rows])


def finish_rows(folder):
    """Questions and answers of an office, with rows that cannot be used and a question of users."""
    rows = [(f"{what} 담당은 누구인가요?", f"{what}팀 {n}번") for n, what in enumerate(OF_WHAT)]
    rows += [("지도 담당은 누구인가요?", "아무도 아닙니다"), ("빈 답은요?", "")]
    asked = {"messages": [{"role": "user", "content": "지도는 누가 맡아요?"},
                          {"role": "assistant", "content": "지도팀 1번"}]}  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "test_questions.jsonl").write_text(json.dumps(asked, ensure_ascii=False), "utf-8")
    keys = {
        "name": "담당",
        "examples": {
            "read": {"path": "rows.csv", "format": TABLE},
            "curate": None,
            "split": WHOLE,
        },
        "models": MODELS,
    }
    finish(folder, keys, [("질문", "답"), *rows])


PROJECTS = {"handbook": finish_project, "stars": finish_stars, "rows": finish_rows}
NAMES = """
jangin handbook stars rows handbook-teacher plain paraphrased base tuned main constant starter
ft qwen OpenAI OPENAI_API_KEY Google Gemini Anthropic Upstage OpenRouter vLLM Ollama LM Studio
llama cpp Hugging Face Argilla Excel Word PowerPoint
Qwen gemma PDF HTML Markdown MD JSON Lines CSV XLSX ZIP GGUF OCR JavaScript Enter Shift Esc
Dataset from_disk GiB MB KB UTC CPU cpu LoRA DPO Holm McNemar nat top-p fp bf RMSE RMSLE tesseract
eng kor osd kiwipiepy torch python transformers peft polars pyarrow precision tessdata_best
tessdata best ppocr
"""
ALLOWED = frozenset(NAMES.split())
"""Words in Latin letters that a Korean page may have outside of quotations."""


@pytest.fixture(scope="module", params=PROJECTS)
def served(request, tmp_path_factory):
    """A server of a copy of one of the projects, and its folder."""
    name = request.param
    key = "workbench" if name == "handbook" else f"language-{name}"
    folder = tmp_path_factory.mktemp("language") / name
    shutil.copytree(make_once(tmp_path_factory, key, PROJECTS[name]), folder)
    with run_workbench(folder / "server", project=folder / "project.yaml") as running:
        yield running, folder


def said_by_models(folder):
    """Words of the answers of random weights, which are letters in any order."""
    answers = set()
    for path in (folder / "store" / "evaluate").glob("*/predictions.parquet"):
        answers |= set(pl.read_parquet(path)["prediction"])
    return {word for answer in answers for word in LATIN.findall(answer)}


def test_every_page_is_in_korean(served):
    running, folder = served
    allowed = ALLOWED | said_by_models(folder)
    with Browser(running.root) as browser:
        browser.get("/preferences")
        browser.submit("/preferences", name="김담당")
        wrong = {}
        for address, page in walk(browser):
            for text in page.texts:
                for found in foreign(text, allowed):
                    wrong.setdefault(f"{found} | {text[:200]}", address)
    assert wrong == {}


def test_what_a_change_means_and_a_mistake_are_said_in_korean(served):
    running, folder = served
    path = folder / "project.yaml"
    text = path.read_text("utf-8")
    allowed = ALLOWED | said_by_models(folder) | {"models", "sft", "sftt", "length", "steps"}
    changes = (("0.001", "0.003"), ("steps: 3", "steps: 0"), ("  sft:", "  sftt:"))
    for before, after in changes:
        path.write_text(text.replace(before, after), "utf-8")
        with Browser(running.root) as browser:
            for address in ("/", "/runs/plan", "/start/file", "/compare"):
                texts = Page(browser.get(address).text).texts
                assert [text for text in texts if foreign(text, allowed)] == [], (after, address)
    path.write_text(text, "utf-8")
