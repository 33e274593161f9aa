"""What is where on each page, by geometry: reference.py OUT PDF..., with pdfplumber.

OUT gets {pdf: [{"lines": [{"text", "heading"}], "rows": [[cells]], "headings": [text], "letters":
text}]}. Lines are characters sorted by position, cut at wide gaps; the heading of a line is the
last article heading above it on its page. Rows are those of ruled tables of two columns or more.
Holds for pages of one column. Also writes PDF.pages/0001.pdf, ..., one page each.
"""

import json
import re
import sys
from pathlib import Path

import pdfplumber
import pypdfium2

ARTICLE = re.compile(r"제\s*\d+\s*조(?:의\s*\d+)?\s*[(（\[【]")
GAP = 8.0


def pieces(line):
    """Words of a line, joined up to each wide gap."""
    out = []
    for word in line:
        if out and word["x0"] - out[-1][-1]["x1"] <= GAP:
            out[-1].append(word)
        else:
            out.append([word])
    return [" ".join(word["text"] for word in piece) for piece in out]


def lines_of(page):
    words = sorted(page.extract_words(x_tolerance=2), key=lambda w: (w["bottom"] + w["top"]) / 2)
    lines = []
    for word in words:
        middle = (word["bottom"] + word["top"]) / 2
        if lines and middle - lines[-1][0] < 0.4 * (word["bottom"] - word["top"]):
            lines[-1][1].append(word)
        else:
            lines.append((middle, [word]))
    return [sorted(line, key=lambda word: word["x0"]) for _, line in lines]


def facts(page, headers):
    """(facts of a page, first rows of its tables); `headers` are those of the page before.

    A header that a table repeats after a page break is no row of its own.
    """
    lines, headings = [], []
    for line in lines_of(page):
        parts = pieces(line)
        if ARTICLE.match(parts[0]):
            headings.append(parts[0])
        lines += [{"text": part, "heading": len(headings) - 1} for part in parts]
    rows, firsts = [], set()
    for table in page.find_tables():
        if len(table.rows) and max(len(row.cells) for row in table.rows) >= 2:
            for number, row in enumerate(table.extract()):
                cells = [cell for cell in row if cell and cell.strip()]
                if number == 0:
                    firsts.add(str(cells))
                if len(cells) >= 2 and (number or str(cells) not in headers):
                    rows.append(cells)
    letters = "".join(char["text"] for char in page.dedupe_chars().chars)
    one = {"lines": lines, "rows": rows, "headings": headings, "letters": letters}
    return one, firsts


def main():
    out, *paths = sys.argv[1:]
    found = {}
    for path in paths:
        with pdfplumber.open(path) as document:
            found[path] = []
            headers = set()
            for page in document.pages:
                one, headers = facts(page, headers)
                found[path].append(one)
                page.close()
        folder = Path(f"{path}.pages")
        folder.mkdir(exist_ok=True)
        document = pypdfium2.PdfDocument(path)
        for index in range(len(document)):
            single = pypdfium2.PdfDocument.new()
            single.import_pages(document, [index])
            single.save(folder / f"{index + 1:04}.pdf")
    Path(out).write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
