"""What the contestants get: a SQuAD-format file, and English texts of our own making."""

import json
import random
from pathlib import Path

SENTENCES = (
    "tenant landlord deposit lease contract office week month notice repair window heating water "
    "pays returns signs reads asks keeps writes moves before after during because although the a "
    "an every no two seven large small early late written missing broken of in to for with without"
)


def read_squad(path: Path) -> tuple[list[str], list[str], list[int]]:
    """(paragraphs, questions, number of the paragraph that each question is about)."""
    texts: list[str] = []
    questions: list[str] = []
    gold: list[int] = []
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            texts.append(paragraph["context"])
            for asked in paragraph["qas"]:
                questions.append(asked["question"])
                gold.append(len(texts) - 1)
    return texts, questions, gold


def english_texts(count: int) -> list[str]:
    """Texts of 4 to 200 words, short ones more often."""
    words = SENTENCES.split()
    draw = random.Random(0)
    lengths = [4 + int(196 * draw.random() ** 3) for _ in range(count)]
    return [" ".join(draw.choices(words, k=length)) for length in lengths]
