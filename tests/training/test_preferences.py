import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import ValidationError

from jangin.core.digest import digest_file
from jangin.core.errors import DataError, StageError, TrainingError
from jangin.core.events import Progress
from jangin.core.ledger import Ledger
from jangin.core.parquet import read_table, write_table
from jangin.core.records import (
    Choice,
    Dropped,
    DroppedPair,
    Example,
    Message,
    PreferencePair,
    SplitExample,
)
from jangin.core.stage import Services, StageContext
from jangin.examples.curation.contradictions import Conflict, ConflictSide
from jangin.models.starter import make_starter
from jangin.training.loop.config import Steps
from jangin.training.preferences import (
    STAGE,
    OtherAnswers,
    PreferencesConfig,
    Sampling,
    select_examples,
)
from jangin.training.preflight.preference_pairs import PairThresholds, find_pair_issue
from jangin.training.sft import STAGE as SFT
from jangin.training.sft import SftConfig
from tests.conftest import make_artifact
from tests.llm.engines.stand_in import make_python

TOPICS = ("연차휴가", "병가", "출장비", "재택근무", "경조금", "퇴직금", "야근수당", "건강검진")
OTHER = {"type": "other_answers"}


def user(text):
    return (Message(role="user", content=text),)


def answer(text):
    return Message(role="assistant", content=text)


def example(question, text, **fields):
    return Example.make(
        user(question), answer(text), **{"kind": "original", "page": 3, "section": "총칙", **fields}
    )


def rows():
    """8 trained questions with a trained paraphrase each, and one unseen question."""
    table = []
    for number, topic in enumerate(TOPICS):
        text = f"{topic}{'은 총무팀에' * (number % 3)} {10 + 3 * number}일 안에 냅니다."
        original = example(f"{topic} 담당 부서는 어디입니까?", text)
        other = {"kind": "paraphrase", "family": original.id}
        table.append(SplitExample(example=original, split="train"))
        question = example(f"누구한테 {topic} 이야기를 하나요", text, **other)
        table.append(SplitExample(example=question, split="train"))
    unseen = example("주차권은 누가 줍니까?", "관리실이 줍니다.", chunk_ids=("c9",))
    table.append(SplitExample(example=unseen, split="unseen_sections"))
    return table


def no_chat(name):
    raise AssertionError(f"preferences requested the chat model {name}")


