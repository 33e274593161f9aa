"""Reading of office files beside other tools: python -m bench.documents.formats [fuzz N | load N].

The corpus is that of the tests (tests/documents/corpus): small files of our own making, each with
the text that a person reads in it. For each format and tool:

    words   share of the words of the truth that are read (of all that is there, as a bag)
    extra   words that are read and are not in the truth, as a share of the truth's words
    rows    share of table rows whose cells are on one line, in order
    heads   share of headings that are heading lines of their level
    equal   files whose text equals the truth to the letter (ours only: others write other marks)

markitdown, trafilatura and hwp-hwpx-parser are installed into bench/.venvs/formats; pandoc and
LibreOffice are used if they are installed (Debian: pandoc, libreoffice-{writer,calc}-nogui).

`fuzz` reads N damaged files, and the bombs, in a process with 1.5 GiB of memory; `load`
times the stage on N small files.
"""

import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from jangin.core.events import Progress
from jangin.core.ledger import Ledger
from jangin.documents.formats import format_of
from jangin.documents.readers.reader import ReaderSettings, SourceFile, UnreadableError
from jangin.documents.reading import _read
from tests.documents.corpus.case import Case
from tests.documents.corpus.every import all_cases
from tests.documents.corpus.mutations import bombs, mutated

PEERS = Path(__file__).parent.parent / ".venvs" / "formats"
PACKAGES = ("markitdown[docx,pptx,xlsx]", "trafilatura", "lxml_html_clean", "hwp-hwpx-parser")
MEMORY = 1536 * 1024**2
PANDOC = ("docx", "pptx", "xlsx", "odt", "epub", "html", "rtf")
WRITER = ("docx", "odt", "rtf", "html", "hwp", "hwpx")
CALC = ("xlsx", "ods")
CSV = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,false,false,false,-1"
PYTHON = {
    "markitdown": """
import json, sys
from markitdown import MarkItDown
tool = MarkItDown()
out = {}
for name in sys.argv[1:]:
    try: out[name] = tool.convert(name).text_content
    except Exception as error: out[name] = None
print(json.dumps(out))
""",
    "trafilatura": """
import json, sys
from pathlib import Path
from trafilatura import extract
out = {}
for name in sys.argv[1:]:
    if name.endswith(".html"):
        out[name] = extract(Path(name).read_bytes(), output_format="markdown", include_tables=True)
print(json.dumps(out))
""",
    "hwp-parser": """
import json, sys
from hwp_hwpx_parser import Reader
out = {}
for name in sys.argv[1:]:
    if name.endswith((".hwp", ".hwpx")):
        try:
            with Reader(name) as reader: out[name] = reader.text
        except Exception: out[name] = None
print(json.dumps(out))
""",
}


def words(text: str) -> Counter[str]:
    return Counter(re.findall(r"[^\W_]+", text.replace("\\|", "|")))


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip().strip("|"))]


def measure(truth: str, text: str) -> dict[str, float]:
    """Counts of one file: words, read, extra, rows, rows whole, headings, headings seen."""
    want, have = words(truth), words(text)
    rows = [
        cells(line) for line in truth.split("\n") if line.startswith("| ") and "---" not in line
    ]
    lines = text.split("\n")
    plain = [" ".join(line.replace("\\", "").split()) for line in lines]
    whole = sum(any(in_order(row, line) for line in plain) for row in rows)
    heads = [line for line in truth.split("\n") if re.match("#+ ", line)]
    tidy = {re.sub(r"[*_\\]", "", line).strip() for line in lines}
    return {
        "words": want.total(), "read": (want & have).total(), "extra": (have - want).total(),
        "rows": len(rows), "whole": whole, "heads": len(heads),
        "seen": sum(head in tidy for head in heads),
        "files": 1, "equal": text.strip() == truth.strip(),
    }  # fmt: skip


def in_order(row: list[str], line: str) -> bool:
    at = 0
    for cell in row:
        found = line.find(cell.replace("\\", ""), at)
        if found < 0:
            return False
        at = found + len(cell)
    return True


def ours(cases: dict[Path, Case]) -> dict[Path, str | None]:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.sqlite")
        settings = ReaderSettings(ledger, Progress(), ocr="never")
        out: dict[Path, str | None] = {}
        for path in cases:
            row = format_of(path.suffix)
            assert row is not None
            assert row.read is not None
            pages = row.read(SourceFile(path.name, path, "0" * 64), settings)
            out[path] = "\n\n".join(page.text for page in pages)
        ledger.close()
    return out


