"""The table of what fits which card."""

import re
from itertools import pairwise

from typer.testing import CliRunner

from jangin.cli.main import app
from jangin.models.fits import BASES, CARDS, FILLED, LENGTHS, WAYS, fits
from jangin.models.memory import GIB, PlannedTraining, predict
from jangin.models.shape import USUAL_BASES, ModelShape, likely_config

ROWS = list(fits())
EIGHT = "meta-llama/Llama-3.1-8B"


def test_every_base_and_way_has_a_row_and_a_larger_card_takes_no_shorter_rows():
    assert [row.base for row in ROWS] == [base for base in BASES for _ in WAYS]
    for row in ROWS:
        assert all(small <= large for small, large in pairwise(row.longest))


def test_a_row_that_is_twice_as_long_does_not_fit():
    shape = ModelShape.of(dict(USUAL_BASES[EIGHT]))
    (row,) = [row for row in ROWS if (row.base, row.method) == (EIGHT, "qlora")]
    for card, longest in zip(CARDS, row.longest, strict=True):
        for tokens, expected in ((longest or 0, True), (2 * longest or LENGTHS[0], False)):
            run = PlannedTraining(
                "qlora", tokens, "bf16", device="cuda", checkpointing=True, split=True
            )
            if 0 < tokens <= LENGTHS[-1]:
                assert (predict(shape, run).peak <= FILLED * card * GIB) == expected


def test_the_sizes_are_those_that_the_names_say():
    for name, config in USUAL_BASES.items():
        size, unit = re.search(r"-(\d[\d.]*)([bm])$", name.lower()).groups()
        said = float(size) * {"b": 1e9, "m": 1e6}[unit]
        assert abs(ModelShape.of(dict(config)).parameters / said - 1) < 0.3


def test_a_model_of_unknown_size_is_taken_for_one_of_its_family():
    assert likely_config("Qwen/Qwen2.5-7B-Instruct") is USUAL_BASES["Qwen/Qwen3-8B"]
    assert likely_config("beomi/Llama-3-Open-Ko-8B") is USUAL_BASES[EIGHT]
    assert likely_config("LGAI-EXAONE/EXAONE-3.5-32B") is USUAL_BASES["Qwen/Qwen3-32B"]
    assert likely_config("some/giant-405B") is None


def test_plan_prints_it_without_a_project():
    shown = CliRunner().invoke(app, ["plan", "--fits"]).output
    assert all(base in shown for base in BASES)
    assert "adamw_offload" in shown
