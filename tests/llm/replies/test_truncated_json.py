import pytest

from jangin.llm.replies import is_truncated


@pytest.mark.parametrize(
    "text",
    [
        "no JSON at all",
        "{'a': 'it's'}",
        '{"a": "he said "x" to me"}',
        '{"height": "5" 11 inches"}',
        "{'a': [1, 2,],}",
        '{"a": "[("}',
        'Sure!\n```json\n{"a": 1}\n```\nDon\'t hesitate to ask.',
    ],
)
def test_slips_are_no_cut(text):
    assert not is_truncated(text)


@pytest.mark.parametrize(
    "text",
    ['{"pairs": [', '[{"a": "b"}', '{"a": "b', '{"a": "b\\', "{'a': 'it", '```\n{"a": [1, 2\n```'],
)
def test_what_breaks_off_is_a_cut(text):
    assert is_truncated(text)
