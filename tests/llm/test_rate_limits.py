import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jangin.llm.rate_limits import Concurrency, RateLimit


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@given(
    st.floats(1, 6000),
    st.lists(st.tuples(st.floats(0, 30), st.floats(0.1, 500)), max_size=60),
)
def test_no_minute_sees_more_than_its_limit_and_one_seconds_worth(per_minute, arrivals):
    clock = Clock()
    limit = RateLimit(per_minute, clock)
    used = []
    for pause, amount in arrivals:
        clock.now += pause
        used.append((clock.now + limit.take(amount), amount))
    for start, _ in used:
        within = [amount for moment, amount in used if start <= moment < start + 60]
        # The first one was paid for by the time before it.
        assert sum(within[1:]) <= per_minute + max(per_minute / 60, 1) + 1e-6 * per_minute


def test_whoever_takes_more_than_there_is_waits_its_turn():
    limit = RateLimit(60, Clock())
    assert [limit.take(1) for _ in range(4)] == [0, 1, 2, 3]


def test_an_amount_larger_than_the_bucket_is_taken_and_paid_by_waiting():
    clock = Clock()
    limit = RateLimit(600, clock)
    assert limit.take(100) == pytest.approx(9)
    clock.now = 9
    assert limit.take(10) == pytest.approx(1)


def test_what_was_not_used_shortens_the_wait_of_the_next():
    limit = RateLimit(600, Clock())
    limit.take(100)
    limit.give_back(90)
    assert limit.take(1) == pytest.approx(0.1)


def test_time_alone_fills_the_bucket_to_one_second_and_no_further():
    clock = Clock()
    limit = RateLimit(600, clock)
    clock.now = 3600
    assert [limit.take(5), limit.take(5), limit.take(6)] == [0, 0, pytest.approx(0.6)]


class Endpoint:
    """Takes a limited number of requests at once and refuses the rest, as 429 does."""

    def __init__(self, capacity):
        self.capacity, self.inside, self.most, self.refused = capacity, 0, 0, 0

    async def ask(self):
        self.inside += 1
        self.most = max(self.most, self.inside)
        fits = self.inside <= self.capacity
        for _ in range(3):
            await asyncio.sleep(0)
        self.inside -= 1
        self.refused += not fits
        return fits


def load(limit, endpoint, workers, asked):
    async def work():
        left = iter(range(asked))

        async def worker():
            for _ in left:
                while True:
                    async with limit.slot():
                        fits = await endpoint.ask()
                    limit.record(refused=not fits)
                    if fits:
                        break

        await asyncio.gather(*(worker() for _ in range(workers)))

    asyncio.run(work())


def test_it_settles_near_what_the_endpoint_takes():
    limit, endpoint = Concurrency(), Endpoint(8)
    load(limit, endpoint, 64, 400)
    first = endpoint.refused
    limit.forget_waiters()
    load(limit, endpoint, 64, 2000)
    assert 5 <= limit.limit <= 12
    assert endpoint.refused - first < 1000  # with no wait after a refusal; 14,000 without a limit


def test_without_a_429_nothing_is_held_back():
    limit, endpoint = Concurrency(), Endpoint(1000)
    load(limit, endpoint, 64, 500)
    assert endpoint.most == 64
    assert limit.limit == limit.most


class Whims(Endpoint):
    """Refuses so large a share at random, and everybody beyond its capacity."""

    def __init__(self, share, capacity=1000):
        super().__init__(capacity)
        self.share, self.chance, self.sum, self.count = share, Random(1), 0, 0

    async def ask(self):
        self.sum, self.count = self.sum + self.inside, self.count + 1
        return await super().ask() and self.chance.random() >= self.share


def test_429_at_random_hold_nearly_nothing_back():
    limit, endpoint = Concurrency(), Whims(0.2)
    load(limit, endpoint, 64, 8000)
    assert endpoint.sum / endpoint.count > 48  # 11 by the share of 429 alone


def test_an_endpoint_that_becomes_too_busy_after_429_at_random_is_still_found_out():
    limit, endpoint = Concurrency(), Whims(0.2)
    load(limit, endpoint, 64, 2000)
    limit.forget_waiters()
    endpoint.capacity = 8
    load(limit, endpoint, 64, 2000)
    assert limit.limit < 20


def test_it_never_falls_below_one_and_never_rises_above_what_is_allowed():
    limit = Concurrency(4)
    for _ in range(50):
        limit.record(refused=True)
    assert limit.limit >= 0.5
    assert int(max(limit.limit, 1)) == 1
    for _ in range(500):
        limit.record(refused=False)
    assert limit.limit == 4


def test_one_who_is_cancelled_while_waiting_leaves_no_place_unused():
    async def work():
        limit = Concurrency(1)
        done = []

        async def one(name):
            async with limit.slot():
                await asyncio.sleep(0)
                done.append(name)

        async with limit.slot():
            waiting = [asyncio.create_task(one(name)) for name in "abc"]
            await asyncio.sleep(0)
            waiting[0].cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return done, limit.inside

    assert asyncio.run(work()) == (["b", "c"], 0)
