"""The same steps in pandas and in Hugging Face datasets: the file to read, the folder to write.

    python peers.py pandas FILE.tsv FOLDER
    python peers.py datasets FILE.tsv FOLDER

Clean the text, keep known labels, one row for each prompt with its most frequent answer (of equals
the first), share out 80/10/10 by label, write chats as JSON Lines. Prints one line of JSON.
"""

import importlib
import re
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
from meter import measured

LABELS = [str(star) for star in range(1, 11)]
INVISIBLE = "[\u200b\u2060\ufeff\u00ad\u180e\u200e\u200f\u202a-\u202e]"
SEED = 42


def shares(labels: np.ndarray) -> np.ndarray:
    """0 train, 1 validation, 2 test: a tenth of every label each."""
    random = np.random.default_rng(SEED)
    split = np.zeros(len(labels), np.int8)
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        tenth = round(0.1 * len(rows))
        split[rows[:tenth]], split[rows[tenth : 2 * tenth]] = 2, 1
    return split


def in_pandas(source: Path, folder: Path) -> None:
    import pandas as pd

    frame = pd.read_csv(source, sep="\t", dtype=str, quoting=3, keep_default_na=False)
    text = frame["review"].str.normalize("NFC").str.replace(INVISIBLE, "", regex=True)
    frame["review"] = text.str.replace(r"[^\S\n]+", " ", regex=True).str.strip()
    frame = frame[frame["rating"].isin(LABELS) & (frame["review"] != "")]
    first = frame.reset_index(drop=True).reset_index()
    counts = first.groupby(["review", "rating"], sort=False)["index"].agg(["size", "min"])
    counts = counts.reset_index().sort_values(["size", "min"], ascending=[False, True])
    chosen = np.sort(counts.drop_duplicates("review")["min"].to_numpy())
    frame = first.iloc[chosen]
    split = shares(frame["rating"].to_numpy())
    for place, name in enumerate(("train", "validation", "test")):
        rows = frame[split == place]
        pairs = zip(rows["review"].tolist(), rows["rating"].tolist(), strict=True)
        chats = [
            [{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in pairs
        ]
        out = pd.DataFrame({"messages": chats})
        out.to_json(folder / f"{name}.jsonl", orient="records", lines=True, force_ascii=False)


def in_datasets(source: Path, folder: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    invisible, blanks = re.compile(INVISIBLE), re.compile(r"[^\S\n]+")
    names = ("review_id", "movie_id", "date", "rating", "review")
    strings = datasets.Features(dict.fromkeys(names, datasets.Value("string")))
    rows = datasets.load_dataset(
        "csv", data_files=str(source), delimiter="\t", quoting=3, keep_default_na=False,
        features=strings, split="train", cache_dir=str(folder / "cache"),
    )  # fmt: skip

    def clean(batch: dict) -> dict:
        texts = (unicodedata.normalize("NFC", text) for text in batch["review"])
        return {"review": [blanks.sub(" ", invisible.sub("", text)).strip() for text in texts]}

    known = set(LABELS)

    def keep(batch: dict) -> list[bool]:
        pairs = zip(batch["review"], batch["rating"], strict=True)
        return [text != "" and label in known for text, label in pairs]

    rows = rows.map(clean, batched=True).filter(keep, batched=True)
    counts: dict[str, Counter] = {}
    firsts: dict[tuple[str, str], int] = {}
    for place, pair in enumerate(zip(rows["review"][:], rows["rating"][:], strict=True)):
        counts.setdefault(pair[0], Counter())[pair[1]] += 1
        firsts.setdefault(pair, place)
    chosen = sorted(
        firsts[text, min(found, key=lambda label: (-found[label], firsts[text, label]))]
        for text, found in counts.items()
    )
    rows = rows.select(chosen)
    split = shares(np.array(rows["rating"][:]))

    def chat(batch: dict) -> dict:
        pairs = zip(batch["review"], batch["rating"], strict=True)
        return {
            "messages": [
                [{"role": "user", "content": q}, {"role": "assistant", "content": a}]
                for q, a in pairs
            ]
        }

    rows = rows.map(chat, batched=True, remove_columns=rows.column_names)
    for place, name in enumerate(("train", "validation", "test")):
        part = rows.select(np.flatnonzero(split == place))
        part.to_json(folder / f"{name}.jsonl", force_ascii=False)


if __name__ == "__main__":
    way, source, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    importlib.import_module(way)
    with measured():
        {"pandas": in_pandas, "datasets": in_datasets}[way](source, folder)
