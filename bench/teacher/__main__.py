"""The teacher's client under load, beside its peers, and on an endpoint that breaks everything.

    python bench/teacher                 load, then DataDesigner and bespokelabs-curator beside us
    python bench/teacher --load | --peers | --chaos
    python bench/teacher --chaos --rows 120 --quick      as the tests run it

Exits 1 when the chaos leg lost a row, repeated a finished call, or ended with another result.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import peers
from chaos import chaos
from material import CONCURRENCY, HERE, Endpoint, endpoint


def drive(server: Endpoint, calls: int, folder: Path) -> dict[str, float | dict[str, float]]:
    """Our client in a process of its own."""
    command = [
        sys.executable,
        str(HERE / "load_client.py"),
        str(server.port),
        str(calls),
        str(folder / f"{calls}.sqlite"),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def load(calls: int, many: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        with endpoint() as server:
            took = drive(server, calls, Path(name))
            totals = server.totals()
        limit = CONCURRENCY * totals["asked"] / totals["delay_seconds"]
        rate = took["done"] / took["wall"]
        print(
            "| load | calls | per second | share of the endpoint's limit | client CPU ms a call |"
        )
        print("|---|---|---|---|---|")
        print(
            f"| 50 to 200 ms | {took['done']:,} | {rate:,.0f} | {rate / limit:.1%} of {limit:,.0f} "
            f"| {1000 * took['cpu'] / took['done']:.2f} |",
            flush=True,
        )
        with endpoint("--shortest", 0.001, "--longest", 0.003) as server:
            took = drive(server, many, Path(name))
            totals = server.totals()
        rate = took["done"] / took["wall"]
        print(
            f"| 1 to 3 ms | {took['done']:,} | {rate:,.0f} | bound by the client's CPU "
            f"| {1000 * took['cpu'] / took['done']:.2f} |"
        )
        held = ", ".join(f"{int(mark):,}: {mib:.1f}" for mark, mib in took["held"].items())
        print(f"\nresident MiB by number of calls: {held}; peak {took['peak']:.1f}")
        if took["wrong"] or totals["paid_twice"]:
            sys.exit(f"{took['wrong']} wrong replies, {totals['paid_twice']} paid twice")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--load", action="store_true")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--chaos", action="store_true")
    parser.add_argument("--calls", type=int, default=10_000, help="of the load leg")
    parser.add_argument("--many", type=int, default=100_000, help="of the memory leg")
    parser.add_argument("--rows", type=int, help="400 beside peers, 2,000 in the chaos")
    parser.add_argument("--retries", type=int, default=12, help="of the chaos leg")
    parser.add_argument("--quick", action="store_true", help="short waits in the chaos leg")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    every = not (options.load or options.peers or options.chaos)
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}", flush=True)
    if options.load or every:
        load(options.calls, options.many)
    if options.peers or every:
        rows = options.rows or 400
        cards = [peers.contest(name, rows, options.seed) for name in peers.CONTESTANTS]
        print(peers.table(cards, rows), flush=True)
    if options.chaos:
        manners: tuple[object, ...] = ("--seed", options.seed)
        timeout, at_once = 5.0, CONCURRENCY
        if options.quick:
            waits = ("--shortest", 0.005, "--longest", 0.02, "--retry-after", 0.1)
            manners = (*manners, *waits, "--most-faults", 2)
            at_once = 16
        wrong = chaos(options.rows or 2_000, at_once, timeout, options.retries, manners)
        if wrong:
            sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
