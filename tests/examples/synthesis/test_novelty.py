"""Questions that were asked before are found here and in other processes."""

from jangin.core.executor import InProcess
from jangin.examples.synthesis import teacher
from jangin.examples.synthesis.teacher import NoveltyFilter
from tests.elsewhere import Elsewhere


def test_the_same_questions_are_twins_wherever_documents_are_compared(make_example, monkeypatch):
    monkeypatch.setattr(teacher, "SPREAD_FROM", 1)
    monkeypatch.setattr(teacher, "DOCUMENTS_AT_ONCE", 2)
    known = [make_example(f"How long is leave {n}?", document_id=f"d{n}") for n in range(5)]
    new = [
        make_example(f"How long is leave {n}{end}", document_id=f"d{n}")
        for n in range(5)
        for end in ("?", " ?", " in the second year?")
    ]
    groups = []
    found = []
    for executor in (InProcess(), Elsewhere(groups=groups)):
        kept = NoveltyFilter(executor)
        for example in known[:3]:
            kept.add(example)
        found.append({index: twin.id for index, twin in kept.find_twins(new).items()})
    assert found[0] == found[1]
    assert found[0][0] == known[0].id
    assert {0, 1, 3, 4, 6, 7, 10, 13} == set(found[0])
    assert groups == [2, 2, 1]
