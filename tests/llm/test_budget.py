import asyncio

import pytest

from jangin.core.errors import BudgetError, ChatError, RefusedError
from jangin.core.model_protocols import ChatReply, ChatRequest
from jangin.core.records import Message
from jangin.llm.ask import CachedChat, ask_all, budget_of
from jangin.llm.budget import Budget, SpendingLimit
from jangin.llm.prices import Price
from jangin.llm.recorded import RecordingChat

DOLLAR_A_TOKEN = Price(input_usd_per_million=0, output_usd_per_million=1_000_000)


def ask(text, max_tokens=10):
    return ChatRequest(
        model="m", messages=(Message(role="user", content=text),), max_tokens=max_tokens
    )


class Priced:
    """Answers each request after a few turns of the loop, with the tokens it is told to."""

    model, source = "m", ""

    def __init__(self, tokens=10, fail=()):
        self.tokens, self.fail = tokens, dict(fail)
        self.asked, self.inside, self.most = [], 0, 0

    async def complete(self, request):
        text = request.messages[-1].content
        self.asked.append(text)
        self.inside += 1
        self.most = max(self.most, self.inside)
        for _ in range(3):
            await asyncio.sleep(0)
        self.inside -= 1
        if text in self.fail:
            raise self.fail[text]
        return ChatReply(content=text, prompt_tokens=1, completion_tokens=self.tokens)

    async def close(self):
        pass


def run(chat, count, concurrency=8):
    replies = {}
    ask_all(chat, [ask(str(n)) for n in range(count)], concurrency, replies.__setitem__)
    return replies


def cached(model, ledger, limit=None, price=DOLLAR_A_TOKEN):
    return CachedChat(model, ledger, Budget("t", price, SpendingLimit(limit, ledger.spent_usd())))


def test_what_a_call_cost_stands_in_the_ledger_by_stage_and_teacher(ledger):
    ledger.stage = "synthesize"
    run(cached(Priced(7), ledger), 3)
    ledger.stage = "paraphrase"
    run(cached(Priced(2), ledger), 4)
    (row,) = [row for row in ledger.spend() if row.stage == "synthesize"]
    assert (row.teacher, row.model, row.calls, row.unpriced) == ("t", "m", 3, 0)
    assert (row.prompt_tokens, row.completion_tokens, row.usd) == (3, 21, 21)
    assert ledger.spent_usd() == 23


def test_the_budget_is_never_exceeded_and_what_is_done_is_kept(ledger):
    model = Priced(10)
    chat = cached(model, ledger, limit=55)
    with pytest.raises(
        BudgetError,
        match=r"95 of 100 requests were not sent: the budget of \$55.00 would be exceeded: "
        r"\$50.0000 is spent and the next request may cost \$10.0000. Raise `budget: usd:`",
    ):
        run(chat, 100)
    assert len(model.asked) == 5
    assert ledger.spent_usd() == 50
    assert ledger.count_calls().answered == 5


def test_cheap_replies_leave_room_for_more_than_the_worst_case(ledger):
    model = Priced(1)
    with pytest.raises(BudgetError):
        run(cached(model, ledger, limit=40), 100)
    assert len(model.asked) == 31  # after 31 there are 9 left, and a reply may cost 10
    assert model.most == 4


def test_a_larger_budget_goes_on_where_the_smaller_one_stopped(ledger):
    with pytest.raises(BudgetError):
        run(cached(Priced(10), ledger, limit=30), 6)
    model = Priced(10)
    assert len(run(cached(model, ledger, limit=60), 6)) == 6
    assert len(model.asked) == 3
    assert ledger.spent_usd() == 60


def test_requests_that_were_not_answered_cost_nothing(ledger):
    chat = cached(Priced(10, {"1": ChatError("down")}), ledger, limit=30)
    assert len(run(chat, 3, concurrency=1)) == 3
    assert ledger.spent_usd() == 20
    assert chat.budget.limit.spent_usd == 20


def test_a_try_that_was_lost_counts_at_its_worst(ledger):
    class Flaky(Priced):
        async def complete(self, request):
            chat.charge_lost(request)
            return await super().complete(request)

    chat = cached(Flaky(3), ledger)
    run(chat, 2)
    assert ledger.spent_usd() == 2 * (10 + 3)
    assert chat.budget.limit.spent_usd == ledger.spent_usd()


def test_a_run_that_is_stopped_counts_what_was_under_way_at_its_worst(ledger):
    chat = cached(Priced(1, {"1": KeyboardInterrupt()}), ledger)
    with pytest.raises(KeyboardInterrupt):
        run(chat, 4, concurrency=2)
    assert ledger.spent_usd() >= 10


def test_a_reply_without_usage_counts_at_its_worst(ledger):
    class Silent(Priced):
        async def complete(self, request):
            reply = await super().complete(request)
            return reply.model_copy(update={"prompt_tokens": 0, "completion_tokens": 0})

    run(cached(Silent(), ledger), 2)
    assert ledger.spent_usd() == 20


def test_a_model_of_unknown_price_is_counted_and_said_to_be_unknown(ledger):
    run(cached(Priced(5), ledger, price=None), 2)
    (row,) = ledger.spend()
    assert (row.usd, row.unpriced, row.completion_tokens) == (0, 2, 10)


def test_what_is_under_way_when_the_key_is_refused_is_kept(ledger):
    class Late(Priced):
        async def complete(self, request):
            if request.messages[-1].content == "1":
                raise RefusedError("wrong key")
            return await super().complete(request)

    with pytest.raises(RefusedError, match="wrong key"):
        run(cached(Late(), ledger), 50, concurrency=4)
    assert ledger.count_calls().answered == 3


def test_the_account_is_found_behind_a_recorder(ledger, tmp_path):
    chat = cached(Priced(), ledger)
    assert budget_of(RecordingChat(chat, tmp_path / "r.jsonl")) is chat.budget
    assert budget_of(Priced()) is None
