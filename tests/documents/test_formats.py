"""A new format is one reader and one row: shown with a toy format of numbered pages."""

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from jangin.core.errors import MachineError
from jangin.core.events import Progress
from jangin.core.parquet import read_table
from jangin.core.records import Document
from jangin.documents import formats
from jangin.documents.chunk import ChunkConfig, chunk_document
from jangin.documents.formats import format_of, suffix_by_bytes
from jangin.documents.load import EVERY_FORMAT, STAGE, LoadConfig
from jangin.documents.readers.folder import UnreadableFile
from jangin.documents.readers.reader import (
    PageReading,
    ReaderSettings,
    SourceFile,
    UnreadableError,
)
from jangin.documents.reading import read_file
from jangin.project.plan import inputs_of, key_of
from jangin.project.setup.doctor import examine
from tests.documents.corpus.every import all_cases


def read_toy(file, settings):
    """Pages of a `.toy` file: a JSON list of texts, read with confidence 50."""
    settings.progress.message(f"{file.name}: a toy")
    try:
        texts = json.loads(file.read_bytes())
    except ValueError as error:
        raise UnreadableError("it is no toy.", "Save it as JSON.") from error
    return [PageReading(text, confidence=50.0, reason="toy") for text in texts]


TOY = formats.Format("toy", (".toy",), read_toy, is_markdown=True)


def add_format(monkeypatch, row):
    rows = tuple(known for known in formats.FORMATS if not set(known.suffixes) & set(row.suffixes))
    monkeypatch.setattr(formats, "FORMATS", (*rows, row))


def write(folder, files):
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def key(config, context):
    return key_of(STAGE, config, inputs_of(STAGE, config, {}, context.services))


def test_a_new_format_is_loaded_page_by_page_and_chunked(make_context, tmp_path, monkeypatch):
    toy = json.dumps(["Holidays\n========\nFifteen days.", "Travel\n======\nBy train."])
    write(tmp_path / "docs", {"rules.TOY": toy, "torn.toy": "{", "a.txt": "Plain\n=====\ntext"})
    add_format(monkeypatch, TOY)
    context = make_context(LoadConfig(folder=Path("docs")))
    STAGE.run(context)
    plain, document = read_table(context.workspace / "documents.parquet", Document)
    assert (plain.source, document.source) == ("a.txt", "rules.TOY")
    assert [document.text[page.start : page.end] for page in document.pages] == [
        "Holidays\n========\nFifteen days.\n\n",
        "Travel\n======\nBy train.",
    ]
    assert {(page.confidence, page.reason) for page in document.pages} == {(50.0, "toy")}
    (unreadable,) = read_table(context.workspace / "unreadable.parquet", UnreadableFile)
    assert unreadable == UnreadableFile(
        source="torn.toy", reason="it is no toy.", remedy="Save it as JSON."
    )
    assert "rules.TOY: a toy" in context.services.progress.messages
    chunks = chunk_document(document, ChunkConfig(min_characters=0))
    assert [(chunk.section, chunk.page) for chunk in chunks] == [("Holidays", 1), ("Travel", 2)]
    assert [chunk.section for chunk in chunk_document(plain, ChunkConfig())] == [""]


def test_a_new_format_leaves_the_key_of_projects_without_such_files(
    make_context, tmp_path, monkeypatch
):
    write(tmp_path / "docs", {"a.txt": "text"})
    config = LoadConfig(folder=Path("docs"), ocr={"type": "never"})
    context = make_context(config)
    before = key(config, context)
    assert before == "02fdddbdf7c25e8a6cfe9b2f7b81f466ac7e5b06706b1f7fb9363074dc8d3f4b"
    add_format(monkeypatch, TOY)
    assert key(config, context) == before
    write(tmp_path / "docs", {"b.toy": "[]"})
    assert key(config, context) != before
    only_text = LoadConfig(folder=Path("docs"), pattern=("*.txt",), ocr={"type": "never"})
    assert list(STAGE.sources(only_text, tmp_path)) == ["a.txt"]
    assert list(STAGE.sources(config, tmp_path)) == ["a.txt", "b.toy"]


def test_a_new_version_of_a_reader_changes_the_key_of_projects_with_such_files_only(
    make_context, tmp_path, monkeypatch
):
    write(tmp_path / "docs", {"a.txt": "text"})
    config = LoadConfig(folder=Path("docs"), ocr={"type": "never"})
    context = make_context(config)
    add_format(monkeypatch, TOY)
    text_only = key(config, context)
    write(tmp_path / "docs", {"b.TOY": "[]"})
    with_toy = key(config, context)
    add_format(monkeypatch, replace(TOY, version=2))
    assert key(config, context) != with_toy
    assert inputs_of(STAGE, config, {}, context.services)["reader:toy"] == "2"
    (tmp_path / "docs/b.TOY").unlink()
    assert key(config, context) == text_only


