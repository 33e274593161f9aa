import ast
import re
from pathlib import Path
from string import Formatter
from typing import get_args

import pytest

import jangin
from jangin.core.errors import all_counted, counted, counted_of
from jangin.core.records import OrderDoubt
from jangin.evaluation.pairwise_judge import BY_STRENGTH
from jangin.evaluation.recall import Recall
from jangin.evaluation.select import Criterion
from jangin.evaluation.slices import Dimension
from jangin.evaluation.tasks.task import TestSet
from jangin.metrics.agreement import Standing
from jangin.metrics.facts import FactReason
from jangin.metrics.scores.table import METRICS
from jangin.project.stages import STAGES
from jangin.report.i18n.translate import Words, p_text, reasons, strings
from jangin.serving.state.database import SUPPORTED
from jangin.text.language import SCRIPT_CLASSES
from tests.report.i18n.test_names import project_keys


def test_both_languages_have_the_same_sentences_with_the_same_figures():
    korean, english = strings("ko"), strings("en")
    assert list(korean) == list(english)

    def fields(text):
        return {name for _, name, _, _ in Formatter().parse(text) if name}

    assert [k for k in korean if fields(korean[k]) != fields(english[k])] == []


def test_no_korean_sentence_is_left_in_english_or_the_other_way_round():
    assert not [text for text in strings("en").values() if re.search("[가-힣]", text)]
    latin = {text for text in strings("ko").values() if not re.search("[가-힣]", text)}
    terms = {"LoRA", "RMSE", "RMSLE", "R²", "A", "B"}
    assert latin == {"BM25", "GGUF", "top-p", "{name}"} | terms  # called so in Korean too


def quoted_words(folder, *patterns):
    """Every quoted word in the files below a folder."""
    texts = (path.read_text("utf-8") for pattern in patterns for path in folder.rglob(pattern))
    return {word for text in texts for word in re.findall(r"""["'](\w+)["']""", text)}