@pytest.fixture
def context_of(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")

    def make(name="workspace", table=None, choices=None, inputs=None, progress=None, **config):
        folder = tmp_path / "tables"
        folder.mkdir(exist_ok=True)
        (tmp_path / name).mkdir(exist_ok=True)
        write_table(folder / "splits.parquet", SplitExample, table or rows())
        artifacts = {"splits": make_artifact(folder), **(inputs or {})}
        if choices is not None:
            write_table(folder / "choices.parquet", Choice, choices)
            artifacts["choices"] = make_artifact(folder)
        services = Services(tmp_path, no_chat, ledger, progress or Progress())
        settings = PreferencesConfig.model_validate({"sources": (OTHER,), **config})
        return StageContext(settings, artifacts, tmp_path / name, services)

    yield make
    ledger.close()


def pairs_of(context):
    return read_table(context.workspace / "pairs.parquet", PreferencePair)


def dropped_of(context):
    return read_table(context.workspace / "dropped_pairs.parquet", DroppedPair)


def test_another_questions_answer_of_about_the_same_length_is_rejected(context_of):
    context = context_of()
    STAGE.run(context)
    examples = {row.example.id: row.example for row in rows()}
    families = {row.example.answer: row.example.family for row in rows()}
    pairs = pairs_of(context)
    assert len(pairs) == 16
    for pair in pairs:
        assert pair.chosen == examples[pair.example_id].completion
        assert pair.prompt == examples[pair.example_id].prompt
        assert families[pair.rejected.content] != pair.family
        assert (pair.origin, pair.page, pair.section) == ("other_answer", 3, "총칙")
        assert {score.scorer for score in pair.scores} == {"exact_match", "character_f1"}
        assert all(score.value < 1 for score in pair.scores)
    assert context.summary["by_origin"] == {"other_answer": 16}
    assert context.summary["families"] == context.summary["train_families"] == 8


def test_the_nearest_lengths_are_taken_from_a_large_pool(context_of):
    table = [
        SplitExample(example=example(f"{n}번 질문입니까?", "가나다라마바사" * n), split="train")
        for n in range(1, 60)
    ]
    context = context_of(table=table)
    STAGE.run(context)
    for pair in pairs_of(context):
        chosen, rejected = len(pair.chosen.content), len(pair.rejected.content)
        assert abs(chosen - rejected) <= 7 * 12


def test_a_held_out_question_makes_no_pair(context_of):
    context = context_of()
    STAGE.run(context)
    texts = {m.content for p in pairs_of(context) for m in (*p.prompt, p.chosen, p.rejected)}
    assert not texts & {"주차권은 누가 줍니까?", "관리실이 줍니다."}


def test_the_seed_decides_pairs_and_the_same_seed_gives_the_same_bytes(context_of):
    digests = []
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        context = context_of(name, seed=seed)
        STAGE.run(context)
        digests.append(digest_file(context.workspace / "pairs.parquet"))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(("share", "families"), [(1.0, 8), (0.5, 4), (0.0, 0)])
def test_overlap_with_sft_is_a_share_of_families_and_never_tears_one_apart(share, families):
    train = [row.example for row in rows() if row.split == "train"]
    config = PreferencesConfig(overlap_with_sft=share)
    taken = select_examples(train, config)
    assert len({example.family for example in taken}) == families
    assert len(taken) == 2 * families
    assert taken == select_examples(train, config)


def test_distractors_are_rejected_but_never_those_of_held_out_questions(context_of):
    family = rows()[0].example.family
    right = Choice.make(
        user("연차는 누구에게 냅니까?"), "총무팀", ("인사팀", "재무팀"), family=family, page=7
    )
    held_out = [
        Choice.make(user("주차권은 누가 줍니까?"), "관리실", ("총무팀",)),
        Choice.make(user("주차권을 주는 곳은?"), "관리실", ("총무팀",), chunk_ids=("c9",)),
        Choice.make(user("주차?"), "관리실", ("팀",), family=rows()[-1].example.family),
    ]
    new = Choice.make(user("새로 난 규정은 몇 조입니까?"), "제7조", ("제8조", "제7조."))
    sources = ({"type": "distractors", "per_question": 2},)
    context = context_of(choices=[right, *held_out, new], sources=sources)
    STAGE.run(context)
    rejected = {(p.example_id, p.rejected.content) for p in pairs_of(context)}
    assert rejected == {(right.id, "인사팀"), (right.id, "재무팀"), (new.id, "제8조")}
    pair = next(p for p in pairs_of(context) if p.example_id == right.id)
    assert (pair.origin, pair.family, pair.page) == ("distractor", family, 7)
    (dropped,) = dropped_of(context)
    assert (dropped.rule, dropped.pair.rejected.content) == ("identical", "제7조.")
    none = context_of("none", choices=[right, new], sources=sources, overlap_with_sft=0)
    STAGE.run(none)
    assert {pair.example_id for pair in pairs_of(none)} == {new.id}


def test_distractors_of_a_chunk_that_is_taught_are_used_beside_held_out_paraphrases(context_of):
    taught = example("가?", "나", chunk_ids=("c1",))
    other = example("가는 무엇?", "나", chunk_ids=("c1",), kind="paraphrase", family=taught.id)
    choices = [
        Choice.make(user("가?"), "나", ("다",), family=taught.id, chunk_ids=("c1",)),
        Choice.make(user("새 질문?"), "라", ("마",), chunk_ids=("c1",)),
        Choice.make(user("가는  무엇"), "나", ("다",), chunk_ids=("c1",)),
        Choice.make(user("주차?"), "관리실", ("총무팀",), chunk_ids=("c9",)),
    ]
    table = [
        *rows(),
        SplitExample(example=taught, split="train"),
        SplitExample(example=other, split="held_out_paraphrases"),
    ]
    context = context_of(choices=choices, table=table, sources=({"type": "distractors"},))
    STAGE.run(context)
    assert {pair.example_id for pair in pairs_of(context)} == {c.id for c in choices[:2]}
    assert STAGE.machine(context.config) == {"distractors": "3"}
    assert STAGE.machine(PreferencesConfig()) == {}


def test_nothing_that_documents_disagree_about_or_people_rejected_becomes_a_pair(
    context_of, tmp_path
):
    def choice(question, text, document, **fields):
        return Choice.make(
            user(question), text, ("99일",), document_id=document, source=document, **fields
        )

    def side(document, text, name):
        return ConflictSide(
            document=document, source=document, page=1, section="", evidence="", example=name,
            question="일반휴학은 통산 몇 년까지 되나요?", answer=text, family=name,
        )  # fmt: skip

    twin, rejected = example("병가는 며칠?", "5일"), example("휴가비는 얼마?", "3만 원")
    disputed = [
        choice("일반휴학은 통산 몇 년까지 가능한가요?", "3년", "new.docx"),
        choice("기숙사 통금은 몇 시인가요?", "23시", "new.docx"),
        choice("기숙사 통금은 몇 시인가요?", "1시", "old.docx"),
        choice("휴가비는 얼마?", "3만 원", "new.docx", family=rejected.id),
    ]
    sound = [
        choice("육아휴학은 몇 년까지 되나요?", "2년", "new.docx"),
        choice("육아휴학은 몇 년까지 되나요?", "2년", "old.docx"),
        choice("병가는 며칠?", "5일", "new.docx", family=twin.id),
    ]
    folder = tmp_path / "curated"
    folder.mkdir()
    sides = (side("new.docx", "3년", "n"), side("old.docx", "2년", "o"))
    conflict = Conflict(id="c", difference="amount", sides=sides)
    write_table(folder / "conflicts.parquet", Conflict, [conflict])
    dropped = Dropped(example=twin, rule="near_duplicate", reason="")
    write_table(folder / "dropped.parquet", Dropped, [dropped])
    context = context_of(
        choices=[*disputed, *sound],
        sources=({"type": "distractors"},),
        inputs={"examples": make_artifact(folder)},
    )
    STAGE.run(context)
    assert {pair.example_id for pair in pairs_of(context)} == {each.id for each in sound}
    assert context.summary["doubtful_choices"] == len(disputed)
    assert "examples" not in STAGE.inputs(PreferencesConfig())


def test_pairs_of_a_file_are_used_but_never_those_of_held_out_questions(context_of, tmp_path):
    lines = [
        {"prompt": "연차는 며칠?", "chosen": "15일", "rejected": "모릅니다", "id": "x"},
        {"prompt": "주차권은  누가 줍니까", "chosen": "관리실", "rejected": "총무팀"},
        {"prompt": "", "chosen": "a", "rejected": "b"},
        {"prompt": "둘?", "chosen": "같다", "rejected": "같다."},
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    context = context_of(sources=({"type": "file", "path": str(file)},))
    STAGE.run(context)
    (pair,) = pairs_of(context)
    assert (pair.chosen.content, pair.rejected.content) == ("15일", "모릅니다")
    assert (pair.origin, pair.source) == ("file", "pairs.jsonl")
    assert [row.rule for row in dropped_of(context)] == ["held_out", "identical"]
    unusable, columns = context.services.progress.messages
    assert "line 3" in unusable
    assert columns.endswith(": id.")
    assert list(STAGE.sources(context.config, tmp_path).values()) == [file]


def test_pairs_of_a_validation_file_are_kept_apart(context_of, tmp_path):
    files = []
    for number, split in enumerate(("train", "validation")):
        line = {"prompt": f"{number}?", "chosen": f"답 {number}", "rejected": "아니요"}
        path = tmp_path / f"{split}.jsonl"
        path.write_text(json.dumps(line) + "\n")
        files.append({"type": "file", "path": str(path), "split": split})
    context = context_of(sources=files)
    STAGE.run(context)
    assert [pair.chosen.content for pair in pairs_of(context)] == ["답 0"]
    (held_out,) = read_table(context.workspace / "validation_pairs.parquet", PreferencePair)
    assert held_out.chosen.content == "답 1"
    assert context.summary["validation_pairs"] == 1
    before = PreferencesConfig(sources=({"type": "file", "path": "a.jsonl"},)).identity()
    assert "split" not in before["sources"][0]


def test_a_file_without_pairs_is_refused(context_of, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "a", "completion": "b", "label": true}\n')
    context = context_of(sources=({"type": "file", "path": str(file)},))
    with pytest.raises(DataError, match=r"rows\.jsonl .*line 1: there is no bad answer"):
        STAGE.run(context)
    missing = PreferencesConfig(sources=({"type": "file", "path": "none.jsonl"},))
    with pytest.raises(DataError, match=r"^preferences.sources: .*none\.jsonl is not a file"):
        STAGE.sources(missing, tmp_path)


def test_missing_choices_cause_a_message_and_no_pair_at_all_is_an_error(context_of):
    context = context_of(sources=({"type": "distractors"},))
    with pytest.raises(
        StageError, match=r"16 training examples.* distractors .*none.*`other_answers`"
    ):
        STAGE.run(context)
    (line,) = context.services.progress.messages
    assert "`distractors`" in line


# Faults of pairs.


def fault_of(chosen, rejected, prompt="연차휴가는 언제 신청합니까?", **limits):
    pair = PreferencePair.make(
        user(prompt), answer(chosen), answer(rejected),
        origin="sampling", family="f", example_id="e",
    )  # fmt: skip
    fault = find_pair_issue(pair, PairThresholds(**limits))
    return fault and fault.rule


@pytest.mark.parametrize(
    ("chosen", "rejected", "limits", "rule"),
    [
        ("15일", " \n", {}, "empty"),
        ("", "15일", {}, "empty"),
        ("15일입니다.", "15일 입니다", {}, "identical"),
        ("제7조", "제7조.", {}, "identical"),
        ("?!", "?!", {}, "identical"),
        ("?!", "!?", {}, None),
        ("15일", "연차휴가는 언제 신청합니까? 15일", {}, "prompt_leak"),
        ("15일", "연차 휴가는 언제 신청합니까?", {}, "prompt_leak"),
        ("가" * 10, "나" * 101, {"length_ratio": 10}, "length_ratio"),
        ("가" * 10, "나" * 100, {"length_ratio": 10}, None),
        ("가" * 95 + "나" * 5, "가" * 100, {"too_similar": 0.95}, "too_similar"),
        ("가" * 94 + "나" * 6, "가" * 100, {"too_similar": 0.95}, None),
        ("15일", "16일", {"too_similar": 0.95, "length_ratio": 10}, None),
    ],
)
def test_faults_of_pairs(chosen, rejected, limits, rule):
    assert fault_of(chosen, rejected, **limits) == rule


def test_a_short_question_may_occur_in_an_answer():
    assert fault_of("연차? 15일", "병가? 3일", prompt="연차?") is None


# The tuned model's own answers.


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A starter that has learned some of the answers: artifacts `base` and `model`."""
    folder = tmp_path_factory.mktemp("tuned")
    texts = [text for row in rows() for text in (row.example.question, row.example.answer)]
    make_starter(
        folder / "base" / "model", texts,
        size="0.5M", vocabulary_size=400, context_length=128, seed=0,
    )  # fmt: skip
    (folder / "splits").mkdir()
    (folder / "model").mkdir()
    write_table(folder / "splits" / "splits.parquet", SplitExample, rows())
    inputs = {"base": make_artifact(folder / "base"), "splits": make_artifact(folder / "splits")}
    ledger = Ledger(folder / "ledger.sqlite")
    config = SftConfig(
        length=Steps(type="steps", steps=45), learning_rate=3e-3, precision="fp32", threads=1
    )
    services = Services(folder, no_chat, ledger, Progress())
    SFT.run(StageContext(config, inputs, folder / "model", services))
    ledger.close()
    return {"base": inputs["base"], "model": make_artifact(folder / "model")}


SAMPLING = {"type": "sampling", "temperature": 1.0, "batch_size": 5, "max_new_tokens": 40}


@pytest.mark.slow
def test_own_answers_are_rejected_unless_they_are_as_good_or_never_ended(context_of, tuned):
    context = context_of(inputs=tuned, sources=(SAMPLING,))
    STAGE.run(context)
    pairs, dropped = pairs_of(context), dropped_of(context)
    assert {pair.origin for pair in pairs} == {"sampling"}
    assert len(pairs) + len(dropped) == 16
    for pair in pairs:
        exact, f1 = (score.value for score in pair.scores)
        assert exact == 0
        assert f1 < 0.9
    rules = {row.rule for row in dropped}
    assert "as_good" in rules
    assert rules <= {"as_good", "unfinished", "too_similar", "identical"}
    for row in dropped:
        if row.rule == "as_good":
            assert row.pair.scores[0].value == 1 or row.pair.scores[1].value >= 0.9
    assert sum(context.summary["dropped"].values()) == len(dropped)


class Dying(Progress):
    """A progress in which the machine dies after some batches."""

    def __init__(self, batches):
        super().__init__()
        self.left = batches

    def advance(self, bar, steps=1, note=""):
        self.left -= steps
        if not self.left:
            raise RuntimeError("the machine went away")


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_pairs(context_of, tuned):
    settings = {"inputs": tuned, "sources": (SAMPLING, OTHER)}
    whole = context_of("whole", **settings)
    STAGE.run(whole)
    with pytest.raises(RuntimeError, match="went away"):
        STAGE.run(context_of("cut", progress=Dying(2), **settings))
    again = context_of("cut", **settings)
    assert len((again.workspace / "journal" / "samples.jsonl").read_text().splitlines()) == 10
    STAGE.run(again)
    for table in ("pairs", "dropped_pairs"):
        paths = [context.workspace / f"{table}.parquet" for context in (whole, again)]
        assert digest_file(paths[0]) == digest_file(paths[1])


@pytest.fixture
def endpoint():
    """A server that has thought about each question: (its URL, the questions it was asked)."""
    questions = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            questions.append(body["messages"][-1]["content"])
            message = {
                "content": f"<think>{body['model']}</think>아무도 모릅니다 {len(questions)}."
            }
            reply = {"choices": [{"message": message, "finish_reason": "stop"}]}
            data = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", questions
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_an_endpoint_answers_in_the_stead_of_this_process_and_its_thoughts_are_no_answer(
    context_of, tuned, endpoint
):
    url, questions = endpoint
    engine = {"type": "endpoint", "base_url": url, "models": {"tuned": "mine"}}
    settings = {"inputs": tuned, "sources": ({**SAMPLING, "engine": engine},)}
    context = context_of(**settings)
    STAGE.run(context)
    assert sorted(questions) == sorted(
        row.example.question for row in rows() if row.split == "train"
    )
    rejected = [pair.rejected.content for pair in pairs_of(context)]
    assert rejected
    assert all(text.startswith("아무도") for text in rejected)
    table = rows()
    control = example("<|end|> 다음은 누구입니까?", "총무팀입니다.")
    table.append(SplitExample(example=control, split="train"))
    with pytest.raises(TrainingError, match=rf"{control.id}: .*<\|end\|>"):
        STAGE.run(
            context_of("other", table, inputs=tuned, sources=({**SAMPLING, "engine": engine},))
        )


@pytest.mark.slow
def test_a_model_that_was_trained_again_is_sampled_again(context_of, tuned, endpoint):
    url, questions = endpoint
    engine = {"type": "endpoint", "base_url": url, "models": {"tuned": "mine"}}
    counts = []
    for number, content in enumerate(("1" * 64, "1" * 64, "2" * 64)):
        inputs = {**tuned, "model": make_artifact(tuned["model"].path, content=content)}
        sources = ({**SAMPLING, "engine": engine},)
        STAGE.run(context_of(f"run {number}", rows()[:4], inputs=inputs, sources=sources))
        counts.append(len(questions))
    assert counts == [counts[0], counts[0], 2 * counts[0]]


@pytest.mark.slow
def test_an_engine_is_started_on_the_tuned_model(context_of, tuned, tmp_path):
    (tmp_path / "venv").mkdir()
    arguments = ("--stand-in-says", "아무도 모릅니다.")
    engine = {"type": "vllm", "python": make_python(tmp_path / "venv"), "arguments": arguments}
    context = context_of(inputs=tuned, sources=({**SAMPLING, "engine": engine},))
    STAGE.run(context)
    assert {pair.rejected.content for pair in pairs_of(context)} == {"아무도 모릅니다."}
    (log,) = (tmp_path / "engines").glob("tuned-*.log")
    assert log.read_text().startswith(f"loading {tuned['model'].path / 'model'}\n")


@pytest.mark.slow
def test_another_seed_draws_other_answers(context_of, tuned):
    texts = []
    for seed in (0, 1):
        context = context_of(f"seed {seed}", inputs=tuned, sources=(SAMPLING,), seed=seed)
        STAGE.run(context)
        candidates = [*pairs_of(context), *(row.pair for row in dropped_of(context))]
        texts.append(sorted((pair.example_id, pair.rejected.content) for pair in candidates))
    assert texts[0] != texts[1]


def test_a_source_can_be_named_only_once():
    with pytest.raises(ValidationError, match="`other_answers`"):
        PreferencesConfig(sources=(OtherAnswers(type="other_answers"),) * 2)


def test_what_is_drawn_bears_identity():
    assert PreferencesConfig(seed=1).identity() != PreferencesConfig().identity()
    sampling = Sampling(type="sampling", temperature=0.1)
    assert PreferencesConfig(sources=(sampling,)).identity() != PreferencesConfig().identity()


def test_the_plan_shows_whether_a_model_is_needed(context_of):
    assert STAGE.cost(context_of()).text == "pairs of 16 examples, no model needed"
    asking = context_of(sources=(SAMPLING,))
    assert STAGE.cost(asking).text == "16 answers generated by the tuned model"
