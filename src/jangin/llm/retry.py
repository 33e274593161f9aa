"""Retry policy for HTTP requests: exponential backoff with jitter, `Retry-After`, limits."""

import email.utils
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses after which the same request may succeed."""
MAX_BACKOFF_SECONDS = 60.0
"""Longest wait that we choose ourselves; a server may ask for more."""


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """Why one attempt failed, and what that means for the next one."""

    reason: str
    wait: float = 0.0
    """Seconds that the server asks to wait; 0 if it does not say."""
    busy: bool = False
    """The server only asks to come back later (429): it does not count as a failure."""
    lost: bool = False
    """The attempt may have been charged although no reply arrived."""
    immediately: bool = False
    """The request was changed, so there is no reason to wait."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a request is retried and how long to wait before each retry."""

    retries: int
    """Attempts after the first one."""
    first_wait_seconds: float
    """Wait before the first retry; it doubles up to `MAX_BACKOFF_SECONDS`."""
    patience_seconds: float = float("inf")
    """Longest total wait that the server may ask for."""
    requested_wait_jitter: float = 0.1
    """Share by which a wait that the server asks for is lengthened at most."""


@dataclass(slots=True)
class Backoff:
    """Attempts of one request under a policy.

    `key` decides the jitter: requests that failed at the same time are retried at different times.
    """

    policy: RetryPolicy
    key: str
    failures: int = 0
    busy: int = 0
    """Attempts that were answered with 429 and do not count as failures."""
    _own_waits: int = 0
    _requested_seconds: float = 0.0

    @property
    def attempts(self) -> int:
        """Attempts that failed for any reason."""
        return self.failures + self.busy

    @property
    def out_of_retries(self) -> bool:
        """True after more failures than the policy allows."""
        return self.failures > self.policy.retries

    @property
    def out_of_patience(self) -> bool:
        """True if the server has asked for longer waits than the policy allows."""
        return self._requested_seconds > self.policy.patience_seconds

    def wait_after(self, failure: RetryAfter) -> float:
        """Count a failed attempt; returns the seconds to wait before the next one.

        The caller gives up if `out_of_retries` or `out_of_patience` holds afterwards.
        """
        if failure.immediately:
            return 0.0
        self.failures += not failure.busy
        self.busy += failure.busy
        jitter = zlib.crc32(self.key.encode(errors="replace")) / 2**32
        wait = failure.wait * (1 + jitter * self.policy.requested_wait_jitter)
        if not wait:
            # A requested wait says nothing about how long to wait when none is requested.
            doubled = self.policy.first_wait_seconds * 2 ** min(self._own_waits, 20)
            wait = min(doubled, MAX_BACKOFF_SECONDS) * (0.5 + jitter / 2)
            self._own_waits += 1
        if failure.busy or failure.wait > 0:
            self._requested_seconds += wait
        return wait


def parse_retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a server asks to wait; 0 if it does not say.

    Reads `retry-after-ms`, then `Retry-After` as seconds or as a date (RFC 9110, 10.2.3).
    """
    for name, unit in (("retry-after-ms", 1000.0), ("Retry-After", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    try:
        until = email.utils.parsedate_to_datetime(headers.get("Retry-After", ""))
    except ValueError:
        return 0.0
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max((until - datetime.now(UTC)).total_seconds(), 0.0)


_DELAY = re.compile(
    r"\bretryDelay\W+(?P<s>[\d.]+)s\b|\b(?:retry|try again) in (?P<t>[\d.hms]+)", re.I
)
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def wait_in_text(text: str) -> float:
    """Seconds that the text of an error asks to wait; 0 if it does not say.

    Gemini has them as `"retryDelay": "20s"` and "Please retry in 20.04s", OpenAI as "Please try
    again in 1m30.5s" or "in 6ms", beside a header or in place of it.
    """
    match = _DELAY.search(text)
    if match is None:
        return 0.0
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", match["t"] or f"{match['s']}s")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
