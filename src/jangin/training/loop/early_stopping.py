"""Early stopping on the validation loss, and the best line of metrics.

Both depend on the lines of metrics only, so a resumed run decides the same.
"""

from collections.abc import Sequence

from jangin.training.loop.config import EarlyStopping, Never, StepMetrics


def best_line(lines: Sequence[StepMetrics]) -> StepMetrics | None:
    """The first line with the lowest validation loss; None where it was not measured."""
    measured = [line for line in lines if line.valid_loss is not None]
    return min(measured, key=lambda line: line.valid_loss or 0.0, default=None)


def early_stop_reason(lines: Sequence[StepMetrics], stopping: EarlyStopping | Never) -> str:
    """Why training must end after the last of these lines; empty to continue."""
    if isinstance(stopping, Never):
        return ""
    best, since = float("inf"), 0
    for line in lines:
        if line.valid_loss is None:
            continue
        better = line.valid_loss < best - stopping.min_gain
        best, since = (line.valid_loss, 0) if better else (best, since + 1)
    if since < stopping.patience:
        return ""
    return f"{since} measurements without a lower validation loss than {best:.4f}"
