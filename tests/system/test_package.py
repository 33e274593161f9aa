"""The wheel holds every file of the package, and works without the repository."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from jangin.project.setup.extras import extra_of

ROOT = Path(__file__).parents[2]
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
SKIPPED = {"__pycache__"}


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    copy = tmp_path / "copy"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", copy / "src", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    subprocess.run(
        [sys.executable, "-c", BUILD, str(tmp_path)], cwd=copy, check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("jangin-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (points,) = [name for name in names if name.endswith("entry_points.txt")]
        assert "jangin = jangin.cli.main:main" in archive.read(points).decode()
    package = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "jangin").rglob("*")
        if path.is_file() and not SKIPPED & set(path.parts)
    }
    assert {name for name in names if ".dist-info/" not in name} == package
    assert any(name.endswith("LICENSE") for name in names)


@pytest.mark.parametrize(
    ("module", "extra"),
    [("transformers.models", "train"), ("PIL", "documents"), ("sklearn", "evaluate"), ("os", "")],
)
def test_a_missing_module_has_a_pip_extra(module, extra):
    assert extra_of(module) == extra


def test_the_image_copies_what_the_wheel_is_built_from():
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    allowed = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().split()
    for name in ("pyproject.toml", "README.md", "LICENSE", "src"):
        assert name in text
        assert f"!{name}" in allowed
        assert (ROOT / name).exists()