SOURCE = Path(jangin.__file__).parent
IN_SOURCE = (
    quoted_words(SOURCE / "report", "*.py", "*.jinja")
    | quoted_words(SOURCE / "views", "*.py")
    | quoted_words(SOURCE / "serving" / "pages", "*.py", "*.jinja", "*.js")
    | quoted_words(SOURCE / "cli", "*.py")
)
PAGES = SOURCE / "serving" / "pages"
ROOMS = ("review", "data", "runs", "start", "compare", "playground", "jobs", "pictures")
WHOLE_ROOMS = (*(f"{room}_" for room in ROOMS), "is_", "name_")
COMPOSED_IN_PAGES = tuple(
    {
        prefix
        for pattern, form in (("*.jinja", r"""["'](\w+_)["'] ?~"""), ("*.py", r"""f["'](\w+_)\{"""))
        for path in (*PAGES.rglob(pattern), *(SOURCE / "report" / "i18n").glob(pattern))
        for prefix in re.findall(form, path.read_text("utf-8"))
        if prefix not in WHOLE_ROOMS
    }
)
"""Beginnings of keys that pages compose, such as `"pages_theme_" ~ theme`."""
RELATIVES = ("original", "evolved", "paraphrase", "pair")
TOKEN_COUNTS = ("messages", "estimated_tokens", "estimated_answer_tokens")
SETS = get_args(TestSet)
COMPOSED = {
    "stage": [stage.name for stage in STAGES],
    "set": (*SETS, "train", "validation"),
    "name": SETS,
    "means": SETS,
    "slice": get_args(Dimension),
    "kin": BY_STRENGTH,
    "end": ("low", "high"),
    "script": (*SCRIPT_CLASSES, "none"),
    "glance": (*SETS, "unread", "lines", "chunks", "failures"),
    "data": ("yes", "no"),
    "jobs": ("pause", "resume", "cancel", *(f"{name}_per_example" for name in TOKEN_COUNTS)),
    "pictures": ("changed", "gone", "damaged", "no_ocr"),
    "review": tuple(f"{side}_{kind}" for side in ("parent", "child") for kind in RELATIVES),
    "runs": ("tokens_per_second",),
    "layers": ("compiled", "eager"),
    "playground": ("taught", "reworded", "differs", "withheld", "elsewhere", "invented"),
    "by_facts": ("two_variants", "same_share", "tuned_base", "tuned_only"),
    "reason": get_args(FactReason),
    "candidates_by": get_args(Criterion),
    "grounded": ("alone", "level", "better", "worse", "unclear"),
    "recall": get_args(Recall.model_fields["ranking"].annotation),
    "opinion": (*get_args(Standing), "grader", "judge", "both"),
    "grade_false": ("rights", "wrongs"),
    "order": get_args(OrderDoubt.model_fields["reason"].annotation),
    "contradictions": ("replaces", "both_hold"),
    "versions_kind": ("amount", "date", "negation"),
    "compare": tuple(
        f"{way}_{chance}" for way in ("better", "worse") for chance in ("real", "chance", "unclear")
    ),
}
"""{first part: second parts} of the keys that the source composes; each must have a sentence."""
NAMES = {
    word
    for room in ("core", "documents", "examples", "evaluation", "llm", "models", "text", "training")
    for path in (SOURCE / room).rglob("*.py")
    for word in re.findall(r"\w+", path.read_text("utf-8"))
}
"""Tables, columns and their values, among others."""
OPTIONAL = {
    **dict.fromkeys(("table", "column", "scorer"), NAMES),
    "setting": project_keys(),
    "head": [key.removeprefix("head_") for key in strings("en") if key.startswith("head_")],
    "figure": NAMES | {"p5", "p50", "p95", "p100"},
    **dict.fromkeys(("value_kind", "value_operation"), NAMES),
    "value_doubt": ("illegible", "readings differ"),
    "value_language": ("ko", "en"),
    "results_intro": tuple(METRICS),
    "rule": quoted_words(SOURCE / "examples", "*.py"),
}
"""The same of keys that have a sentence to fall back on."""
DESCRIBED = {f"{kind}_description" for kind in ("loss", "accuracy")}


def unused(keys):
    """The keys that nothing in the source can ask for."""
    composed = {
        f"{first}_{second}"
        for first, seconds in (COMPOSED | OPTIONAL).items()
        for second in seconds
    }
    known = IN_SOURCE | composed | DESCRIBED
    listed = {f"{first}_" for first in COMPOSED | OPTIONAL}
    begin = tuple(prefix for prefix in COMPOSED_IN_PAGES if prefix not in listed)
    return [key for key in keys if key not in known and not key.startswith(begin)]


def test_every_composed_key_has_its_sentence():
    composed = {f"{first}_{second}" for first, seconds in COMPOSED.items() for second in seconds}
    assert sorted((composed | DESCRIBED) - set(strings("ko"))) == []


def test_every_sentence_is_used_somewhere():
    assert unused(strings("en")) == []


def test_a_sentence_that_nothing_asks_for_is_seen():
    dead = ["name_nothing", "stage_nothing", "rule_no_such_rule", "right_nothing", "old_sentence"]
    assert unused(["report", "name_test", *dead]) == dead


def test_a_share_that_is_not_whole_is_never_rounded_to_all_or_nothing():
    words = Words("ko")
    assert [words.percent(share) for share in (0, 0.004, 0.5, 0.996, 1)] == [
        "0%", "0.4%", "50%", "99.6%", "100%",
    ]  # fmt: skip
    assert words.percent(0.9996) == "99.96%"


