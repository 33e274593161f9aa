"""Pairs of models whose rotary embedding depends on the longest row of a batch."""

import numpy as np
import pytest

from jangin.core.errors import TrainingError
from jangin.models.forward.rope import RopeLimit
from jangin.models.tokens.chat_template import RenderedRows
from jangin.models.tokens.packing import PairRows
from jangin.training.loop.scorer import split_by_rope
from jangin.training.objectives.dpo import refuse_mixed_pairs


def pairs_of(lengths):
    """Pairs of answers with these tokens, prompts included."""
    tokens = [length for pair in zip(*lengths, strict=True) for length in pair]
    ids = np.arange(sum(tokens))
    names = tuple(f"row {n}" for n in range(1, len(lengths) + 1))
    both = RenderedRows(ids, ids > 0, np.cumsum([0, *tokens]), names * 2)
    return PairRows(both, np.full(len(lengths), 2), names)


def test_a_pair_on_both_sides_of_the_original_length_is_refused_by_name():
    data = pairs_of([(5, 11), (20, 30), (11, 12)])
    limit = RopeLimit(10, "longrope")
    refuse_mixed_pairs(None, data, [0, 1, 2])
    refuse_mixed_pairs(limit, data, [0, 1])
    with pytest.raises(TrainingError, match=r"row 3 .*12 tokens.*max_row_tokens: 10"):
        refuse_mixed_pairs(limit, data, [0, 1, 2])
    with pytest.raises(TrainingError, match="row 2"):
        refuse_mixed_pairs(RopeLimit(10, "dynamic"), data, [0, 1])


def test_rows_share_a_batch_only_with_rows_of_the_same_frequencies():
    lengths = np.array([5, 11, 12, 40, 9])

    def split(limit):
        return sorted(map(sorted, split_by_rope(limit, lengths, lengths - 1, range(5), 100)))

    assert split(None) == [[0, 1, 2, 3, 4]]
    assert split(RopeLimit(10, "longrope")) == [[0, 1, 4], [2, 3]]
    assert split(RopeLimit(10, "dynamic")) == [[0, 1, 4], [2], [3]]
