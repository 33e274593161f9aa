import pytest

from jangin.llm.retry import MAX_BACKOFF_SECONDS, Backoff, RetryAfter, RetryPolicy


def test_waits_double_up_to_a_limit_and_differ_between_requests():
    backoff = Backoff(RetryPolicy(retries=20, first_wait_seconds=1.0), "a")
    waits = [backoff.wait_after(RetryAfter("no reply")) for _ in range(12)]
    assert 0.5 <= waits[0] <= 1
    assert waits[:5] == pytest.approx([waits[0] * 2**power for power in range(5)])
    assert MAX_BACKOFF_SECONDS / 2 <= waits[-1] == waits[-2] <= MAX_BACKOFF_SECONDS
    other = Backoff(RetryPolicy(retries=20, first_wait_seconds=1.0), "b")
    assert other.wait_after(RetryAfter("no reply")) != waits[0]


def test_a_429_counts_against_patience_and_not_against_retries():
    backoff = Backoff(RetryPolicy(retries=0, first_wait_seconds=1.0, patience_seconds=25), "a")
    for _ in range(2):
        assert 10 <= backoff.wait_after(RetryAfter("HTTP 429", wait=10, busy=True)) <= 11
        assert not backoff.out_of_retries
        assert not backoff.out_of_patience
    backoff.wait_after(RetryAfter("HTTP 429", wait=10, busy=True))
    assert backoff.out_of_patience
    assert (backoff.failures, backoff.attempts) == (0, 3)
    backoff.wait_after(RetryAfter("no reply"))
    assert backoff.out_of_retries


def test_a_changed_request_is_sent_at_once_and_counts_for_nothing():
    backoff = Backoff(RetryPolicy(retries=0, first_wait_seconds=1.0), "a")
    assert backoff.wait_after(RetryAfter("takes no schema", immediately=True)) == 0
    assert backoff.attempts == 0


def test_a_wait_that_the_server_asks_for_is_kept_exactly_without_jitter():
    policy = RetryPolicy(retries=1, first_wait_seconds=1.0, requested_wait_jitter=0)
    assert Backoff(policy, "a").wait_after(RetryAfter("HTTP 503", wait=7.5)) == 7.5
