"""Data sets of the Hugging Face hub, with the real package and folders of this machine."""

import json

import pytest
from pydantic import TypeAdapter

from jangin.core.errors import DataError
from jangin.examples.formats.rows import HubRows, read_rows
from jangin.examples.read import STAGE, ReadConfig

datasets = pytest.importorskip(
    "datasets", reason="the package datasets is not installed: pip install 'jangin[hub]'"
)


@pytest.fixture(autouse=True)
def no_cache_of_others(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.fixture
def rows():
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["bad", "good"]),
            "tags": datasets.Sequence(datasets.Value("string")),
            "meta": {"n": datasets.Value("int64")},
            "blob": datasets.Value("binary"),
        }
    )
    table = {
        "text": [f"후기 {n}" for n in range(6)],
        "label": [n % 2 for n in range(6)],
        "tags": [["a", 'b"q']] * 6,
        "meta": [{"n": n} for n in range(6)],
        "blob": [b"\xff\x00"] * 6,
    }
    return datasets.Dataset.from_dict(table, features=features)


def read(folder, **fields):
    config = {
        "type": "hub",
        "id": "data",
        "prompt": "{text} {tags} {meta}",
        "completion": "{label}",
    }
    format = TypeAdapter(HubRows).validate_python(config | fields)
    rows = read_rows(folder, format, folder)
    assert rows.unusable == []
    return [(example.question, example.answer) for example in rows.examples]


def expected(*numbers):
    return [(f'후기 {n} ["a","b\\"q"] {{"n":{n}}}', str(n % 2)) for n in numbers]


def test_a_folder_of_parquet_files_is_read_whole_or_in_part(tmp_path, rows):
    (tmp_path / "data").mkdir()
    rows.to_parquet(tmp_path / "data" / "train.parquet")
    assert read(tmp_path) == expected(*range(6))
    assert read(tmp_path, split="train[1:3]") == expected(1, 2)
    with pytest.raises(DataError, match=r'data \(test\) cannot be loaded: Unknown split "test"'):
        read(tmp_path, split="test")


def test_a_folder_of_json_lines_is_read(tmp_path):
    (tmp_path / "data").mkdir()
    lines = [json.dumps({"text": f"후기 {n}", "label": n}) for n in range(3)]
    (tmp_path / "data" / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert read(tmp_path, prompt="{text}") == [(f"후기 {n}", str(n)) for n in range(3)]


def test_a_saved_data_set_is_read_with_the_rows_that_were_selected_in_their_order(tmp_path, rows):
    rows.select([4, 1, 3]).save_to_disk(tmp_path / "data")
    assert read(tmp_path) == expected(4, 1, 3)


def test_splits_that_were_saved_together_are_told_apart(tmp_path, rows):
    both = datasets.DatasetDict(train=rows.select([0, 1]), test=rows.select([5, 2]))
    both.save_to_disk(tmp_path / "data")
    assert read(tmp_path) == expected(0, 1)
    assert read(tmp_path, split="test") == expected(5, 2)


def test_the_files_of_a_folder_bear_identity(tmp_path, rows):
    rows.save_to_disk(tmp_path / "data")
    config = ReadConfig.model_validate({"format": {"type": "hub", "id": "data"}})
    assert "rows/state.json" in STAGE.sources(config, tmp_path)
    elsewhere = ReadConfig.model_validate({"format": {"type": "hub", "id": "klue"}})
    assert STAGE.sources(elsewhere, tmp_path) == {}


def test_a_data_set_that_is_nowhere_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match=r"nobody/nothing \(train\) cannot be loaded: .*\. Check"):
        read(tmp_path, id="nobody/nothing")
