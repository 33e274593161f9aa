"""Clean texts: NFC, no invisible characters, one space between words, none at the ends.

Spaces at the beginning of a line stay: they are the indentation of code.
"""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

INVISIBLE = "\u200b\u2060\ufeff\u00ad\u180e\u200e\u200f\u202a-\u202e"
"""Zero-width characters that no script needs; joiners, which emoji are built with, stay."""
COMPOSED = (
    r"\p{M}\u0374\u037e\u0387\u0958-\u09df\u0a33-\u0a5e\u0b5c\u0b5d\u0f43-\u0fb9\u1100-\u11ff"
    r"\u1f00-\u1fff\u2000\u2001\u2126\u212a\u212b\u2329\u232a\u2adc\ua960-\ua97f\ud7b0-\ud7ff"
    r"\uf900-\ufaff\ufb1d-\ufb4e\U0001d15e-\U0001d1c0\U0002f800-\U0002fa1d"
)
"""Every character that NFC may change, alone or beside another, and some that it does not."""
_TAB = "\t"
_OTHER = "\x0b\x0c\r\x1c-\x1f\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""White space other than the space, the tab and the line end."""
_SPACES = _TAB + _OTHER


def odd(join_lines: bool) -> str:
    """A pattern that matches every text that `tidy` changes, and few others."""
    # A tab or a second space is odd only after a letter: before it, it is indentation.
    spaces = rf"  |\n|{_TAB}" if join_lines else rf"\S  |\S *{_TAB}|[ {_TAB}]\n"
    composed = re.sub(r"\\u([0-9a-f]{4})", r"\\x{\1}", COMPOSED)
    composed = re.sub(r"\\U([0-9a-f]{8})", r"\\x{\1}", composed)
    return rf"^\s|\s$|{spaces}|[{composed}{INVISIBLE}{_OTHER}]"


def tidy(texts: "pl.Series", join_lines: bool = False) -> "pl.Series":
    """Clean texts. Nearly all are clean already, so only those that need it are rewritten."""
    texts = texts.fill_null("")
    needs_cleaning = texts.str.contains(odd(join_lines))
    if not needs_cleaning.any():
        return texts
    rows = needs_cleaning.arg_true()
    return texts.scatter(rows, _clean(texts.gather(rows), join_lines))


def _clean(texts: "pl.Series", join_lines: bool) -> "pl.Series":
    texts = texts.str.normalize("NFC").str.replace_all(f"[{INVISIBLE}]", "")
    if join_lines:
        return texts.str.replace_all(f"[ \n{_SPACES}]+", " ").str.strip_chars()
    texts = texts.str.replace_all(f"([^ \n{_SPACES}])[ {_SPACES}]+", "$1 ")
    texts = texts.str.replace_all(f"[{_OTHER}]", " ")  # those that begin a line
    return texts.str.replace_all(f"[ {_TAB}]+\n", "\n").str.strip_chars()
