import pytest

from jangin.core.parquet import write_table
from jangin.core.records import Example, Message
from jangin.evaluation.results import (
    Comparison,
    Result,
    compare_systems,
    grade_prediction,
    summarise,
)
from jangin.evaluation.tasks.task import Prediction
from jangin.metrics.facts import VERSION
from jangin.metrics.statistics import wilson_interval
from jangin.report.data.results import collect_results
from jangin.report.data.verdict import judge
from jangin.report.i18n.translate import Words
from tests.conftest import make_artifact


def predictions(
    tuned, base=0, n=12, name="held_out_paraphrases", systems=("base", "tuned"), nearest=0, search=0
):
    """The systems on the same n questions, of which each gets the first few right."""
    rows = []
    for system in systems:
        right = {"base": base, "tuned": tuned, "nearest": nearest, "base + retrieval": search}
        right = right[system]
        for number in range(n):
            prompt = (Message(role="user", content=f"{number}번 휴가는 며칠입니까?"),)
            answer = Message(role="assistant", content=f"{number}일")
            example = Example.make(prompt, answer, (), kind="original", source="규정.md")
            text = example.answer if number < right else "모릅니다"
            rows.append(grade_prediction(example, name, system, text))
    return rows


@pytest.fixture
def verdict_of(tmp_path):
    """The verdict on {variant: predictions}, some of which leak."""

    def make(leakage=None, language="en", **variants):
        evaluations = {}
        for variant, rows in variants.items():
            folder = tmp_path / variant
            folder.mkdir()
            write_table(folder / "predictions.parquet", Prediction, rows)
            write_table(folder / "results.parquet", Result, summarise(rows))
            write_table(folder / "comparisons.parquet", Comparison, compare_systems(rows))
            leaks = (leakage or {}).get(variant, {})
            evaluations[variant] = make_artifact(
                folder,
                stage="evaluate",
                key=variant,
                config={"max_leakage": 0.01},
                inputs={"base": "same"},
                summary={"publishable": not leaks, "leakage": leaks, "facts_version": VERSION},
            )
        results = collect_results({name: {"evaluate": a} for name, a in evaluations.items()})
        return judge(results, evaluations, Words(language))

    return make


def test_without_an_evaluation_nothing_is_claimed(verdict_of):
    assert verdict_of().tone == "none"


def test_a_clear_difference_is_called_significant(verdict_of):
    verdict = verdict_of(plain=predictions(2), paraphrased=predictions(11))
    assert verdict.tone == "good"
    better = verdict.text.index("“paraphrased” has the facts right in 92\u00a0% [65 to 99\u00a0%]")
    other = verdict.text.index("“plain”, in 17\u00a0% [5 to 45\u00a0%]")
    assert better < other
    assert verdict.text.endswith(Words("en")("real", p="p = 0.00391"))
    form, base = verdict.more
    assert "0\u00a0% [0 to 24\u00a0%]" in base
    assert "92\u00a0%" in form


def test_the_verdict_reads_as_korean_too(verdict_of):
    verdict = verdict_of(language="ko", plain=predictions(2), paraphrased=predictions(11))
    assert "‘paraphrased’ 모델은 92% [65~99%]" in verdict.text
    assert "‘plain’ 모델은 17% [5~45%]" in verdict.text
    assert verdict.text.endswith(Words("ko")("real", p="p = 0.00391"))


def test_the_better_variant_is_named_first_wherever_it_stands(verdict_of):
    verdict = verdict_of(better=predictions(11), worse=predictions(2))
    assert verdict.text.startswith("The model of “better”")


def test_a_small_difference_could_be_chance_and_says_what_could_show(verdict_of):
    verdict = verdict_of(plain=predictions(8), paraphrased=predictions(10))
    assert verdict.tone == "unsure"
    words = Words("en")
    assert verdict.text.endswith(f"{words('chance', p='p = 0.5')} {words('too_few', n=12)}")
    assert words("visible", n=12, points=words.points(0.5)) in verdict.more


def test_five_questions_can_prove_nothing(verdict_of):
    verdict = verdict_of(plain=predictions(0, n=5), paraphrased=predictions(5, n=5))
    assert verdict.tone == "unsure"
    assert Words("en")("invisible", n=5) in verdict.more


def test_equal_shares_are_called_equal(verdict_of):
    verdict = verdict_of(plain=predictions(8), paraphrased=predictions(8))
    assert verdict.tone == "unsure"
    assert "both have the facts right in 67\u00a0%" in verdict.text


