import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from jangin.metrics.statistics import (
    bootstrap_difference,
    bootstrap_mean,
    holm,
    mcnemar_p,
    mcnemar_p_unclear,
    permutation_p,
    smallest_visible_difference,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (15, 20, 0.531, 0.888),
        (20, 20, 0.839, 1.0),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
    ],
)
def test_wilson_intervals_are_the_published_ones(successes, n, low, high):
    interval = wilson_interval(successes, n)
    assert interval.estimate == successes / n
    assert interval.low == pytest.approx(low, abs=5e-4)
    assert interval.high == pytest.approx(high, abs=5e-4)


def test_nothing_counted_leaves_everything_possible():
    assert (wilson_interval(0, 0).low, wilson_interval(0, 0).high) == (0, 1)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_wilson_interval_holds_its_estimate_within_0_and_1(counts):
    interval = wilson_interval(*counts)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


def test_mcnemar_of_20_against_15_and_11_of_20_is_the_published_one():
    assert mcnemar_p(5, 0) == 0.0625
    assert mcnemar_p(0, 9) == pytest.approx(0.0039, abs=5e-5)


def test_unclear_answers_go_against_the_better_system():
    right, wrong, unclear = (True, False), (False, False), (False, True)
    assert mcnemar_p_unclear([right] * 9, [wrong] * 9) is None
    better, other = [right] * 9 + [unclear], [unclear] * 2 + [wrong] * 8
    assert mcnemar_p_unclear(better, other) == mcnemar_p(7, 0)
    assert mcnemar_p_unclear(other, better) == mcnemar_p(7, 0)
    assert mcnemar_p_unclear([right] * 9, [unclear] * 9) == 1


def test_mcnemar_without_any_difference_is_1():
    assert mcnemar_p(0, 0) == mcnemar_p(4, 4) == 1


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_two_sided_binomial_test(only_a, only_b):
    expected = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert mcnemar_p(only_a, only_b) == pytest.approx(expected)


def test_mcnemar_of_thousands_does_not_overflow():
    assert 0 <= mcnemar_p(3000, 5000) < 1e-80


def test_twenty_questions_see_30_points_and_five_see_nothing():
    assert smallest_visible_difference(20) == pytest.approx(0.30)
    assert smallest_visible_difference(5) is None
    assert smallest_visible_difference(6) == 1.0
    assert smallest_visible_difference(20, alpha=0.01) == pytest.approx(0.40)


def test_the_bootstrap_of_independent_values_is_near_the_normal_interval():
    generator = random.Random(1)
    values = [generator.random() for _ in range(400)]
    interval = bootstrap_mean(values, [str(i) for i in range(400)])
    mean = sum(values) / 400
    error = math.sqrt(sum((v - mean) ** 2 for v in values) / 399 / 400)
    assert interval.estimate == pytest.approx(mean)
    assert interval.low == pytest.approx(mean - 1.96 * error, abs=0.2 * error)
    assert interval.high == pytest.approx(mean + 1.96 * error, abs=0.2 * error)


