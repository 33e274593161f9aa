import json
import sys

import pytest
from pydantic import ValidationError

from jangin.core.errors import DataError, MachineError, SettingsError
from jangin.core.parquet import read_table
from jangin.core.records import Example
from jangin.examples.read import STAGE, ReadConfig, Unread

REVIEWS = "review\tstar\tpackage\n" + "".join(
    f"후기 {n}번이에요\t{n % 5 + 1}\tapp{n // 10}\n" for n in range(30)
)


@pytest.fixture
def read(make_context, tmp_path):
    """Run the stage over one file; returns (examples, unread, summary)."""

    def call(name, text, format, **config):
        (tmp_path / name).write_text(text, encoding="utf-8")
        settings = json.dumps({"path": name, "format": format, **config})
        context = make_context(ReadConfig.model_validate_json(settings), {})
        STAGE.run(context)
        return (
            read_table(context.workspace / "examples.parquet", Example),
            read_table(context.workspace / "unread.parquet", Unread),
            context.summary,
        )

    return call


TABLE = {"type": "table", "prompt": "{review}\n\n###\n\n", "completion": " {star}"}


def test_rows_become_examples_through_a_template_with_separator_and_leading_blank(read):
    examples, unread, summary = read("a.tsv", REVIEWS, {**TABLE, "group": "package"})
    assert examples[0].question == "후기 0번이에요\n\n###\n\n"
    assert examples[0].answer == " 1"
    assert (examples[0].source, examples[0].section) == ("a.tsv", "app0")
    assert [m.role for m in examples[0].prompt] == ["user"]
    assert (len(examples), unread, summary["unread"]) == (30, [], 0)


def test_a_system_message_and_the_order_by_label_are_settings(read):
    format = {**TABLE, "system": "별점만 답한다", "order": {"type": "sorted"}}
    examples, _, _ = read("a.tsv", REVIEWS, format)
    assert [m.role for m in examples[0].prompt] == ["system", "user"]
    assert [e.answer for e in examples] == sorted(e.answer for e in examples)


def test_what_a_step_sets_aside_is_kept_with_its_line_and_reason(read):
    text = REVIEWS + "좋아요\t9\tapp9\n빠진 칸\n후기 0번이에요\t2\tapp\n"
    steps = [
        {"type": "labels", "column": "star", "labels": ["1", "2", "3", "4", "5"]},
        {"type": "deduplicate", "conflicts": "first"},
    ]
    examples, unread, _ = read("a.tsv", text, {**TABLE, "steps": steps})
    assert len(examples) == 30
    assert [(row.place, row.reason) for row in unread] == [
        ("line 32", "star is 9, which is no label"),
        ("line 33", "1 cell instead of 3"),
        ("line 34", "another answer to the same text"),
    ]


def test_a_price_prompt_is_made_as_the_recipe_makes_it(read):
    rows = [
        {"title": "Pan", "description": ["Big,, pan", "Steel"], "features": [],
         "details": '{"Brand": "X", "Item model number": "ABC12345"}', "price": "12.50"},
        {"title": "Lamp", "description": None, "features": ["Bright"], "details": "{}",
         "price": "None"},
        {"title": "Sofa", "description": ["Soft"], "features": [], "details": "{}",
         "price": 1299},
    ]  # fmt: skip
    steps = [
        {"type": "number", "column": "price", "minimum": 0.5, "maximum": 999.49,
         "rounding": "half_up"},
        {"type": "flatten", "columns": ["title", "description", "features", "details"]},
        {"type": "scrub", "columns": ["text"], "remove": ["Item model number"]},
        {"type": "window", "column": "text", "minimum_characters": 10, "maximum_characters": 1120},
    ]  # fmt: skip
    format = {
        "type": "table",
        "prompt": "How much does this cost to the nearest dollar?\n\n{text}\n\nPrice is $",
        "completion": "{price}.00",
        "steps": steps,
    }
    text = "".join(json.dumps(row) + "\n" for row in rows)
    ((example,), unread, _) = read("items.jsonl", text, format)
    assert example.question.endswith("\n\nPan Big, pan Steel Brand X,\n\nPrice is $")
    assert example.answer == "13.00"
    assert [row.reason for row in unread] == ["price is no number", "price is above 999.49"]


