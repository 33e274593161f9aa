import csv
import json

import pytest
from python_calamine import CalamineWorkbook

from jangin.core.errors import DataError, SettingsError
from jangin.core.records import Example, Message
from jangin.examples.formats.export import export_examples


def example(question="연차는 며칠입니까?", answer="15일", system="", turns=()):
    prompt = (
        *((Message(role="system", content=system),) if system else ()),
        *turns,
        Message(role="user", content=question),
    )
    completion = Message(role="assistant", content=answer)
    return Example.make(prompt, completion, kind="original", source="규정.pdf", page=3)


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_prompt_completion_puts_the_system_message_before_the_question(tmp_path):
    assert (
        export_examples([example(system="짧게 답하라")], tmp_path / "a", "prompt_completion") == 1
    )
    assert rows(tmp_path / "a") == [
        {"prompt": "짧게 답하라\n\n연차는 며칠입니까?", "completion": "15일"}
    ]


@pytest.mark.slow
def test_alpaca_has_the_keys_that_others_read(tmp_path):
    export_examples([example(), example(system="짧게")], tmp_path / "a.jsonl", "alpaca")
    plain = {"instruction": "연차는 며칠입니까?", "input": "", "output": "15일"}
    assert rows(tmp_path / "a.jsonl") == [plain, {**plain, "system": "짧게"}]
    export_examples([example()], tmp_path / "a.json", "alpaca")
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == [plain]


def test_braces_in_a_question_stay_as_they_are(tmp_path):
    export_examples([example(question="{answer}는 무엇?")], tmp_path / "a", "template")
    assert "### Instruction: {answer}는 무엇? ### Response: 15일" in rows(tmp_path / "a")[0]["text"]


def test_spreadsheets_have_source_page_and_evidence_and_run_no_formulas(tmp_path):
    said = {"user": "연차가 있나요?", "assistant": "네."}
    turns = tuple(Message(role=role, content=text) for role, text in said.items())
    examples = [example(), example(question="=1+1", system="짧게", turns=turns)]
    assert examples[1].earlier_turns == "user: 연차가 있나요?\nassistant: 네."
    for form in ("csv", "xlsx"):
        path = tmp_path / f"rows.{form}"
        assert export_examples(examples, path, form) == 2
    with (tmp_path / "rows.csv").open(encoding="utf-8-sig", newline="") as stream:
        written = list(csv.DictReader(stream))
    sheet = CalamineWorkbook.from_path(tmp_path / "rows.xlsx").get_sheet_by_index(0).to_python()
    read = [dict(zip(sheet[0], row, strict=True)) for row in sheet[1:]]
    for name in ("question", "answer", "earlier_turns", "source", "evidence", "section"):
        expected = [getattr(row, name) for row in examples]
        assert [row[name] for row in read] == expected
        assert [row[name].removeprefix("'") for row in written] == expected
    assert [row["page"] for row in read] == [3.0, 3.0]


def test_chat_says_where_the_example_comes_from_and_openai_only_has_messages(tmp_path):
    examples = [example(question=f"질문 {i}", system="짧게") for i in range(10)]
    export_examples(examples, tmp_path / "chat", "chat")
    export_examples(examples, tmp_path / "openai", "openai")
    chat, openai = rows(tmp_path / "chat")[3], rows(tmp_path / "openai")[3]
    assert openai == {
        "messages": [
            {"role": "system", "content": "짧게"},
            {"role": "user", "content": "질문 3"},
            {"role": "assistant", "content": "15일"},
        ]
    }
    assert chat["messages"] == openai["messages"]
    assert (chat["id"], chat["source"], chat["page"]) == (examples[3].id, "규정.pdf", 3)


def test_hangul_is_written_as_it_is(tmp_path):
    export_examples([example()], tmp_path / "a", "prompt_completion")
    assert "연차는" in (tmp_path / "a").read_text(encoding="utf-8")


def test_a_conversation_of_several_turns_is_refused_where_it_does_not_fit(tmp_path):
    turns = (Message(role="user", content="안녕"), Message(role="assistant", content="네"))
    for format in ("prompt_completion", "alpaca"):
        with pytest.raises(DataError, match="several turns"):
            export_examples([example(), example(turns=turns)], tmp_path / "a", format)
    assert not (tmp_path / "a").exists()
    assert export_examples([example(turns=turns)], tmp_path / "b", "chat") == 1


def test_openai_files_are_checked_against_the_limits_of_the_service(tmp_path):
    with pytest.raises(DataError, match="at least 10 lines"):
        export_examples([example()], tmp_path / "a", "openai")
    with pytest.raises(DataError, match="empty question or answer"):
        export_examples([example(answer=" ")] * 10, tmp_path / "a", "openai")


PATTERN = "### 질문: {question} ### 답: {answer} {other} {"


def test_a_pattern_of_the_users_own_is_filled_in_and_other_braces_stay(tmp_path):
    export_examples([example(question="{answer}는?")], tmp_path / "a", "template", PATTERN)
    assert rows(tmp_path / "a") == [{"text": "### 질문: {answer}는? ### 답: 15일 {other} {"}]


def test_a_pattern_without_an_answer_makes_prompts_and_one_without_a_question_is_refused(tmp_path):
    export_examples([example()], tmp_path / "a", "template", "{question} ->")
    assert rows(tmp_path / "a") == [{"text": "연차는 며칠입니까? ->"}]
    with pytest.raises(SettingsError, match=r"{question}"):
        export_examples([example()], tmp_path / "b", "template", "{answer}")
    assert not (tmp_path / "b").exists()


def test_chat_carries_who_made_the_example_and_what_from(tmp_path):
    made = example().model_copy(
        update={
            "template": "evolve_deepening/ko@1",
            "parent": "p",
            "operation": "deepening",
            "seed_word": "전세",
            "teacher": "t",
            "sample": 2,
            "answers": ("15일간",),
        }
    )
    export_examples([made], tmp_path / "a", "chat")
    (row,) = rows(tmp_path / "a")
    for name in ("template", "parent", "operation", "seed_word", "teacher", "sample"):
        assert row[name] == getattr(made, name)
    assert row["answers"] == ["15일간"]


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"no format 'zzz'\. Known formats: prompt_completion"):
        export_examples([], tmp_path / "x", "zzz")
    assert not (tmp_path / "x").exists()
