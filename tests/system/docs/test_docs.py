"""What the documents promise is true: the tree, the commands, the generated pages, the projects."""

import re
from pathlib import Path

import pytest

from jangin.project.file import open_project

ROOT = Path(__file__).parents[3]
WRITTEN = {ROOT / "projects" / "models", ROOT / "bench" / "out"}
"""What `projects/real_models.py` and benches write; git ignores it."""
READMES = [ROOT / "README.md", ROOT / "README.ko.md"]


def tree() -> list[tuple[str, str]]:
    """(path, caption) of every line of the tree of docs/architecture.md, parents joined."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = re.search(r"```text\njangin/\n([\s\S]*?)```", text)
    assert block, "docs/architecture.md has no tree"
    entries: list[tuple[str, str]] = []
    parents: list[str] = []
    for line in block[1].splitlines():
        match = re.match(r"^((?:[|] {3}|    )*)(?:[|]-- |`-- )(\S+)\s*(.*)$", line)
        assert match, f"cannot read the tree's line {line!r}"
        depth = len(match[1]) // 4
        parents = [*parents[:depth], match[2].rstrip("/")]
        entries.append(("/".join(parents), match[3]))
    return entries


def test_every_entry_of_the_tree_exists_and_has_a_caption() -> None:
    entries = tree()
    assert len(entries) > 20
    for path, caption in entries:
        assert (ROOT / path).exists(), f"the tree shows {path}, which is not there"
        assert caption, f"{path} has no caption"


def test_the_tree_shows_every_room_every_project_and_every_bench() -> None:
    shown = {path for path, _ in tree()}
    wanted = {
        path.relative_to(ROOT).as_posix()
        for parent in ("src/jangin", "projects", "bench")
        for path in (ROOT / parent).iterdir()
        if path.is_dir() and path.name[0] not in "._" and path not in WRITTEN
    }
    assert wanted <= shown, f"the tree lacks {sorted(wanted - shown)}"


def make_targets() -> set[str]:
    """Every word that `make` takes."""
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_every_make_word_in_the_readme_is_a_target(readme: Path) -> None:
    words = set(re.findall(r"\bmake ([a-z-]+)", readme.read_text(encoding="utf-8")))
    assert {"demo", "test"} <= words <= make_targets()


def test_every_target_that_tests_something_is_in_contributing() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tests = {target for target in make_targets() if target.startswith("test")}
    assert "test-cluster" in tests
    assert tests <= set(re.findall(r"^\| `make ([a-z-]+)`", text, flags=re.M))


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_every_jangin_command_in_the_readme_is_a_command(readme: Path) -> None:
    listed = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    commands = set(re.findall(r"^## `jangin ([a-z]+)", listed, flags=re.M))
    code = {
        word
        for block in re.findall(
            r"```(?:sh|bash)\n([\s\S]*?)```", readme.read_text(encoding="utf-8")
        )
        for word in re.findall(r"^(?:\.venv/bin/)?jangin ([a-z]+)", block, flags=re.M)
    }
    assert code
    assert code <= commands, f"no such command: {sorted(code - commands)}"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "projects").glob("*/*.yaml")), ids=lambda path: path.parent.name
)
def test_every_project_file_that_ships_is_right(path: Path) -> None:
    opened = open_project(path)
    assert opened.variants
    for name in ("README.md", "README.ko.md"):
        assert (path.parent / name).exists()
