"""The race of training engines: who did other work than the rest is out of it."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "bench" / "train"
UNTRAINED = {"first_loss": 1.7907, "final_loss": 1.8741}
MEASURED = {"ours": (1.7914, 1.8395), "trl packed": (1.7896, 1.8395), "trl": (1.7884, 1.8394)}
"""First and judged losses of LoRA in bf16 on SmolLM2, as the bench printed them."""


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        names = runpy.run_path(str(FOLDER / "__main__.py"), run_name="bench")
        yield SimpleNamespace(**names)
        for file in FOLDER.glob("[!_]*.py"):
            sys.modules.pop(file.stem, None)


def entry(first, final, bf16=True):
    contestant = SimpleNamespace(job={"bf16": bf16})
    return SimpleNamespace(
        contestant=contestant, rounds=[{"first_loss": first, "final_loss": final}]
    )


@pytest.mark.parametrize("name", MEASURED)
def test_rounding_to_bf16_is_no_other_work(bench, name):
    mine, reference = entry(*MEASURED[name]), entry(*MEASURED["trl"])
    assert bench.same_work(mine, reference, UNTRAINED)[0]


@pytest.mark.parametrize(
    ("first", "final", "bf16"),
    [
        (1.7907 + 0.015, 1.8395, True),  # the newline after each answer is trained as well
        (1.7907 - 0.0031, 1.8395, True),
        (1.7907, 1.8406, True),  # another gradient
        (1.7907, 1.8741, True),  # no gradient
        (1.7884 + 0.0015, 1.8394, False),
    ],
)
def test_other_losses_are_other_work(bench, first, final, bf16):
    assert not bench.same_work(entry(first, final, bf16), entry(*MEASURED["trl"]), UNTRAINED)[0]


def test_a_training_that_changes_nothing_shows_nothing(bench):
    same = UNTRAINED["first_loss"], UNTRAINED["final_loss"]
    assert not bench.same_work(entry(*same), entry(*same), UNTRAINED)[0]
