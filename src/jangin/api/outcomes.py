"""What plans, runs and evaluations show."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jangin.api.tables import Table
from jangin.project.failures import Failures
from jangin.project.plan import PlannedStage
from jangin.report.data.results import Results as CollectedResults
from jangin.views.plan import PlanFigures

if TYPE_CHECKING:
    from rich.console import RenderableType


class Plan(Table):
    """What a run would do: one row for each stage of each variant."""

    def __init__(self, name: str, steps: Sequence[PlannedStage], figures: PlanFigures) -> None:
        from jangin.report.terminal.tables import plan_total

        super().__init__(f"plan of {name}", [_planned(step) for step in steps])
        self.steps = list(steps)
        self._figures = figures
        self.total = plan_total(figures)
        """One line on all requests to models and their price; empty without any."""

    @property
    def up_to_date(self) -> bool:
        """Whether a run would do nothing."""
        return all(step.state == "cached" for step in self.steps)

    def notes(self) -> list[str]:
        """The line on requests and their price."""
        return [self.total] if self.total else []

    def _rich(self, width: int) -> "RenderableType":  # noqa: ARG002  its columns fit any
        from rich.console import Group
        from rich.text import Text

        from jangin.report.terminal.tables import plan_table

        return Group(plan_table(self._figures), *map(Text, self.notes()))


class Results(Table):
    """Results of the evaluations: one row for each test set, variant and system."""

    def __init__(self, name: str, collected: CollectedResults) -> None:
        super().__init__(f"results of {name}", collected.rows)
        self.sentences = list(collected.sentences)
        """Comparisons of variants and judges, and warnings, each in one sentence."""

    def notes(self) -> list[str]:
        """The sentences."""
        return self.sentences

    def _rich(self, width: int) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        from jangin.report.terminal.tables import result_table

        if not self.rows:
            return super()._rich(width)
        return Group(result_table(self.rows), *map(Text, self.sentences))


class Run(Table):
    """What a run did: one row for each stage of each variant."""

    def __init__(
        self,
        name: str,
        steps: Sequence[PlannedStage],
        results: Results,
        failures: Sequence[Failures],
        warnings: Sequence[str],
    ) -> None:
        super().__init__(f"run of {name}", [_done(step) for step in steps])
        self.steps = list(steps)
        self.results = results
        self.failed = sum(len(each.rows) for each in failures if not each.accepted)
        """Rows that failed, beyond `allow_failed`; `run(retry_failed=True)` tries them again."""
        self.warnings = [
            *warnings,
            *(
                each.accepted_line() if each.accepted else each.line("jangin run")
                for each in failures
            ),
        ]
        """Files that were not read and rows that failed."""

    def notes(self) -> list[str]:
        """Warnings, and the sentences about the results."""
        return [*self.results.sentences, *self.warnings]

    def _repr_html_(self) -> str:
        results = self.results._repr_html_() if self.results else ""
        return super()._repr_html_() + results

    def _rich(self, width: int) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        from jangin.report.terminal.progress import step_line

        lines = [Text.from_markup(step_line(step, width)) for step in self.steps]
        results = [self.results._rich(width)] if self.results else []
        return Group(*lines, *results, *map(Text, self.warnings))


def _planned(step: PlannedStage) -> dict[str, Any]:
    return {
        "variant": step.variant,
        "stage": step.stage.name,
        "state": step.state,
        "why": "; ".join(step.reasons),
        "cost": step.cost.text,
        "calls": step.calls.count,
        "usd": step.calls.usd,
        "last_seconds": step.seconds,
    }


def _done(step: PlannedStage) -> dict[str, Any]:
    summary: Mapping[str, Any] = step.artifact.manifest.summary if step.artifact else {}
    counts = {
        name: value
        for name, value in summary.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    return {
        "variant": step.variant,
        "stage": step.stage.name,
        "state": {"cached": "up to date", "run": "made", "resume": "finished"}[step.state],
        "seconds": 0.0 if step.state == "cached" else step.seconds,
        "counts": ", ".join(f"{name} {value:,}" for name, value in counts.items()),
    }
