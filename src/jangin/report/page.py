"""`jangin report`: one HTML file about a whole project, readable without a network or a script."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from jangin import __version__
from jangin.core.errors import ConfigError, DataError
from jangin.core.ledger import CallCount, Spend
from jangin.core.store import Artifact, output_errors
from jangin.documents.readers.folder import UnreadableFile
from jangin.evaluation.grade_labels import people_decide
from jangin.evaluation.results import Comparison, Leak
from jangin.evaluation.stored import reading_once
from jangin.evaluation.tasks.task import TestSet
from jangin.metrics.scores.table import find_metric
from jangin.metrics.statistics import wilson_interval
from jangin.project.failures import failed_rows
from jangin.project.file import LoadedProject
from jangin.project.release.quantization import quantization_costs
from jangin.project.release.trained import last_made
from jangin.project.stages import STAGES
from jangin.project.tracked import send_file
from jangin.project.unread_files import unread_files
from jangin.report.charts import svg as charts
from jangin.report.charts.curves import CurveChart, curve_charts
from jangin.report.data.glance import glance, kind_of_system, starts_from_nothing
from jangin.report.data.grounded import with_documents
from jangin.report.data.results import SHARED, Results, Versus, collect_results
from jangin.report.data.verdict import (
    HEADLINE,
    grades_checked,
    judge,
    leaked_sets,
    opinion_lines,
    peoples_judgements,
)
from jangin.report.data.wordings import means_of, similarity_of_all
from jangin.report.i18n.translate import Language, Words, p_text
from jangin.report.sections.data_flow import boxes, coverage, token_preview
from jangin.report.sections.evaluation import Evaluated, candidates, evaluations
from jangin.report.sections.versions import contradictions
from jangin.views import losses
from jangin.views.artifacts import (
    MACHINE_FIGURES,
    Artifacts,
    differences,
    groups_of,
    groups_with,
    guess_language,
    lengths,
    machine_figures,
    rows_of,
    samples,
    settings,
    token_percentiles,
    versions,
)
from jangin.views.curves import TrainingCurves, trainings

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

    from jangin.project.session import Session


# Predicted and measured memory of every training.


_GIB = 2**30


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """One training. Peaks are of one process: resident on a CPU, allocated on a GPU."""

    stage: str
    variants: tuple[str, ...]
    method: str
    device: str
    predicted_gib: float
    measured_gib: float
    layers: Mapping[str, Any]
    """Seconds of a step with eager and with compiled layers, and the choice; empty where they were
    not measured."""

    @property
    def ratio(self) -> float:
        """Predicted to measured."""
        return self.predicted_gib / self.measured_gib


def memory(artifacts: Artifacts) -> list[TrainingMemory]:
    """Every training whose memory was both predicted and measured."""
    rows = []
    for group in groups_with(artifacts, MACHINE_FIGURES):
        figures = machine_figures(group.artifact)
        predicted, measured = (
            figures.get(name, 0) / _GIB for name in ("predicted_memory_bytes", "peak_memory_bytes")
        )
        layers = figures.get("layers", {})
        if predicted and measured:
            method = group.artifact.manifest.config.get("method", {}).get("type", "full")
            rows.append(
                TrainingMemory(
                    stage=group.stage,
                    variants=group.variants,
                    method=method,
                    device=str(figures.get("device", "")),
                    predicted_gib=predicted,
                    measured_gib=measured,
                    layers=layers if layers.get("compiled_seconds_per_step") else {},
                )
            )
    return rows


# What quantizing cost: answers of exported GGUF files beside those of the models they are of.


@dataclass(frozen=True, slots=True)
class QuantizedFile:
    """One file on one test set."""

    variants: tuple[str, ...]
    file: str
    mebibytes: float
    evidence_set: str
    questions: int
    by_form: bool
    """Whether it was measured before answers were graded by their facts: shares are of the form."""
    before: str
    """Share of right answers of the model in full precision, with its 95 % interval."""
    after: str
    change: float
    """Difference of the shares; negative where the file is worse."""
    p_value: float
    """Exact McNemar test, two-sided."""


def quantized_files(
    artifacts: Mapping[str, Mapping[str, Artifact]], words: Words
) -> list[QuantizedFile]:
    """Every exported file that was evaluated."""
    owners: dict[str, tuple[Artifact, list[str]]] = {}
    for variant, stages in artifacts.items():
        models = [stages[s.name] for s in STAGES if s.name in stages and "model" in s.makes]
        if models:
            owners.setdefault(models[-1].manifest.key, (models[-1], []))[1].append(variant)
    return [
        _row(tuple(variants), cost.file, cost.bytes, comparison, words)
        for model, variants in owners.values()
        for cost in quantization_costs(model)
        for comparison in cost.comparisons
    ]


def _row(
    variants: tuple[str, ...], file: str, size: int, row: Comparison, words: Words
) -> QuantizedFile:
    return QuantizedFile(
        variants,
        file,
        size / 2**20,
        row.evidence_set,
        row.n,
        find_metric(row.measure).gold == "text" and row.form_a is None,
        _share(row.right_a, row.n, words),
        _share(row.right_b, row.n, words),
        row.right_b - row.right_a,
        row.p_value,
    )


def _share(share: float, count: int, words: Words) -> str:
    interval = wilson_interval(round(share * count), count)
    return f"{words.percent(share)} [{words.interval(interval.low, interval.high)}]"


FOLDER = Path(__file__).with_name("templates")
STYLES = ("theme.css", "charts.css", "sections.css", "report.css")
MOST_DIFFERING = 20
MOST_LEAKS = 5
_LOOP = re.compile(r"(.{1,16}?)\1{5,}")
"""Text that repeats at least six times."""
_SAYS_SOMETHING = re.compile(r"[^\W\d_]|\ufffd")
KIND_COLOURS = {"hosted": 3, "baseline": 4}
"""{kind of system: colour of its bars}; base and trained models have that of their variant."""


def write_report(session: "Session", path: Path | None = None, language: str = "auto") -> Path:
    """Write the page, by default as `report.html` into the store; returns its path.

    The project's trackers get it too. Raises `DataError` where no stage has run.
    """
    last = {name: last_made(session, name, "evaluate") for name in session.project.variants}
    artifacts = {name: stages for name, (stages, _) in last.items()}
    if not any(artifacts.values()):
        raise DataError(
            "there is nothing to report: no stage has run, or the first one has changed. "
            f"Run it with: jangin run --project {session.project.path}"
        )
    output = path or session.store.root / "report.html"
    ledger = session.ledger
    built = {a.manifest.key: name for stages in artifacts.values() for name, a in stages.items()}
    seconds = sum(ledger.seconds_of(stage, key) or 0.0 for key, stage in built.items())
    name = session.project_name
    calls, spend = ledger.count_calls(name), ledger.spend(name, used=True)
    outdated = [note for _, note in last.values() if note]
    html = build_report(session.project, artifacts, calls, language, spend, seconds, outdated)
    with output_errors(output):
        output.write_text(html, encoding="utf-8")
    session.wrote(output)
    send_file(session.project, session.store, session.progress, artifacts, output)
    return output


def build_report(
    loaded: LoadedProject,
    artifacts: dict[str, dict[str, Artifact]],
    calls: CallCount,
    language: str = "auto",
    spend: Sequence[Spend] = (),
    seconds: float = 0.0,
    outdated: Sequence[str] = (),
) -> str:
    """The page as HTML. `artifacts[variant][stage]` is what is finished; the rest is left out.

    `seconds` is what making all of it took, `outdated` says of which variants it is an earlier run.
    `language` is `ko`, `en`, or `auto` for that of the documents. Raises `ConfigError` for others.
    """
    with people_decide(loaded.folder), reading_once():
        return _build_report(loaded, artifacts, calls, language, spend, seconds, outdated)


def _build_report(
    loaded: LoadedProject,
    artifacts: dict[str, dict[str, Artifact]],
    calls: CallCount,
    language: str,
    spend: Sequence[Spend],
    seconds: float,
    outdated: Sequence[str],
) -> str:
    if language not in ("auto", *get_args(Language)):
        raise ConfigError(f"there is no report in {language!r}. Choose ko, en or auto.")
    chosen = guess_language(artifacts) if language == "auto" else language
    words = Words(cast(Language, chosen))
    results = collect_results(artifacts)
    lost = _dropped_context(artifacts)
    off = [stage.name for stage in STAGES if not _is_on(stage.name, loaded)]
    context = {
        "as_of": _newest(artifacts),
        "outdated": [words.reason(note) for note in outdated],
        "off": off,
        "off_names": [words(f"stage_{stage}") for stage in off],
        "calls": calls,
        "spend": spend,
        "spent_usd": sum(row.usd for row in spend),
        "version": __version__,
        "settings": settings(loaded.variants),
        "differences": differences(loaded.variants),
        "provenance": _provenance(artifacts),
        "versions": versions(artifacts),
        **results_context(loaded, artifacts, results, words, spend, seconds, lost),
        **lost,
        **contradictions(loaded, artifacts, words),
        **_chart_context(artifacts, words),
        "quantized": quantized_files(artifacts, words),
        "token_rows": token_preview(loaded, artifacts),
    }
    return render_page("report.html.jinja", context)


def results_context(
    loaded: LoadedProject,
    artifacts: dict[str, dict[str, Artifact]],
    results: Results,
    words: Words,
    spend: Sequence[Spend],
    seconds: float,
    lost: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What the first screen and the section of results show; the workbench shows them too.

    `lost` are the counts of what was dropped, where they have been collected already.
    """
    lost = _dropped_context(artifacts) if lost is None else lost
    unread = sorted(_unread(loaded, artifacts), key=lambda row: not row.is_missed)
    missing = _losses(lost, unread)
    best = _best(results)
    checked = grades_checked(loaded.folder, artifacts, words)
    return {
        "words": words,
        "p_text": p_text,
        "name": loaded.name,
        "many": len(loaded.variants) > 1,
        "variants": list(loaded.variants),
        "absent": {stage.name: _absence(stage.name, loaded, artifacts, words) for stage in STAGES},
        "progress": _progress(loaded, artifacts),
        **_result_context(results, artifacts, words),
        "unreadable": unread,
        "missed": missing["unread"],
        "random_base": starts_from_nothing(artifacts, best),
        "glance": glance(results, artifacts, best, spend, missing, seconds, words),
        "forest_chart": forest_of(results.rows, words),
        "interval": wilson_interval,
        "evaluations": [_drawn(one) for one in evaluations(artifacts, words)],
        "candidates": candidates(artifacts),
        "judged": peoples_judgements(loaded.folder, artifacts),
        "checked": checked,
        "second_opinions": [
            (
                judge,
                opinion_lines([judge], words),
                judge.differing[:MOST_DIFFERING],
                max(0, len(judge.differing) - MOST_DIFFERING),
            )
            for judge in (checked.judges if checked else ())
        ],
    }