def test_the_frozen_default_pattern_covers_readable_formats_only():
    suffixes = [pattern.removeprefix("**/*") for pattern in EVERY_FORMAT]
    assert set(suffixes) <= set(formats.readable_suffixes())
    assert LoadConfig(folder=Path("docs")).identity()["pattern"] == list(EVERY_FORMAT)


def test_every_suffix_has_one_row_with_a_reader_or_a_format_to_convert_to():
    suffixes = [suffix for row in formats.FORMATS for suffix in row.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in suffixes)
    assert all((row.read is None) == bool(row.convert_to) for row in formats.FORMATS)
    assert formats.format_of(".PDF").name == "PDF"
    assert formats.format_of(".none") is formats.format_of("") is None


def test_a_format_that_gets_a_reader_is_no_longer_skipped(make_context, tmp_path, monkeypatch):
    write(tmp_path / "docs", {"a.txt": "text", "b.hwpml": '["휴가"]'})
    add_format(monkeypatch, formats.Format("Hangul XML", (".hml", ".hwpml"), read_toy))
    context = make_context(LoadConfig(folder=Path("docs")))
    STAGE.run(context)
    assert context.summary["documents"] == 2
    assert context.services.progress.messages == ["b.hwpml: a toy"]


@pytest.mark.slow
def test_a_missing_library_is_named_by_load_and_by_doctor(make_context, tmp_path, monkeypatch):
    def read(_file, _settings):
        import_module("jangin_toy_library")

    row = formats.Format("toy", (".toy",), read, packages=("jangin_toy_library",), extra="toys")
    add_format(monkeypatch, row)
    write(tmp_path / "docs", {"a.toy": "x"})
    with pytest.raises(MachineError, match=r"a\.toy.*jangin_toy_library.*jangin\[toys\]"):
        STAGE.run(make_context(LoadConfig(folder=Path("docs"))))
    states = {finding.name: finding for finding in examine(tmp_path)}
    assert states["jangin_toy_library"].state == "missing"
    assert "jangin[toys]" in states["jangin_toy_library"].remedy
    assert {"pypdfium2", "lxml", "olefile", "kiwipiepy"} <= set(states)


def test_an_error_of_a_reader_is_called_one_and_its_traceback_is_kept(
    make_context, tmp_path, monkeypatch
):
    def read_wrongly(file, _):
        return [PageReading(None + file.name)]

    add_format(monkeypatch, replace(TOY, read=read_wrongly))
    write(tmp_path / "docs", {"rules.toy": "[]", "a.txt": "text"})
    context = make_context(LoadConfig(folder=Path("docs")))
    STAGE.run(context)
    (row,) = read_table(context.workspace / "unreadable.parquet", UnreadableFile)
    assert "error in jangin or a library (TypeError: unsupported operand" in row.reason
    assert "damaged" not in row.reason
    log = (context.workspace / "runtime/errors.log").read_text(encoding="utf-8")
    assert log.startswith("rules.toy\nTraceback")
    assert "in read_wrongly" in log
    assert any("runtime/errors.log" in line for line in context.services.progress.messages)


@pytest.mark.parametrize("suffix", [".pdf", ".txt", ".hwp"])
def test_a_file_under_the_suffix_of_another_format_is_read_as_what_it_is(tmp_path, ledger, suffix):
    case = next(case for case in all_cases() if case.name.endswith(".docx"))
    path = tmp_path / f"rules{suffix}"
    path.write_bytes(case.data)
    progress = Progress()
    settings = ReaderSettings(ledger, progress, ocr="never")
    pages = read_file(SourceFile(path.name, path, "0" * 64), settings)
    assert "\n\n".join(page.text for page in pages).strip() == case.text.strip()
    assert [line for line in progress.messages if ".docx" in line and path.name in line]


def test_the_first_bytes_tell_every_format_of_the_corpus_that_has_them(tmp_path):
    plain = {".md", ".txt", ".eml", ".hwp", ".htm", ".html", ".xhtml"}
    for number, case in enumerate(all_cases()):
        path = tmp_path / f"{number}_{case.name}"
        path.write_bytes(case.data)
        suffix = suffix_by_bytes(path)
        if suffix or path.suffix not in plain:
            assert format_of(suffix) is format_of(path.suffix), case.name
