"""Which of Tesseract's language models a page is read with, where the project names none.

One language reads better than several at once: on Korean pages `kor` loses 0.9 % of the characters
where `kor+eng` loses 2.6 to 3.3 %. So a document has a first language, and a page that does not
read well in it is tried in the other. Where neither Korean nor English reads well, Tesseract's
model `osd` says in which script the page is, and the installed languages of that script are tried.
"""

from typing import TYPE_CHECKING

from jangin.documents.ocr.reader import Memos, OcrReader, PageImage
from jangin.documents.ocr.tesseract import installed_languages, package_of, script

if TYPE_CHECKING:
    from jangin.core.events import Progress

KOREAN = "kor"
AUTOMATIC = (KOREAN, "eng")
"""Languages that are tried first if they are installed."""
CLEARLY = 75.0
"""Confidence of a page in a language from which on no language of another script is tried."""
SCRIPTS: dict[str, tuple[str, ...]] = {
    "Latin": (
        "eng", "deu", "fra", "spa", "ita", "por", "nld", "pol", "ces", "slk", "hun", "ron", "swe",
        "dan", "nor", "fin", "est", "lav", "lit", "hrv", "slv", "tur", "vie", "ind", "msa", "cat",
    ),
    "Cyrillic": ("rus", "ukr", "bel", "bul", "srp", "mkd", "kaz", "mon"),
    "Hangul": (KOREAN, "kor_vert"),
    "Korean": (KOREAN, "kor_vert"),
    "Japanese": ("jpn", "jpn_vert"),
    "Han": ("chi_sim", "chi_tra", "jpn"),
    "HanS": ("chi_sim",),
    "HanT": ("chi_tra",),
    "Arabic": ("ara", "fas", "urd"),
    "Hebrew": ("heb",),
    "Greek": ("ell", "grc"),
    "Thai": ("tha",),
    "Devanagari": ("hin", "mar", "nep", "san"),
    "Georgian": ("kat",),
    "Armenian": ("hye",),
    "Bengali": ("ben",),
    "Tamil": ("tam",),
    "Telugu": ("tel",),
}  # fmt: skip
"""{name of a script in Tesseract's output: its languages, the most frequent ones first}."""
MOST = 4
"""Languages of one script that are tried at most."""


def other_languages(languages: tuple[str, ...]) -> tuple[str, ...]:
    """The installed languages to try on pages that do not read well in `languages`."""
    installed = installed_languages()
    return tuple(code for code in AUTOMATIC if code in installed and code not in languages)


def first_language(
    ledger: Memos, dpi: int, page: PageImage, source: str, progress: "Progress"
) -> tuple[str, ...]:
    """The language in which a page reads best; Korean if no other is installed.

    Where the page is in a script of which no language is installed, a message that begins with
    `source` says what to install.
    """
    candidates = other_languages(()) or (KOREAN,)
    weights: dict[str, float] = {}
    surest = 0.0
    for code in candidates:
        (reading,) = OcrReader(ledger, (code,), dpi, 1).read([page])
        if code == KOREAN and reading.confidence >= CLEARLY and _is_korean(reading.text):
            return (code,)
        weights[code] = reading.weight
        surest = max(surest, reading.confidence)
    for code in _of_script(page, dpi, surest, source, progress):
        if code not in weights:
            (reading,) = OcrReader(ledger, (code,), dpi, 1).read([page])
            weights[code] = reading.weight
    return (max(weights, key=lambda code: weights[code]),)


def _of_script(
    page: PageImage, dpi: int, confidence: float, source: str, progress: "Progress"
) -> tuple[str, ...]:
    """Installed languages of the page's script; only those in Latin letters if it reads well."""
    installed = installed_languages()
    latin = tuple(code for code in SCRIPTS["Latin"] if code in installed)
    if confidence >= CLEARLY:
        return latin[:MOST] if len(latin) > 1 else ()
    name = script(page.render(), dpi)
    known = SCRIPTS.get(name, ())
    ready = tuple(code for code in known if code in installed)
    if known and not ready:
        progress.message(
            f"{source}: its pages are in {name} script, for which Tesseract has no language here; "
            f"install one, such as: apt-get install {package_of(known[0])}"
        )
    return ready[:MOST]


def _is_korean(text: str) -> bool:
    letters = [character for character in text if character.isalpha()]
    return sum("가" <= letter <= "힣" for letter in letters) > 0.5 * len(letters)
