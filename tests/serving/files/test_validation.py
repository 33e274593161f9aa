"""Checks of training files: every hard error and warning, for any bytes that a client sends."""

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jangin.serving.files import check_process
from jangin.serving.files.check_process import check_lines, check_rows
from jangin.serving.files.validation import (
    CountSpread,
    check_file,
    check_row,
    job_fault,
    overlap,
    suggested_epochs,
)


def chat(question="What is a jangin?", answer="A master artisan.", **more):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer, **more},
    ]
    return {"messages": messages}


def rows(count=12):
    return [chat(f"Question {n}?", f"Answer {n}.") for n in range(count)]


def as_bytes(values):
    return b"\n".join(json.dumps(value, ensure_ascii=False).encode() for value in values)


def check(values, **options):
    return check_file(io.BytesIO(as_bytes(values)), **options)


def rules(value):
    row = check_row(value)
    return {p.rule for p in row.errors}, {p.rule for p in row.warnings}


def test_a_good_file_has_no_error_and_its_report_counts_it():
    result = check(rows())
    report = result.report()
    assert report["valid"]
    assert report["format"] == "chat"
    assert report["examples"] == 12
    assert report["distribution"]["messages_per_example"]["median"] == 3
    assert report["suggested_n_epochs"] == suggested_epochs(12) == 8
    assert [w["rule"] for w in report["warnings"]] == ["few_examples"]
    assert json.loads(json.dumps(report)) == report
    assert job_fault(result, "supervised", "file-a") is None


def test_a_missing_role_fails_the_job_with_openais_words():
    values = rows(120)
    del values[99]["messages"][1]["role"]
    fault = job_fault(check(values), "supervised", "file-a")
    assert (fault.code, fault.param) == ("invalid_training_file", "training_file")
    assert fault.message == (
        "The job failed due to an invalid training file. Invalid file format. Example 100, "
        "message 2 Discriminator 'role' is missing in value"
    )


def test_too_few_examples_fail_the_job_with_openais_words():
    fault = job_fault(check(rows(3)), "supervised", "file-a")
    assert fault.code == "invalid_n_examples"
    assert fault.message == "Training file has 3 example(s), but must have at least 10 examples"
    assert job_fault(check(rows(3), min_examples=3), "supervised", "file-a") is None
    fault = job_fault(check([], min_examples=1), "supervised", "file-a", validation=True)
    assert fault.param == "validation_file"


def test_a_format_of_another_method_fails_the_job_both_ways():
    fault = job_fault(check(rows()), "dpo", "file-X")
    assert fault.message == (
        "The job failed due to an invalid training file. Invalid file format. Input file file-X is "
        "in the fine-tune-chat format, but the specified fine-tuning job is not using 'supervised' "
        "as the training method (provided method=dpo). "
    )
    pairs = [preference(f"Q{n}") for n in range(10)]
    assert "not using 'dpo'" in job_fault(check(pairs), "supervised", "file-X").message
    assert job_fault(check(pairs), "dpo", "file-X") is None


def test_rows_of_no_known_format_fail_the_job_with_openais_words():
    fault = job_fault(check([{"text": "a"}] * 10), "supervised", "file-a")
    assert fault.message.startswith(
        "The job failed due to an invalid training file. Unexpected file format, expected either "
        "prompt/completion pairs or chat messages."
    )


def test_a_row_of_no_format_among_good_ones_is_named_by_its_number():
    values = rows()
    values[3]["mesages"] = values[3].pop("messages")
    fault = job_fault(check(values), "supervised", "file-a")
    assert "Example 4: Unexpected file format" in fault.message


def test_a_string_without_an_end_is_said_in_english():
    data = as_bytes(rows()) + b'\n{"messages": "x'
    message = check_file(io.BytesIO(data)).errors[0]["message"]
    assert message == "Example 13 is not valid JSON: Unterminated string starting at character 14"


