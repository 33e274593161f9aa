import json

import pytest

from jangin.core.model_protocols import FakeChat
from jangin.core.parquet import read_table
from jangin.core.records import Choice, Chunk, Document, Example, PreferencePair, SplitExample
from jangin.examples.split import STAGE as SPLIT
from jangin.examples.split import SplitConfig
from jangin.examples.synthesize import SynthesizeConfig, synthesize
from jangin.llm.replies import Failed
from jangin.training.preferences import STAGE as PREFERENCES
from jangin.training.preferences import PreferencesConfig

TEXTS = (
    "제12조(연차휴가) 연차휴가는 15일이다. 휴가는 인사팀에 신청한다.",
    "제13조(병가) 병가는 60일까지 쓸 수 있다. 진단서는 의무실에 낸다.",
    "제14조(출장비) 출장비는 7일 안에 청구한다. 영수증은 회계팀에 낸다.",
)
ITEMS = (
    ("연차휴가는 며칠인가?", "15일", ["20일", "25일", "10일"], "연차휴가는 15일이다"),
    ("병가는 며칠까지 쓸 수 있나?", "60일", ["90일", "30일", "45일"], "병가는 60일까지"),
    ("출장비는 며칠 안에 청구하나?", "7일", ["14일", "21일", "3일"], "출장비는 7일 안에 청구"),
)


def item(question, answer, distractors, evidence):
    return {
        "question": question,
        "answer": answer,
        "distractors": distractors,
        "evidence": evidence,
    }


def items(*found):
    return json.dumps({"items": [item(*row) for row in found]}, ensure_ascii=False)


def teach(request):
    text = request.messages[1].content
    return items(next(row for row in ITEMS if row[3] in text))


@pytest.fixture
def context(make_context, make_chunk, make_document):
    def make(answer=teach, texts=TEXTS, before=(), **mode):
        chunks = [make_chunk(number, text) for number, text in enumerate(texts, start=1)]
        tables = {
            "documents": (Document, [make_document("\n".join(texts))]),
            "chunks": (Chunk, chunks),
        }
        modes = (*before, {"type": "multiple_choice", **mode})
        return make_context(SynthesizeConfig(teacher="t", modes=modes), tables, FakeChat(answer))

    return make


def run(context):
    synthesize(context)
    tables = (("choices", Choice), ("examples", Example), ("failed", Failed))
    return [read_table(context.workspace / f"{name}.parquet", kind) for name, kind in tables]


def test_every_question_is_a_choice_and_an_example_of_one_family(context):
    choices, examples, failed = run(context())
    assert [choice.answer for choice in choices] == ["15일", "60일", "7일"]
    assert [choice.distractors for choice in choices] == [tuple(row[2]) for row in ITEMS]
    assert [choice.family for choice in choices] == [example.id for example in examples]
    assert choices[1].prompt == examples[1].prompt
    assert (choices[1].chunk_ids, choices[1].section, choices[1].teacher) == (
        ("c2",),
        "제2조",
        "fake",
    )
    assert examples[0].template.startswith("choices/ko@")
    assert failed == []


def test_without_examples_a_choice_is_its_own_family(context):
    choices, examples, _ = run(context(also_examples=False))
    assert examples == []
    assert all(choice.family == choice.id for choice in choices)


def test_distractors_that_fail_are_named_and_the_others_stay(context):
    def answer(_request):
        return items(
            (
                "연차휴가는?",
                "15일",
                ["15 일", "20일", "이십일", "20 일", "25일", "30일"],
                "15일이다",
            )
        )

    (choice,), _, failed = run(context(answer, texts=TEXTS[:1], distractors=2))
    assert choice.distractors == ("20일", "25일")
    assert [(row.reply, row.rule) for row in failed] == [
        ("15 일", "distractor_same"),
        ("이십일", "distractor_form"),
        ("20 일", "distractor_same"),
        ("30일", "distractor_too_many"),
    ]


def test_a_question_without_any_wrong_answer_stays_an_example_only(context):
    def answer(_request):
        return items(("연차휴가는?", "15일", ["15일"], "15일이다"))

    choices, examples, failed = run(context(answer, texts=TEXTS[:1]))
    assert (choices, len(examples)) == ([], 1)
    assert [row.rule for row in failed] == ["distractor_same", "no_distractors"]


def test_wrong_answers_to_a_known_question_join_its_family(context):
    def answer(request):
        if "객관식" in request.messages[0].content:
            return items(
                ("연차휴가는 며칠인가요?", "15일", ["20일"], "15일이다"),
                ("연차휴가는 며칠인가?", "15일", ["25일"], "15일이다"),
            )
        pair = {"question": "연차휴가는 며칠인가?", "answer": "15일", "evidence": "15일이다"}
        return json.dumps({"pairs": [pair]}, ensure_ascii=False)

    before = ({"type": "question_answer"},)
    choices, (example,), failed = run(context(answer, texts=TEXTS[:1], before=before))
    assert [choice.family for choice in choices] == [example.id]
    assert [row.rule for row in failed] == ["repeated"]


def test_from_the_teacher_to_preference_pairs_held_out_choices_are_left_out(
    context, make_context, make_chunk
):
    opened = context()
    choices, examples, _ = run(opened)
    chunks = [make_chunk(number, text) for number, text in enumerate(TEXTS, start=1)]
    split = make_context(
        SplitConfig(unseen_sections=0.34, validation=0, held_out_paraphrases=0),
        {"examples": (Example, examples), "chunks": (Chunk, chunks)},
    )
    SPLIT.run(split)
    rows = read_table(split.workspace / "splits.parquet", SplitExample)
    train = {row.example.id for row in rows if row.split == "train"}
    assert 0 < len(train) < len(examples)
    preferences = make_context(
        PreferencesConfig(sources=({"type": "distractors", "per_question": 2},)),
        {"splits": (SplitExample, rows), "choices": (Choice, choices)},
    )
    PREFERENCES.run(preferences)
    pairs = read_table(preferences.workspace / "pairs.parquet", PreferencePair)
    assert {pair.family for pair in pairs} == train
    assert len(pairs) == 2 * len(train)
    wrong = {choice.family: choice.distractors for choice in choices}
    right = {example.id: example.answer for example in examples}
    for pair in pairs:
        assert pair.origin == "distractor"
        assert pair.chosen.content == right[pair.family]
        assert pair.rejected.content in wrong[pair.family]
