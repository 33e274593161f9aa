"""Answers for the first screen: what it can answer, the cost, a hosted model, what is missing."""

from collections.abc import Mapping, Sequence
from typing import Any

from jangin.core.ledger import Spend
from jangin.evaluation.systems.table import is_external, is_trained, uses_language_model
from jangin.report.data.results import Results
from jangin.report.data.verdict import HEADLINE
from jangin.report.data.wordings import similarity_of
from jangin.report.i18n.translate import Words
from jangin.text.numbers import dollars
from jangin.views.artifacts import Artifacts


def kind_of_system(label: str) -> str:
    """`base`, `tuned`, `baseline` for what needs no language model, else `hosted`."""
    if label == "base":
        return "base"
    if is_trained(label) or label == "tuned":
        return "tuned"
    return "hosted" if uses_language_model(label) else "baseline"


def glance(
    results: Results,
    artifacts: Artifacts,
    best: str,
    spend: Sequence[Spend],
    losses: Mapping[str, int],
    seconds: float,
    words: Words,
) -> list[tuple[str, str]]:
    """(question, answer in a few sentences).

    `losses` has counts of what is missing, by name; `seconds` is what all stages took together,
    0 if unknown.
    """
    rows = [row for row in results.rows if best in str(row["variant"]).split(", ")]
    rows += [row for row in results.rows if row not in rows and row["system"] not in ("tuned",)]
    return [
        (words("glance_can"), _can(rows, artifacts.get(best, {}), words)),
        (words("glance_cost"), _cost(spend, seconds, words)),
        (words("glance_hosted"), _hosted(rows, words)),
        (words("glance_missing"), _missing(losses, words)),
    ]


def _can(rows: Sequence[Mapping[str, Any]], stages: Mapping[str, Any], words: Words) -> str:
    tuned = {row["evidence_set"]: row for row in rows if row["system"] == "tuned"}
    if not tuned:
        return words("glance_can_unknown")
    parts = [
        words(
            f"glance_{name}",
            share=words.percent(tuned[name]["right"]),
            right=round(tuned[name]["right"] * tuned[name]["n"]),
            n=int(tuned[name]["n"]),
        )
        for name in HEADLINE
        if name in tuned
    ]
    if "test" not in tuned:
        usual = ("held_out_paraphrases", "unseen_sections")
        lacking = [name for name in usual if name not in tuned]
        if lacking:
            names = ", ".join(words(f"name_{name}") for name in lacking)
            parts.append(words("glance_not_asked", sets=names))
    known = similarity_of(stages["split"]) if "split" in stages else {}
    if "held_out_paraphrases" in tuned and "held_out_paraphrases" in known:
        wordings = known["held_out_paraphrases"]
        if wordings.is_alike:
            parts.append(words("glance_alike", alike=words.percent(wordings.alike)))
    if "test" not in tuned and "held_out_paraphrases" in tuned:
        parts.append(words("glance_ask_users"))
    facts = _facts(stages)
    if facts is not None:
        share, count = facts
        parts.append(words("glance_facts", share=words.percent(share), count=count))
    return " ".join(parts)


def _facts(stages: Mapping[str, Any]) -> tuple[float, int] | None:
    """(share of the facts of the documents that questions ask for, number of facts)."""
    synthesize = stages.get("synthesize")
    summary = synthesize.manifest.summary if synthesize is not None else {}
    if not summary.get("facts"):
        return None
    return float(summary["fact_coverage"]), int(summary["facts"])


def _cost(spend: Sequence[Spend], seconds: float, words: Words) -> str:
    took = f" {words('glance_time', time=words.duration(seconds))}" if seconds >= 1 else ""
    return _money(spend, words) + took


def _money(spend: Sequence[Spend], words: Words) -> str:
    calls = sum(row.calls for row in spend)
    if not calls:
        return words("glance_free")
    unpriced = sum(row.unpriced for row in spend)
    usd = dollars(sum(row.usd for row in spend))
    if unpriced == calls:
        return words("glance_unpriced", calls=calls)
    text = words("glance_paid", usd=usd, calls=calls - unpriced)
    return f"{text} {words('glance_unpriced_more', calls=unpriced)}" if unpriced else text


def _hosted(rows: Sequence[Mapping[str, Any]], words: Words) -> str:
    for name in HEADLINE:
        hosted = [row for row in rows if row["evidence_set"] == name and is_external(row["system"])]
        if hosted:
            shown = ", ".join(
                f"{row['system']} {words.percent(row['right'])}"
                + (
                    f" ({words('form_taught')} {words.percent(row['form'])})"
                    if row.get("form") is not None
                    else ""
                )
                for row in {row["system"]: row for row in hosted}.values()
            )
            return words("glance_hosted_was", systems=shown, set=words(f"name_{name}"))
    return words("glance_hosted_none")


def _missing(losses: Mapping[str, int], words: Words) -> str:
    parts = [words(f"glance_{name}", count=count) for name, count in losses.items() if count]
    return " ".join(parts) if parts else words("glance_nothing_missing")


def starts_from_nothing(artifacts: Artifacts, best: str) -> bool:
    """True if the base of this variant is a starter, whose weights are random."""
    catalog = artifacts.get(best, {}).get("catalog")
    return catalog is not None and catalog.manifest.summary.get("type") == "starter"