def render_results(context: Mapping[str, Any]) -> "Markup":
    """The section of results of `results_context`, for a page of the workbench."""
    from markupsafe import Markup

    return Markup(_template("report_results.html.jinja").render(**context))  # noqa: S704  # ours


def _result_context(results: Results, artifacts: Artifacts, words: Words) -> dict[str, Any]:
    evaluations = {
        name: stages["evaluate"] for name, stages in artifacts.items() if "evaluate" in stages
    }
    leaked = {name: leaked_sets(artifact) for name, artifact in evaluations.items()}
    leaks = [
        (name, group.variants, rows[:MOST_LEAKS], len(rows))
        for group in groups_of(artifacts, "evaluate")
        for name in get_args(TestSet)
        if (rows := [leak for leak in _leaks(group.artifact) if leak.evidence_set == name])
    ]
    known = similarity_of_all(artifacts)
    cut_off = [
        (variant, system, count)
        for variant, artifact in evaluations.items()
        for system, count in artifact.manifest.summary.get("cut_off", {}).items()
        if count
    ]
    return {
        "versus": _by_pair(results),
        "verdict": with_documents(judge(results, evaluations, words), evaluations, words),
        "results": results,
        "test_sets": _present(results),
        "means": {name: means_of(name, known, words) for name in get_args(TestSet)},
        "shared": SHARED,
        "leaked": leaked,
        "leaks": leaks,
        "cut_off": cut_off,
        "samples": samples(artifacts, _best(results)) if _best(results) in evaluations else None,
    }


