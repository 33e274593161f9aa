"""Reader of HTML: the main content of a page, headings and tables as Markdown.

Menus, headers, footers, breadcrumbs, cookie notices and lists of links are left out by what HTML
says of them (elements, roles, classes) and by the share of their letters that are links. Everything
else stays: a document that its owner put into the folder is read whole, not summarised.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from jangin.core.reasons import Reason
from jangin.documents.readers.archive import number
from jangin.documents.readers.equations import web_equation
from jangin.documents.readers.markdown import Cell, flat_block, heading, table
from jangin.documents.readers.plain import decode_file
from jangin.documents.readers.reader import (
    PageReading,
    ReaderSettings,
    SourceFile,
    UnreadableError,
)
from jangin.text.normalize import clean_text, collapse_spaces

# The main content of a web page: without menus, footers, cookie notices and lists of links.


ROLES = frozenset({
    "navigation", "banner", "contentinfo", "search", "menu", "menubar", "dialog", "alertdialog",
    "toolbar", "tablist",
})  # fmt: skip
AROUND = re.compile(
    r"(?:^|[\s_-])(?:nav|navbar|navigation|navbox|gnb|lnb|snb|fnb|breadcrumbs?|sidebar|footer|foot"
    r"|cookies?|consent|gdpr|pagination|paging|catlinks|interlanguage|printfooter|editsection"
    r"|copyright|noprint|skip|skipnav|sns|share|advert|ads)(?:$|[\s_-])"
)
"""Words in classes and ids of what surrounds the content; gnb, lnb and snb are Korean menus."""
DOUBTFUL = re.compile(
    r"(?:^|[\s_-])(?:menu|submenu|header|banner|popup|modal|social|related|recommend|quick|login"
    r"|toolbar|widget|tags?)(?:$|[\s_-])"
)
"""Words of what surrounds the content if links are a good part of it."""
CONTAINERS = frozenset({"div", "ul", "ol", "section", "aside", "table", "dl", "form"})
FILE = re.compile(r"(?i)^(?:#|mailto:|tel:)|\.(?:pdf|hwpx?|docx?|xlsx?|pptx?|zip)(?:$|[?#])")
"""Targets of links that belong to the content: a file, an address, a place on the same page."""
FEW_LINKS = 4
MENU_SHARE = 0.6
"""A block with at least `FEW_LINKS` links whose letters make this share of it is a menu."""
DOUBTFUL_SHARE = 0.3
KEPT = 0.4
"""If less than this share of the letters outside links would be left, or less than `A_SENTENCE`
altogether, only what HTML itself names goes."""
A_SENTENCE = 40


@dataclass(frozen=True, slots=True)
class _Size:
    """Letters that an element shows, those in links to other pages, and the number of these."""

    letters: int
    linked: int
    links: int


def prune(root: Any) -> Any:
    """The page without what surrounds its content, as the element that holds the rest.

    A `main` or single `article` element with most of the letters is taken for the content. Names
    and links only decide as long as enough of the page is left, so that a page whose content is a
    list of links, or is in a box called `footer`, is not emptied. `root` is changed.
    """
    _drop(root, lambda one: one.tag == "nav" or one.get("role") in ROLES or _is_frame(one))
    sizes = _measure(root)
    root = _main(root, sizes[root].letters)
    before, unlinked = sizes[root].letters, sizes[root].letters - sizes[root].linked
    whole = deepcopy(root)
    _drop(root, lambda one: _surrounds(one, sizes[one]) and sizes[one].letters <= 0.5 * before)
    sizes = _measure(root)
    _drop(root, lambda one: one.tag in CONTAINERS and _is_menu(sizes[one]))
    left = _measure(root)[root]
    enough = left.letters - left.linked >= KEPT * unlinked
    return root if enough and left.letters >= min(A_SENTENCE, KEPT * before) else whole


def _drop(root: Any, is_out: Callable[[Any], bool]) -> None:
    """Take elements out, keeping the text after them."""
    for element in list(root.iter()):
        if element is root or element.getparent() is None or not isinstance(element.tag, str):
            continue
        if element.tag not in ("html", "body", "main", "article") and is_out(element):
            element.drop_tree()


def _measure(root: Any) -> Mapping[Any, _Size]:
    """{element: its size}; children are counted before their parents."""
    sizes: dict[Any, _Size] = {}
    for element in reversed(list(root.iter())):
        letters, linked, links = _length(element.text), 0, 0
        for one in element:
            size = sizes[one]
            letters += size.letters + _length(one.tail)
            linked += size.linked
            links += size.links
        if element.tag in ("script", "style", "noscript", "template") or not isinstance(
            element.tag, str
        ):
            letters, linked, links = 0, 0, 0
        if element.tag == "a" and element.get("href") and not FILE.search(element.get("href")):
            linked, links = letters, 1
        sizes[element] = _Size(letters, linked, links)
    return sizes


def _length(text: str | None) -> int:
    return len("".join(text.split())) if text else 0


def _is_frame(element: Any) -> bool:
    """True for the header or footer of the page, not for one of an article or section."""
    if element.tag not in ("header", "footer"):
        return False
    return all(one.tag not in ("article", "main", "section") for one in element.iterancestors())


def _main(root: Any, total: int) -> Any:
    """The element that HTML itself names as the content, if it holds at least half of the page."""
    candidates = root.xpath("//main | //*[@role='main']") or root.xpath("//article")
    if len(candidates) == 1 and _measure(candidates[0])[candidates[0]].letters >= 0.5 * total:
        return candidates[0]
    return root


def _surrounds(element: Any, size: _Size) -> bool:
    named = f"{element.get('class', '')} {element.get('id', '')}".strip().lower()
    if not named:
        return False
    if AROUND.search(named):
        return True
    return bool(DOUBTFUL.search(named)) and size.linked > DOUBTFUL_SHARE * size.letters


def _is_menu(size: _Size) -> bool:
    """True for a block of links with hardly anything between them."""
    return size.links >= FEW_LINKS and size.linked >= MENU_SHARE * max(1, size.letters)


INVISIBLE = frozenset({
    "script", "style", "noscript", "template", "svg", "head", "iframe", "object", "button",
    "select", "canvas", "audio", "video", "map", "textarea", "input", "datalist", "rp", "rt",
})  # fmt: skip
BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details",
    "dialog", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "header",
    "hgroup", "hr",
    "html", "legend", "li", "main", "menu", "nav", "ol", "p", "pre", "section", "summary",
    "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul",
    "h1", "h2", "h3", "h4", "h5", "h6",
})  # fmt: skip
DEEPEST = 100
"""Nesting beyond which only the letters of an element are taken."""
HUGE = 32 * 1024**2
"""Characters of a page that is still parsed."""


def read_html(file: SourceFile, settings: ReaderSettings) -> list[PageReading]:
    """The main content of a page: a paragraph per block, `#` before headings, Markdown tables.

    Raises: UnreadableError: the bytes are no text (as `plain.decode`), or hold no element.
    """
    return [PageReading(visible_text(decode_file(file, settings)))]


def visible_text(source: str, *, whole: bool = False) -> str:
    """Text of an HTML page as `read_html` returns it; with `whole`, menus and footers too.

    Raises: UnreadableError: it holds no element, or is far longer than pages are.
    """
    from lxml import etree, html

    source = re.sub(r"^\s*<\?xml[^>]*\?>", "", source.replace("\x00", ""))
    if len(source) > HUGE:
        raise UnreadableError(Reason("longer_than_a_page"), "Split it into several files.")
    parser = html.HTMLParser(remove_comments=True, remove_pis=True, no_network=True)
    try:
        root = html.document_fromstring(source, parser=parser)
    except (etree.ParserError, ValueError, AssertionError) as error:
        raise UnreadableError(Reason("no_html"), "Export it again.") from error
    if not whole:
        root = prune(root)
    return clean_text("\n\n".join(block for block in Blocks().of(root) if block.strip()))


class Blocks:
    """Turns elements into Markdown blocks, in order."""

    def __init__(self) -> None:
        self._line: list[str] = []
        self._out: list[str] = []
        self._depth = 0

    def of(self, root: Any) -> list[str]:
        """The blocks below an element."""
        self._walk(root)
        self._end()
        return self._out

    def _end(self) -> None:
        """Close the paragraph that is being filled."""
        text = _lines("".join(self._line))
        self._line = []
        if text:
            self._out.append(text)

    def _walk(self, element: Any) -> None:
        self._line.append(_inline(element.text))
        for one in element:
            self._element(one)
            self._line.append(_inline(one.tail))

    def _element(self, element: Any) -> None:
        tag = element.tag if isinstance(element.tag, str) else ""
        if not tag or tag in INVISIBLE or is_hidden(element):
            return
        if tag == "math":
            self._line.append(web_equation(element))
            return
        if tag == "br":
            self._line.append("\n")
            return
        if tag not in BLOCKS:
            self._walk_deeper(element)
            return
        self._end()
        self._block(tag, element)
        self._end()

    def _block(self, tag: str, element: Any) -> None:
        if re.fullmatch("h[1-6]", tag):
            text = collapse_spaces(" ".join(Blocks().of(element)))
            self._out += [heading(int(tag[1]), text)] if text else []
        elif tag in ("ul", "ol", "menu"):
            items = list(_items(element, 0))
            self._out += ["\n".join(items)] if items else []
        elif tag == "pre":
            text = "".join(element.itertext()).strip("\n")
            self._out += [text] if text.strip() else []
        elif tag == "table":
            self._out += table_blocks(element)
        else:
            self._walk_deeper(element)

    def _walk_deeper(self, element: Any) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            self._line.append(_inline(" ".join(element.itertext())))
        else:
            self._walk(element)
        self._depth -= 1


def is_hidden(element: Any) -> bool:
    """True for what a browser does not show."""
    if element.get("hidden") is not None:
        return True
    style = element.get("style", "")
    return bool(style) and bool(
        re.search(r"display\s*:\s*none|visibility\s*:\s*hidden", style.lower())
    )


def _inline(text: str | None) -> str:
    return re.sub(r"\s+", " ", text) if text else ""


def _lines(text: str) -> str:
    lines = (re.sub(r"[ \t\u00a0]+", " ", line).strip() for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def _items(parent: Any, depth: int) -> Iterator[str]:
    """Lines of a list: `- text`, `1. text`, deeper lists indented; several blocks are one line."""
    count = number(parent.get("start", "1"), 1)
    for element in parent:
        tag = element.tag if isinstance(element.tag, str) else ""
        if not tag or is_hidden(element):
            continue
        if tag in ("ul", "ol", "menu") and depth < DEEPEST:
            yield from _items(element, depth + 1)
            continue
        inner = [one for one in element if one.tag in ("ul", "ol", "menu")] if tag == "li" else []
        tails = [one.tail for one in inner]
        for one in inner:
            element.remove(one)
        text = collapse_spaces(" ".join(Blocks().of(element)))
        count = number(element.get("value", ""), count)
        mark = f"{count}." if parent.tag == "ol" else "-"
        if text:
            yield f"{'  ' * depth}{mark} {text}"
            count += 1
        for one, tail in zip(inner, tails, strict=True):
            yield from _items(one, depth + 1) if depth < DEEPEST else ()
            if tail and tail.strip():
                yield f"{'  ' * (depth + 1)}{collapse_spaces(tail)}"


def table_blocks(element: Any) -> list[str]:
    """A Markdown table after its caption; the blocks of a table that is only there for layout."""
    caption = next((one for one in element if one.tag == "caption"), None)
    rows, header_rows = _rows(element)
    titled = [] if caption is None else [collapse_spaces(" ".join(Blocks().of(caption)))]
    if _is_layout(element, rows):
        return titled + [block for row in rows for cell in row for block in Blocks().of(cell)]
    cells = [
        [
            Cell(
                collapse_spaces(" ".join(flat_block(block) for block in Blocks().of(cell))),
                _span(cell, "rowspan", len(rows)),
                _span(cell, "colspan", 1),
                cell.tag == "th",
            )
            for cell in row
        ]
        for row in rows
    ]
    return [*titled, table(cells, header_rows or None)]


def _rows(element: Any) -> tuple[list[list[Any]], int]:
    """(cells of each row without those of tables inside, number of rows in the head)."""
    head: list[list[Any]] = []
    body: list[list[Any]] = []
    foot: list[list[Any]] = []
    for one in element:
        if one.tag == "tr":
            body.append([cell for cell in one if cell.tag in ("td", "th")])
        elif one.tag in ("thead", "tbody", "tfoot"):
            target = {"thead": head, "tbody": body, "tfoot": foot}[one.tag]
            for row in one:
                if row.tag == "tr" and not is_hidden(row):
                    target.append([cell for cell in row if cell.tag in ("td", "th")])
    return [*head, *body, *foot], len(head) if body or foot else 0


def _span(cell: Any, name: str, everything: int) -> int:
    value = number(cell.get(name, "1"), 1)
    return everything if value == 0 else max(1, value)


def _is_layout(element: Any, rows: list[list[Any]]) -> bool:
    """True for a table that places whole parts of a page, not facts in rows."""
    if element.get("role") in ("presentation", "none"):
        return True
    if any(cell.tag == "th" for row in rows for cell in row):
        return False
    if max((len(row) for row in rows), default=0) < 2:
        return True
    return bool(element.xpath(".//td//table | .//td//h1 | .//td//h2 | .//td//h3"))
