"""What was dropped is grouped by rule and reason, and only the rows that are shown are read."""

from jangin.views.losses import dropped as dropped_examples
from tests.serving.pages.data.artifacts import artifact, dropped, example


def test_the_first_rows_of_each_reason_stand_beside_what_was_kept_instead(tmp_path):
    kept = example("휴가는 며칠입니까?")
    rows = [dropped(example(f"질문 {n}?"), "score", f"score 0.{n} < 0.5") for n in range(5)]
    rows.insert(3, dropped(example("며칠 쉽니까?"), "near_duplicate", "alike", twin=kept.id))
    rows.append(dropped(example("빈 것?"), "score", "no score"))
    made = artifact(tmp_path, "curate", rows_a_part=2, examples=[kept], dropped=rows)
    (group,) = dropped_examples({"main": {"curate": made}})
    assert (group.read, group.count) == (8, 7)
    shown = [
        (reason.rule, reason.count, [row.example.question for row, _ in first])
        for reason, first in group.reasons
    ]
    assert shown == [
        ("score", 5, ["질문 0?", "질문 1?", "질문 2?"]),
        ("near_duplicate", 1, ["며칠 쉽니까?"]),
        ("score", 1, ["빈 것?"]),
    ]
    assert [twin for _, twin in group.reasons[1][1]] == [kept]
    assert [twin for _, twin in group.reasons[2][1]] == [None]
