"""docs/python.md is true: its code runs."""

import re
import shutil
from pathlib import Path

import pytest

import jangin
from jangin.core import errors

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_block_of_the_page_runs_in_order(tiny, tmp_path, monkeypatch, capsys):
    shutil.copytree(tiny[0].folder, tmp_path / "pumps")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n([\s\S]*?)```", PAGE)
    assert len(blocks) == 5
    names = {}
    for block in blocks:
        block = block.replace("openai", "chat")  # which wants ten rows
        exec(compile(block, "python.md", "exec"), names)
    assert names["plan"].up_to_date
    assert names["frame"].height == len(names["examples"])
    assert len((tmp_path / "train.jsonl").read_text("utf-8").splitlines()) == 8
    assert "there is no stage 'nonsense'" in capsys.readouterr().out


def test_every_error_of_the_page_and_of_the_tree_is_public():
    listed = set(re.findall(r"`(\w+Error)`", PAGE))
    assert all(issubclass(getattr(jangin, name), errors.JanginError) for name in listed)
    source = Path(jangin.__file__).read_text(encoding="utf-8")
    typed = set(re.findall(r"import (\w+Error) as", source))
    tree = {name for name in vars(errors) if name.endswith("Error")}
    internal = {"DigestError", "PortableError", "StoppedError", "UnreadableStoreError"}
    assert tree - internal == typed
    assert listed <= typed