def test_rows_with_an_empty_answer_are_left_out_by_number():
    values = [chat("A?", " "), *rows(30)]
    result = check(values)
    assert job_fault(result, "supervised", "file-a") is None
    assert result.trained_examples == 30
    warning = result.warnings["no_trainable_tokens"]
    assert (warning["count"], warning["examples"]) == (1, [1])
    assert warning["message"].endswith("left out of training: 1")
    with_earlier = chat("A?", "")
    with_earlier["messages"][:0] = chat("B?", "Yes.")["messages"][1:]
    assert check([with_earlier, *rows(30)]).trained_examples == 31
    with_call_only = {"content": "", "tool_calls": [CALL]}
    called = chat("A?") | {"tools": TOOLS}
    called["messages"][-1] |= with_call_only
    assert check([called, *rows(30)]).trained_examples == 31


def test_too_few_answers_fail_the_job_by_number():
    fault = job_fault(check([chat("A?", ""), *rows(9)]), "supervised", "file-a")
    assert fault.code == "invalid_n_examples"
    assert "9 example(s) with an answer to train on" in fault.message
    values = [chat("A?", ""), chat("B?", ""), *rows(30)]
    fault = job_fault(check(values), "supervised", "file-a")
    assert (fault.code, fault.param) == ("no_trainable_tokens", "training_file")
    assert "2 of 32 examples" in fault.message
    assert ": 1, 2." in fault.message
    pairs = [preference(f"Q{n}") for n in range(30)]
    pairs[4]["non_preferred_output"][0]["content"] = ""
    assert check(pairs).empty == [5]


def preference(question, names=("preferred_output", "non_preferred_output"), **changes):
    row = {
        "input": {"messages": [{"role": "user", "content": question}]},
        names[0]: [{"role": "assistant", "content": "good"}],
        names[1]: [{"role": "assistant", "content": "bad"}],
    }
    return row | changes


CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {}}}]


def with_call(call=None, tools=TOOLS, result="c1"):
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "tool_calls": [CALL if call is None else call]},
        {"role": "tool", "tool_call_id": result, "content": "2"},
        {"role": "assistant", "content": "two"},
    ]
    return {"messages": messages, "tools": tools}


def without(value, *keys):
    return {key: part for key, part in value.items() if key not in keys}


@pytest.mark.parametrize(
    ("value", "errors"),
    [
        ([], {"not_an_object"}),
        ({"messages": []}, {"no_messages"}),
        ({"messages": "hello"}, {"no_messages"}),
        ({"messages": [1]}, {"not_an_object"}),
        ({"messages": [{"role": "boss", "content": "x"}]}, {"role_unknown"}),
        ({"messages": [{"role": ["user"], "content": "x"}]}, {"role_unknown"}),
        ({"messages": [{"role": "user", "content": "x"}]}, {"no_assistant"}),
        (
            {"messages": [*chat()["messages"], {"role": "user", "content": "x"}]},
            {"last_not_assistant"},
        ),
        (chat(weight=0), {"all_weights_0"}),
        (chat(weight=2), {"weight"}),
        (chat(weight=True), {"weight"}),
        ({"messages": [{"role": "user", "content": "x", "weight": 1}]}, {"weight"}),
        ({"messages": [{"role": "assistant", "content": None}]}, {"content_missing"}),
        ({"messages": [{"role": "assistant", "content": 3}]}, {"content"}),
        (chat([{"type": "image_url", "image_url": {}}]), {"content"}),
        (chat([{"type": "text", "text": "hello"}]), set()),
        (chat("half \ud83d"), {"surrogate"}),
        (with_call(), set()),
        (without(with_call(), "tools"), {"tool_call"}),
        (with_call({"function": {"name": "sub", "arguments": "{}"}}), {"tool_call", "tool_result"}),
        (with_call({"id": "c1", "function": {"name": "add", "arguments": "{"}}), {"tool_call"}),
        (with_call({"id": "c1"}), {"tool_call", "tool_result"}),
        (with_call(result="other"), {"tool_result"}),
        (with_call(tools=[]), {"tools"}),
        ({"prompt": "a", "completion": "b"}, set()),
        ({"prompt": ["a"], "completion": "b"}, {"content"}),
        (preference("q"), set()),
        (preference("q", ("preferred_completion", "non_preferred_completion")), set()),
        (preference("q", input=[]), {"no_messages"}),
        (preference("q", preferred_output=[]), {"one_answer"}),
        (preference("q", preferred_output=[{"role": "user", "content": "x"}]), {"one_answer"}),
        (preference("q", preferred_output=[{"role": "assistant", "content": 1}]), {"content"}),
    ],
)  # fmt: skip
def test_each_hard_error_is_named(value, errors):
    assert rules(value)[0] == errors


