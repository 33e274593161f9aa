import pytest

from jangin.metrics.pairwise import (
    Judgement,
    PersonsChoice,
    blind_report,
    pairwise_report,
    self_preference,
)
from jangin.metrics.statistics import wilson_interval


def judged(verdicts, lengths=(10, 10)):
    return [
        Judgement(f"q{i}", f"d{i}", a_first, b_first, *lengths)
        for i, (a_first, b_first) in enumerate(verdicts)
    ]


def test_the_published_comparison_of_15_questions_comes_out():
    # 10 won both ways, 3 lost both, 2 inconsistent: 22 of 30 verdicts = 73.3 %.
    report = pairwise_report(judged([("a", "a")] * 10 + [("b", "b")] * 3 + [("a", "b")] * 2))
    assert (report.wins, report.losses, report.ties, report.inconsistent) == (10, 3, 2, 2)
    assert report.win_rate.estimate == pytest.approx(22 / 30)
    assert report.p_value == pytest.approx(0.0923, abs=5e-5)  # 2 * P(X <= 3), X ~ B(13, 1/2)
    assert report.win_rate.low < 22 / 30 < report.win_rate.high


def test_a_judge_that_always_takes_the_first_says_nothing_and_is_found_out():
    report = pairwise_report(judged([("a", "b")] * 8))
    assert (report.ties, report.inconsistent) == (8, 8)
    assert report.win_rate.estimate == 0.5
    assert report.first_shown.estimate == 1
    assert report.p_value == 1


def test_a_called_tie_is_a_tie_and_no_inconsistency():
    report = pairwise_report(judged([("tie", "tie"), ("a", "tie")]))
    assert (report.ties, report.inconsistent) == (2, 1)
    assert report.first_shown.estimate == 1


def test_a_judge_that_likes_length_is_found_out():
    verdicts = judged([("a", "a")] * 6, (90, 10)) + judged([("b", "b")] * 6, (10, 90))
    report = pairwise_report(verdicts)
    assert report.longer_won.estimate == 1
    assert report.length_correlation == pytest.approx(1)


def test_answers_of_one_length_show_no_bias_of_length():
    report = pairwise_report(judged([("a", "a"), ("b", "b")]))
    assert report.longer_won is None
    assert report.length_correlation is None


def test_self_preference_is_the_gain_before_oneself_over_the_other_judges():
    clusters = {f"q{n}": f"d{n}" for n in range(10)}
    points = {
        "gpt": dict.fromkeys(clusters, 1.0) | {"q0": 0.0, "q1": 0.0},
        "claude": {q: float(n < 5) for n, q in enumerate(clusters)},
        "gemini": {q: float(n < 6) for n, q in enumerate(clusters)},
    }
    preference = self_preference(points, "gpt", clusters)
    assert (preference.n, preference.own, preference.others) == (10, 0.8, pytest.approx(0.55))
    assert preference.gain.estimate == pytest.approx(0.25)
    assert preference.gain.low < 0 < preference.gain.high
    del points["gemini"]["q9"]
    assert self_preference(points, "gpt", clusters).n == 9
    assert self_preference(points, "llama", clusters) is None
    assert self_preference({"gpt": points["gpt"]}, "gpt", clusters) is None


def verdict(question, winner, first="a", judge="kim", **fields):
    return PersonsChoice(question, fields.pop("cluster", question), judge, first, winner, **fields)


def test_a_question_counts_once_however_many_people_judged_it():
    verdicts = [verdict("q1", "a", judge=name) for name in ("kim", "lee", "park")]
    verdicts += [verdict("q2", "b"), verdict("q3", "tie", both_bad=True)]
    verdicts += [verdict("q4", "a"), verdict("q4", "b", judge="lee")]
    report = blind_report(verdicts)
    assert (report.n, report.verdicts, report.judges) == (4, 7, 3)
    assert (report.wins, report.losses, report.ties, report.both_bad) == (1, 1, 2, 1)
    assert report.win_rate.estimate == 0.5
    assert report.win_rate.low < 0.5 < report.win_rate.high
    assert (report.shared, report.agreement) == (2, 0.75)


def test_people_who_choose_the_first_answer_show_a_position_bias():
    verdicts = [verdict(f"q{n}", side, first=side) for n, side in enumerate("ab" * 20)]
    report = blind_report(verdicts)
    assert report.first_shown.estimate == 1
    assert report.first_shown.low > 0.5
    assert report.win_rate.estimate == 0.5


def test_an_interval_of_equal_verdicts_has_a_width():
    report = blind_report([verdict(f"q{n}", "a") for n in range(5)])
    assert report.win_rate == wilson_interval(5, 5)
    ties = blind_report([verdict(f"q{n}", "tie") for n in range(5)])
    assert ties.win_rate.low < 0.5 < ties.win_rate.high
    assert ties.first_shown is None
    with pytest.raises(ValueError, match="no verdicts"):
        blind_report([])
