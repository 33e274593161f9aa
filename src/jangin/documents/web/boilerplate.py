"""The main content of a web page: without menus, footers, cookie notices and lists of links."""

import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

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
