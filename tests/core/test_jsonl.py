import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jangin.core.errors import DataError
from jangin.core.jsonl import (
    KeyedJsonl,
    append_jsonl,
    numbered_jsonl,
    read_json_lines,
    read_jsonl,
    repair_jsonl,
    write_jsonl,
)
from jangin.core.records import Score

SCORES = st.lists(
    st.builds(
        Score,
        scorer=st.text(max_size=5),
        kind=st.sampled_from(["rule", "model", "human"]),
        value=st.floats(0, 1),
        reason=st.text(max_size=8),
    ),
    max_size=5,
)
same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def score(reason=""):
    return Score(scorer="s", kind="rule", value=0.5, reason=reason)


@same_folder
@given(SCORES, SCORES)
def test_what_was_written_and_appended_is_read(tmp_path, first, more):
    path = tmp_path / "scores.jsonl"
    assert write_jsonl(path, first) == len(first)
    assert append_jsonl(path, more) == len(more)
    assert list(read_jsonl(path, Score)) == first + more
    assert path.read_bytes().count(b"\n") == len(first) + len(more)


@pytest.mark.slow
@same_folder
@given(SCORES, SCORES, st.data())
def test_a_line_torn_anywhere_is_repaired_and_the_rest_survives(tmp_path, whole, more, data):
    path = tmp_path / "scores.jsonl"
    write_jsonl(path, whole)
    kept = path.stat().st_size
    append_jsonl(path, [score("torn")])
    line = path.stat().st_size - kept
    path.write_bytes(path.read_bytes()[: kept + data.draw(st.integers(0, line - 1))])
    repair_jsonl(path)
    append_jsonl(path, more)
    assert list(read_jsonl(path, Score)) == whole + more


def test_repairing_a_sound_file_changes_nothing(tmp_path):
    path = tmp_path / "scores.jsonl"
    write_jsonl(path, [score("가"), score("나")])
    before = path.read_bytes()
    repair_jsonl(path)
    assert path.read_bytes() == before


def test_a_file_that_is_not_there_is_empty_and_needs_no_repair(tmp_path):
    path = tmp_path / "none.jsonl"
    repair_jsonl(path)
    assert not path.exists()
    assert list(read_jsonl(path, Score)) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"scorer": "s", "kind": "rule", "value": 2}', "value: Input should be less than"),
        (b'{"scorer": "s", "kind": "rule"}', "value: Field required"),
        (b'{"scorer": "s", "kind": "rule", "value": 1, "x": 1}', "x: Extra inputs"),
        (b'{"scorer": "s"', "line: Invalid JSON"),
        (b"\xc7\xd1\xb1\xdb", "line: Invalid JSON"),
    ],
)
def test_a_bad_line_is_named_with_file_line_and_key(tmp_path, line, words):
    path = tmp_path / "scores.jsonl"
    write_jsonl(path, [score()])
    path.write_bytes(path.read_bytes() + b"\n" + line + b"\n")
    with pytest.raises(DataError) as caught:
        list(read_jsonl(path, Score))
    assert str(caught.value).startswith(f"{path}:3: {words}")
    assert str(caught.value).endswith("Correct or delete that line.")


def test_blank_lines_are_skipped_and_still_counted(tmp_path):
    path = tmp_path / "scores.jsonl"
    line = score().model_dump_json()
    path.write_text(f"\n{line}\n  \n{line}")
    assert [line for line, _ in numbered_jsonl(path, Score)] == [2, 4]


def test_lines_that_a_user_wrote_are_numbered_whatever_separators_are_inside_strings(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes('\ufeff{"a": "x\u2028y"}\r\n\n[1]\n'.encode())
    assert list(read_json_lines(path, "Fix it.")) == [(1, {"a": "x\u2028y"}), (3, [1])]


@pytest.mark.parametrize(
    ("data", "facts"),
    [(b'1\n{"a":', r"rows\.jsonl:2: .*character 6.*Fix it\."), (b"1\n\n\xff", r"rows\.jsonl:3: ")],
)
def test_a_line_that_a_user_wrote_wrongly_is_named(tmp_path, data, facts):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(data)
    with pytest.raises(DataError, match=facts):
        list(read_json_lines(path, "Fix it."))


def test_records_by_key_are_read_from_disk_also_after_a_kill(tmp_path):
    path = tmp_path / "journal.jsonl"
    records = [score(f"이유 {number}") for number in range(4)]
    before = KeyedJsonl(path, Score, lambda row: row.reason)
    for record in records[:3]:
        before.add(record)
    with path.open("ab") as stream:
        stream.write(b'{"scorer": "cut off')
    after = KeyedJsonl(path, Score, lambda row: row.reason)
    after.add(records[3])
    assert list(after) == [record.reason for record in records]
    assert "이유 4" not in after
    assert list(after.read(["이유 3", "이유 0"])) == [records[3], records[0]]


def test_a_log_without_a_line_end_for_a_long_time_is_cut_at_the_last_one(tmp_path):
    path = tmp_path / "journal.jsonl"
    write_jsonl(path, [score("kept")])
    complete = path.read_bytes()
    with path.open("ab") as stream:
        stream.write(b"x" * (3 << 20))
    repair_jsonl(path)
    assert path.read_bytes() == complete
