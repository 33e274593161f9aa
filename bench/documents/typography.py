"""Which section every line of a PDF is in, by its type: typography.py OUT PDF..., with pdfplumber.

OUT gets {pdf: [[{"text", "title", "article"}] per page]}; "title" and "article" are "" above the
first one, a title ends the article before it, and both are None for a line that is a heading.
An article is a line that begins with `제N조(`, in a face of its own if most of them are. A title is
a line of its own in large type, or in larger type at the top of a page, or that begins as
appendices do, or that ends as policies and statutes do and is not in the face and size of most of
the document. One above another of its kind is that of a part or an entry of a list, and one that
comes again later an entry of a table of contents.
No outline and nothing of jangin is used. Holds for pages of one column.
"""

import json
import re
import sys
from collections import Counter
from pathlib import Path

import pdfplumber

TAIL = r"(?:\s*[ⅠⅡⅢⅣⅤⅥ]|\s*\([^()]{1,40}\)|\s*\[[^\]]{1,40}\])*"
POLICY = re.compile(rf"[^.]{{1,70}}(?:약관|특약|(?<!방)법|법률|시행령|감독규정){TAIL}\s*[】\])]?$")
APPENDIX = re.compile(
    r"[【\[<〈]\s*(?:별표|별지|붙임|부록|법규)\s*\d*\s*[】\]>〉]\s*[^\s(과와의에을를은는]"
)
ARTICLE = re.compile(r"제\s*\d+\s*조(?:의\s*\d+)?\s*[(（\[【]")
CHAPTER = re.compile(r"\[?\s*제\s*\d+\s*[편장절관]\s")
WORDS = re.compile(r"[가-힣]+(?: [가-힣]+)+")
TITLES = ("policy", "appendix", "large")
LARGE = 1.4
"""Size of type, in that of most of the document, from which on a line is a title."""
LARGER = 1.1
"""The same of the first line of a page, in a face of its own."""
PAGE_AT_END = re.compile(r"(?:[.·…]{3,}|\s)\s*\d{1,4}$")


def lines_of(page):
    """[(text, [(face, size) of each word])] of a page from top to bottom."""
    words = page.extract_words(x_tolerance=2, extra_attrs=["fontname", "size"])
    words.sort(key=lambda word: (word["top"] + word["bottom"]) / 2)
    lines = []
    for word in words:
        middle = (word["top"] + word["bottom"]) / 2
        if lines and middle - lines[-1][0] < 0.4 * (word["bottom"] - word["top"]):
            lines[-1][1].append(word)
        else:
            lines.append((middle, [word]))
    for _, line in lines:
        line.sort(key=lambda word: word["x0"])
    return [
        (
            " ".join(word["text"] for word in line),
            [(word["fontname"], round(word["size"], 1)) for word in line],
        )
        for _, line in lines
    ]


def most_frequent(pages):
    """The face and size of most characters of a document."""
    counts = Counter()
    for page in pages:
        for text, faces in page:
            counts[faces[0]] += len(text)
    return counts.most_common(1)[0][0]


def kinds_of(pages):
    """The kind of each line of each page: article, policy, appendix, large, chapter or ""."""
    body = most_frequent(pages)
    heads = [faces[0] != body for page in pages for text, faces in page if ARTICLE.match(text)]
    by_face = sum(heads) > 0.5 * len(heads)

    def kind(text, faces, number):
        own = all(face != body for face in faces)
        if PAGE_AT_END.search(text):
            return ""
        if ARTICLE.match(text):
            return "article" if faces[0] != body or not by_face else ""
        if CHAPTER.match(text):
            return "chapter"
        if APPENDIX.match(text):
            return "appendix"
        if own and POLICY.match(text):
            return "policy"
        size = min(size for _, size in faces) / body[1]
        larger = own and size >= LARGER and number == 0 and WORDS.fullmatch(text)
        return "large" if size >= LARGE or larger else ""

    return [[kind(*line, number) for number, line in enumerate(page)] for page in pages]


def letters(text):
    return re.sub(r"[\W_]", "", text)


def labelled(pages):
    """The lines of each page with the title and the article that they are under."""
    kinds = [kind for page in kinds_of(pages) for kind in page]
    lines = [text for page in pages for text, _ in page]
    newest = {letters(text): at for at, text in enumerate(lines) if kinds[at] in TITLES}
    title = article = ""
    out = []
    for at, (text, kind) in enumerate(zip(lines, kinds, strict=True)):
        is_title = kind in TITLES
        listed = kinds[at + 1 : at + 2] == [kind] or newest.get(letters(text)) != at
        if is_title and not listed:
            title, article = text, ""
        elif kind == "article":
            article = text
        headed = is_title or kind == "chapter"
        above = (None, None) if headed else (title, article)
        out.append({"text": text, "title": above[0], "article": above[1]})
    rest = iter(out)
    return [[next(rest) for _ in page] for page in pages]


def main():
    out, *paths = sys.argv[1:]
    found = {}
    for path in paths:
        with pdfplumber.open(path) as document:
            pages = []
            for page in document.pages:
                pages.append(lines_of(page))
                page.close()
        found[path] = labelled(pages)
    Path(out).write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
