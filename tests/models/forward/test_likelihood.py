import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from jangin.models.forward.exactness import max_difference
from jangin.models.forward.likelihood import negative_log_likelihoods, next_token_log_probs
from jangin.models.starter import random_llama
from jangin.models.tokens.chat_template import render_rows


@pytest.fixture(scope="module")
def model(tokenizer):
    return random_llama(tokenizer, "0.5M", 512, 0).eval()


def test_sums_equal_the_cross_entropy_of_the_logits_to_the_last_bit(
    model, tokenizer, conversations
):
    rows = render_rows(tokenizer, conversations, [str(i) for i in range(len(conversations))])
    pairs = [rows.row(index) for index in range(len(rows))]
    for masked in (True, False):
        expected = []
        for ids, trained in pairs:
            ids_T = torch.from_numpy(ids)
            with torch.inference_mode():
                logits_TV = model(input_ids=ids_T[None]).logits[0, :-1].float()
            keep = torch.from_numpy(trained)[1:] if masked else slice(None)
            loss = cross_entropy(logits_TV[keep], ids_T[1:][keep], reduction="sum")
            expected.append(float(loss))
        given = [(ids, trained if masked else None) for ids, trained in pairs]
        assert negative_log_likelihoods(model, given) == expected


def test_a_sequence_of_one_token_predicts_nothing(model, conversations, tokenizer):
    rows = render_rows(tokenizer, conversations[:1], ["one"])
    assert negative_log_likelihoods(model, [(rows.ids[:1], None)]) == [0.0]


def test_only_the_last_places_are_computed_where_they_are_asked_for(model):
    ids_T = torch.arange(9, 21)
    every_NV = next_token_log_probs(model, ids_T)
    last_NV = next_token_log_probs(model, ids_T, last=4, dtype=torch.float64)
    assert every_NV.shape[0] == 11
    assert last_NV.dtype == torch.float64
    torch.testing.assert_close(last_NV, every_NV[-4:].double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(last_NV.exp().sum(-1), torch.ones(4, dtype=torch.float64))


def test_a_difference_is_a_share_of_the_largest_reference_value():
    reference = torch.tensor([0.0, -4.0])
    values = torch.tensor([0.5, -4.0])
    assert max_difference(values, reference) == 0.125
    assert max_difference(values, reference, least_scale=10) == 0.05
    assert max_difference(reference, reference) == 0


@pytest.mark.parametrize("least_scale", [0.0, 1.0])
def test_a_difference_from_or_to_nan_is_nan(least_scale):
    finite, nan = torch.tensor([1.0, 2.0]), torch.tensor([1.0, torch.nan])
    for values, reference in ((nan, finite), (finite, nan), (nan, nan), (nan, finite * 0)):
        assert math.isnan(max_difference(values, reference, least_scale))


def test_a_difference_from_a_reference_of_zeros_is_zero_or_infinite():
    zeros = torch.zeros(2)
    assert max_difference(zeros, zeros) == 0
    assert max_difference(zeros + 1, zeros) == math.inf
    assert max_difference(zeros + 1, zeros, least_scale=2) == 0.5
