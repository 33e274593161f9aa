"""The time that a plan expects of a stage: that of the last run, by the amount of work."""

import pytest

from jangin.core.stage import Calls, Cost
from jangin.models.shape import STARTER_SHAPES, ModelShape
from jangin.project.plan import StagePace

LAST = StagePace(25.0, per_work=0.02, start=5.0)


@pytest.mark.parametrize(
    ("pace", "cost", "seconds"),
    [
        (LAST, Cost(work=1000), 25.0),
        (LAST, Cost(work=3000), 65.0),
        (StagePace(25.0), Cost(work=1000), 0.0),
        (StagePace(25.0), Cost(), 25.0),
    ],
)
def test_twice_the_work_takes_twice_as_long_but_for_the_start(pace, cost, seconds):
    assert pace.seconds(cost, Calls()) == pytest.approx(seconds)


MEASURED = (
    ("0.5M", 12_576, 64, 2.282),
    ("0.5M", 50_304, 256, 11.606),
    ("0.5M", 50_304, 64, 8.642),
    ("3M", 12_576, 64, 4.114),
    ("3M", 25_152, 32, 4.928),
    ("8M", 12_576, 64, 11.595),
)
"""(size of a starter, tokens, steps, seconds of CPU on one thread) of trainings of the demo."""


@pytest.mark.parametrize("known", MEASURED)
@pytest.mark.parametrize("asked", MEASURED)
def test_each_training_tells_the_time_of_every_other_within_a_factor_of_one_and_a_half(
    known, asked
):
    size, tokens, steps, seconds = known
    pace = StagePace(seconds, per_work=seconds / starter(size).training_work(tokens, steps))
    size, tokens, steps, seconds = asked
    planned = pace.seconds(Cost(work=starter(size).training_work(tokens, steps)), Calls())
    assert 1 / 1.5 < planned / seconds < 1.5


def starter(size):
    """The shape of a starter of the demo, whose tokenizer has 2048 tokens."""
    hidden, layers, feed_forward, heads = STARTER_SHAPES[size]
    return ModelShape.of(
        {
            "model_type": "llama",
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "intermediate_size": feed_forward,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "vocab_size": 2048,
            "tie_word_embeddings": True,
            "rms_norm_eps": 1e-6,
        }
    )
