"""Equations as one line of text: of Word (OMML), of web pages (MathML) and of Hangul (its script).

`x=(-b±√(b^2-4ac))/(2a)`: the linear form that people and language models both read.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jangin.documents.readers.archive import attribute, child, children, local
from jangin.text.normalize import collapse_spaces

DEEPEST = 60
"""Nesting beyond which an equation is shown as its letters."""
ATOM = re.compile(r"\d[\d.,]*[%°]?|[^\W\d]\w*′*|∞|\([^()]*\)|\[[^\[\]]*\]")


def word_equation(element: Any) -> str:
    """Text of an `m:oMath` or anything inside it."""
    return collapse_spaces(_word(element, 0))


def web_equation(element: Any) -> str:
    """Text of a MathML `math` element or anything inside it."""
    return collapse_spaces(_web(element, 0))


def _group(text: str) -> str:
    """In brackets, unless it is one number, word or bracket."""
    text = text.strip()
    return text if ATOM.fullmatch(text) else f"({text})"


def _fraction(above: str, below: str) -> str:
    return f"{_group(above)}/{_group(below)}"


def _scripts(base: str, below: str, above: str) -> str:
    return base + (f"_{_group(below)}" if below else "") + (f"^{_group(above)}" if above else "")


def _root(degree: str, text: str) -> str:
    return f"root({degree}, {text})" if degree else f"√({text})"


def _word(element: Any, depth: int) -> str:
    if element is None:
        return ""
    if depth > DEEPEST:
        return "".join(element.itertext())
    kind = local(element)
    if kind == "t":
        return element.text or ""
    if kind.endswith("Pr") or kind in ("del", "moveFrom"):
        return ""
    if kind in ("nary", "limLow", "limUpp", "func", "d", "acc", "m", "eqArr"):
        return _word_operator(element, kind, depth)

    def part(name: str) -> str:
        return _word(child(element, name), depth + 1)

    if kind == "f":
        return _fraction(part("num"), part("den"))
    if kind in ("sSup", "sSub", "sSubSup", "sPre"):
        return _scripts(_group(part("e")), part("sub"), part("sup"))
    if kind == "rad":
        return _root(part("deg"), part("e"))
    return "".join(_word(one, depth + 1) for one in element)


def _word_operator(element: Any, kind: str, depth: int) -> str:
    """Sums, limits, functions, brackets, accents and matrices."""

    def part(name: str) -> str:
        return _word(child(element, name), depth + 1)

    def setting(name: str, default: str) -> str:
        node = child(element, f"{kind}Pr", name)
        return default if node is None else attribute(node, "val")

    if kind == "nary":
        return f"{_scripts(setting('chr', '∫'), part('sub'), part('sup'))} {part('e')}"
    if kind == "limLow":
        return _scripts(part("e"), part("lim"), "")
    if kind == "limUpp":
        return _scripts(part("e"), "", part("lim"))
    if kind == "func":
        return f"{part('fName')} {_group(part('e'))}"
    if kind == "d":
        inner = setting("sepChr", "|").join(_word(e, depth + 1) for e in children(element, "e"))
        return setting("begChr", "(") + inner + setting("endChr", ")")
    if kind == "acc":
        return part("e") + setting("chr", "\u0302")
    rows = children(element, "mr" if kind == "m" else "e")
    return _matrix([_cells(row, "e", kind == "m", depth, _word) for row in rows])


def _cells(
    row: Any, name: str, several: bool, depth: int, read: Callable[[Any, int], str]
) -> list[str]:
    return [read(one, depth + 1) for one in (children(row, name) if several else (row,))]


def _matrix(rows: Sequence[Sequence[str]]) -> str:
    return f"[{'; '.join(', '.join(row) for row in rows)}]"


def _web(element: Any, depth: int) -> str:
    kind = local(element)
    if depth > DEEPEST:
        return "".join(element.itertext())
    if kind in ("annotation", "annotation-xml") or not kind:
        return ""
    if kind == "mtable":
        rows = children(element, "mtr")
        return _matrix([_cells(row, "mtd", True, depth, _web) for row in rows])
    parts = [_web(one, depth + 1) for one in element if local(one)]
    if not parts:
        return collapse_spaces(element.text or "")
    if kind == "semantics":
        return parts[0]
    if kind == "msqrt":
        return _root("", "".join(parts))
    if kind == "mfenced":
        return f"{element.get('open', '(')}{', '.join(parts)}{element.get('close', ')')}"
    if kind in PLACED and len(parts) == PLACED[kind][0]:
        return PLACED[kind][1](*parts)
    return "".join(parts)


PLACED: Mapping[str, tuple[int, Callable[..., str]]] = {
    "mfrac": (2, _fraction),
    "msup": (2, lambda base, above: _scripts(_group(base), "", above)),
    "mover": (2, lambda base, above: _scripts(_group(base), "", above)),
    "msub": (2, lambda base, below: _scripts(base, below, "")),
    "munder": (2, lambda base, below: _scripts(base, below, "")),
    "msubsup": (3, _scripts),
    "munderover": (3, _scripts),
    "mroot": (2, lambda text, degree: _root(degree, text)),
}
"""{element of MathML: (number of its parts, how they are written)}"""

SIGNS = {
    "times": "×", "div": "÷", "divide": "÷", "+-": "±", "-+": "∓", "<=": "≤", ">=": "≥", "!=": "≠",
    "leq": "≤", "geq": "≥", "neq": "≠", "approx": "≈", "sim": "∼", "inf": "∞", "infty": "∞",
    "sum": "∑", "prod": "∏", "int": "∫", "oint": "∮", "partial": "∂", "cdot": "·", "cdots": "⋯",
    "->": "→", "<-": "←", "rarrow": "→", "larrow": "←", "therefore": "∴", "because": "∵",
    "subset": "⊂", "union": "∪", "inter": "∩", "smallunion": "∪", "smallinter": "∩",
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "eta": "η", "theta": "θ",
    "lambda": "λ", "mu": "μ", "pi": "π", "rho": "ρ", "sigma": "σ", "tau": "τ", "phi": "φ",
    "omega": "ω", "DELTA": "Δ", "SIGMA": "Σ", "OMEGA": "Ω", "deg": "°", "prime": "′",
}  # fmt: skip
FONTS = ("rm", "it", "bold", "left", "right", "dint", "size", "box")
PIECE = re.compile(
    r'"[^"]*"|[{}]|[A-Za-z]+|\d+(?:\.\d+)?|[가-힣]+|\+-|-\+|<=|>=|!=|->|<-|[`~]|#|&|\S'
)


def hangul_equation(script: str) -> str:
    """Text of the script in which Hangul keeps an equation, such as `{a} over {b}`."""
    pieces = PIECE.findall(script[:10_000])
    parts: list[str] = []
    at = 0
    while at < len(pieces):
        text, at = _sequence(pieces, at, 0)
        parts.append(text)
    return collapse_spaces(_spaced(parts))


def _sequence(pieces: Sequence[str], at: int, depth: int) -> tuple[str, int]:
    """(text up to the closing bracket or the end, index after it)."""
    out: list[str] = []
    while at < len(pieces) and pieces[at] != "}":
        piece = pieces[at]
        if piece.lower() in ("over", "atop") and out:
            below, at = _atom(pieces, at + 1, depth)
            out.append(_fraction(out.pop(), below))
        elif piece in ("^", "_") or piece.lower() in ("sup", "sub"):
            script, at = _atom(pieces, at + 1, depth)
            mark = "^" if piece in ("^", "sup") else "_"
            out.append((out.pop() if out else "") + mark + _group(script))
        else:
            text, at = _atom(pieces, at, depth)
            out.append(text)
    return _spaced(out), at + 1


def _spaced(parts: Sequence[str]) -> str:
    """The parts in a row, a blank only between two words."""
    text = ""
    for part in parts:
        apart = text[-1:].isalpha() and part[:1].isalpha()
        text += f" {part}" if apart else part
    return text


def _atom(pieces: Sequence[str], at: int, depth: int) -> tuple[str, int]:
    """(text of one piece, group, root or matrix, index after it)."""
    if at >= len(pieces):
        return "", at
    piece = pieces[at]
    lower = piece.lower()
    if piece == "{":
        if depth >= DEEPEST:
            return "", at + 1
        return _sequence(pieces, at + 1, depth + 1)
    if lower == "sqrt":
        text, at = _atom(pieces, at + 1, depth)
        return _root("", text), at
    if lower == "root":
        degree, at = _atom(pieces, at + 1, depth)
        at += at < len(pieces) and pieces[at].lower() == "of"
        text, at = _atom(pieces, at, depth)
        return _root(degree, text), at
    if lower in FONTS:
        return "", at + 1
    if piece in ("`", "~", "&"):
        return " ", at + 1
    if piece == "#":
        return "; ", at + 1
    if piece.startswith('"'):
        return piece.strip('"'), at + 1
    return SIGNS.get(piece, SIGNS.get(lower, piece)), at + 1
