"""Teach with a real model on this machine: `make demo-teacher`, or with CHUNKS=12 an excerpt.

    python projects/teacher/demo.py --chunks 12

Both models have to be there; `python projects/real_models.py qwen2.5-coder-1.5b gemma-3-270m` gets
them.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGES = (HERE.parent / "handbook/source/취업규칙.md", HERE / "documents/pool-handbook.md")
SECTION = re.compile(r"^#{2,}(?= (?:제\d+조|\d+\.))", re.MULTILINE)


def excerpt(count: int) -> None:
    """Write the first sections of each page, `count` in all."""
    folder = HERE / "excerpt"
    folder.mkdir(exist_ok=True)
    for number, page in enumerate(PAGES):
        text = page.read_text(encoding="utf-8")
        starts = [match.start() for match in SECTION.finditer(text)]
        wanted = count // 2 + (count % 2 if number == 0 else 0)
        chosen = text[starts[0] : starts[wanted]] if wanted < len(starts) else text[starts[0] :]
        (folder / page.name).write_text(chosen, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--chunks", type=int, help="about as many passages; default: all")
    arguments = parser.parse_args()
    if arguments.chunks:
        excerpt(max(2, arguments.chunks))
    variant = "excerpt" if arguments.chunks else "whole"
    project = ["--project", str(HERE), "--variant", variant]
    for words in (["plan", *project], ["run", *project]):
        outcome = subprocess.run([sys.executable, "-m", "jangin.cli", *words], check=False)  # noqa: S603  fixed words
        if outcome.returncode:
            sys.exit(outcome.returncode)


if __name__ == "__main__":
    main()