def _by_pair(results: Results) -> list[tuple[tuple[str, str], list[Versus]]]:
    """Comparisons of each two variants, what users meet first at the top."""
    by_pair: dict[tuple[str, str], list[Versus]] = {}
    for pair in sorted(results.versus, key=lambda pair: HEADLINE.index(pair.evidence_set)):
        by_pair.setdefault((pair.variant_a, pair.variant_b), []).append(pair)
    return list(by_pair.items())


def _leaks(artifact: Artifact) -> list[Leak]:
    return rows_of(artifact, "leaks", Leak)


def _unread(loaded: LoadedProject, artifacts: Artifacts) -> list[UnreadableFile]:
    """Files that could not be read, and those that are left out of the folder as it is now."""
    rows = losses.unreadable(artifacts)
    for name in loaded.variants:
        rows += unread_files(loaded, name, artifacts.get(name, {}))
    return list(dict.fromkeys(rows))


def _dropped_context(artifacts: Artifacts) -> dict[str, Any]:
    failed = losses.failed(artifacts)
    scanned = losses.scanned(artifacts)
    loaded = groups_with(artifacts, "documents.parquet")
    summaries = [group.artifact.manifest.summary for group in loaded]
    return {
        "dropped": losses.dropped(artifacts),
        "failed": failed,
        "has_failed": bool(groups_with(artifacts, "failed.parquet")),
        "failed_count": sum(row.reason.count for row in failed),
        "unanswered": sum(
            len(failed_rows(group.artifact)) for group in groups_with(artifacts, "failed.parquet")
        ),
        "coverage": coverage(artifacts),
        "scanned": scanned,
        "doubtful": losses.doubtful(artifacts),
        "doubtful_kept": any(_keeps_doubtful(group.artifact) for group in loaded),
        "scanned_count": sum(len(row.pages) for row in scanned),
        "page_count": losses.page_count(artifacts),
        "reordered": sum(int(summary.get("reordered_pages", 0)) for summary in summaries),
        "lines_read": sum(int(summary.get("ocr_lines", 0)) for summary in summaries),
        "lines_checked": sum(int(summary.get("checked_lines", 0)) for summary in summaries),
        "flagged": losses.flagged(artifacts),
    }


