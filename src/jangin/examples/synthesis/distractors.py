"""Checks for distractors: plausible, but neither right nor recognisable by their form.

empty       it has no letters
same        it is the right answer in other words, or another distractor
form        it is a number where the answer is a name, or has another unit or script
length      it is more than three times as long as the answer, or less than a third
supported   it may be right: it is in the evidence, or in a sentence on the question's subject
"""

import re

from jangin.core.reasons import Reason
from jangin.examples.checks.decision import KEEP, Decision, drop
from jangin.text.grounding import word_is_in
from jangin.text.language import HANGUL_SYLLABLE
from jangin.text.normalize import folded_words, letters_only
from jangin.text.quantities import Quantity, quantities

LENGTHS = 3
"""Largest ratio of the lengths of distractor and answer."""
SHORT = 6
"""Number of characters by which lengths may differ at any ratio."""
ABOUT = 0.5
"""A sentence with at least this share of the question's words is on its subject."""
_SENTENCE = re.compile(r"[.!?。]\s+|\n+")
_LATIN = re.compile("[A-Za-z]")


def check_distractor(
    distractor: str, question: str, answer: str, others: list[str], evidence: str, text: str
) -> Decision:
    """Whether this can be offered beside the right answer.

    `others` are the distractors kept before, `text` is the passage.
    """
    if not letters_only(distractor):
        return drop("empty", Reason("distractor_empty"))
    for other, key in (
        (answer, "says_the_answer"),
        *((text, "says_a_distractor") for text in others),
    ):
        if same(distractor, other):
            return drop("same", Reason(key, text=distractor, other=other))
    if form_of(distractor) != form_of(answer):
        return drop(
            "form",
            Reason(
                "form",
                text=distractor,
                form=" ".join(form_of(distractor)),
                other=answer,
                kind=" ".join(form_of(answer)),
            ),
        )
    shorter, longer = sorted((len(distractor), len(answer)))
    if longer > LENGTHS * shorter and longer - shorter > SHORT:
        sizes = {"figure": len(distractor), "limit": len(answer)}
        return drop("length", Reason("length", text=distractor, **sizes))
    sentence = supporting(distractor, question, evidence, text)
    if sentence:
        return drop("supported", Reason("supported", text=distractor, sentence=sentence[:120]))
    return KEEP


def same(left: str, right: str) -> bool:
    """True if two short answers are equal: in letters, or in amounts and the words around them."""
    if letters_only(left) == letters_only(right):
        return True
    ours, theirs = quantities(left), quantities(right)
    if not ours or len(ours) != len(theirs):
        return False
    agree = all(a.agrees(b) for a, b in zip(ours, theirs, strict=True))
    return agree and _words(left, ours) == _words(right, theirs)


def form_of(text: str) -> tuple[str, ...]:
    """What kind of answer it is, in words: amounts with their units, Latin letters, or a text."""
    amounts = quantities(text)
    if amounts:
        return ("a number", *sorted(q.unit for q in amounts if q.unit))
    if _LATIN.search(text) and not HANGUL_SYLLABLE.search(text):
        return ("in Latin letters",)
    return ("a text",)


def supporting(distractor: str, question: str, evidence: str, text: str) -> str:
    """The sentence of the source that may support it; empty where there is none."""
    words = [word for word in folded_words(question) if len(word) > 1]
    for sentence in (evidence, *_SENTENCE.split(text)):
        if not _is_in(distractor, sentence):
            continue
        letters = letters_only(sentence)
        about = sum(word_is_in(word, letters) for word in words) / len(words) if words else 1.0
        if sentence is evidence or about >= ABOUT:
            return sentence.strip()
    return ""


def _is_in(distractor: str, sentence: str) -> bool:
    ours = quantities(distractor)
    if not ours:
        return letters_only(distractor) in letters_only(sentence)
    known = quantities(sentence)
    return all(any(q.value == k.value and q.unit == k.unit for k in known) for q in ours)


def _words(text: str, amounts: list[Quantity]) -> str:
    """The letters of a text without its amounts."""
    rest = text.lower()
    for quantity in amounts:
        rest = rest.replace(quantity.text, " ")
    return letters_only(rest)