def test_chats_of_several_turns_are_read_and_bad_ones_named(read):
    turns = [
        *({"role": "system", "content": "s"}, {"role": "user", "content": "q1"}),
        *({"role": "assistant", "content": "a1"}, {"role": "user", "content": "q2"}),
        {"role": "assistant", "content": 'a "2"'},
    ]
    lines = [
        json.dumps({"messages": turns}),
        json.dumps({"messages": turns[:4]}),
        json.dumps({"messages": [{"role": "robot", "content": "x"}]}),
        "{torn",
        json.dumps({"messages": []}),
        json.dumps({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
        json.dumps({"messages": [{"role": "user", "content": [{"type": "text"}]}]}),
    ]
    (example,), unread, _ = read("c.jsonl", "\n".join(lines), {"type": "chat"})
    assert len(example.prompt) == 4
    assert example.answer == 'a "2"'
    assert [(row.place, row.reason) for row in unread] == [
        ("line 2", "the last message is not the assistant's"),
        ("line 3", "a message has the role 'robot'"),
        ("line 4", "the line is no JSON object"),
        ("line 5", "messages is empty"),
        ("line 6", "content of type image_url is not text"),
        ("line 7", "a message has no text"),
    ]


def test_a_content_of_several_text_parts_is_their_text(read):
    parts = [{"type": "text", "text": "앞 "}, {"type": "text", "text": "뒤"}]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": "답"}]
    (example,), unread, _ = read("c.jsonl", json.dumps({"messages": turns}), {"type": "chat"})
    assert (example.question, unread) == ("앞 뒤", [])


def test_prompt_and_completion_are_read_as_they_are(read):
    lines = '{"prompt": "묻기", "completion": " 답"}\n{"prompt": "", "completion": "x"}\n'
    (example,), (unread,), _ = read("p.jsonl", lines, {"type": "prompt_completion"})
    assert (example.question, example.answer) == ("묻기", " 답")
    assert unread.reason == "the prompt is empty"


@pytest.mark.parametrize(
    ("name", "text", "format", "error", "words"),
    [
        ("a.tsv", REVIEWS, {**TABLE, "prompt": "{text}"}, SettingsError, "no column 'text'"),
        ("a.tsv", REVIEWS, {**TABLE, "prompt": "review"}, SettingsError, "prompt: .*'{review}'"),
        ("a.tsv", REVIEWS, {**TABLE, "completion": "{star"}, SettingsError, "tion: .*'{star}'"),
        ("a.tsv", REVIEWS, {**TABLE, "completion": "good"}, SettingsError, "every row would have"),
        ("a.csv", "q,a\n", {"type": "chat"}, SettingsError, "no column messages"),
        (
            "p.csv",
            "prompt,completion\n,x\n",
            {"type": "prompt_completion"},
            DataError,
            r"no question .*\(1 row: the prompt is empty\)",
        ),
        (
            "a.csv",
            "review,star\na,5\nb,5\n",
            {**TABLE, "steps": [{"type": "labels", "column": "star", "labels": ["1", "5"]}]},
            DataError,
            "all 2 .*a.csv .*label",
        ),
    ],
)
def test_what_cannot_be_read_is_one_clear_sentence(read, name, text, format, error, words):
    with pytest.raises(error, match=words):
        read(name, text, format)


def test_the_hub_without_its_package_says_what_to_install(make_context, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    config = ReadConfig.model_validate({"format": {"type": "hub", "id": "klue"}})
    with pytest.raises(MachineError, match="klue from the hub needs the package datasets"):
        STAGE.run(make_context(config, {}))


def test_a_tokenizer_is_part_of_what_a_table_is_made_from(tmp_path):
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "model").mkdir()
    window = {"type": "window", "column": "a", "minimum_tokens": 1, "tokenizer": "model"}
    format = {"type": "table", "prompt": "{a}", "completion": "{a}", "steps": [window]}
    config = ReadConfig.model_validate_json(json.dumps({"path": "a.csv", "format": format}))
    sources = STAGE.sources(config, tmp_path)
    assert sources["tokenizer1"] == tmp_path / "model" / "tokenizer.json"
    assert "tokenizer" not in json.dumps(config.identity())
    nowhere = config.model_copy(update={"path": tmp_path / "none.csv"})
    with pytest.raises(DataError, match=r"^read\.path: "):
        STAGE.sources(nowhere, tmp_path)


def test_an_unknown_step_is_refused():
    with pytest.raises(ValidationError, match="dedupe"):
        ReadConfig.model_validate({"format": {**TABLE, "steps": [{"type": "dedupe"}]}})