def _losses(lost: Mapping[str, Any], unread: Sequence[UnreadableFile]) -> dict[str, int]:
    """Counts of what is missing, for the first screen."""
    return {
        "unread": sum(row.is_missed for row in unread),
        "lines": 0 if lost["doubtful_kept"] else sum(row.aside for row in lost["doubtful"]),
        "chunks": max((part.count for part in lost["coverage"]), default=0),
        "failures": int(lost["unanswered"]),
    }


def _keeps_doubtful(artifact: Artifact) -> bool:
    ocr = artifact.manifest.config.get("ocr", {})
    return bool(ocr.get("doubtful_lines") == "keep")


def _chart_context(artifacts: Artifacts, words: Words) -> dict[str, Any]:
    return {
        "path_charts": [
            _svg(charts.box(f"path{index}", box, arrow=index > 0))
            for index, box in enumerate(boxes(artifacts, words))
        ],
        "histograms": [
            (item.name, item.variants, *_histogram(f"h{index}", item, words))
            for index, item in enumerate(lengths(artifacts))
        ],
        "tokens": token_percentiles(artifacts),
        "curve_charts": training_charts(artifacts, words),
        "trainings": trainings(artifacts),
        "memory": memory(artifacts),
    }


def forest_of(rows: Sequence[Mapping[str, Any]], words: Words) -> "Markup":
    """Shares of right answers with their intervals, test set by test set."""
    groups = []
    for evidence_set in HEADLINE:
        part = [row for row in rows if row["evidence_set"] == evidence_set]
        if part:
            counts = sorted({int(row["n"]) for row in part})
            count = "–".join(f"{n:,}" for n in dict.fromkeys((counts[0], counts[-1])))
            estimates = [_estimate(row, rows, words) for row in part]
            groups.append((f"{words(f'name_{evidence_set}')}, n = {count}", estimates))
    right = words.right(rows[0]["measure"]) if rows else ""
    title = words("forest", right=right)
    return _svg(charts.forest("forest", title, words("forest_description"), groups))


def _estimate(
    row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], words: Words
) -> charts.Bar:
    names = [r["variant"] for r in rows if r["system"] == "tuned"]
    colours = {name: index for index, name in enumerate(dict.fromkeys(names))}
    variant = words("any_variant") if row["variant"] == SHARED else row["variant"]
    system = words.system(row["system"])
    interval = words.interval(row["right_low"], row["right_high"])
    return charts.Bar(
        f"{variant} · {system}" if len(colours) > 1 else system,
        f"{words.percent(row['right'])} [{interval}]",
        row["right"],
        row["right_low"],
        row["right_high"],
        KIND_COLOURS.get(kind_of_system(row["system"]), colours.get(row["variant"], 0)),
        faint=row["system"] == "base",
    )


