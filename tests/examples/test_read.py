import json
import re

import pytest

from jangin.core.errors import DataError
from jangin.core.parquet import read_table
from jangin.core.records import Example
from jangin.examples.formats.rows import Squad, read_squad
from jangin.examples.read import STAGE, ReadConfig, Unread

CONTEXT = "너울섬 등대는 1931년에 불을 켰다. 설계는 마현도가 맡았다. 높이는 23미터이다."


def qa(question, *answers, start=None):
    return {
        "id": question,
        "question": question,
        "answers": [
            {"text": text, "answer_start": CONTEXT.find(text) if start is None else start}
            for text in answers
        ],
    }


FILE = {
    "version": "x",
    "data": [
        {
            "title": "너울섬_등대",
            "paragraphs": [
                {
                    "context": CONTEXT,
                    "qas": [
                        qa("누가 설계했나?", "마현도"),
                        qa("높이는?", "23미터", "23미터"),
                        qa("언제 켰나?", "1931년"),
                    ],
                },
                {
                    "context": "마현도는 기사이다.",
                    "qas": [
                        qa("누가 설계했나?", "기사 마현도", start=0),
                        qa("답이 없는 질문?"),
                        qa(" ", "23미터"),
                    ],
                },
            ],
        }
    ],
}


@pytest.fixture
def context(make_context, tmp_path):
    def make(data=FILE, encoding="utf-8", **config):
        text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
        (tmp_path / "squad.json").write_bytes(text.encode(encoding))
        settings = {"path": "squad.json", "format": {"type": "squad"}, **config}
        return make_context(ReadConfig.model_validate(settings), {})

    return make


TABLE_OF_PAIRS = {"type": "table", "prompt": "{question}", "completion": "{answer}"}


def run(context):
    STAGE.run(context)
    return (
        read_table(context.workspace / "examples.parquet", Example),
        read_table(context.workspace / "unread.parquet", Unread),
    )


def test_questions_stand_in_the_order_of_the_file_with_their_place(context):
    opened = context()
    examples, _ = run(opened)
    assert [(e.question, e.answer) for e in examples] == [
        ("누가 설계했나?", "마현도"),
        ("높이는?", "23미터"),
        ("언제 켰나?", "1931년"),
    ]
    assert [e.section for e in examples] == ["너울섬 등대 > 1"] * 3
    assert examples[1].evidence == "높이는 23미터이다."
    assert (examples[1].source, examples[1].kind) == ("squad.json", "original")
    assert opened.summary["several_answers"] == 1


def test_a_repeated_question_keeps_every_distinct_answer_and_both_paragraphs(context):
    first, second, _ = run(context())[0]
    assert (first.answer, first.answers) == ("마현도", ("기사 마현도",))
    assert len(first.chunk_ids) == 2
    assert first.chunk_ids[0] == second.chunk_ids[0]
    assert second.answers == ()


def test_what_gives_no_example_is_kept_aside_with_its_place_and_the_reason(context):
    opened = context()
    _, unread = run(opened)
    (said,) = opened.services.progress.messages
    assert said.startswith("read: 2 rows of squad.json")
    assert "it has no answer" in said
    assert "(data[0].paragraphs[1].qas[1])" in said
    assert [(row.place, row.reason) for row in unread] == [
        ("data[0].paragraphs[1].qas[1]", "it has no answer"),
        ("data[0].paragraphs[1].qas[2]", "the question is empty"),
    ]


