"""Failed rows: listed after a run, written beside the table, retried on demand."""

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jangin.core.errors import counted
from jangin.core.jsonl import write_jsonl
from jangin.core.ledger import Ledger
from jangin.core.parquet import read_table
from jangin.core.reasons import Reason
from jangin.core.store import Artifact
from jangin.llm.replies import Failed
from jangin.text.normalize import collapse_spaces

if TYPE_CHECKING:
    from jangin.project.plan import PlannedStage

TABLE = "failed.parquet"
LINES = "failed.jsonl"
MOST_REASONS = 3
LONGEST_REASON = 160


@dataclass(frozen=True, slots=True)
class Failures:
    """The failed rows of one artifact."""

    stage: str
    variants: tuple[str, ...]
    rows: tuple[Failed, ...]
    requested: int
    """Number of rows that the stage requested; 0 if it is not recorded."""
    path: Path
    allowed: float = 0.0
    """Share of its rows that the stage may lose."""
    is_new: bool = True
    """False if an earlier run has listed them."""

    @property
    def accepted(self) -> bool:
        """True if the settings of the stage allow as many failed rows."""
        return len(self.rows) <= self.allowed * self.requested

    @property
    def count(self) -> str:
        """`3 of 65 rows`, or `3 rows` where the number of all rows is not recorded."""
        of = f"{len(self.rows):,} of " if self.requested else ""
        return of + counted(self.requested or len(self.rows), "row")

    def accepted_line(self) -> str:
        """One line on failed rows that are accepted."""
        share = len(self.rows) / self.requested
        return (
            f"{self.stage} ({', '.join(self.variants)}): {self.count} failed, {share:.1%}; "
            f"allow_failed: {self.allowed:g} accepts them. See: jangin show failed"
        )

    def line(self, command: str) -> str:
        """One line: how many rows failed, why, where they are and how to retry."""
        counts = Counter((row.kind, _short(row.reason)) for row in self.rows)
        most = counts.most_common(MOST_REASONS)
        shown = [f"{count:,} {kind}: {reason}" for (kind, reason), count in most]
        left = len(counts) - len(most)
        reasons = "; ".join(shown) + (f"; {left:,} more reasons" if left else "")
        return (
            f"{self.stage} ({', '.join(self.variants)}): {self.count} failed: "
            f"{reasons}. See {self.path}; try again with: {command} --retry-failed"
        )


def known_line(failures: "Sequence[Failures]", command: str) -> str:
    """One line on failed rows of several stages that an earlier run has already reported."""
    shown = ", ".join(f"{f.stage} ({', '.join(f.variants)}) {f.count}" for f in failures)
    return (
        f"still failed: {shown}. See: jangin show failed; try again with: {command} "
        "--retry-failed; accept them with allow_failed"
    )


def failed_rows(artifact: Artifact) -> tuple[Failed, ...]:
    """Failed rows of an artifact that a retry may fix, so none that a rule rejected."""
    return _failed_rows(artifact.file(TABLE))


def _failed_rows(path: Path) -> tuple[Failed, ...]:
    if not path.exists():
        return ()
    return tuple(row for row in read_table(path, Failed) if row.kind != "rejected")


def record_failures(folder: Path, ledger: Ledger) -> None:
    """Write failed rows beside their table, and delete their replies so that a retry asks again."""
    rows = _failed_rows(folder / TABLE)
    if rows:
        sentences = [{"reason": Reason.said(row.reason)} for row in rows]
        pairs = zip(rows, sentences, strict=True)
        write_jsonl(folder / LINES, [row.model_copy(update=said) for row, said in pairs])
    for row in rows:
        ledger.drop_reply(row.request)


def failures_of(steps: "Iterable[PlannedStage]") -> list[Failures]:
    """The failed rows of the artifacts of a run, each artifact once."""
    by_artifact: dict[Path, list[PlannedStage]] = {}
    for step in steps:
        if step.artifact is not None:
            by_artifact.setdefault(step.artifact.folder, []).append(step)
    failures = []
    for sharing in by_artifact.values():
        artifact = sharing[0].artifact
        rows = failed_rows(artifact) if artifact is not None else ()
        if rows and artifact is not None:
            failures.append(
                Failures(
                    stage=sharing[0].stage.name,
                    variants=tuple(step.variant for step in sharing),
                    rows=rows,
                    requested=int(artifact.manifest.summary.get("asked", 0)),
                    path=artifact.file(LINES),
                    allowed=max(getattr(step.config, "allow_failed", 0.0) for step in sharing),
                    is_new=any(step.state != "cached" for step in sharing),
                )
            )
    return failures


def run_command(project: Path, store: Path | None, variant: str | None) -> str:
    """The `jangin run` command with these options."""
    words = ["jangin", "run"]
    if project != Path("project.yaml"):
        words += ["--project", str(project)]
    if store is not None:
        words += ["--store", str(store)]
    if variant is not None:
        words += ["--variant", variant]
    return shlex.join(words)


def _short(reason: str) -> str:
    text = collapse_spaces(reason).rstrip(".")
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 1] + "…"
