"""Walks the pages of a server as a person could, and finds what is not in their language."""

import re
from html.parser import HTMLParser
from urllib.parse import parse_qs, urljoin, urlsplit

SILENT = frozenset(("script", "style", "code", "pre", "kbd", "textarea", "svg", "template"))
"""Elements whose text is no sentence: commands, files, names of keys."""
INLINE = frozenset(("a", "abbr", "b", "em", "i", "mark", "small", "span", "strong", "sub", "sup"))
SPOKEN = ("title", "aria-label", "placeholder", "alt", "data-confirm")
"""Attributes that a person sees or hears."""
ADDRESSES = ("href", "hx-get", "src")
VOID = frozenset(("area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source"))
ONE_OF_A_KIND = 2
"""Pages of one pattern that are looked at, such as two examples."""
SAME_TEXT = ("sort=", "start=", "after=", "then=")
"""In the query of the same page with other rows, or in another order."""
IDENTIFIER = re.compile(r"[0-9a-f]{8,}|\d+")
LATIN = re.compile(r"[A-Za-z_](?:[A-Za-z_'-]*[A-Za-z_])?")
DIGEST = re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b")
LONGEST_DIGEST = 8
"""Of the columns that hold ids, which a person asks for."""
QUOTED = re.compile(
    r"`[^`]*`|\([a-z_.]+\)|\S*\.(?:jsonl?|ya?ml|csv|xlsx|pdf|md|docx)(?![a-z])|\S+/\S*|https?://\S+"
)
"""What is to be written as it stands: keys and commands, names of files, addresses."""


class Page(HTMLParser):
    """The addresses of a page, and the texts that a person reads, one for each block."""

    def __init__(self, html):
        super().__init__()
        self.addresses, self.texts, self._open, self._text = [], [], [], []
        self.feed(html)
        self._end_block()

    def _end_block(self):
        text = " ".join("".join(self._text).split())
        if text:
            self.texts.append(text)
        self._text = []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.addresses += [given[name] for name in ADDRESSES if given.get(name)]
        is_user_text = given.get("lang") not in (None, "ko") or "data-verbatim" in given
        if not self.is_silent and not is_user_text:
            self.texts += [given[name] for name in SPOKEN if given.get(name)]
            if tag == "input" and given.get("type") in ("submit", "button"):
                self.texts.append(given.get("value") or "")
        if tag not in INLINE:
            self._end_block()
        if tag not in VOID:
            self._open.append((tag, tag in SILENT or is_user_text))

    def handle_endtag(self, tag):
        if tag not in INLINE:
            self._end_block()
        while self._open:
            if self._open.pop()[0] == tag:
                break

    def handle_data(self, data):
        if not self.is_silent:
            self._text.append(data)
        elif self._text and self._text[-1] != " ◦ ":
            self._text.append(" ◦ ")

    @property
    def is_silent(self):
        return any(silent for _, silent in self._open)


def foreign(text, allowed):
    """The words in Latin letters that are not allowed, and the digests, of a text."""
    text = QUOTED.sub(" ", text)
    digests = [d for d in DIGEST.findall(text) if len(d) > LONGEST_DIGEST]
    words = [
        word
        for word in LATIN.findall(DIGEST.sub(" ", text))
        if len(word) > 1 and word not in allowed
    ]
    return digests + words


def pattern_of(address):
    """The address without identifiers, and the names of its query."""
    parts = urlsplit(address)
    path = IDENTIFIER.sub("*", parts.path)
    return path, tuple(sorted(parse_qs(parts.query)))


def walk(browser, start=("/",)):
    """(address, page) of everything that can be reached by reading alone."""
    seen, of_a_kind, waiting = set(), {}, list(start)
    while waiting:
        address = waiting.pop(0)
        if address in seen:
            continue
        seen.add(address)
        kind = pattern_of(address)
        of_a_kind[kind] = of_a_kind.get(kind, 0) + 1
        if of_a_kind[kind] > ONE_OF_A_KIND or kind[0].startswith(("/static/", "/v1/", "/docs")):
            continue
        response = browser.get(address)
        if "text/html" not in response.headers.get("content-type", ""):
            continue
        page = Page(response.text)
        yield address, page
        for link in page.addresses:
            target = urlsplit(urljoin(str(response.url), link))
            is_ours = target.netloc == urlsplit(str(browser.base_url)).netloc
            if is_ours and not any(f"&{name}" in f"&{target.query}" for name in SAME_TEXT):
                waiting.append(target.path + (f"?{target.query}" if target.query else ""))
