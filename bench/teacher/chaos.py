"""Every fault at once, undisturbed and killed half-way: nothing lost, nothing paid twice."""

import tempfile
from pathlib import Path

import ours
from material import endpoint


def chaos(
    rows: int, at_once: int, timeout: float, retries: int, manners: tuple[object, ...]
) -> list[str]:
    """Run both, print what happened, and return what should not have.

    A call is finished once its reply is in the ledger. A reply that the endpoint sent and the
    killed process did not get to keep is paid for again; there can be no more of those than
    requests in flight.
    """
    settings = {"at_once": at_once, "timeout_seconds": timeout, "retries": retries}
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        with endpoint("--faults", *manners) as server:
            project = ours.write_project(Path(name) / "calm", rows, server, **settings)
            calm = ours.run(project)
            totals = server.totals()
        print(_line("undisturbed", calm, totals))
        print(f"what the endpoint did: {totals['outcomes']}", flush=True)
        wrong += _wrong("undisturbed", calm, rows)
        if totals["paid_twice"]:
            wrong.append(f"undisturbed: {totals['paid_twice']} requests were paid twice")
        # Some calls are in flight at the kill, and others are never answered before it.
        pause = ("--pause-after", rows // 2 + at_once)
        with endpoint("--faults", *pause, *manners) as server:
            project = ours.write_project(Path(name) / "killed", rows, server, **settings)
            at_kill, kept = ours.run_killed(project, server, rows // 2)
            killed = ours.run(project)
            totals = server.totals()
        print(_line("killed, resumed", killed, totals))
        lost = at_kill["answered"] - kept
        repeated = totals["paid_twice"] - lost
        print(
            f"at the kill: {at_kill['answered']} answered, {kept} of them in the ledger; "
            f"finished calls repeated: {repeated}; result "
            f"{'the same' if killed.content == calm.content else 'DIFFERS'}"
        )
        wrong += _wrong("killed and resumed", killed, rows)
        if killed.content != calm.content:
            wrong.append("the resumed run's result is another one")
        if not 0 <= lost <= at_once:
            wrong.append(f"{lost} replies were not kept, with {at_once} requests in flight")
        if repeated:
            wrong.append(f"{repeated} finished calls were repeated")
    return wrong


def _line(name: str, result: ours.Result, totals: dict[str, object]) -> str:
    return (
        f"{name}: {result.rows} rows, {result.failed} named as failed, exit {result.exit_code}, "
        f"{result.wall_seconds:.1f} s; {totals['asked']} tries, {totals['answered']} requests "
        f"answered, {totals['paid_twice']} twice, at most {totals['most_active']} at once"
    )


def _wrong(name: str, result: ours.Result, rows: int) -> list[str]:
    wrong = []
    if result.rows + result.failed != rows:
        wrong.append(f"{name}: {rows - result.rows - result.failed} of {rows} rows are lost")
    if not result.in_order:
        wrong.append(f"{name}: the rows are not in the order of the passages")
    if result.exit_code and not result.failed:
        wrong.append(f"{name}: exit {result.exit_code}:\n{result.output}")
    return wrong