def test_equal_shares_are_not_said_to_differ_by_chance(verdict_of):
    headline = verdict_of(plain=predictions(9), paraphrased=predictions(9))
    assert "chance" not in headline.text
    assert headline.tone == "unsure"


def test_models_that_are_never_right_get_no_statistics(verdict_of):
    headline = verdict_of(plain=predictions(0), paraphrased=predictions(0))
    assert headline.tone == "bad"
    assert "Neither answers a single question right" in headline.text
    assert "p =" not in headline.text


def test_of_three_variants_the_best_two_are_compared(verdict_of):
    verdict = verdict_of(a=predictions(1), b=predictions(11), c=predictions(3))
    assert "“b” has the facts right" in verdict.text
    assert "that of “c”" in verdict.text
    assert verdict.more[1].startswith("Of 3 variants, “b” has the highest share")


@pytest.mark.parametrize(
    ("tuned", "base", "tone"), [(11, 0, "good"), (2, 1, "unsure"), (1, 12, "bad")]
)
def test_one_variant_is_compared_with_its_base(verdict_of, tuned, base, tone):
    verdict = verdict_of(main=predictions(tuned, base))
    assert verdict.tone == tone
    assert "the base model before training" in verdict.text
    assert ("The trained model is worse" in verdict.text) == (tone == "bad")


def test_what_was_not_trained_is_weighed_against_the_trained_model(verdict_of):
    systems = ("base", "tuned", "nearest", "base + retrieval")
    verdict = verdict_of(main=predictions(20, 2, n=24, systems=systems, nearest=3, search=23))
    assert "needs no language model" in verdict.more[-2]
    assert "base + retrieval, which needs no training, answers 96" in verdict.more[-1]
    assert verdict.tone == "unsure"
    behind = verdict_of(other=predictions(20, 2, n=24, systems=systems, nearest=3, search=4))
    assert "The best system that needs no training, base + retrieval" in behind.more[-1]
    assert behind.tone == "good"


def test_a_difference_that_unread_answers_could_turn_is_not_called_significant(verdict_of):
    rows = [
        row.model_copy(update={"unclear": row.system == "base" and not row.right})
        for row in predictions(11, 0)
    ]
    verdict = verdict_of(main=rows)
    assert verdict.tone == "unsure"
    assert "open until someone reads the answers" in verdict.text
    assert verdict.has_unclear
    unread = next(text for text in verdict.more if "Rules cannot tell" in text)
    assert "12 of 24 answers" in unread
    assert "base has 0\N{NO-BREAK SPACE}%, and at most 100\N{NO-BREAK SPACE}%" in unread


def test_the_system_of_unread_answers_is_named_with_its_variant_where_there_are_several(verdict_of):
    rows = [
        row.model_copy(update={"unclear": row.system == "tuned" and not row.right})
        for row in predictions(11, 0)
    ]
    verdict = verdict_of(plain=rows, other=predictions(12, 0))
    unread = next(text for text in verdict.more if "Rules cannot tell" in text)
    assert "plain · trained has 92" in unread


def test_without_a_base_there_is_nothing_to_compare_with(verdict_of):
    verdict = verdict_of(main=predictions(11, systems=("tuned",)))
    assert verdict.tone == "none"
    assert "nothing to compare it with" in verdict.text


def test_a_model_that_was_never_asked_gets_no_verdict(verdict_of):
    assert verdict_of(main=predictions(0, systems=("base",))).tone == "none"


def test_variants_with_other_questions_are_not_compared(verdict_of):
    verdict = verdict_of(plain=predictions(2), paraphrased=predictions(11, n=11))
    assert verdict.tone == "unsure"
    assert Words("en")("not_comparable") in verdict.text


def test_held_out_paraphrases_speak_before_seen_questions(verdict_of):
    seen = predictions(12, name="seen_questions")
    verdict = verdict_of(main=seen + predictions(1))
    assert Words("en")("set_held_out_paraphrases") in verdict.text
    assert verdict.tone == "unsure"


def test_a_leak_goes_before_every_figure(verdict_of):
    leak = {"b": {"held_out_paraphrases": 0.0833, "unseen_sections": 0.0}}
    verdict = verdict_of(leak, a=predictions(2), b=predictions(11))
    assert verdict.tone == "bad"
    name = Words("en")("set_held_out_paraphrases")
    assert f"8.3\u00a0% of {name} in “b”" in verdict.text
    assert "1.0\u00a0%" in verdict.text


