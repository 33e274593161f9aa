"""The checks of `synthesize` on rows of a real teacher: python bench/grounding/teacher_rows.py.

`teacher_rows.jsonl` has rows that Qwen2.5-Coder-1.5B-Instruct (Q4_K_M) wrote about passages of our
own, each read beside its passage and labelled: `right`, `wrong`, or `useless` (a statement, a
question that cannot be understood without the passage or was asked before). `part` is `tuned` where
the first checks were written with the row in view, `held_out` where they were written before it was
read. The later ones (quotations that are headings, what a number counts, purposes, questions
without a subject) had every row in view.
`second` is what the same model answered when it was given the passage and the question alone,
missing where that was not asked. Prints, for each run and part, how many rows of each label the
checks keep, which rule drops the others, and what would be left if pairs with two different answers
were dropped. That helped on English; of Korean passages that nothing was tuned on it drops three
right rows and one wrong one, so `synthesize` does not do it. Whether a question was asked before is
not checked here.
"""

import json
from collections import Counter
from pathlib import Path

from jangin.core.executor import InProcess
from jangin.examples.checks.row_checks import AcceptanceThresholds, PassageRow, check_rows
from jangin.examples.synthesize import SynthesizeConfig
from jangin.text.contradiction import difference, said
from jangin.text.grounding import check_answer

ROWS = Path(__file__).with_name("teacher_rows.jsonl")
LABELS = ("right", "wrong", "useless")
SECOND_ANSWER = "second answer"
SAME_WORDS = 0.5
"""Share of the words of one answer that the other must have."""


def order(rule: str) -> tuple[bool, bool, str]:
    """Rows that are kept first, those of second answers last."""
    return rule != "kept", rule == SECOND_ANSWER, rule


def agree(answer: str, other: str) -> bool:
    """Whether two answers to one question say the same, one of them perhaps more of it."""
    one, two = said(answer), said(other)
    if difference(one, two, same_question=True):
        return False
    shared = max(check_answer(answer, other).words, check_answer(other, answer).words)
    return (
        shared >= SAME_WORDS
        if one.words and two.words
        else one == two or bool(one.amounts and two.amounts)
    )


def second_rule(row: dict[str, str], rule: str) -> str:
    """The rule that drops a row, or `kept`, with what its second answer says."""
    second = row.get("second", "")
    return SECOND_ANSWER if rule == "kept" and second and not agree(row["answer"], second) else rule


def share(counts: Counter[tuple[str, str]]) -> str:
    """How many rows are kept, and what share of them is right."""
    kept = sum(counts["kept", label] for label in LABELS)
    return f"{kept} kept, {counts['kept', 'right'] / max(1, kept):.0%} of them right"


def main() -> None:
    """Print a table for each run of the teacher."""
    thresholds: AcceptanceThresholds = SynthesizeConfig(teacher="any").thresholds
    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]
    for run in dict.fromkeys((row["run"], row["part"]) for row in rows):
        chosen = [row for row in rows if (row["run"], row["part"]) == run]
        decisions = check_rows(
            [
                PassageRow(
                    row["question"],
                    row["answer"],
                    row["evidence"],
                    row["passage"],
                    f"{row['section']}\n{row['passage']}",
                    row["language"],
                )
                for row in chosen
            ],
            thresholds,
            InProcess(),
        )
        rules = [decision.rule or "kept" for decision in decisions]
        before = Counter(zip(rules, (row["label"] for row in chosen), strict=True))
        counts = Counter(
            (second_rule(row, rule), row["label"]) for row, rule in zip(chosen, rules, strict=True)
        )
        print(f"{run[0]} ({run[1]}): {len(chosen)} rows, {share(before)}", end="")
        print(f"; after second answers {share(counts)}" if counts != before else "")
        print(f"  {'':16}" + "".join(f"{label:>9}" for label in LABELS))
        for rule in sorted({rule for rule, _ in counts}, key=order):
            print(f"  {rule:16}" + "".join(f"{counts[rule, label]:9}" for label in LABELS))


if __name__ == "__main__":
    main()
