"""The table of what fits which card."""

from itertools import pairwise

from typer.testing import CliRunner

from jangin.cli.main import app
from jangin.models.fits import BASES, CARDS, FILLED, LENGTHS, WAYS, fits
from jangin.models.memory import GIB, PlannedTraining, predict
from jangin.models.shape import ModelShape

ROWS = list(fits())
EIGHT = "Llama 3.1 8B"


def test_every_base_and_way_has_a_row_and_a_larger_card_takes_no_shorter_rows():
    assert [row.base for row in ROWS] == [base for base in BASES for _ in WAYS]
    for row in ROWS:
        assert all(small <= large for small, large in pairwise(row.longest))


def test_a_row_that_is_twice_as_long_does_not_fit():
    shape = ModelShape.of(BASES[EIGHT])
    (row,) = [row for row in ROWS if (row.base, row.method) == (EIGHT, "qlora")]
    for card, longest in zip(CARDS, row.longest, strict=True):
        for tokens, expected in ((longest or 0, True), (2 * longest or LENGTHS[0], False)):
            run = PlannedTraining("qlora", tokens, "bf16", device="cuda", checkpointing=True)
            if 0 < tokens <= LENGTHS[-1]:
                assert (predict(shape, run).peak <= FILLED * card * GIB) == expected


def test_the_sizes_are_those_that_the_names_say():
    for name, config in BASES.items():
        said = float(name.split()[-1].removesuffix("B"))
        assert abs(ModelShape.of(config).parameters / 1e9 / said - 1) < 0.3


def test_plan_prints_it_without_a_project():
    shown = CliRunner().invoke(app, ["plan", "--fits"]).output
    assert all(base in shown for base in BASES)
    assert "adamw_offload" in shown
