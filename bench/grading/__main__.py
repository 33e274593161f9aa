"""How often the grader of facts is right: python bench/grading [--errors] [--held-out].

First the answers of `labels.jsonl`, each read against its passage by a person before it was graded:
real ones of four systems and ones written by hand to be long, short, partly right or wrong in one
point, by six people who had not seen the grader. All answers to a question are in one part: the
rules were developed on `tuning`, and `test` was graded without a look at its errors. An answer in
other words than reference answer and passage is `unclear`: neither a false right nor a false wrong,
and counted on its own. Then about 1,000 answers from the templates of
`answers.py`, without passages. Prints false rights and false wrongs with Wilson's intervals, beside
exact match, and CPU time an answer.
"""

import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from answers import all_answers

from jangin.metrics.agreement import Agreement
from jangin.metrics.facts import FactGrade, grade_facts
from jangin.metrics.statistics import Interval
from jangin.metrics.text import exact_match


@dataclass(frozen=True)
class Labelled:
    """An answer that a person has read against its passage."""

    question: str
    gold: str
    answer: str
    evidence: list[str]
    system: str
    language: str
    kind: str
    """`model`, or in which way an answer written by hand differs."""
    right: bool
    tuning: bool = False
    """True where the errors of the grader on this question have been looked at."""

    @property
    def part(self) -> str:
        """`tuning` or `test`."""
        return "tuning" if self.tuning else "test"


def labelled() -> list[Labelled]:
    """The rows of `labels.jsonl`."""
    lines = Path(__file__).with_name("labels.jsonl").read_text(encoding="utf-8").splitlines()
    return [Labelled(**json.loads(line)) for line in lines]


def percent(interval: Interval) -> str:
    """`2.0 % [0.5, 7.1]`."""
    low, high = 100 * interval.low, 100 * interval.high
    return f"{100 * interval.estimate:4.1f} % [{low:.1f}, {high:.1f}]"


def line(name: str, agreement: Agreement) -> str:
    """One line of the table."""
    return (
        f"  {name:32} false rights {agreement.false_rights:3} of {agreement.wrong:3} "
        f"{percent(agreement.false_right):20} false wrongs {agreement.false_wrongs:3} of "
        f"{agreement.right:3} {percent(agreement.false_wrong)}"
    )


def sure_line(
    name: str, chosen: Sequence[int], rows: Sequence[Labelled], facts: Sequence[FactGrade]
) -> None:
    """Print errors among all right and wrong answers; those that are unclear are none."""
    right = [i for i in chosen if rows[i].right]
    wrong = [i for i in chosen if not rows[i].right]
    false_rights = sum(facts[i].right for i in wrong)
    false_wrongs = sum(not facts[i].right and not facts[i].unclear for i in right)
    agreement = Agreement(len(right), len(wrong), false_rights, false_wrongs)
    unclear = sum(facts[i].unclear for i in right), sum(facts[i].unclear for i in wrong)
    print(f"{line(name, agreement)}  unclear {unclear[0]} right, {unclear[1]} wrong")


def labels() -> None:
    """Both parts, by measure and system."""
    rows = labelled()
    begin = time.process_time()
    facts = [grade_facts(r.answer, r.gold, r.question, r.evidence) for r in rows]
    seconds = time.process_time() - begin
    begin = time.process_time()
    for r in rows:
        grade_facts(r.answer + " ", r.gold, r.question, r.evidence)
    again = time.process_time() - begin
    for part in ("tuning", "test"):
        chosen = [i for i, r in enumerate(rows) if r.part == part]
        print(f"{part}: {len(chosen)} answers, {len({rows[i].question for i in chosen})} questions")
        right = [rows[i].right for i in chosen]
        exact = [exact_match(rows[i].answer, rows[i].gold) == 1 for i in chosen]
        bare = [grade_facts(rows[i].answer, rows[i].gold, rows[i].question).right for i in chosen]
        print(line("exact match", Agreement.of(exact, right)))
        print(line("facts, without passages", Agreement.of(bare, right)))
        print(
            line("facts, unclear as wrong", Agreement.of([facts[i].right for i in chosen], right))
        )
        sure_line("facts", chosen, rows, facts)
        for system in sorted({rows[i].system for i in chosen}):
            own = [i for i in chosen if rows[i].system == system]
            sure_line(f"  {system}", own, rows, facts)
        if "--errors" in sys.argv and part == "tuning":
            for i in chosen:
                if facts[i].right != rows[i].right and not facts[i].unclear:
                    print(rows[i].question, rows[i].gold, rows[i].answer, facts[i], sep=" | ")
    print(
        f"CPU an answer: {1000 * seconds / len(rows):.2f} ms with passages that are new, "
        f"{1000 * again / len(rows):.2f} ms with passages that were read before"
    )


def templates() -> None:
    """Print one line for each language, kind and set."""
    rows = all_answers()
    groups = defaultdict(list)
    for row in rows:
        right = grade_facts(row.answer, row.gold, row.question).right
        if row.held_out and "--held-out" not in sys.argv:
            continue
        part = "held out" if row.held_out else "developed on"
        groups[row.language, row.kind, part, row.right].append((row, right))
        if right != row.right and "--errors" in sys.argv:
            print(row)
    for (language, kind, part, right), found in groups.items():
        accepted = sum(graded for _, graded in found)
        exact = sum(exact_match(row.answer, row.gold) for row, _ in found)
        print(
            f"{language} {kind:5} {part:12} {'right' if right else 'wrong'}: of {len(found):3} "
            f"facts accept {accepted:3}, exact match {exact:3.0f}"
        )


if __name__ == "__main__":
    labels()
    templates()
