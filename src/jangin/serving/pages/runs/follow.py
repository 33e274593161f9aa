"""What the pages of one server share to follow runs: processes, plan, curves, counts."""

from jangin.serving.pages.runs.planning import Plans
from jangin.serving.pages.runs.processes import Runs
from jangin.serving.pages.runs.views import Counts
from jangin.serving.state.server import Server
from jangin.views.curves import CurveFiles


class Follow:
    """One per server; safe to use from several threads."""

    def __init__(self, server: Server) -> None:
        """`server`: the logs of runs are in its folder."""
        self.runs = Runs(server.settings.folder)
        self.plans = Plans()
        self.curves = CurveFiles()
        self.counts = Counts()
