"""The checks of `synthesize` on rows of a real teacher: python bench/grounding/teacher_rows.py.

`teacher_rows.jsonl` has rows that Qwen2.5-Coder-1.5B-Instruct (Q4_K_M) wrote about passages of our
own, each read beside its passage and labelled: `right`, `wrong`, or `useless` (a statement, a
question that cannot be understood without the passage or was asked before). `part` is `tuned` where
the checks were written with the row in view, `held_out` where they were written before it was read.
Prints, for each run and part, how many rows of each label the checks keep, and which rule drops the
others. Whether a question was asked before is not checked here.
"""

import json
from collections import Counter
from pathlib import Path

from jangin.core.executor import InProcess
from jangin.examples.checks.row_checks import AcceptanceThresholds, PassageRow, check_rows
from jangin.examples.synthesize import SynthesizeConfig

ROWS = Path(__file__).with_name("teacher_rows.jsonl")
LABELS = ("right", "wrong", "useless")


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
        counts = Counter(
            (decision.rule or "kept", row["label"])
            for row, decision in zip(chosen, decisions, strict=True)
        )
        kept = sum(counts["kept", label] for label in LABELS)
        print(f"{run[0]} ({run[1]}): {len(chosen)} rows, {kept} kept, ", end="")
        print(f"{counts['kept', 'right'] / max(1, kept):.0%} of them right")
        print(f"  {'':16}" + "".join(f"{label:>9}" for label in LABELS))
        for rule in sorted({rule for rule, _ in counts}, key=lambda name: (name != "kept", name)):
            print(f"  {rule:16}" + "".join(f"{counts[rule, label]:9}" for label in LABELS))


if __name__ == "__main__":
    main()
