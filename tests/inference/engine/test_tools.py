from types import SimpleNamespace

import pytest

from jangin.inference.engine.tools import ToolCall, ToolFormat

CALL = ToolCall("weather", '{"city": "서울"}')


def format_of(template, special=()):
    added = {100 + n: SimpleNamespace(content=text, special=True) for n, text in enumerate(special)}
    return ToolFormat.of(SimpleNamespace(chat_template=template, added_tokens_decoder=added))


def test_the_template_tells_the_format():
    assert format_of("{{ tools }} <tool_call>").family == "hermes"
    assert format_of("{{ tools }} <|python_tag|>").family == "llama"
    mistral = format_of("{{ tools }}[TOOL_CALLS]", special=["[TOOL_CALLS]"])
    assert (mistral.family, mistral.marker_id) == ("mistral", 100)
    assert format_of("{{ messages }}").family == "plain"
    assert format_of("{{ tools }} <tool_call><function=").family == "plain"


@pytest.mark.parametrize(
    ("family", "text", "content", "calls"),
    [
        (
            "hermes",
            '찾아볼게요.\n<tool_call>\n{"name": "weather", "arguments": {"city": "서울"}}\n'
            "</tool_call>",
            "찾아볼게요.",
            1,
        ),
        (
            "hermes",
            '<tool_call>\n{"name": "weather", "arguments": {"city": "서울"}}\n</tool_call>\n'
            '<tool_call>\n{"name": "weather", "arguments": {"city": "서울"}}\n</tool_call>',
            "",
            2,
        ),
        ("llama", '{"name": "weather", "parameters": {"city": "서울"}}', "", 1),
        (
            "llama",
            '<|python_tag|>{"name": "weather", "parameters": {"city": "서울"}}; '
            '{"name": "weather", "parameters": {"city": "서울"}}',
            "",
            2,
        ),
        (
            "mistral",
            '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "서울"}, "id": "abc"}]',
            "",
            1,
        ),
        ("mistral", '[TOOL_CALLS]weather[ARGS]{"city": "서울"}', "", 1),
        ("plain", '{"name": "weather", "arguments": {"city": "서울"}}', "", 1),
    ],
)
def test_calls_are_read_in_the_format_of_each_family(family, text, content, calls):
    assert ToolFormat(family, None).read(text) == (content, [CALL] * calls)


@pytest.mark.parametrize("family", ["hermes", "llama", "mistral", "plain"])
@pytest.mark.parametrize("text", ["맑습니다.", '{"a": 1}', "<tool_call>\n{broken", "[1, 2]"])
def test_text_that_is_no_call_is_content(family, text):
    assert ToolFormat(family, None).read(text) == (text, [])


@pytest.mark.parametrize(
    ("family", "text", "content", "names"),
    [
        ("plain", '{"name": "weather", "arguments": {"city": "서', "", ["weather"]),
        ("plain", '{"name": "a", "arguments": {"name": "x", "arguments": {"y": "', "", ["a"]),
        ("llama", '<|python_tag|>{"name": "a", "parameters": {"x": [1, {"y', "", ["a"]),
        ("llama", '{"name": "a", "parameters": {}}; {"name": "b", "parameters": {', "", ["a", "b"]),
        ("hermes", '네.\n<tool_call>\n{"name": "a", "arguments": {"x": "', "네.", ["a"]),
        (
            "hermes",
            '<tool_call>\n{"name": "a", "arguments": {}}\n</tool_call>\n'
            '<tool_call>\n{"name": "b", "arguments": {"x',
            "",
            ["a", "b"],
        ),
        ("mistral", '[TOOL_CALLS] [{"name": "a", "arguments": {"x', "", ["a"]),
    ],
)
def test_a_call_that_is_cut_off_has_the_beginning_of_its_arguments(family, text, content, names):
    read, calls = ToolFormat(family, None).read(text, is_cut=True)
    assert (read, [call.name for call in calls]) == (content, names)
    assert text.endswith(calls[-1].arguments)
    assert ToolFormat(family, None).read(text) == (text, [])


@pytest.mark.parametrize("text", ["맑습니다", '{"name": "a", "arg', '{"name": "a"}', "{}", ""])
def test_what_is_cut_before_its_arguments_is_content(text):
    assert ToolFormat("plain", None).read(text, is_cut=True) == (text, [])


def test_unfinished_text_is_content_up_to_what_may_become_a_call():
    hermes = ToolFormat("hermes", None)
    assert hermes.certain("hello <tool") == len("hello ")
    assert hermes.certain("hello <tool_call>{") == len("hello ")
    assert hermes.certain("hello") == 5
    assert ToolFormat("plain", None).certain('{"na') == 0
    assert ToolFormat("plain", None).certain("말") == 1
    assert ToolFormat("mistral", 7).certain("anything") == 0
