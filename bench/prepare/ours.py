"""The steps of peers.py by `jangin.prepare.engine.build`. Prints one line of JSON.

    python ours.py FILE.tsv FOLDER [no-aside]

With `no-aside` the rows that are left out are not written either, as in peers.py.
"""

import importlib
import json
import sys
import tempfile
from pathlib import Path

from meter import measured

from jangin.prepare.engine.build import build_files
from jangin.prepare.engine.plan import PreparePlan

PLAN = {
    "prompt": "{review}",
    "completion": "{rating}",
    "steps": [
        {"type": "clean_text", "columns": ["review"]},
        {"type": "labels", "column": "rating", "labels": [str(star) for star in range(1, 11)]},
        {"type": "deduplicate", "match": "exact", "conflicts": "majority"},
    ],
}


if __name__ == "__main__":
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    importlib.import_module("polars")
    names = ("train", "validation", "test") + (() if "no-aside" in sys.argv else ("aside",))
    files = {name: folder / f"{name}.jsonl" for name in names}
    with measured(), tempfile.TemporaryDirectory(dir=folder) as work:
        build_files(source, PreparePlan.model_validate_json(json.dumps(PLAN)), files, Path(work))
