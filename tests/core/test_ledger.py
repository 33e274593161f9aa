import json
import multiprocessing
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jangin.core.errors import LedgerError
from jangin.core.ledger import MIGRATIONS, Bill, CallCount, KeptReply, Ledger


def test_an_answer_is_kept_by_request_and_source(ledger):
    ledger.record_request("r", "here", "m")
    assert ledger.reply("r", "here") is None
    ledger.record_reply("r", "here", "reply")
    assert ledger.reply("r", "here") == "reply"
    assert ledger.reply("r", "there") is None
    assert ledger.reply("other", "here") is None


def test_calls_are_counted_asked_answered_and_asked_again(ledger):
    assert ledger.count_calls() == CallCount(0, 0, 0)
    for request in ("a", "b", "b", "c"):
        ledger.record_request(request, "", "m")
    ledger.record_reply("a", "", "x")
    ledger.record_reply("b", "", "x")
    assert ledger.count_calls() == CallCount(requests=3, answered=2, asked_again=1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), max_size=15))
def test_the_counts_are_those_of_what_happened(tmp_path_factory, events):
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "l.sqlite")
    asked, answered = {}, set()
    for is_answer, request in events:
        if not is_answer:
            ledger.record_request(request, "", "m")
            asked[request] = asked.get(request, 0) + 1
        elif request in asked:
            ledger.record_reply(request, "", "x")
            answered.add(request)
    again = sum(times > 1 for times in asked.values())
    assert ledger.count_calls() == CallCount(len(asked), len(answered), again)
    ledger.close()


def test_a_memo_keeps_its_newest_value_in_its_own_namespace(ledger):
    assert ledger.get("ocr", "page") is None
    ledger.put("ocr", "page", "old")
    ledger.put("ocr", "page", "새 값")
    ledger.put("other", "page", "x")
    assert ledger.get("ocr", "page") == "새 값"


def test_everything_is_there_after_opening_again(tmp_path):
    path = tmp_path / "deep" / "ledger.sqlite"
    first = Ledger(path)
    first.record_request("r", "", "m")
    first.record_reply("r", "", "x")
    first.put("n", "k", "v")
    first.close()
    again = Ledger(path)
    assert (again.reply("r", ""), again.get("n", "k")) == ("x", "v")
    again.close()


def test_the_time_of_a_stage_is_that_of_the_runs_that_made_it(ledger):
    assert ledger.seconds_of("sft", "k") is None
    run = ledger.start_run("run all", "0.1.0")
    ledger.record_step(run, "main", "sft", "k", "run", ("never ran",), 2.0)
    ledger.record_step(run, "main", "sft", "k", "resume", (), 3.0)
    ledger.record_step(run, "main", "sft", "k", "cached", (), 0.5)
    ledger.record_step(run, "main", "sft", "other", "run", (), 9.0)
    ledger.record_step(run, "main", "sft", "new", "interrupted", (), 1.0)
    ledger.record_step(run, "main", "sft", "new", "interrupted", (), 1.5)
    ledger.end_run(run, "done")
    assert ledger.seconds_of("sft", "k") == 5.0
    assert ledger.seconds_of("sft", "new") == 2.5
    assert "new" not in ledger.last_keys_unnamed("sft", "main")


def test_runs_are_numbered_and_a_killed_one_has_no_end(ledger):
    killed, ended = ledger.start_run("run", "0"), ledger.start_run("run", "0")
    assert ended > killed
    ledger.end_run(ended, "done")
    with sqlite3.connect(ledger.path) as db:
        rows = db.execute("SELECT outcome FROM runs ORDER BY id").fetchall()
    db.close()
    assert rows == [(None,), ("done",)]


def test_a_new_ledger_is_at_the_newest_version_and_opening_it_again_changes_nothing(tmp_path):
    path = tmp_path / "ledger.sqlite"
    for _ in range(2):
        Ledger(path).close()
        db = sqlite3.connect(path)
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        db.close()


def test_a_ledger_of_a_newer_jangin_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "ledger.sqlite"
    Ledger(path).close()
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.commit()
    with pytest.raises(
        LedgerError, match=r"newer jangin \(ledger version \d+, this one.*Upgrade jangin"
    ):
        Ledger(path)
    assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
    db.close()


