"""How often the checks of `synthesize` are right: python bench/grounding SQUAD_FILE [COUNT].

The true answers of a file in SQuAD's format should pass against their paragraph, and answers that
are wrong there should not: another paragraph's answer, and the own one with a number changed by 1
or by a digit. Questions that people wrote should count as self-contained and as in their language.
Prints shares of COUNT questions (2,000), drawn with a fixed seed, and CPU seconds.
"""

import json
import random
import re
import sys
import time
from pathlib import Path
from typing import Any

from jangin.examples.checks.row_checks import answer_problem, pointer, question_problem
from jangin.text.content_words import proper_names
from jangin.text.grounding import check_answer
from jangin.text.language import language_of, language_problem

LEAST_WORDS = 0.5


def passes(answer: str, source: str, names: list[str]) -> bool:
    """The default of `synthesize`: all numbers and names, half of the words."""
    found = check_answer(answer, source, names)
    return found.grounded == 1 and found.words >= LEAST_WORDS


def changed(answer: str, rng: random.Random) -> str:
    """The answer with one of its numbers changed."""
    number = rng.choice(list(re.finditer(r"\d+", answer)))
    value = int(number[0])
    other = rng.choice([value + 1, max(0, value - 1) if value else 2, value * 10 + 3])
    return answer[: number.start()] + str(other) + answer[number.end() :]


def is_refused(question: str, answer: dict[str, Any], context: str) -> bool:
    """Whether a question is called none, or its true answer one that does not answer it."""
    start = context.rfind(". ", 0, answer["answer_start"]) + 1
    end = context.find(". ", answer["answer_start"] + len(answer["text"]))
    sentence = context[start : end + 1 if end >= 0 else None]
    problem = answer_problem(question, answer["text"], sentence, context)
    return bool(question_problem(question) or problem)


def main() -> None:
    """Print one line per kind of answer."""
    data = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["data"]
    rows = [
        (qa["question"], qa["answers"][0], paragraph["context"])
        for article in data
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
        if qa["answers"]
    ]
    rng = random.Random(0)
    rows = rng.sample(rows, min(len(rows), int(sys.argv[2]) if len(sys.argv) > 2 else 2000))
    refused = sum(map(is_refused, *zip(*rows, strict=True)))
    rows = [(question, answer["text"], context) for question, answer, context in rows]
    proper_names(["가"])
    started = time.process_time()
    names = proper_names([answer for _, answer, _ in rows])
    kept = [
        passes(answer, f"{context}\n{question}", found)
        for (question, answer, context), found in zip(rows, names, strict=True)
    ]
    seconds = time.process_time() - started
    print(f"true answers rejected      {1 - sum(kept) / len(rows):7.2%}  of {len(rows)}")
    others = [
        (question, other, context)
        for (question, answer, context), (_, other, _) in zip(
            rows, rows[1:] + rows[:1], strict=True
        )
        if other not in context
    ]
    found = proper_names([answer for _, answer, _ in others])
    wrong = [
        passes(answer, f"{context}\n{question}", named)
        for (question, answer, context), named in zip(others, found, strict=True)
    ]
    print(f"another's answer rejected  {1 - sum(wrong) / len(wrong):7.2%}  of {len(wrong)}")
    counted = [row for row in rows if re.search(r"\d", row[1])]
    moved = [(question, changed(answer, rng), context) for question, answer, context in counted]
    moved = [row for row in moved if row[1] not in row[2]]
    slipped = [passes(answer, f"{c}\n{q}", []) for q, answer, c in moved]
    print(f"changed number rejected    {1 - sum(slipped) / len(moved):7.2%}  of {len(moved)}")
    print(f"refused by their form      {refused / len(rows):7.2%}  of {len(rows)}")
    pointing = sum(bool(pointer(question)) for question, _, _ in rows)
    print(f"questions that point       {pointing / len(rows):7.2%}  of {len(rows)}")
    foreign = sum(bool(language_problem(q, a, c, language_of(c))) for q, a, c in rows)
    print(f"rows in another language   {foreign / len(rows):7.2%}  of {len(rows)}")
    print(f"checked {len(rows) / seconds:,.0f} answers per CPU-second")


if __name__ == "__main__":
    main()