def test_siblings_make_the_interval_no_narrower_than_their_families_do():
    values = [0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    families = [str(i) for i in range(8)]
    alone = bootstrap_mean(values, families)
    tenfold = bootstrap_mean([v for v in values for _ in range(10)], ten_each(families))
    assert (tenfold.low, tenfold.high) == (alone.low, alone.high)


def ten_each(families):
    return [family for family in families for _ in range(10)]


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    values = [i / 30 for i in range(30)]
    clusters = [str(i) for i in range(30)]
    assert bootstrap_mean(values, clusters, seed=3) == bootstrap_mean(values, clusters, seed=3)
    assert bootstrap_mean(values, clusters, seed=3) != bootstrap_mean(values, clusters, seed=4)


def test_a_large_set_is_drawn_in_blocks():
    clusters = [str(i) for i in range(5000)]
    interval = bootstrap_mean([i % 2 for i in range(5000)], clusters, resamples=1700)
    assert interval.low < 0.5 < interval.high
    assert interval.high - interval.low == pytest.approx(4 * 0.5 / math.sqrt(5000), rel=0.1)


def test_a_paired_difference_is_narrower_than_the_two_systems_apart():
    a = [i / 50 for i in range(50)]
    b = [max(0.0, v - 0.1) for v in a]
    clusters = [str(i) for i in range(50)]
    difference = bootstrap_difference(a, b, clusters)
    assert difference.estimate == pytest.approx(sum(a) / 50 - sum(b) / 50)
    assert 0 < difference.low < difference.estimate < difference.high < 0.11


def test_a_paired_difference_keeps_families_together_too():
    a, b, families = [1.0, 1.0, 0.0, 1.0, 0.5], [0.0] * 5, list("abcde")
    alone = bootstrap_difference(a, b, families)
    tenfold = bootstrap_difference([v for v in a for _ in range(10)], b * 10, ten_each(families))
    assert (tenfold.low, tenfold.high) == (alone.low, alone.high)


def test_pairs_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        bootstrap_difference([1.0, 0.0], [1.0], ["a", "b"])


def test_no_values_have_no_mean():
    with pytest.raises(ValueError, match="no values"):
        bootstrap_mean([], [])


def test_more_questions_see_smaller_differences():
    seen = [smallest_visible_difference(n) for n in (6, 20, 100, 1000)]
    assert all(more is not None and more < fewer for fewer, more in pairwise(seen))


def test_the_compiled_bootstrap_gives_the_same_interval_as_the_other_but_for_noise():
    draw = random.Random(1)
    values = [draw.gauss(0.0, 1.0) for _ in range(6_000)]
    clusters = [str(i // 3) for i in range(6_000)]
    plain = bootstrap_mean(values, clusters, resamples=2_000)
    compiled = bootstrap_mean(values, clusters, resamples=20_000)
    assert compiled.estimate == plain.estimate
    width = plain.high - plain.low
    assert compiled.low == pytest.approx(plain.low, abs=width / 10)
    assert compiled.high == pytest.approx(plain.high, abs=width / 10)


def test_the_compiled_bootstrap_repeats_itself_and_follows_its_seed():
    values, clusters = [float(i % 7) for i in range(2_001)], list(map(str, range(2_001)))
    first = bootstrap_mean(values, clusters)
    assert bootstrap_mean(values, clusters) == first
    assert bootstrap_mean(values, clusters, seed=1) != first


def test_a_permutation_test_of_few_clusters_tries_every_sign():
    assert permutation_p([1.0] * 5, list("abcde")) == 2 / 32
    assert permutation_p([1.0] * 5, list("aaaaa")) == 1
    assert permutation_p([1.0, -1.0], list("ab")) == 1
    assert permutation_p([0.0, 0.0], list("ab")) == 1


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=12))
def test_the_exact_permutation_test_of_right_and_wrong_is_mcnemars(differences):
    p = permutation_p(differences, list(map(str, range(len(differences)))))
    assert p == pytest.approx(mcnemar_p(differences.count(1.0), differences.count(-1.0)))


def test_drawn_signs_come_near_the_exact_p():
    differences = [1.0] * 20 + [-1.0] * 8
    p = permutation_p(differences, list(map(str, range(28))))
    assert p == pytest.approx(mcnemar_p(20, 8), abs=0.01)
    assert permutation_p([1.0] * 200, list(map(str, range(200)))) == pytest.approx(1 / 10_001)


def test_holm_corrects_the_textbook_case():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_never_makes_a_p_smaller_and_keeps_their_order(p_values):
    adjusted = holm(p_values)
    assert all(a >= p for a, p in zip(adjusted, p_values, strict=True))
    by_p = sorted(zip(p_values, adjusted, strict=True))
    assert all(low[1] <= high[1] for low, high in pairwise(by_p))