SYSTEMS = ("base", "tuned", "nearest")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tuned", "nearest", "n", "key", "p", "points"),
    [
        (80, 80, 100, "baseline_enough", "p = 1", 0.06),
        (25, 26, 30, "baseline_level", "p = 1", 0.2),
        (40, 90, 100, "baseline_ahead", "p < 0.0001", None),
        (84, 80, 100, "baseline_chance", "p = 0.125", None),
        (11, 11, 12, "baseline_few", "p = 1", None),
        (11, 8, 12, "baseline_few", "p = 0.25", None),
    ],
)
def test_a_model_not_shown_to_be_better_than_a_baseline_is_no_good_news(
    verdict_of, tuned, nearest, n, key, p, points
):
    verdict = verdict_of(plain=predictions(tuned, nearest=nearest, n=n, systems=SYSTEMS))
    assert verdict.tone == "unsure"
    words = Words("en")
    share = wilson_interval(nearest, n)
    assert verdict.more[-1] == words(
        key,
        system="nearest",
        lack=words("lack_model"),
        share=words.percent(nearest / n),
        interval=words.interval(share.low, share.high),
        p=p,
        n=n,
        points=words.points(points or 1),
    )


@pytest.mark.parametrize(
    ("language", "headline", "beside"),
    [
        (
            "en",
            "3 questions are too few for a conclusion.",
            "3 questions are too few to decide which",
        ),
        ("ko", "질문 3개로는 말하기에 너무 적습니다.", "질문 3개로는 어느 쪽이 나은지 말하기에"),
    ],
)
def test_three_questions_give_no_verdict_in_either_language(verdict_of, language, headline, beside):
    rows = predictions(1, nearest=1, n=3, systems=SYSTEMS)
    verdict = verdict_of(language=language, plain=rows)
    assert verdict.tone == "unsure"
    assert verdict.text.endswith(headline)
    assert beside in verdict.more[-1]


def test_a_baseline_asked_before_the_tuned_model_is_paired_with_it_as_well(verdict_of):
    systems = ("nearest", "base", "tuned")
    verdict = verdict_of(plain=predictions(11, nearest=3, systems=systems))
    assert verdict.more[-1].endswith(
        "better, and the difference is statistically significant (p = 0.00781)."
    )


def test_a_baseline_that_only_another_variant_was_held_against_gets_no_verdict(verdict_of):
    verdict = verdict_of(
        plain=predictions(2, nearest=12, systems=SYSTEMS), paraphrased=predictions(11)
    )
    assert verdict.tone == "unsure"
    assert verdict.more[-1].endswith("cannot be compared.")


def test_a_predictor_without_a_model_that_is_worse_is_named_beside_the_good_news(verdict_of):
    verdict = verdict_of(plain=predictions(11, nearest=3, systems=SYSTEMS))
    assert verdict.tone == "good"
    assert verdict.more[-1].startswith("The best system that needs no language model, nearest")
    assert verdict.more[-1].endswith(
        "better, and the difference is statistically significant (p = 0.00781)."
    )


def test_a_baseline_of_all_variants_is_one_row(verdict_of):
    systems = ("base", "tuned", "nearest")
    verdict = verdict_of(
        plain=predictions(2, nearest=3, systems=systems),
        paraphrased=predictions(11, nearest=3, systems=systems),
    )
    assert verdict.tone == "good"
    assert "nearest, answers 25" in verdict.more[-1]


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en", "100\u00a0% of its answers have the form as taught, and 0\u00a0% of"),
        ("ko", "기본 모델이 0%"),
    ],
)
def test_a_base_that_is_right_in_other_words_is_as_good_and_only_its_form_differs(
    verdict_of, language, said
):
    rows = predictions(tuned=12, base=12)
    worded = [
        grade_prediction(
            Example.make(
                (Message(role="user", content=row.question),),
                Message(role="assistant", content=row.gold),
                (),
                kind="original",
            ),
            row.evidence_set,
            row.system,
            row.prediction + ("입니다." if row.system == "base" else ""),
        )
        for row in rows
    ]
    headline = verdict_of(language=language, main=worded)
    assert headline.tone == "unsure"
    assert "p = 1" in headline.text
    assert any(said in sentence for sentence in headline.more)