@pytest.mark.parametrize(
    ("value", "warning"),
    [
        ({"messages": chat()["messages"][1:]}, "missing_system"),
        ({"messages": [chat()["messages"][0], chat()["messages"][2]]}, "missing_user"),
        (chat(mood="good"), "unknown_message_key"),
        (chat() | {"price": 3}, "unknown_key"),
        ({"prompt": "a", "completion": "b", "id": 1}, "unknown_key"),
        (preference("q") | {"id": 7}, "unknown_key"),
        (chat(answer=" "), "empty_assistant"),
        (
            preference("q", non_preferred_output=preference("q")["preferred_output"]),
            "equal_answers",
        ),
        (chat("í\x95\x9cê¸\x80"), "mojibake"),
        (chat("\u1112\u1161\u11ab"), "decomposed"),
        (chat("sk-abcdefghijklmnopqrstuvwx"), "secret"),
        (chat("mail kim@example.com"), "personal_data_email"),
        (chat("call 010-1234-5678"), "personal_data_phone"),
        (chat("901010-1234567"), "personal_data_resident_number"),
    ],
)  # fmt: skip
def test_each_warning_of_a_row_is_named(value, warning):
    errors, warnings = rules(value)
    assert not errors
    assert warning in warnings


def test_warnings_of_the_whole_file():
    labels = [chat(f"Review {n}", "bad" if n == 1 else "good") for n in range(60)]
    assert "label_imbalance" in check(labels).warnings
    result = check([*rows(60), *rows(2), chat("Question 5?", "Something else.")])
    assert result.warnings["duplicates"]["count"] == 2
    assert result.warnings["conflicts"]["count"] == 1
    assert (
        check([chat("long " * 500), *rows()], context_tokens=100).warnings["too_long"]["count"] == 1
    )


def test_the_rows_of_a_file_have_one_format():
    result = check([*rows(10), {"prompt": "a", "completion": "b"}])
    assert [(e["example"], e["rule"]) for e in result.errors] == [(11, "mixed_formats")]


def test_overlap_counts_validation_prompts_that_are_trained_on():
    assert overlap(check(rows(20)), check([*rows(3), chat("New?", "Yes.")], min_examples=1)) == 3


def test_encodings_marks_and_line_ends():
    data = b"\xef\xbb\xbf" + as_bytes(rows()).replace(b"\n", b"\r\n\r\n")
    assert check_file(io.BytesIO(data)).valid
    assert check_file(io.BytesIO(data)).examples == 12
    korean = as_bytes([chat("휴가는 며칠입니까", "십오 일입니다")])
    bad = korean.decode().encode("cp949")
    error = check_file(io.BytesIO(as_bytes(rows()) + b"\n" + bad)).errors[0]
    assert (error["example"], error["rule"]) == (13, "not_utf8")
    assert "CP949" in error["message"]
    assert (
        f"byte {len(as_bytes(rows())) + 1 + bad.index(chr(55092).encode('cp949'))} "
        in error["message"]
    )
    utf16 = check_file(io.BytesIO(korean.decode().encode("utf-16")))
    assert "UTF-16" in utf16.errors[0]["message"]
    deep = check_file(io.BytesIO(b"[" * 100_000))
    assert deep.errors[0]["rule"] == "not_json"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["messages", "role", "content", "weight", "tool_calls", "function", "name", "input",
             "arguments", "tools", "functions", "prompt", "completion", "preferred_output",
             "non_preferred_completion", "function_call", "tool_call_id", "type", "text", "id"]
        ),
        inner | st.sampled_from(["user", "assistant", "tool", "system", "text", "{}"]),
        max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(JSON, max_size=3), st.binary(max_size=60))
