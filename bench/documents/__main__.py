"""Reading of documents, beside other readers.

    python bench/documents ocr FOLDER [never|always]
    python bench/documents layout [PDF ...] [--before SRC] [--only NAME ...]
    python bench/documents labels [PDF ...] [--verbose]
    python bench/documents columns [NAME ...] [--folder FOLDER] [--scans] [--before SRC] [--verbose]

`ocr`: time, headings and character errors on a folder of PDFs; see ocr.py.
`layout`: reading order, tables, headings and speed of the text layer; see layout.py. Without a PDF
only the documents of samples/ are read, which samples.py draws. `--before` is the `src` folder of
another version of jangin, measured in the same run.
`labels`: whether chunks name the section that their lines are in; see labels.py.
`columns`: sentences whole and in order on generated pages of columns, as text layers or as scans;
see columns.py. NAME is a part of the names of layouts; FOLDER keeps the PDFs. Each peer is
installed into an environment of its own, bench/.venvs/documents-NAME; every reader runs in a
process of its own, one after another.
"""

import argparse
from pathlib import Path

from columns import measure_columns
from labels import measure_labels
from layout import READERS, compare_readers
from ocr import measure_folder


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/documents")
    kinds = parser.add_subparsers(dest="kind", required=True)
    scans = kinds.add_parser("ocr")
    scans.add_argument("folder", type=Path)
    scans.add_argument("use", nargs="?", default="auto", choices=("auto", "never", "always"))
    layers = kinds.add_parser("layout")
    layers.add_argument("pdf", nargs="*", type=Path)
    layers.add_argument("--before", type=Path)
    layers.add_argument("--only", nargs="+", choices=READERS, default=list(READERS))
    sections = kinds.add_parser("labels")
    sections.add_argument("pdf", nargs="*", type=Path)
    sections.add_argument("--verbose", action="store_true", help="print what is wrong")
    flows = kinds.add_parser("columns")
    flows.add_argument("name", nargs="*")
    flows.add_argument("--folder", type=Path)
    flows.add_argument("--scans", action="store_true")
    flows.add_argument("--before", type=Path)
    flows.add_argument("--verbose", action="store_true", help="print what is wrong")
    chosen = parser.parse_args()
    if chosen.kind == "ocr":
        measure_folder(chosen.folder, chosen.use)
    elif chosen.kind == "columns":
        measure_columns(
            chosen.folder, chosen.scans, chosen.before, chosen.name, verbose=chosen.verbose
        )
    elif chosen.kind == "labels":
        measure_labels(chosen.pdf, verbose=chosen.verbose)
    else:
        compare_readers(chosen.pdf, chosen.before, chosen.only)


if __name__ == "__main__":
    main()