def test_p_values_are_written_as_people_write_them():
    shown = [p_text(p) for p in (1.0, 0.0499, 0.00312, 0.0003, 0.00001)]
    assert shown == ["p = 1", "p = 0.0499", "p = 0.00312", "p = 0.0003", "p < 0.0001"]


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("evidence supported to 0.42 < 0.80", "0.42"),
        ("a wording of 3cfb, which was left out: same prompt and answer as 77aa", "77aa와 같음"),
        ("near copy of '연차는?': similarity 0.912, limit 0.85", "'연차는?'을"),
        ("question: 3 characters, allowed 5 to 300; answer: 0 characters, allowed 1 to 9", "1~9자"),
        ("question like that of its sibling 77aa; similarity 0.970, limit 0.95", "0.970"),
        ("more than the … asked for", "…개"),
    ],
)
def test_a_stored_reason_is_said_in_korean_with_its_figures(stored, shown):
    korean = Words("ko").reason(stored)
    assert shown in korean
    assert not re.search(r"\b(of|than|the|which|question|answer)\b", korean)
    assert Words("en").reason(stored) == stored


def test_a_reason_without_a_translation_stays_as_it_is():
    assert Words("ko").reason("the sky {fell}; twice") == "the sky {fell}; twice"


def test_every_field_of_a_translated_reason_is_in_its_pattern():
    for pattern, korean in reasons():
        assert set(re.findall(r"(?<!{){(\w+)}", korean)) <= set(pattern.groupindex)


REASONS = {"drop", "eliminated_by", "UnreadableError", "ReplyError", "RetryAfter", "ChatError"}
"""Calls whose texts are stored as reasons or remedies."""
SAMPLES = {"name": "question"}
NOT_STORED = ("the vLLM server ",)
"""Beginnings of texts that end a run."""


COUNTING = {"counted": counted, "all_counted": all_counted, "counted_of": counted_of}


def written_field(node):
    """An example value of a field; a noun after its number is in the plural."""
    name = getattr(getattr(node, "func", None), "id", "")
    if name in COUNTING:
        words = [part.value for part in node.args[1:] if isinstance(part, ast.Constant)]
        numbers = (12, 12) if name == "counted_of" else (12,)
        return COUNTING[name](*numbers, *words)
    return SAMPLES.get(ast.unparse(node), "12")


def written_text(node):
    """A string of the source with something in place of each {field}; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            value.value if isinstance(value, ast.Constant) else written_field(value.value)
            for value in node.values
        )
    return None


def stored_reasons(source):
    """Texts in calls of `REASONS`, and what a variable `reason` or `REMEDY` is set to."""
    for node in ast.walk(ast.parse(source)):
        values = []
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in REASONS:
            values = [*node.args, *(keyword.value for keyword in node.keywords)]
        elif isinstance(node, ast.Assign):
            named = {getattr(target, "id", "") for target in node.targets}
            values = [node.value] if named & {"reason", "REMEDY"} else []
        for value in values:
            for part in (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,):
                text = written_text(part)
                if text and re.search("[a-z] [a-z]", text) and not text.startswith(NOT_STORED):
                    yield text


@pytest.mark.parametrize("room", ["documents", "examples", "llm"])
def test_every_reason_that_a_stage_stores_is_said_in_korean(room):
    texts = {t for p in (SOURCE / room).rglob("*.py") for t in stored_reasons(p.read_text("utf-8"))}
    assert texts
    texts = {text.replace("as question", "as the answer") for text in texts}
    korean = {text: Words("ko").reason(text) for text in texts}
    assert [t for t, said in korean.items() if not re.search("[가-힣]", said)] == []
    assert list(stored_reasons('drop("rule", f"it has {n} moons")')) == ["it has 12 moons"]


def test_a_failed_call_is_said_in_korean_with_what_the_server_said():
    said = Words("ko").reason(
        "unanswered: http://a/v1 did not answer for model 'm' after 6 tries: HTTP 503: busy. "
        "Run again later; finished calls are kept."
    )
    assert "모델 'm'의 답을 주지 않음: HTTP 503: busy. 나중에 다시 실행하십시오." in said
    assert said.startswith("답 없음: http://a/v1")


def logged_lines(source):
    """The texts that a stage writes into the log of a run, fields filled in."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("message", "notify"):
            first = node.args[0] if node.args else None
            for part in (first.body, first.orelse) if isinstance(first, ast.IfExp) else (first,):
                text = written_text(part)
                if text and re.search("[a-z] [a-z]", text):
                    yield text