def in_python(tool: str) -> Callable[[dict[Path, Case]], dict[Path, str | None]]:
    def run(cases: dict[Path, Case]) -> dict[Path, str | None]:
        done = subprocess.run(
            [PEERS / "bin" / "python", "-c", PYTHON[tool], *map(str, cases)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return {Path(name): text for name, text in json.loads(done.stdout.splitlines()[-1]).items()}

    return run


def pandoc(cases: dict[Path, Case]) -> dict[Path, str | None]:
    out: dict[Path, str | None] = {}
    for path in cases:
        if path.suffix[1:] in PANDOC:
            done = subprocess.run(
                ["pandoc", "--track-changes=accept", "--wrap=none", "-t", "gfm", str(path)],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            out[path] = done.stdout if done.returncode == 0 else None
    return out


def libreoffice(cases: dict[Path, Case]) -> dict[Path, str | None]:
    out: dict[Path, str | None] = {}
    for suffixes, target in ((WRITER, "txt:Text (encoded):UTF8"), (CALC, CSV)):
        paths = [one for one in cases if one.suffix[1:] in suffixes]
        with tempfile.TemporaryDirectory() as folder:
            command = ["soffice", "--headless", "--convert-to", target, "--outdir", folder]
            subprocess.run([*command, *paths], capture_output=True, check=False)
            for path in paths:
                made = sorted(Path(folder).glob(f"{path.stem}[.-]*"))
                texts = [one.read_text("utf-8", "replace") for one in made]
                out[path] = "\n".join(texts) if texts else None
    return out


def table(results: dict[str, dict[Path, str | None]], cases: dict[Path, Case]) -> None:
    print(
        f"{'format':<7}{'tool':<13}{'files':>6}{'words':>8}{'extra':>8}{'rows':>8}{'heads':>8}{'equal':>7}"
    )
    for suffix in dict.fromkeys(path.suffix for path in cases):
        for tool, texts in results.items():
            total: Counter[str] = Counter()
            failed = 0
            for path, case in cases.items():
                if path.suffix != suffix or path not in texts:
                    continue
                text = texts[path]
                failed += text is None
                total.update(
                    {key: int(value) for key, value in measure(case.text, text or "").items()}
                )
            if not total["files"]:
                continue
            if failed == total["files"]:
                print(f"{suffix[1:]:<7}{tool:<13}{failed:>6}  cannot read it")
                continue
            shares = [
                total["read"] / max(1, total["words"]), total["extra"] / max(1, total["words"]),
                total["whole"] / total["rows"] if total["rows"] else None,
                total["seen"] / total["heads"] if total["heads"] else None,
            ]  # fmt: skip
            shown = "".join(f"{'-' if share is None else f'{share:.0%}':>8}" for share in shares)
            equal = f"{total['equal']}" if tool == "jangin" else ""
            print(f"{suffix[1:]:<7}{tool:<13}{total['files']:>6}{shown}{equal:>7}", flush=True)


def compare() -> None:
    if not PEERS.exists():
        venv.create(PEERS, with_pip=True)
        subprocess.run([PEERS / "bin" / "pip", "install", "-q", *PACKAGES], check=True)
    with tempfile.TemporaryDirectory() as folder:
        cases = {}
        for number, case in enumerate(all_cases()):
            name = case.name.replace(".htm", ".html").replace(".htmll", ".html")
            path = Path(folder) / f"{number:02d}_{name}"
            path.write_bytes(case.data)
            cases[path] = case
        tools: dict[str, Callable[[dict[Path, Case]], dict[Path, str | None]]] = {"jangin": ours}
        tools |= {tool: in_python(tool) for tool in PYTHON}
        tools |= {"pandoc": pandoc} if shutil.which("pandoc") else {}
        tools |= {"libreoffice": libreoffice} if shutil.which("soffice") else {}
        table({tool: read(cases) for tool, read in tools.items()}, cases)


def fuzz(count: int) -> None:
    """Damaged files and bombs, read one after another in bounded memory."""
    hostile = bombs()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    outcomes: Counter[str] = Counter()
    surprises: Counter[str] = Counter()
    slowest = (0.0, "")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        before = sorted(Path(folder).iterdir())
        ledger = Ledger(Path(folder) / "ledger.sqlite")
        settings = ReaderSettings(ledger, Progress(), ocr="never")
        for name, data in [*mutated(all_cases(), count, seed=2026), *hostile]:
            path = Path(folder) / f"file{name[name.rfind('.') :]}"
            path.write_bytes(data)
            start = time.perf_counter()
            try:
                _read(SourceFile(name, path, "0" * 64), settings)
                outcomes["read"] += 1
            except UnreadableError as error:
                outcomes["reported"] += 1
                if "failed (" in error.reason or "memory" in error.reason:
                    surprises[f"{path.suffix} {error.reason}"] += 1
            slowest = max(slowest, (time.perf_counter() - start, name))
            path.unlink()
        ledger.close()
        left = [
            one.name
            for one in Path(folder).iterdir()
            if one not in before and "ledger" not in one.name
        ]
    print(
        f"{count} damaged files and {len(hostile)} bombs in {time.perf_counter() - began:.0f} s: "
        f"{dict(outcomes)}"
    )
    print(f"slowest {slowest[0]:.1f} s ({slowest[1]}); files left behind: {left}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    for reason, times in surprises.most_common():
        print(f"{times:>5}  {reason}")


def load(count: int) -> None:
    """Seconds of reading small files of all formats, as the stage does."""
    cases = [case for case in all_cases() if not case.name.startswith("everything")]
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.sqlite")
        settings = ReaderSettings(ledger, Progress(), ocr="never")
        paths = []
        for number in range(count):
            case = cases[number % len(cases)]
            paths.append(Path(folder) / f"{number}_{case.name}")
            paths[-1].write_bytes(case.data)
        start = time.perf_counter()
        for path in paths:
            _read(SourceFile(path.name, path, "0" * 64), settings)
        print(f"{count} files of all formats: {time.perf_counter() - start:.2f} s")
        ledger.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["fuzz"]:
        fuzz(int(sys.argv[2]))
    elif sys.argv[1:2] == ["load"]:
        load(int(sys.argv[2]))
    else:
        compare()