@pytest.mark.parametrize(
    "data", [b"not a database at all" * 100, b"SQLite format 3\0" + b"x" * 999]
)
def test_a_damaged_file_is_one_sentence_and_one_remedy(tmp_path, data):
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(data)
    with pytest.raises(LedgerError, match=r"ledger.sqlite is not a ledger of jangin") as e:
        Ledger(path)
    assert str(path) in str(e.value)
    assert path.read_bytes() == data


def test_damage_that_shows_later_is_told_as_well(tmp_path):
    path = tmp_path / "ledger.sqlite"
    Ledger(path).close()
    db = sqlite3.connect(path)
    db.execute("DROP TABLE calls")
    db.commit()
    db.close()
    ledger = Ledger(path)
    with pytest.raises(LedgerError, match="no such table"):
        ledger.count_calls()
    ledger.close()


def test_a_folder_in_the_place_of_the_file_is_told(tmp_path):
    with pytest.raises(LedgerError, match="cannot be used"):
        Ledger(tmp_path)


def work(path, barrier, number):
    barrier.wait()
    ledger = Ledger(path)
    for request in range(20):
        ledger.record_request(f"{request}", f"{number}", "m")
    ledger.close()


@pytest.mark.slow
def test_processes_may_make_and_use_one_ledger_at_the_same_time(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    path = tmp_path / "ledger.sqlite"
    workers = [context.Process(target=work, args=(path, barrier, n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    ledger = Ledger(path)
    assert ledger.count_calls() == CallCount(60, 0, 0)
    ledger.close()


@pytest.mark.slow
def test_what_a_killed_process_asked_is_counted_and_what_it_got_is_kept(tmp_path):
    path = tmp_path / "ledger.sqlite"
    script = (
        "import os, signal, sys; from pathlib import Path; from jangin.core.ledger import Ledger\n"
        "ledger = Ledger(Path(sys.argv[1]))\n"
        "ledger.record_request('a', '', 'm'); ledger.record_reply('a', '', 'x')\n"
        "ledger.record_request('b', '', 'm')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    ledger = Ledger(path)
    assert ledger.reply("a", "") == "x"
    assert ledger.count_calls() == CallCount(2, 1, 0)
    ledger.close()


def test_calls_of_a_ledger_before_spending_was_counted_are_kept_and_have_no_price(tmp_path):
    path = tmp_path / "old.sqlite"
    old = sqlite3.connect(path)
    old.executescript(MIGRATIONS[0])
    old.execute("INSERT INTO calls VALUES ('r', '', 'm', 2, 'reply', 'then')")
    old.execute("PRAGMA user_version = 1")
    old.commit()
    old.close()
    ledger = Ledger(path)
    assert ledger.reply("r", "") == "reply"
    (row,) = ledger.spend()
    assert (row.stage, row.teacher, row.calls, row.usd, row.unpriced) == ("", "", 2, 0, 1)
    ledger.close()


def kept(request: str, reply: str, problem: str = "") -> KeptReply:
    return KeptReply(request, "chunk", "m", "user:\nAsk.", reply, problem)


def stored_texts(ledger, table: str) -> list[str | None]:
    with closing(sqlite3.connect(ledger.path)) as db:
        return [row[0] for row in db.execute(f"SELECT reply FROM {table} ORDER BY request")]


def test_a_reply_is_stored_once_and_can_be_read_when_it_is_dropped(ledger):
    for request in ("1", "2"):
        ledger.record_request(request, "a", "m")
        ledger.record_reply(request, "a", json.dumps({"content": f"text {request}"}))
    replies = [kept("1", "text 1"), kept("2", "text 2", "malformed"), kept("3", "no call")]
    ledger.keep_replies(replies, "a")
    assert stored_texts(ledger, "replies") == ["", "", "no call"]
    ledger.drop_reply("2")
    assert stored_texts(ledger, "calls") == ['{"content": "text 1"}', None]
    assert stored_texts(ledger, "replies") == ["", "text 2", "no call"]
    shown, count = ledger.kept_replies("")
    assert count == 3
    assert [reply.reply for reply in shown] == ["text 2", "text 1", "no call"]


def test_replies_of_another_source_or_another_text_are_kept_beside_the_call(ledger):
    ledger.record_request("1", "a", "m")
    ledger.record_reply("1", "a", '{"content": "now"}')
    for source, text in (("b", "now"), ("a", "then")):
        ledger.keep_replies([kept("1", text)], source)
        assert stored_texts(ledger, "replies") == [text]
        assert [reply.reply for reply in ledger.kept_replies("")[0]] == [text]


def test_replies_that_an_earlier_version_kept_are_shown(tmp_path):
    path = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(path)) as old:
        for migration in MIGRATIONS[:5]:
            old.executescript(migration)
        old.execute(
            "INSERT INTO calls (request, source, model, reply) VALUES ('r', 'a', 'm', '{}')"
        )
        old.execute("INSERT INTO replies VALUES ('', 'r', 's', 'chunk', 'm', 'ask', 'said', 'why')")
        old.execute("PRAGMA user_version = 5")
        old.commit()
    ledger = Ledger(path)
    assert ledger.kept_replies("") == ([KeptReply("r", "chunk", "m", "ask", "said", "why", "s")], 1)
    ledger.close()


def test_spending_is_summed_by_stage_teacher_and_model_and_recordings_are_left_out(ledger):
    for stage, request, source in (("a", "1", ""), ("a", "2", ""), ("b", "3", "recorded 12ab")):
        ledger.stage = stage
        ledger.record_request(request, source, "m", "t", 0.5)
        ledger.record_reply(request, source, "{}", 10, 5, usd=-0.25)
    (row,) = ledger.spend()
    assert (row.stage, row.calls, row.prompt_tokens, row.completion_tokens) == ("a", 2, 20, 10)
    assert row.usd == 0.5
    assert ledger.spent_usd() == 0.75


def test_a_bill_counts_each_request_once_whoever_paid_for_it(ledger):
    with ledger.recording_uses("synthesize", "k1"):
        ledger.record_request("shared", "", "m", "t", 2.0)
        ledger.record_request("own", "", "m", "t", 1.0)
    with ledger.recording_uses("synthesize", "k2"):
        ledger.record_use("shared", "")
        ledger.record_request("free", "", "m", "t", None)
        ledger.record_request("heard", "recorded 12ab", "m", "t", 0.0)
    ledger.record_request("for nobody", "", "m", "t", 8.0)
    assert ledger.bill(["k1"]) == Bill(calls=2, usd=3.0)
    assert ledger.bill(["k2"]) == Bill(calls=2, usd=2.0, unpriced=1, recorded=1)
    assert ledger.bill(["k1", "k2", "k3"]) == Bill(calls=3, usd=3.0, unpriced=1, recorded=1)
    assert ledger.bill([]) == Bill()
    assert (ledger.has_uses("k2"), ledger.has_uses("k3")) == (True, False)


def test_an_artifact_that_asked_nothing_is_told_from_one_that_nobody_noted(ledger):
    with ledger.recording_uses("curate", "quiet"):
        pass
    assert ledger.has_uses("quiet")
    assert ledger.bill(["quiet"]) == Bill()
    assert (ledger.stage, ledger.artifact) == ("", "")


def test_a_request_asked_again_costs_again_and_one_taken_back_does_not(ledger):
    for _ in range(3):
        ledger.record_request("r", "", "m", "t", 1.0)
    ledger.uncount_request("r", "", 1.0)
    ledger.add_cost("r", "", 0.5)
    (row,) = ledger.spend()
    assert (row.calls, row.usd) == (2, 2.5)


def test_changes_made_together_are_all_there_or_none(ledger):
    def half():
        with ledger.transaction():
            ledger.put("n", "a", "1")
            raise KeyError

    with pytest.raises(KeyError):
        half()
    assert ledger.get_all("n") == {}
    with ledger.transaction():
        ledger.put("n", "b", "2")
        ledger.put("n", "a", "1")
    assert list(ledger.get_all("n").items()) == [("b", "2"), ("a", "1")]
    ledger.delete("n", "b")
    assert ledger.get_all("n") == {"a": "1"}