COMPOSED_LINES = {
    "12: OCR is not sure of 12, 12 (12); see: jangin doubtful",
    "curate: 12 left out, such as 12 of 12: 12, 12. `jangin show dropped` lists what is left out.",
    "paraphrase: 12 12 in 12, such as 12",
    "waiting for 12 12 in flight; Ctrl-C again to drop them",
    "dpo: 12; `too_long: drop` removed them.",
    "12. They are dropped.",
    "trained for 12: 12.",
    "12: 12 rows are longer than 12 tokens (12); `too_long: 12` removed 12 tokens.",
    "waiting for 12 more machine12: run `jangin worker 12` on each",
    "the questions ask for 12 of the 12 facts (sentences and cells of tables) of the chunks. For "
    "more, raise 1212",
}
"""Lines whose fields hold words; the next test has them whole."""
ROOMS_OF_LOGS = [
    "documents",
    "examples",
    "llm",
    "models",
    "inference",
    "training",
    "evaluation",
    "project",
]


@pytest.mark.parametrize("room", ROOMS_OF_LOGS)
def test_every_line_of_the_log_of_a_run_is_said_in_korean(room):
    paths = (SOURCE / room).rglob("*.py")
    lines = {line for path in paths for line in logged_lines(path.read_text("utf-8"))}
    korean = {line: Words("ko").reason(line) for line in lines - COMPOSED_LINES}
    assert [line for line, said in korean.items() if not re.search("[가-힣]", said)] == []
    assert list(logged_lines('x.message(f"it has {n} moons")')) == ["it has 12 moons"]


@pytest.mark.parametrize(
    "line",
    [
        "여비규정.pdf: OCR is not sure of 4 lines, set aside (pages 1, 2, 5); see: jangin doubtful",
        "a.pdf: OCR is not sure of 1 line, kept in the text (page 1); see: jangin doubtful",
        "curate: 1 row that you saved is left out, such as '연차?' of additions.jsonl: evidence, "
        "evidence supported to 0.42 < 0.80. `jangin show dropped` lists what is left out.",
        "paraphrase: 3 questions have no paraphrases in a.jsonl, such as '연차?'",
        "waiting for 2 calls in flight; Ctrl-C again to drop them",
        "dpo: 1 of 9 pairs, with 900 tokens, are longer than 512 tokens (max_length); "
        "`too_long: drop` removed them.",
        "training for 256 steps of 8 rows = 10.24 epochs of 200 rows.",
        "training for 2 steps of 8 rows = 0.1 epochs of 200 rows: less than one epoch, so 184 rows "
        "are not trained on. Raise `length` to train on them.",
        "train: 3 rows are longer than 512 tokens (length); `too_long: drop` removed 99 tokens.",
        "the questions ask for 25% of the 315 facts (sentences and cells of tables) of the chunks. "
        "For more, raise synthesize.pairs_per_chunk",
        "evaluate: the only question of test is too few for any significant difference (the exact "
        "McNemar test needs 6 that only one system has right).",
        "read: 3 rows of a.csv gave no example, most often because it has no answer (line 3). "
        "List them with: jangin show unread, with the same --project",
        "read: 1 row of a.csv gave no example, because it has no answer (line 3). See it with: "
        "jangin show unread, with the same --project",
        "evaluate: with 40 questions of test, differences from 15 points can be significant.",
        "`compile: auto`: layers run compiled: a step takes 0.51 s eagerly and 0.37 s compiled; "
        "38.2 s of compiling pay after 1,273 steps.",
        "`compile: auto`: layers run eagerly: measured on this device before: a step takes 0.51 s "
        "eagerly and 0.37 s compiled; 38 s of compiling pay after 273 steps, and 99 are left.",
        "`compile: auto`: layers run eagerly: torch.compile failed with InvalidCxxCompiler: No "
        "working C++ compiler found.",
        "`compile: auto`: layers run eagerly: the 43 s that are left do not pay for compiling.",
        "Step 3/20: training loss=2.41, validation loss=2.60",
        "Validating training file: file-1 and validation file: file-2",
        "Warning: the validation file is small",
    ],
)
def test_a_whole_line_has_no_english_sentence_left(line):
    said = Words("ko").reason(line)
    assert said != line
    english = re.search(r"\b(of|than|the|are|which|loss|pages)\b", said.partition(":")[2])
    assert english is None or line.startswith("Warning")