def test_a_single_row_without_an_example_is_told_as_one(context):
    qas = [qa("누가 설계했나?", "마현도"), qa("답이 없는 질문?")]
    opened = context({"data": [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": qas}]}]})
    run(opened)
    (said,) = opened.services.progress.messages
    assert said.startswith("read: 1 row of squad.json gave no example, because it has no")


def test_only_the_first_so_many_are_taken_and_a_byte_order_mark_does_not_count(context):
    opened = context(first=2, encoding="utf-8-sig")
    assert len(run(opened)[0]) == 2
    assert opened.summary["in_file"] == 3


def test_whole_articles_can_be_the_unit_of_the_split():
    text = json.dumps(FILE)
    examples, _ = read_squad(text, "a.json", Squad(type="squad", unit="article"))
    assert {e.section for e in examples} == {"너울섬 등대"}


def test_an_answer_whose_place_is_wrong_has_no_evidence(context):
    paragraph = {"context": CONTEXT, "qas": [qa("높이는?", "23미터", start=3)]}
    data = {"data": [{"paragraphs": [paragraph]}]}
    ((example,), _) = run(context(data))
    assert (example.answer, example.evidence, example.section) == ("23미터", "", "1 > 1")


@pytest.mark.parametrize(
    ("data", "encoding", "words"),
    [
        ("{", "utf-8", "squad.json: Invalid JSON"),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, "utf-8", "data.0.paragraphs.0.context: Field"),
        (FILE, "cp949", "is not UTF-8"),
        ({"data": []}, "utf-8", "no question with an answer"),
    ],
)
def test_a_file_in_another_form_is_one_clear_sentence(context, data, encoding, words):
    with pytest.raises(DataError, match=words):
        run(context(data, encoding))


def test_a_file_that_is_not_there_is_named_before_anything_runs(tmp_path):
    config = ReadConfig.model_validate({"path": "none.json", "format": {"type": "squad"}})
    with pytest.raises(DataError, match=r"^read\.path: .*none\.json is not a file"):
        STAGE.sources(config, tmp_path)
    (tmp_path / "none.json").write_text("{}")
    assert list(STAGE.sources(config, tmp_path).values()) == [tmp_path / "none.json"]
    assert "path" not in config.identity()


def test_chats_of_sharegpt_keep_their_turns_and_the_answers_that_are_not_trained(
    make_context, tmp_path
):
    turns = [("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "d")]
    chat = [{"from": name, "value": text} for name, text in turns]
    chat[1]["weight"] = 0
    rows = [{"conversations": chat, "system": "짧게."}, {"conversations": chat[:2], "system": ""}]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = ReadConfig.model_validate({"path": "chats.jsonl", "format": {"type": "chat"}})
    context = make_context(config, {})
    STAGE.run(context)
    long, short = read_table(context.workspace / "examples.parquet", Example)
    assert [m.content for m in (*long.prompt, long.completion)] == ["짧게.", "a", "b", "c", "d"]
    assert (long.weights, short.weights) == ((1, 1, 0, 1, 1), (1, 0))


def test_a_template_over_chats_keeps_their_earlier_turns(make_context, tmp_path):
    chat = [{"role": ("user", "assistant")[i % 2], "content": c} for i, c in enumerate("abcd")]
    (tmp_path / "chats.jsonl").write_text(json.dumps({"messages": chat}) + "\n")
    template = {"type": "table", "source": "messages", "steps": [{"type": "clean_text"}]}
    config = ReadConfig.model_validate({"path": "chats.jsonl", "format": template})
    context = make_context(config, {})
    STAGE.run(context)
    (example,) = read_table(context.workspace / "examples.parquet", Example)
    assert [m.content for m in (*example.prompt, example.completion)] == list("abcd")


ALPACA = {"instruction": "과일을 나누세요.", "input": "바나나", "output": "열대 과일", "note": "x"}
CHAT = {
    "messages": [
        {"role": "user", "content": "첫 물음"},
        {"role": "assistant", "content": "첫 답"},
        {"role": "user", "content": "다음 물음"},
        {"role": "assistant", "content": "다음 답"},
    ]
}
LABELLED = [
    {"prompt": "물음", "completion": "좋은 답", "label": True},
    {"prompt": "물음 둘", "completion": "나쁜 답", "label": False},
]


@pytest.mark.parametrize(
    ("name", "rows", "questions", "answers"),
    [
        ("a.jsonl", [ALPACA], ["과일을 나누세요.\n\n바나나"], ["열대 과일"]),
        ("b.json", [CHAT], ["다음 물음"], ["다음 답"]),
        ("c.jsonl", [{"질문": "x", "question": "물음", "answer": "답"}], ["물음"], ["답"]),
        ("d.jsonl", LABELLED, ["물음"], ["좋은 답"]),
        (
            "e.json",
            FILE,
            ["누가 설계했나?", "높이는?", "언제 켰나?"],
            ["마현도", "23미터", "1931년"],
        ),
    ],
)
def test_auto_reads_rows_of_every_known_form(
    make_context, tmp_path, name, rows, questions, answers
):
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    text = "\n".join(lines) if name.endswith("l") else json.dumps(rows, ensure_ascii=False)
    (tmp_path / name).write_text(text, encoding="utf-8")
    config = ReadConfig.model_validate({"path": name, "format": {"type": "auto"}})
    context = make_context(config, {})
    STAGE.run(context)
    examples = read_table(context.workspace / "examples.parquet", Example)
    assert [e.question for e in examples] == questions
    assert [e.answer for e in examples] == answers
    assert any("note" in text for text in context.services.progress.messages) == (name == "a.jsonl")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"가": "1", "나": "2", "다": "3"}, "type: table"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "models.preferences.sources"),
    ],
)
def test_auto_says_what_to_write_where_rows_are_not_recognised(make_context, tmp_path, row, words):
    (tmp_path / "x.jsonl").write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")
    config = ReadConfig.model_validate({"path": "x.jsonl", "format": {"type": "auto"}})
    with pytest.raises(DataError, match=words):
        STAGE.run(make_context(config, {}))


@pytest.mark.parametrize("column", ["공개 여부", "is_public"])
@pytest.mark.parametrize(
    ("no", "yes"), [("아니요", "예"), ("N", "Y"), ("FALSE", "TRUE"), ("0", "1")]
)
@pytest.mark.parametrize("format", [TABLE_OF_PAIRS, {"type": "auto"}], ids=["table", "auto"])
def test_rows_that_are_marked_as_not_public_are_kept_aside_unless_a_filter_names_the_column(
    make_context, tmp_path, column, no, yes, format
):
    rows = [["question", "answer", column], ["a?", "1", yes], ["b?", "2", no], ["c?", "3", ""]]
    (tmp_path / "x.csv").write_text("\n".join(map(",".join, rows)), encoding="utf-8")

    def read(form):
        config = ReadConfig.model_validate({"path": "x.csv", "format": form})
        context = make_context(config, {})
        examples, unread = run(context)
        return examples, unread, context.services.progress.messages

    examples, unread, said = read(format)
    assert [example.question for example in examples] == ["a?", "c?"]
    assert [(row.place, row.reason) for row in unread] == [("line 3", f"{column} is {no}")]
    step = re.search(r"add to steps of its format: (.*)", said[-1])[1]
    examples, unread, said = read({**TABLE_OF_PAIRS, "steps": [json.loads(step)]})
    assert [example.question for example in examples] == ["a?", "b?", "c?"]
    assert (unread, said) == ([], [])


def test_a_column_of_another_name_or_without_a_no_marks_nothing(make_context, tmp_path):
    rows = [
        ["question", "answer", "public", "완료"],
        ["a?", "1", "yes", "아니요"],
        ["b?", "2", "", ""],
    ]
    (tmp_path / "x.csv").write_text("\n".join(map(",".join, rows)), encoding="utf-8")
    config = ReadConfig.model_validate({"path": "x.csv", "format": TABLE_OF_PAIRS})
    examples, unread = run(make_context(config, {}))
    assert (len(examples), unread) == (2, [])
