"""Names of files are data: nothing leaves the folder, nothing is lost."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.serving.pages.runs.editing import receive, safe_name
from jangin.serving.pages.visit import PageError

SUFFIXES = (".pdf", ".md")


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("규정.pdf", "규정.pdf"),
        ("\u1100\u1172.pdf", "\uaddc.pdf"),
        ("../../etc/passwd.md", "passwd.md"),
        ("C:\\Users\\kim\\규정.PDF", "규정.PDF"),
        (".hidden.md", "hidden.md"),
        ("a\x00b\n.md", "ab.md"),
        ("<script>alert(1)</script>.md", "script_.md"),
        ('we"ird?.md', "we_ird_.md"),
        ("\u202egpj.md", "gpj.md"),
    ],
)
def test_a_name_is_kept_as_far_as_it_is_one(name, safe):
    assert safe_name(name, SUFFIXES) == safe


@pytest.mark.parametrize(
    "name", ["", "..", ".md", "/", "x.exe", "project.yaml", "a.md/", "x.md\x00.sh"]
)
def test_a_name_without_a_readable_format_is_refused(name):
    with pytest.raises(PageError):
        safe_name(name, SUFFIXES)


@given(st.text(max_size=300))
def test_no_name_leaves_the_folder(name):
    try:
        safe = safe_name(name + ".md", SUFFIXES)
    except PageError:
        return
    assert "/" not in safe
    assert "\\" not in safe
    assert safe not in (".", "..")
    assert not safe.startswith(".")
    assert len(safe.encode()) <= 180
    assert safe.isprintable()


async def pieces(*parts):
    for part in parts:
        yield part


def send(folder, name, *parts, limit=100):
    return asyncio.run(receive(pieces(*parts), folder / name, limit, folder / "removed"))


def test_a_file_appears_whole_and_the_one_it_replaces_is_kept(tmp_path):
    send(tmp_path / "documents", "a.md", b"one", b" two")
    assert (tmp_path / "documents/a.md").read_bytes() == b"one two"
    removed = tmp_path / "documents" / "removed"
    send(tmp_path / "documents", "a.md", b"one two")
    assert not removed.exists()
    send(tmp_path / "documents", "a.md", b"three")
    (kept,) = removed.iterdir()
    assert kept.read_bytes() == b"one two"
    assert kept.name.endswith("-a.md")
    assert {path.name for path in (tmp_path / "documents").iterdir()} == {"a.md", "removed"}


def test_too_much_nothing_and_a_broken_connection_leave_no_file(tmp_path):
    async def broken():
        yield b"half"
        raise ConnectionError

    with pytest.raises(PageError):
        send(tmp_path, "a.md", b"x" * 60, b"x" * 60)
    with pytest.raises(PageError):
        send(tmp_path, "a.md")
    with pytest.raises(ConnectionError):
        asyncio.run(receive(broken(), tmp_path / "a.md", 100, tmp_path / "removed"))
    assert list(tmp_path.iterdir()) == []
