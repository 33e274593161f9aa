"""What is installed: asked once, and again once it changes."""

import os
import stat

import pytest

from jangin.documents.ocr import latin_recognizer, tesseract

PROGRAM = """#!/bin/sh
echo "$@" >> {calls}
case $1 in
--version) echo "tesseract 5.9.{release}";;
--list-langs) echo 'List of available languages in "{folder}/" (1):'; ls {folder};;
esac
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A function that installs a Tesseract of a release; its calls are in `calls`."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "eng").touch()
    monkeypatch.setattr(tesseract, "OTHER_MODELS", tmp_path / "other")
    monkeypatch.setattr(latin_recognizer, "MODEL", tmp_path / "none.onnx")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def install(release):
        path = tmp_path / "tesseract"
        path.write_text(
            PROGRAM.format(calls=tmp_path / "calls", folder=tmp_path / "models", release=release)
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        os.utime(path, (release, release))

    install(1)
    return install


@pytest.mark.usefixtures("program")
def test_the_program_is_asked_once(tmp_path):
    for _ in range(3):
        assert tesseract.version() == "tesseract 5.9.1 (eng)"
    calls = (tmp_path / "calls").read_text().split()
    assert sorted(calls) == ["--list-langs", "--list-langs", "--version"]


def test_an_installed_language_and_another_release_are_seen(program, tmp_path):
    assert tesseract.version() == "tesseract 5.9.1 (eng)"
    (tmp_path / "models" / "kor").touch()
    os.utime(tmp_path / "models", (5, 5))
    assert tesseract.installed_languages() == ("eng", "kor")
    program(2)
    assert tesseract.version() == "tesseract 5.9.2 (eng+kor)"


@pytest.mark.usefixtures("program")
def test_other_models_are_used_once_both_are_there_and_each_version_has_a_name_of_its_own(tmp_path):
    names = [tesseract.version()]
    (tmp_path / "other").mkdir()
    for language, content in (("kor", "1"), ("eng", "2"), ("eng", "3")):
        (tmp_path / "other" / f"{language}.traineddata").write_text(content)
        os.utime(tmp_path / "other" / f"{language}.traineddata", (ord(content), ord(content)))
        names.append(tesseract.version())
    assert names[0] == names[1] == "tesseract 5.9.1 (eng)"
    assert len({*names}) == 3
    assert "tessdata_best" in names[2]


def test_without_the_program_nothing_is_installed(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tesseract.version() == "absent"
    assert tesseract.installed_languages() == ()
