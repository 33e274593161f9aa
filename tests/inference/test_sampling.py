from collections import Counter

import pytest
import torch

from jangin.inference.sampling import GREEDY, SamplingStep, sample_tokens, top_log_probs

LOGITS = torch.tensor([[1.0, 3.0, 2.0, -1.0]])
EVEN = [(i + 0.5) / 1000 for i in range(1000)]


def shares(logits, temperature, top_p):
    """Share of each token over evenly spread draws."""
    rows = logits.expand(len(EVEN), -1)
    chosen = sample_tokens(rows, [SamplingStep(temperature, top_p, uniform) for uniform in EVEN])
    return {token: count / len(EVEN) for token, count in Counter(chosen).items()}


def test_temperature_zero_takes_the_likeliest_token():
    assert sample_tokens(LOGITS, [GREEDY]) == [1]
    assert sample_tokens(LOGITS.to(torch.bfloat16), [GREEDY]) == [1]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_as_often_as_they_are_probable(temperature):
    expected = (LOGITS[0] / temperature).softmax(0)
    found = shares(LOGITS, temperature, 1.0)
    assert [found.get(t, 0) for t in range(4)] == pytest.approx(expected.tolist(), abs=2e-3)


def test_top_p_draws_from_the_fewest_tokens_that_reach_it():
    probability = LOGITS[0].softmax(0)  # 0.09, 0.66, 0.24, 0.01
    assert shares(LOGITS, 1.0, 0.6) == {1: 1.0}
    found = shares(LOGITS, 1.0, 0.8)
    assert set(found) == {1, 2}
    assert found[2] == pytest.approx(float(probability[2] / probability[1:3].sum()), abs=2e-3)
    assert shares(LOGITS, 1.0, 1e-9) == {1: 1.0}


def test_a_flat_distribution_is_drawn_from_beyond_its_first_candidates():
    logits = torch.linspace(0, 1e-3, 1000)[None]
    chosen = sample_tokens(
        logits.expand(200, -1), [SamplingStep(1.0, 0.9, i / 200) for i in range(200)]
    )
    assert min(chosen) >= 99  # the least likely tenth is out
    assert max(chosen) == 999
    assert len(set(chosen)) == 200


@pytest.mark.parametrize("top_p", [1.0, 0.95, 0.5])
def test_the_last_number_below_one_draws_a_token_that_can_be_drawn(top_p):
    logits = torch.full((1, 300), -torch.inf)
    logits[0, 7], logits[0, 5] = 0.0, -1.0
    assert sample_tokens(logits, [SamplingStep(1.0, top_p, 1 - 2**-53)]) in ([5], [7])


def test_rows_of_one_batch_choose_each_in_its_own_way():
    torch.manual_seed(0)
    logits = torch.randn(60, 500) * 2
    draws = [
        SamplingStep((0.0, 0.8, 1.5)[row % 3], (1.0, 0.7, 0.999)[row // 3 % 3], row / 60)
        for row in range(60)
    ]
    together = sample_tokens(logits, draws)
    assert together == [
        sample_tokens(logits[row, None], [draw])[0] for row, draw in enumerate(draws)
    ]
    assert together != logits.argmax(-1).tolist()


def test_log_probabilities_are_those_before_temperature():
    own, top = top_log_probs(LOGITS, [2], 2)
    plain = LOGITS[0].log_softmax(0).tolist()
    assert own == pytest.approx([plain[2]])
    assert [token for token, _ in top[0]] == [1, 2]
    assert [value for _, value in top[0]] == pytest.approx([plain[1], plain[2]])
    assert top_log_probs(LOGITS, [2], 0)[1] == [()]
