"""The process of a run that a page started: `python -m jangin.serving.pages.runs.worker ORDER`.

It is no child that a server waits for: it outlives a restart, and prints into a file what
`jangin run` prints on a terminal.
"""

import signal
import sys
import traceback
from pathlib import Path

from pydantic import BaseModel
from rich.markup import escape

from jangin.core.errors import JanginError
from jangin.project.plan import PlannedStage
from jangin.project.session import open_session
from jangin.project.tracking.run_record import FOLDER, end_unrecorded
from jangin.report.terminal.console import console
from jangin.report.terminal.progress import Bars, step_line


class Order(BaseModel):
    """What to run."""

    token: str
    """Of the record that was begun for this process."""
    project: Path
    last: str = ""
    """Last stage; empty for all."""
    variant: str = ""
    """Empty for all."""
    retry_failed: bool = False

    @property
    def store(self) -> Path:
        """The store of the project."""
        return self.project.parent / "store"


def run(order: Order) -> None:
    """Bring the stages up to date; raises as `Session.run`."""

    def step_ends(step: PlannedStage) -> None:
        console.print(f"{escape(step.variant)}: {step_line(step)}", highlight=False)

    with (
        Bars(step_ends=step_ends) as bars,
        open_session(order.project, order.store, bars) as session,
    ):
        names = session.choose(order.variant or None)
        session.run(names, order.last or None, retry_failed=order.retry_failed, token=order.token)


def main(arguments: list[str]) -> int:
    """Run what the first argument says, a JSON object; returns the exit code."""
    # A shell that starts a server in the background lets it, and so its children, ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    order = Order.model_validate_json(arguments[0])
    folder = order.store / FOLDER / order.token
    try:
        run(order)
    except KeyboardInterrupt:
        end_unrecorded(folder, "stopped", "")
        return 130
    except JanginError as error:
        sys.stderr.write(f"{error}\n")
        end_unrecorded(folder, "failed", str(error))
        return error.exit_code
    except Exception as error:  # noqa: BLE001  shown by the page
        traceback.print_exc()
        end_unrecorded(folder, "failed", repr(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