def test_no_bytes_make_validation_raise(values, noise):
    data = b"\n".join([*(json.dumps(value).encode() for value in values), noise])
    result = check_file(io.BytesIO(data))
    json.dumps(result.report())
    for method in ("supervised", "dpo"):
        assert job_fault(result, method, "file-a") is not None


def test_quantiles_are_those_of_the_sorted_values():
    spread = CountSpread()
    for value in range(1, 101):
        spread.add(value)
    summary = spread.summary()
    assert (summary["p10"], summary["median"], summary["p90"]) == (10, 50, 90)
    assert summary["mean"] == 50.5
    spread.add(1_234_567)
    assert spread.summary()["max"] == 1_234_567
    assert spread.over(100) == 1


@pytest.mark.parametrize(
    ("examples", "epochs"), [(10, 10), (33, 3), (100, 3), (20_000, 1), (2, 25)]
)
def test_epochs_are_those_of_the_cookbook(examples, epochs):
    assert suggested_epochs(examples) == epochs


def chat_rows(answers, system=""):
    start = [{"role": "system", "content": system}] if system else []
    turns = [
        [{"role": "user", "content": "What do you think?"}, {"role": "assistant", "content": text}]
        for text in answers
    ]
    return as_lines([{"messages": [*start, *turn]} for turn in turns])


def as_lines(rows):
    return "\n".join(json.dumps(row) for row in rows).encode()


def warnings_of(data):
    return check_file(io.BytesIO(data), 1).warnings


def test_rows_that_are_nearly_the_same_are_counted_but_not_those_of_other_numbers():
    review = "The pump arrived on Monday, was easy to install and has run without a fault since {}."
    days = ["then", "thenn", "it was repaired by the service team"]
    warning = warnings_of(chat_rows([review.format(day) for day in days]))["near_duplicates"]
    assert (warning["count"], warning["message"].split()[0]) == (1, "1")
    prices = [review.format(price) for price in (10, 11, 12)]
    assert "near_duplicates" not in warnings_of(chat_rows(prices))


def test_a_long_system_message_in_every_row_is_named_with_its_share():
    answers = [f"answer {n}" for n in range(12)]
    warning = warnings_of(chat_rows(answers, "Be kind to everybody who asks. " * 40))["long_system"]
    assert warning["count"] == 12
    assert "9" in warning["message"].partition("%")[0][-2:]
    assert "long_system" not in warnings_of(chat_rows(answers, "Be kind."))


@pytest.mark.slow
def test_a_large_file_is_checked_by_a_process_of_its_own_with_the_same_result(
    tmp_path, monkeypatch
):
    data = chat_rows([f"answer {n % 7}" for n in range(40)]) + b"\n{not json}"
    path = tmp_path / "rows.jsonl"
    path.write_bytes(data)
    here, ticks = check_rows(path, 10), []
    monkeypatch.setattr(check_process, "LARGE", 0)
    monkeypatch.setattr(check_process, "_TICK_SECONDS", 0.001)
    elsewhere = check_rows(path, 10, lambda: ticks.append(1))
    assert elsewhere.report() == here.report()
    assert elsewhere.prompts == here.prompts
    assert ticks
    assert check_lines(path).startswith("Line 41 is not valid JSON")

    def lose():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_rows(path, 10, lose)
