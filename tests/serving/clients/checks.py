"""Runs the checks of a client script one after the other and prints one line for each.

The scripts beside this file import no part of jangin: they are what a user's program is, with two
environment variables, OPENAI_BASE_URL and OPENAI_API_KEY. A check may need the results of an
earlier one, which are attributes of `state`. Exit status: 1 if a check failed.
"""

import os
import sys
import time
import traceback
import types
import urllib.error
import urllib.request

BASE_URL = os.environ["OPENAI_BASE_URL"]
KEY = os.environ["OPENAI_API_KEY"]
CHAT_MODEL = "gpt-4.1-nano-2025-04-14"
OTHER_CHAT_MODEL = "gpt-4o-mini-2024-07-18"
COMPLETION_MODEL = "babbage-002"
SECONDS = float(os.environ.get("CHECK_SECONDS", "240"))
"""Longest wait for a job, a batch or a file."""

state = types.SimpleNamespace()
_checks = []


class Skip(Exception):
    """This client has no such call."""


def check(function):
    """A function that raises if the server is wrong."""
    _checks.append(function)
    return function


def needs(condition, reason):
    if not condition:
        raise Skip(reason)


def wait(read, is_done, seconds=SECONDS, every=0.3):
    """The first value of `read()` that is done."""
    end = time.monotonic() + seconds
    while True:
        value = read()
        if is_done(value):
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not done after {seconds:g} s: {value}")
        time.sleep(every)


def request(method, path, body=None, headers=None):
    """(status, headers, bytes) of a plain HTTP request, without any client."""
    own = {"Authorization": f"Bearer {KEY}"} if headers is None else headers
    call = urllib.request.Request(BASE_URL + path, data=body, method=method, headers=own)
    try:
        with urllib.request.urlopen(call, timeout=SECONDS) as reply:
            return reply.status, reply.headers, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def run():
    wanted, failures = sys.argv[1:], 0
    for function in _checks:
        name = function.__name__
        if wanted and not any(word in name for word in wanted):
            continue
        start = time.monotonic()
        try:
            function()
            outcome = "ok"
        except Skip as reason:
            outcome = f"skipped: {reason}"
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            outcome = f"FAILED {type(error).__name__}: {error}".replace("\n", " ")[:600]
            failures += 1
            if os.environ.get("CHECK_TRACEBACKS"):
                traceback.print_exc()
        print(f"{name}\t{time.monotonic() - start:.1f}s\t{outcome}", flush=True)
    sys.exit(1 if failures else 0)
