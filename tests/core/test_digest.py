import hashlib
import json
import os
import shutil
import subprocess
import sys
import unicodedata

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.core.digest import (
    INPUT_TABLE,
    FileDigests,
    canonical_json,
    digest_file,
    digest_tree,
    digest_value,
    files_of,
    short_digest,
)
from jangin.core.errors import DataError, DigestError
from jangin.text.normalize import nfc
from tests.unprivileged import unprivileged

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False).filter(lambda value: abs(value) != float("inf"))
)
VALUES = st.recursive(
    SCALARS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


def shuffled(value):
    """The same value with every mapping built in the opposite order."""
    if isinstance(value, dict):
        return {key: shuffled(item) for key, item in reversed(value.items())}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@given(VALUES)
def test_the_order_of_keys_does_not_change_a_digest(value):
    assert digest_value(shuffled(value)) == digest_value(value)


@given(VALUES)
def test_canonical_json_gives_the_value_back(value):
    assert json.loads(canonical_json(value)) == value


@given(VALUES, VALUES)
def test_values_with_other_json_have_other_digests(one, other):
    same = canonical_json(one) == canonical_json(other)
    assert (digest_value(one) == digest_value(other)) == same


def test_a_digest_is_the_same_in_every_process_and_release():
    value = {"나": [1, 2.5, None, True], "a": {"z": "한글", "b": ""}}
    script = f"from jangin.core.digest import digest_value; print(digest_value({value!r}))"
    other = subprocess.check_output([sys.executable, "-c", script], text=True).strip()
    assert digest_value(value) == other
    assert other == "f11dce353914fc5e6e54288bb5186d8686da959ae114696d7d3696f53900f3ba"
    assert short_digest(value) == digest_value(value)[:16]


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        pytest.param({"a": object()}, id="object"),
        {1, 2},
        b"bytes",
        {"a": 1, 2: 3},
        "\ud800",
    ],
    ids=repr,
)
def test_what_has_no_stable_bytes_is_refused(value):
    with pytest.raises(DigestError, match="no digest"):
        digest_value(value)


def test_a_value_that_holds_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(DigestError, match="no digest"):
        digest_value(value)


@given(st.binary(max_size=100))
def test_a_file_digest_is_sha256_of_its_bytes(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "digest_file"
    path.write_bytes(data)
    assert digest_file(path) == hashlib.sha256(data).hexdigest()


def test_a_tree_digest_depends_on_names_and_contents_only():
    files = {"a/x.txt": "1", "b/x.txt": "2"}
    assert digest_tree(dict(reversed(files.items()))) == digest_tree(files)
    assert digest_tree({"a/x.txt": "2", "b/x.txt": "1"}) != digest_tree(files)
    assert digest_tree({"a/x.txt": "1"}) != digest_tree(files)


@given(st.text(st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3)))
def test_decomposed_hangul_becomes_the_same_text(text):
    assert nfc(unicodedata.normalize("NFD", text)) == text == nfc(text)


def test_files_of_a_folder_are_named_by_their_path_and_hidden_ones_are_left_out(tmp_path):
    for name in ("b/x.txt", "a.txt", ".git/config", ".env"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert files_of(tmp_path) == {name: tmp_path / name for name in ("a.txt", "b/x.txt")}


def project_with_store(folder, *, settled_ns=0):
    """(a document, digests that are kept in a store beside it)."""
    (folder / "store").mkdir(parents=True)
    document = folder / "documents" / "a.md"
    document.parent.mkdir()
    document.write_text("one", encoding="utf-8")
    return document, FileDigests(folder / "store" / INPUT_TABLE, settled_ns)


def forge(table, digest):
    """Make every row of the table say this digest, to see whether it is believed."""
    rows = pq.read_table(table).to_pydict()
    rows["sha256"] = [digest] * len(rows["name"])
    pq.write_table(pa.table(rows), table)


def test_an_unchanged_file_is_not_read_again(tmp_path):
    document, files = project_with_store(tmp_path)
    assert files.digest(document) == digest_file(document)
    files.save()
    table = tmp_path / "store" / INPUT_TABLE
    assert pq.read_table(table)["name"].to_pylist() == ["documents/a.md"]
    forge(table, "forged")
    assert FileDigests(table, 0).digest(document) == "forged"


@pytest.mark.parametrize("change", ["content of the same length", "a copy in its place", "longer"])
def test_a_changed_file_is_noticed_with_the_same_time(tmp_path, change):
    document, files = project_with_store(tmp_path)
    files.digest(document)
    before = document.stat()
    if change == "a copy in its place":
        other = tmp_path / "other"
        other.write_text("two", encoding="utf-8")
        other.replace(document)
    else:
        document.write_text("two" if change != "longer" else "more", encoding="utf-8")
    os.utime(document, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert document.stat().st_mtime_ns == before.st_mtime_ns
    assert files.digest(document) == digest_file(document)


def test_a_file_that_was_just_written_is_not_kept_as_its_times_may_not_tell_a_change(tmp_path):
    document, files = project_with_store(tmp_path, settled_ns=10**12)
    files.digest(document)
    files.save()
    assert not (tmp_path / "store" / INPUT_TABLE).exists()
    os.utime(document, ns=(0, 2**62))
    _, later = project_with_store(tmp_path / "later")
    later.digest(document)
    later.save()
    assert not (tmp_path / "later" / "store" / INPUT_TABLE).exists()


def test_a_table_of_files_may_be_damaged_deleted_or_moved_with_its_project(tmp_path):
    document, files = project_with_store(tmp_path / "here")
    files.digest(document)
    files.save()
    moved = (tmp_path / "here").rename(tmp_path / "there")
    table = moved / "store" / INPUT_TABLE
    forge(table, "forged")
    assert FileDigests(table, 0).digest(moved / "documents" / "a.md") == "forged"
    table.write_bytes(b"PAR1 and nothing else")
    document = moved / "documents" / "a.md"
    assert FileDigests(table, 0).digest(document) == digest_file(document)
    shutil.rmtree(moved / "store")
    without = FileDigests(table, 0)
    assert without.digest(document) == digest_file(document)
    without.save()
    assert not (moved / "store").exists()


def test_a_file_that_may_not_be_read_is_told_with_what_to_do(tmp_path):
    file = tmp_path / "faq.csv"
    file.write_text("a")
    file.chmod(0)
    with unprivileged(), pytest.raises(DataError, match=r"faq\.csv cannot be read: Permission"):
        FileDigests().digest(file)
