"""The process of a Python grader: run by path, without jangin; see `python_process`.

Arguments: seconds of CPU time, bytes of memory. Standard input: JSON with `source`, `sample` and
`item`. Standard output: JSON with `reward` or `error`; what the grader itself prints is dropped.
"""

import json
import os
import resource
import sys
import traceback
from typing import Any

MOST_DETAILS = 2000


def main() -> None:
    """Set the limits, run the grader and write its reward."""
    seconds, memory = int(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    request = json.loads(sys.stdin.buffer.read())
    reply = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.write(reply, json.dumps(_graded(request)).encode())
    os._exit(0)


def _graded(request: dict[str, Any]) -> dict[str, Any]:
    try:
        scope: dict[str, Any] = {"__name__": "grader"}
        exec(compile(request["source"], "grader", "exec"), scope)  # noqa: S102 - its purpose
        return {"reward": float(scope["grade"](request["sample"], request["item"]))}
    except BaseException:  # noqa: BLE001 - any exception of a stranger's code is its result
        return {"error": traceback.format_exc()[-MOST_DETAILS:]}


if __name__ == "__main__":
    main()
