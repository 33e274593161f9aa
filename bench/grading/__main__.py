"""How often content match is right: python bench/grading [--held-out] [--errors].

About 1,000 answers of `answers.py`, in Korean and English: right ones in other words, and wrong
ones that look right. Prints how many each measure accepts, and CPU microseconds of each answer.
"""

import sys
import time
from collections import defaultdict

from answers import all_answers

from jangin.metrics.content_match import content_match
from jangin.metrics.text import contains, exact_match


def main() -> None:
    """Print one line for each language, kind and set."""
    rows = all_answers()
    groups = defaultdict(list)
    begin = time.process_time()
    graded = [bool(content_match(row.answer, row.gold, row.question)) for row in rows]
    seconds = time.process_time() - begin
    for row, right in zip(rows, graded, strict=True):
        if row.held_out and "--held-out" not in sys.argv:
            continue
        part = "held out" if row.held_out else "developed on"
        groups[row.language, row.kind, part, row.right].append((row, right))
        if right != row.right and "--errors" in sys.argv:
            print(row)
    for (language, kind, part, right), found in groups.items():
        accepted = sum(graded for _, graded in found)
        exact = sum(exact_match(row.answer, row.gold) for row, _ in found)
        inside = sum(contains(row.answer, row.gold) for row, _ in found)
        print(
            f"{language} {kind:5} {part:12} {'right' if right else 'wrong'}: of {len(found):3} "
            f"content match accepts {accepted:3}, exact match {exact:3.0f}, contains {inside:3.0f}"
        )
    print(f"{len(rows)} answers, {1e6 * seconds / len(rows):.0f} microseconds each")


if __name__ == "__main__":
    main()