def test_every_event_of_a_job_is_said_in_korean():
    from jangin.serving.jobs import events

    known = [v for name, v in vars(events).items() if name.isupper() and isinstance(v, str)]
    lines = [line for line in known if " " in line]
    assert len(lines) > 8
    korean = [Words("ko").reason(line.format("12", "34")) for line in lines]
    assert [said for said in korean if not re.search("[가-힣]", said)] == []


@pytest.mark.parametrize(
    "text",
    [
        "evaluate: with 1 question of seen, differences from 9 points can be significant.",
        "select: 1 question is too few to tune on some and judge by others, so the project's text "
        "decides.",
    ],
)
def test_one_is_said_in_korean_as_well_as_many(text):
    assert re.search("[가-힣]", Words("ko").reason(text))


@pytest.mark.parametrize(
    ("key", "values", "said"),
    [
        ("start_files", {"count": 1}, "1 document"),
        ("start_files", {"count": 12}, "12 documents"),
        ("too_few", {"n": 1}, "1 question is too few for a conclusion."),
        ("data_doubtful_count", {"count": 1}, "1 doubtful line"),
        ("start_replies_count", {"name": "a", "count": 1}, "a (1 reply)"),
        ("start_replies_count", {"name": "1", "count": 2}, "1 (2 replies)"),
    ],
)
def test_a_single_thing_is_not_counted_in_the_plural(key, values, said):
    assert Words("en")(key, **values) == said


SAID_IN_KOREAN = (
    *("cli.backup", "cli.keys", "cli.serve", "project.release.run_record", "training.export"),
    *("serving.operations.backup", "serving.operations.restore", "serving.operations.check"),
    *("serving.operations.health", "serving.state.database", "serving.state.installation"),
    *("serving.state.lock", "serving.state.schema", "serving.files.check_process"),
    *("serving.files.multipart", "serving.files.purposes", "serving.jobs.export"),
    *("serving.models", "serving.pages"),
)
"""Beginnings of the names of modules whose messages people read in a terminal or on a page."""


def test_messages_of_servers_and_exports_are_said_in_korean():
    page = (SOURCE.parents[1] / "tests/system/messages.md").read_text("utf-8")
    sections = re.split(r"^### jangin\.", page.replace("\\", ""), flags=re.MULTILINE)[1:]
    english = [
        line
        for section in sections
        if section.startswith(SAID_IN_KOREAN)
        for line in re.findall(r"^\* (.+ .+)", section, re.MULTILINE)
        if not re.search("[가-힣]", Words("ko").reason(filled(line)))
    ]
    assert english == []


def filled(message):
    """A message of the page with a word in each of its fields."""
    known = {"{SUPPORTED}": SUPPORTED, "{...}": "B has no snapshot A"}
    return re.sub(r"\{(?!type: )[^}]*\}", lambda field: known.get(field[0], "X1"), message)


@pytest.mark.parametrize(
    ("line", "korean"),
    [
        (
            "  b.md: it has the same bytes as a.md, which is read. Nothing is missing.",
            "  b.md: 이미 읽는 a.md와 내용이 똑같습니다. 빠진 내용은 없습니다.",
        ),
        (
            "  old.pdf: it is replaced (load.replaces) by new.pdf. Nothing is to do.",
            "  old.pdf: new.pdf로 바뀐 옛 파일입니다(load.replaces). 할 일이 없습니다.",
        ),
    ],
)
def test_a_file_that_is_left_out_on_purpose_is_one_korean_line(line, korean):
    assert Words("ko").reason(line) == korean
