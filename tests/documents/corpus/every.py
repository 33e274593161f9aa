"""All files of the corpus."""

from tests.documents.corpus import hangul, opendocument, sheets, slides, web, word
from tests.documents.corpus.case import Case


def all_cases() -> list[Case]:
    """Every file, format by format."""
    return [
        *word.cases(),
        *slides.cases(),
        *sheets.cases(),
        *hangul.hwpx_cases(),
        *hangul.hwp_cases(),
        *web.html_cases(),
        *web.epub_cases(),
        *web.eml_cases(),
        *opendocument.cases(),
    ]
