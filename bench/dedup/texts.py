"""Texts for the bench: a column of a TSV or sentences of our own, and edits planted among them."""

import csv
import json
import random
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

SYLLABLES = "가나다라마바사아자차카타파하기니디리미비시이지고노도로모보소오조는은을를에 "
PARTICLES = ("", "은", "는", "이", "가", "을", "를", "에", "에서", "으로", "도", "만", "까지")
ENDINGS = ("니다.", "나요?", "어요", "습니다", "는데", "지만", "네요!", "다", "죠", "까?")


@dataclass(frozen=True)
class Planted:
    """All texts, and for each planted edit (edit's place, original's place)."""

    texts: list[str]
    edits: list[tuple[int, int]]


def read_column(path: Path, column: str) -> list[str]:
    with path.open(encoding="utf-8") as stream:
        rows = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [row[column] or "" for row in rows]


def read_questions(path: Path) -> tuple[list[str], list[str]]:
    """Questions and the keyword each was asked about, from {"seed_word", "answer": [...]}."""
    questions, keywords = [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        questions += row["answer"]
        keywords += [row["seed_word"]] * len(row["answer"])
    return questions, keywords


def own_sentences(count: int, seed: int = 7) -> list[str]:
    """Words that no language has, as often repeated as words are: the n-th one 1/n as often."""
    random_ = random.Random(seed)
    words = [
        "".join(_syllable(random_) for _ in range(random_.randint(1, 4))) for _ in range(30000)
    ]
    weights = list(accumulate(1 / (place + 10) for place in range(len(words))))
    return [
        " ".join(
            word + random_.choice(PARTICLES)
            for word in random_.choices(words, cum_weights=weights, k=random_.randint(3, 18))
        )
        + random_.choice(ENDINGS)
        for _ in range(count)
    ]


def _syllable(random_: random.Random) -> str:
    """Unicode 3.12: 19 initials, 21 vowels, 28 finals; half of the syllables have no final."""
    final = random_.choice((0, 0, 0, 0, 1, 4, 8, 16, 17, 21))
    return chr(0xAC00 + 28 * (21 * random_.randrange(19) + random_.randrange(21)) + final)


def plant_edits(texts: list[str], count: int, seed: int = 7) -> Planted:
    """Append `count` texts of 5 characters and more with 5 to 15 % of them edited."""
    random_ = random.Random(seed)
    originals = random_.sample([i for i, text in enumerate(texts) if len(text) >= 5], count)
    edits = [_edit(texts[i], random_) for i in originals]
    places = range(len(texts), len(texts) + count)
    return Planted(texts + edits, list(zip(places, originals, strict=True)))


def _edit(text: str, random_: random.Random) -> str:
    characters = list(text)
    for _ in range(max(1, round(random_.uniform(0.05, 0.15) * len(text)))):
        place = random_.randrange(len(characters))
        match random_.choice(("replace", "insert", "delete")):
            case "replace":
                characters[place] = random_.choice(SYLLABLES)
            case "insert":
                characters.insert(place, random_.choice(SYLLABLES))
            case _ if len(characters) > 1:
                del characters[place]
    return "".join(characters)


def harmless(text: str, seed: int) -> str:
    """The same sentence with one space more or less, or without its last punctuation mark."""
    random_ = random.Random(seed)
    spaces = [i for i, character in enumerate(text) if character == " "]
    if spaces and random_.random() < 0.7:
        place = random_.choice(spaces)
        return text[:place] + random_.choice(["", "  "]) + text[place + 1 :]
    return text.rstrip("?.!") + random_.choice(["", "!", " ?"])
