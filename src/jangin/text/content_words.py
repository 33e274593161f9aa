"""Content words of a question: they distinguish paraphrases from siblings of one template.

"전세 계약 기간은?" and "월세 계약 기간은?" differ in one character and must both stay. So two texts
are duplicates only when their content words are the same, however similar they are: a tolerance
above .95, say, would delete exactly such pairs once the sentence is long enough. Misspelled
content words therefore keep a row alive; a copy too many costs less than a lost fact.

The words are compared in order, which is stricter than as sets: "임대인이 임차인에게" and "임차인이
임대인에게" have the same set. They are compared written together, so that spacing ("전세계약",
"전세 계약") makes no difference.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jangin.core.errors import MachineError
from jangin.text.korean import kiwi
from jangin.text.language import HANGUL, QUESTION_FUNCTION_WORDS
from jangin.text.numbers import NUMBER

if TYPE_CHECKING:
    from kiwipiepy import Kiwi, Token

_WORD = re.compile(rf"{NUMBER}|[^\W\d]+(?:['’][^\W\d]+)*|[%‰°$€£¥₩]")
_CONTENT = ("NNG", "NNP", "NR", "SL", "SH", "SN", "VV", "VA", "VCN", "XPN", "XR")
_ALWAYS = frozenset(("안", "못", "않", "못하", "말", *"%‰°$€£¥₩"))
"""Negations, which Kiwi tags as adverbs and auxiliaries, and units."""


def same_content(pairs: Sequence[tuple[str, str]]) -> list[bool]:
    """For each pair of texts, whether their content words are the same, in the same order.

    Kiwi (about 1,000 short texts a second) sees only texts with Hangul that differ in more than
    spacing and punctuation.

    Raises: MachineError: Kiwi is needed and not installed.
    """
    letters = {text: _joined(_WORD.findall(text)) for pair in pairs for text in pair}
    unlike = [pair for pair in pairs if letters[pair[0]] != letters[pair[1]]]
    texts = sorted({text for pair in unlike for text in pair})
    keys = dict(zip(texts, content_keys(texts), strict=True))
    return [letters[left] == letters[right] or keys[left] == keys[right] for left, right in pairs]


def content_keys(texts: Sequence[str]) -> list[str]:
    """The content words of each text, in order, written together.

    Raises: MachineError: a text has Hangul and kiwipiepy is not installed.
    """
    korean = [index for index, text in enumerate(texts) if HANGUL.search(text)]
    keys = [
        _joined([word for word in _WORD.findall(text) if word not in QUESTION_FUNCTION_WORDS])
        for text in texts
    ]
    if korean:
        analyser = _kiwi()
        for index in korean:  # a list of them would need Kiwi's thread, which a fork has not
            keys[index] = _joined(_content_words(analyser.tokenize(texts[index])))
    return keys


def proper_names(texts: Sequence[str]) -> list[list[str]]:
    """The proper names of each text, as Kiwi tags them; none in texts without Hangul.

    Raises: MachineError: a text has Hangul and kiwipiepy is not installed.
    """
    korean = [index for index, text in enumerate(texts) if HANGUL.search(text)]
    names: list[list[str]] = [[] for _ in texts]
    if korean:
        analyser = _kiwi()
        for index in korean:
            tokens = analyser.tokenize(texts[index])
            names[index] = [t.form for t in tokens if t.tag == "NNP" and len(t.form) > 1]
    return names


def _joined(words: Sequence[str]) -> str:
    """Words written together; numbers between #, without thousands separators."""
    return "".join(f"#{word.replace(',', '')}#" if word[0].isdigit() else word for word in words)


def _content_words(tokens: Sequence["Token"]) -> list[str]:
    """Nouns, verbs, adjectives, numbers with their units, foreign words, negations."""
    words = []
    counted = False
    for token in tokens:
        tag = token.tag.partition("-")[0]
        is_number = tag in ("SN", "NR", "MM")
        is_unit = tag == "NNB" and counted
        if is_number or is_unit or tag in _CONTENT or token.form in _ALWAYS:
            words.append(token.form)
        counted = is_number
    return words


def _kiwi() -> "Kiwi":
    try:
        return kiwi()
    except MachineError as error:
        raise MachineError(
            "reading Korean words needs kiwipiepy. Install it with "
            "`pip install 'jangin[documents]'`, or do without: set guard: false under curate and "
            "min_grounded: 0 and distinct: false under synthesize."
        ) from error
