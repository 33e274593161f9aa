"""Reading order, tables, headings and speed of readers of text layers, beside one another.

For PDFs: what is where comes from pdfplumber's positions (reference.py), so the figures hold
for pages of one column.
  wrong heading  lines under another article heading than the one above them on the page, of the
                 lines that a reader gives in one piece
  rows           rows of ruled tables in one piece, cell after cell
  headings       article headings at the start of a line
  lost, added    letters and digits, against the characters of the page; heads that jangin leaves
                 out because they recur count as lost
  pages/s        pages per CPU-second of the reader, without imports
For samples/: neighbouring lines of the true reading order that follow one another.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

from figures import (
    found_headings,
    in_order,
    letters_changed,
    whole_rows,
    wrong_headings,
)
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
VENVS = HERE.parent / ".venvs"
SAMPLES = HERE / "samples"
PINS = {
    "pypdf": "pypdf==7.1.0",
    "pdfplumber": "pdfplumber==0.11.10",
    "pymupdf4llm": "pymupdf==2.0",
    "markitdown": "markitdown[pdf]==0.1.8",
}
READERS = ("ours", *PINS)
console = Console(width=120)


def python_of(name: str) -> Path:
    """The interpreter of a peer's environment, which is made where it is not there."""
    folder = VENVS / f"documents-{name}"
    python = folder / "bin" / "python"
    if not python.exists():
        console.print(f"installing {PINS[name]} into {folder}")
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", PINS[name]], check=True)
    return python


def readings(name: str, source: Path | None, paths: list[Path], memory: Path) -> dict[str, Any]:
    """{path: {"pages", "cpu_s"}} of one reader."""
    out = memory / f"{name}.json"
    python = python_of(name) if name in PINS else Path(sys.executable)
    environment = {**os.environ, **({"PYTHONPATH": str(source)} if source else {})}
    script = [python, HERE / "contestant.py", name, out, *paths]
    subprocess.run(script, check=True, env=environment, stdout=subprocess.DEVNULL)
    return dict(json.loads(out.read_text(encoding="utf-8")))


def references(paths: list[Path], memory: Path) -> dict[str, Any]:
    out = memory / "reference.json"
    python = python_of("pdfplumber")
    subprocess.run([python, HERE / "reference.py", out, *paths], check=True)
    return dict(json.loads(out.read_text(encoding="utf-8")))


def compare_readers(pdfs: list[Path], before: Path | None, only: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        memory = Path(folder)
        paths = [Path(shutil.copy(pdf, memory / f"{i}_{pdf.name}")) for i, pdf in enumerate(pdfs)]
        names = [truth.name.split(".")[0] for truth in SAMPLES.glob("*.truth.json")]
        samples = [Path(shutil.copy(SAMPLES / f"{name}.pdf", memory)) for name in names]
        true = references(paths, memory) if paths else {}
        results = {}
        for name in [*(["before"] if before else []), *only]:
            source = before if name == "before" else HERE.parents[1] / "src"
            results[name] = readings(
                name, source if name in ("ours", "before") else None, paths + samples, memory
            )
    for path in paths:
        show_pdf(path, true[str(path)], results)
    show_samples(sorted(samples), results)


def show_pdf(path: Path, pages: list[Any], results: dict[str, dict[str, Any]]) -> None:
    columns = ("reader", "wrong heading", "on pages", "rows", "headings", "lost", "added")
    table = Table(*columns, "pages/s", title=f"{path.name}, {len(pages)} pages")
    for name, result in results.items():
        texts = result[str(path)]["pages"]
        pairs = list(zip(pages, texts, strict=True))
        headed = [wrong_headings(page, text) for page, text in pairs if page["headings"]]
        wrong, whole = sum(one[0] for one in headed), sum(one[1] for one in headed)
        rows = [sum(part) for part in zip(*(whole_rows(*pair) for pair in pairs), strict=True)]
        heads = [sum(part) for part in zip(*(found_headings(*pair) for pair in pairs), strict=True)]
        lost = [sum(part) for part in zip(*(letters_changed(*pair) for pair in pairs), strict=True)]
        table.add_row(
            name,
            f"{wrong} of {whole} ({100 * wrong / max(1, whole):.1f} %)",
            str(sum(one[0] > 0 for one in headed)),
            f"{rows[0]} of {rows[1]}",
            f"{heads[0]} of {heads[1]}",
            str(lost[0]),
            str(lost[1]),
            f"{len(pages) / result[str(path)]['cpu_s']:.1f}",
        )
    console.print(table)


def show_samples(samples: list[Path], results: dict[str, dict[str, Any]]) -> None:
    table = Table("sample", *results, title="neighbouring lines in order")
    for sample in samples:
        truth = json.loads((SAMPLES / f"{sample.stem}.truth.json").read_text(encoding="utf-8"))
        cells = []
        for result in results.values():
            right, pairs = in_order(truth, "\n".join(result[str(sample)]["pages"]))
            cells.append(f"{right} of {pairs}")
        table.add_row(sample.stem, *cells)
    console.print(table)
