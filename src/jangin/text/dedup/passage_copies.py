"""Duplicates among the search results of one question: equal, contained or near-equal passages."""

from collections.abc import Sequence

from jangin.text.normalize import word_runs
from jangin.text.numbers import written_numbers

NEARLY = 0.9
"""Share of letters in common from which two passages count as one, if their numbers are equal."""
SHORTEST_PART = 20
"""Letters from which a passage inside another is a copy; a shorter one may be there by chance."""


def find_copies(texts: Sequence[str]) -> dict[int, int]:
    """{index of a copy: index of the earlier text it repeats}; spaces and punctuation ignored.

    Texts with other numbers are never near-copies: `7일 안에` is another rule than `14일 안에`.
    """
    from rapidfuzz import fuzz

    letters = ["".join(word_runs(text)) for text in texts]
    numbers = [written_numbers(text) for text in texts]
    copies: dict[int, int] = {}
    for index, text in enumerate(letters):
        for earlier in range(index):
            if earlier in copies:
                continue
            other = letters[earlier]
            shorter, longer = sorted((text, other), key=len)
            same = text == other
            same = same or (len(shorter) >= SHORTEST_PART and shorter in longer)
            if not same and numbers[index] == numbers[earlier]:
                same = fuzz.ratio(text, other, score_cutoff=100 * NEARLY) > 0
            if same:
                copies[index] = earlier
                break
    return copies
