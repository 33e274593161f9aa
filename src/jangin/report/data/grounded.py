"""The first sentence of a page: the tuned model that reads passages beside what needs no tuning."""

from collections.abc import Mapping
from dataclasses import replace

from jangin.core.store import Artifact
from jangin.evaluation.grounded import TRAINED_WITH, GroundedVerdict, grounded_verdict
from jangin.evaluation.results import Comparison
from jangin.evaluation.stored import read_predictions
from jangin.evaluation.systems.table import is_external
from jangin.evaluation.tasks.task import TestSet
from jangin.metrics.statistics import wilson_interval
from jangin.report.data.verdict import HEADLINE, Headline, Tone
from jangin.report.i18n.translate import Words, p_text

PREFERRED: tuple[TestSet, ...] = ("unseen_sections", *HEADLINE)
"""Test sets in order of preference: passages matter most where nothing was taught."""
_TONES: Mapping[str, Tone] = {"better": "good", "worse": "bad"}


def with_documents(
    headline: Headline, evaluations: Mapping[str, Artifact], words: Words
) -> Headline:
    """The headline behind a sentence on the best variant that reads passages.

    Unchanged where none does, and where the figures must not be published.
    """
    if not all(each.manifest.summary.get("publishable", True) for each in evaluations.values()):
        return headline
    verdicts = {
        variant: each
        for variant, artifact in evaluations.items()
        if (each := _verdict(artifact)) is not None
    }
    if not verdicts:
        return headline
    variant = max(verdicts, key=lambda name: verdicts[name].right)
    verdict = verdicts[variant]
    more = []
    if verdict.outcome == "level" and verdict.comparison is not None:
        more.append(_visible(verdict.comparison, words))
    if verdict.rival and is_external(verdict.rival):
        more.append(words("grounded_leaves", system=words.system(verdict.rival)))
    summary = evaluations[variant].manifest.summary
    if summary.get(TRAINED_WITH) is False:
        more.append(words("grounded_untaught"))
    return replace(
        headline,
        tone=_TONES.get(verdict.outcome, "unsure"),
        text=_sentence(verdict, words),
        more=(*more, headline.text, *headline.more),
    )


def _verdict(artifact: Artifact) -> GroundedVerdict | None:
    trained_with = artifact.manifest.summary.get(TRAINED_WITH) is True
    return grounded_verdict(read_predictions(artifact), PREFERRED, trained_with=trained_with)


def _sentence(verdict: GroundedVerdict, words: Words) -> str:
    pair, other = verdict.comparison, ""
    if pair is not None:
        rival = wilson_interval(round(pair.right_a * pair.n), pair.n)
        other = f"{words.percent(pair.right_a)} [{words.interval(rival.low, rival.high)}]"
    return words(
        f"grounded_{verdict.outcome}",
        set=words(f"set_{verdict.evidence_set}"),
        share=words.percent(verdict.right),
        interval=words.interval(verdict.low, verdict.high),
        system=words.system(verdict.rival) if pair else "",
        other=other,
        p=p_text(verdict.p_holm),
    )


def _visible(pair: Comparison, words: Words) -> str:
    """The smallest difference that so many questions can show."""
    if pair.smallest_visible is None:
        return words("invisible", n=pair.n)
    return words("visible", n=pair.n, points=words.points(pair.smallest_visible))