def _histogram(name: str, item: Any, words: Words) -> "tuple[Markup, str]":
    figures = {f"p{percent}": item.percentile(percent) for percent in (5, 50, 95, 100)}
    text = words("histogram_description", n=len(item.values), **figures)
    return _svg(charts.histogram(name, words(item.name), text, item.values)), text


def training_charts(artifacts: Artifacts, words: Words) -> list[CurveChart]:
    """Loss and token accuracy of every stage that trained, its variants on one chart each."""
    by_stage: dict[str, list[TrainingCurves]] = {}
    for training in trainings(artifacts):
        by_stage.setdefault(training.stage, []).append(training)
    return [
        chart
        for stage, runs in by_stage.items()
        for chart in curve_charts(
            stage,
            [(", ".join(run.variants), run.curves) for run in runs],
            words,
            stage=words(f"stage_{stage}"),
            on_pairs=runs[0].on_pairs,
        )
    ]


def _present(results: Results) -> list[str]:
    """The test sets that were asked, what users meet first."""
    present = {row["evidence_set"] for row in results.rows}
    return [name for name in HEADLINE if name in present]


def _best(results: Results) -> str:
    """The variant whose tuned model does best on the headline evidence."""
    for name in _present(results):
        tuned = [r for r in results.rows if r["evidence_set"] == name and r["system"] == "tuned"]
        if tuned:
            return str(max(tuned, key=lambda row: float(row["right"]))["variant"])
    return ""


def _absence(stage: str, loaded: LoadedProject, artifacts: Artifacts, words: Words) -> str:
    """Empty where some variant has made the stage, else one sentence on why there is nothing."""
    if any(stage in stages for stages in artifacts.values()):
        return ""
    key = "absent_not_made" if _is_on(stage, loaded) else "absent_off"
    return words(key, stage=words(f"stage_{stage}"))


def _is_on(stage: str, loaded: LoadedProject) -> bool:
    """True if some variant turns the stage on."""
    return any(project.stage_config(stage) is not None for project in loaded.variants.values())


def _progress(loaded: LoadedProject, artifacts: Artifacts) -> dict[str, int]:
    on = [
        (variant, stage.name)
        for variant, project in loaded.variants.items()
        for stage in STAGES
        if project.stage_config(stage.name) is not None
    ]
    return {"done": sum(name in artifacts.get(variant, {}) for variant, name in on), "all": len(on)}


def _newest(artifacts: Artifacts) -> str:
    """Date of the newest artifact, so that the same artifacts give the same page."""
    dates = [a.manifest.created_at for stages in artifacts.values() for a in stages.values()]
    return max(dates).strftime("%Y-%m-%d %H:%M UTC") if dates else ""


def _provenance(artifacts: Artifacts) -> list[tuple[str, tuple[str, ...], Artifact]]:
    return [
        (stage.name, group.variants, group.artifact)
        for stage in STAGES
        for group in groups_of(artifacts, stage.name)
    ]


def _drawn(evaluated: Evaluated) -> Evaluated:
    """The same with its charts marked as ours."""
    return replace(
        evaluated,
        confusions=[(system, _svg(chart)) for system, chart in evaluated.confusions],
        scatters=[(system, _svg(chart)) for system, chart in evaluated.scatters],
        running=_svg(evaluated.running),
    )


def _svg(text: str) -> "Markup":
    """A chart of ours, whose texts are escaped already."""
    from markupsafe import Markup

    return Markup(text)  # noqa: S704  # made by ElementTree


def render_page(template: str, context: Mapping[str, Any]) -> str:
    """A page of ours, its style inside it."""
    from markupsafe import Markup

    style = Markup("".join((FOLDER / name).read_text(encoding="utf-8") for name in STYLES))  # noqa: S704  # our files
    return _template(template).render(style=style, **context)


@cache
def _template(name: str) -> "Template":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["short"] = short
    return environment.get_template(name)


def short(text: object, most: int = 280) -> str:
    """Text on one line, cut for the eye: what repeats six times or more is shown once."""
    line = _LOOP.sub(_once, " ".join(str(text).split()))
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def _once(loop: re.Match[str]) -> str:
    """`이내에 … (×40)` of a text that repeats; figures and rules such as `-----` as they are."""
    unit, whole = loop[1], loop[0]
    if not _SAYS_SOMETHING.search(unit):
        return whole
    space = " " if unit[0] == " " else ""
    return f"{space}{unit.strip()} … (×{len(whole) // len(unit)}) "
