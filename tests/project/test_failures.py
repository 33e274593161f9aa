"""Rows that fail end a run with exit code 1, are listed in a file, and asked again on demand."""

import json

import pytest
from aiohttp import web

from jangin.cli.main import main
from jangin.core.jsonl import read_jsonl
from jangin.core.ledger import Ledger
from jangin.core.parquet import read_table
from jangin.core.records import Example
from jangin.core.store import Store
from jangin.llm.recorded import Recording
from jangin.llm.replies import Failed
from tests.web_app import serve

ARTICLES = 4
PROJECT = """\
name: small
{more}
teachers:
  writer:
    type: endpoint
    model: m
    base_url: {url}
    retries: 0
    replies: replies.jsonl
    {teacher}
documents:
  load: {{folder: documents}}
  chunk:
examples:
  synthesize: {{teacher: writer, max_tokens: 100}}
"""


class Teacher:
    """Answers about each article; what it does about some of them can be set."""

    def __init__(self):
        self.odd, self.asked, self.status, self.error = {}, [], 200, {}
        self.first = {}

    async def answer(self, request):
        body = await request.json()
        text = body["messages"][-1]["content"]
        self.asked.append(body)
        if self.status != 200:
            return web.json_response({"error": self.error}, status=self.status)
        first = body["messages"][1]["content"]
        number = next((n for n in range(ARTICLES) if f"{n}번 창고의 문은" in first), 0)
        content = self.first.get(number, None) if len(body["messages"]) == 2 else None
        content = content or self.odd.get(number) or self.good(number)
        if content == "down":
            return web.json_response({"error": {"message": "overloaded"}}, status=503)
        assert text
        choice = {"message": {"content": content}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 100, "completion_tokens": 10}
        return web.json_response({"choices": [choice], "usage": usage})

    @staticmethod
    def good(number):
        pair = {
            "question": f"{number}번 창고는 언제 여나요?",
            "answer": f"{number}시에 열고 저녁에 닫는다.",
            "evidence": f"{number}번 창고의 문은 {number}시에 열고",
        }
        return json.dumps({"pairs": [pair]}, ensure_ascii=False)


@pytest.fixture(scope="module")
def serving():
    teacher = Teacher()
    with serve(web.post("/v1/chat/completions", teacher.answer)) as address:
        yield teacher, f"{address}/v1"


@pytest.fixture(autouse=True)
def teacher(serving):
    serving[0].__init__()
    return serving[0]


@pytest.fixture(autouse=True)
def write(tmp_path, serving):
    def make(teacher="", more=""):
        text = PROJECT.format(url=serving[1], teacher=teacher, more=more)
        (tmp_path / "project.yaml").write_text(text, encoding="utf-8")

    (tmp_path / "documents").mkdir()
    for n in range(ARTICLES):
        text = (
            f"# 창고 {n}\n\n## 제{n + 1}조(창고)\n\n{n}번 창고의 문은 {n}시에 열고 저녁에 닫는다.\n"
        )
        (tmp_path / "documents" / f"창고{n}.md").write_text(text, encoding="utf-8")
    make()
    return make


@pytest.fixture
def jangin(monkeypatch, capsys, tmp_path):
    """Run the command line; returns (exit code, all that was printed, as one line)."""

    def call(*words):
        monkeypatch.setattr("sys.argv", ["jangin", *words, "--project", str(tmp_path)])
        try:
            main()
            code = 0
        except SystemExit as leave:
            code = leave.code
        printed = capsys.readouterr()
        return int(code or 0), " ".join((printed.out + printed.err).split())

    return call


def made(tmp_path):
    return Store(tmp_path / "store").latest("synthesize")


def answers(tmp_path):
    rows = read_table(made(tmp_path).path / "examples.parquet", Example)
    return [row.answer for row in rows]


ALL = [f"{n}시에 열고 저녁에 닫는다." for n in range(ARTICLES)]


@pytest.mark.slow
def test_a_run_without_failures_ends_with_0(teacher, jangin, tmp_path):
    code, printed = jangin("run")
    assert code == 0, printed
    assert answers(tmp_path) == ALL
    assert not (made(tmp_path).path / "failed.jsonl").exists()
    assert len(teacher.asked) == ARTICLES


@pytest.mark.slow
@pytest.mark.parametrize(
    ("odd", "kind", "reason"),
    [
        ("nonsense", "malformed", "the reply is not a JSON object"),
        ("죄송하지만 도와드릴 수 없습니다.", "refused", "the model refused"),
        (" ", "malformed", "the reply is empty"),
        ("down", "unanswered", "HTTP 503: overloaded"),
        ("가" * 100_000, "unanswered", "larger than the 200,000 bytes"),
    ],
)
def test_failed_rows_end_with_1_and_are_asked_again_alone(
    teacher, jangin, tmp_path, odd, kind, reason
):
    teacher.odd = {1: odd}
    code, printed = jangin("run")
    assert code == 1
    assert f"failed: synthesize (main): 1 of {ARTICLES} rows failed: 1 {kind}:" in printed
    assert reason in printed
    assert "failed.jsonl; try again with: jangin run --project" in printed
    assert printed.endswith("--retry-failed")
    (row,) = read_jsonl(made(tmp_path).path / "failed.jsonl", Failed)
    assert row.kind == kind
    assert reason in row.reason
    assert answers(tmp_path) == [ALL[0], *ALL[2:]]

    before = len(teacher.asked)
    code, printed = jangin("run")
    assert code == 1
    assert len(teacher.asked) == before, "a run without --retry-failed asks for nothing"

    key = made(tmp_path).manifest.key
    teacher.odd = {}
    code, printed = jangin("run", "--retry-failed")
    assert code == 0, printed
    assert len(teacher.asked) == before + 1
    assert answers(tmp_path) == ALL
    assert made(tmp_path).manifest.key == key
    assert not list((tmp_path / "store" / "synthesize").glob("*.partial"))


@pytest.mark.slow
def test_a_retry_that_fails_again_keeps_what_there_was(teacher, jangin, tmp_path):
    teacher.odd = {1: "nonsense"}
    jangin("run")
    code, _ = jangin("run", "--retry-failed")
    assert code == 1
    assert len(answers(tmp_path)) == ARTICLES - 1
    teacher.status, teacher.error = 401, {"message": "bad key"}
    code, printed = jangin("run", "--retry-failed")
    assert code == 2
    assert "the key is missing or wrong (HTTP 401: bad key)" in printed
    assert len(answers(tmp_path)) == ARTICLES - 1


@pytest.mark.slow
def test_what_a_rule_left_out_is_no_failure(teacher, jangin, tmp_path):
    pair = {"question": "언제?", "answer": "모름", "evidence": "어디에도 없는 문장입니다"}
    teacher.odd = {1: json.dumps({"pairs": [pair]}, ensure_ascii=False)}
    code, printed = jangin("run")
    assert code == 0, printed
    assert not (made(tmp_path).path / "failed.jsonl").exists()


@pytest.mark.slow
def test_the_summary_shows_the_parse_rate(teacher, jangin, tmp_path):
    teacher.first = {1: "nonsense"}
    code, printed = jangin("run")
    assert code == 0, printed
    summary = made(tmp_path).manifest.summary
    assert (summary["asked"], summary["malformed_replies"]) == (ARTICLES, 1)
    assert summary["parse_rate"] == 0.8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (401, {"message": "Incorrect API key"}, "the key is missing or wrong (HTTP 401: Incorrect"),
        (404, {"message": "no model m"}, "the URL or the model does not exist (HTTP 404: no mod"),
        (
            429,
            {"message": "You exceeded your current quota", "code": "insufficient_quota"},
            "the account has no credit (HTTP 429: You exceeded your current quota)",
        ),
    ],
)
def test_what_will_never_pass_stops_the_run_in_one_sentence(
    teacher, jangin, status, error, expected
):
    teacher.status, teacher.error = status, error
    code, printed = jangin("run")
    assert code == 2
    assert expected in printed
    assert "run again" in printed
    assert "Traceback" not in printed
    assert len(teacher.asked) <= ARTICLES
    teacher.status = 200
    assert jangin("run")[0] == 0


def test_a_key_that_is_not_set_stops_the_run_before_any_work(write, jangin, tmp_path):
    write("key_variable: KEY_OF_THIS_TEST")
    code, printed = jangin("run")
    assert code == 2
    assert "environment variable KEY_OF_THIS_TEST is not set" in printed
    assert not list((tmp_path / "store").glob("load/*/manifest.json"))


@pytest.mark.slow
def test_prompts_over_the_context_fail_alone_and_say_so(write, jangin, tmp_path):
    long = "# 긴 글\n\n## 제9조(창고)\n\n" + "창고의 물건은 종류에 따라 나누어 둔다. " * 35
    (tmp_path / "documents" / "long.md").write_text(long, encoding="utf-8")
    write("context_tokens: 2000")
    code, printed = jangin("run")
    assert code == 1, printed
    assert "more than the 2,000 of model 'm'" in printed
    assert sorted(answers(tmp_path)) == ALL


@pytest.mark.slow
def test_a_budget_stops_cleanly_and_a_larger_one_goes_on(teacher, write, jangin, tmp_path):
    price = "price: {input_usd_per_million: 0, output_usd_per_million: 10000}"
    write(price, "budget: {usd: 1.25}")
    code, printed = jangin("plan")
    assert "up to $4.00" in printed  # estimated before its chunks are there
    code, printed = jangin("run")
    assert code == 2
    assert "1 of 4 requests was not sent: the budget of $1.25 would be exceeded" in printed
    assert "$0.3000 is spent and the next request may cost $1.0000" in printed
    code, printed = jangin("plan")
    assert "1 call to models, up to" in printed
    assert "up to $1.00" in printed
    assert "Spent so far: $0.30 of $1.25." in printed
    write(price, "budget: {usd: 2}")
    code, printed = jangin("run")
    assert code == 0, printed
    assert len(teacher.asked) == ARTICLES
    ledger = Ledger(tmp_path / "store" / "ledger.sqlite")
    (spend,) = ledger.spend()
    ledger.close()
    assert (spend.stage, spend.teacher, spend.calls) == ("synthesize", "writer", ARTICLES)
    assert spend.usd == pytest.approx(0.4)


def test_a_budget_needs_a_price(teacher, write, jangin):
    write(more="budget: {usd: 1}")
    code, printed = jangin("run")
    assert code == 2
    assert "price of model 'm'" in printed
    assert "teachers: writer: price:" in printed
    assert "begins" not in printed
    assert teacher.asked == []


@pytest.mark.slow
def test_the_plan_says_tokens_and_that_the_price_is_unknown(teacher, jangin):
    jangin("run", "chunk")
    code, printed = jangin("plan")
    assert code == 0
    assert f"{ARTICLES} calls to models, up to" in printed
    assert "+ 400 tokens, price unknown. Spent so far: $0.00." in printed
    assert teacher.asked == []


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("점심은 드셨나요?", "the reply is not a JSON object"),
        ('{"pairs": []}', "the list is empty"),
        ("죄송하지만 도와드릴 수 없습니다.", "the model refused"),
        (Teacher.good(0).replace("0번 창고의 문은", "없는 말이지만"), "evidence supported to"),
    ],
    ids=["nonsense", "empty", "refused", "rejected"],
)
def test_a_teacher_of_no_use_is_quoted_and_its_replies_are_kept(teacher, jangin, reply, reason):
    teacher.odd = dict.fromkeys(range(ARTICLES), reply)
    code, printed = jangin("run")
    assert code != 0
    assert reason in printed
    assert "jangin show replies" in printed
    code, printed = jangin("show", "replies", "--limit", "1")
    assert code == 0
    for part in (reason, reply[:12], "창고의 문은"):
        assert part in printed
    printed = jangin("show", "replies", "--where", "problem contains 999")[1]
    assert reply[:12] not in printed


@pytest.mark.slow
def test_recording_covers_repairs_and_what_the_ledger_knew(teacher, jangin, tmp_path):
    teacher.first = {1: "nonsense"}
    assert jangin("run")[0] == 0
    asked = len(teacher.asked)
    assert jangin("run", "--record")[0] == 0
    assert len(teacher.asked) == asked
    assert len(list(read_jsonl(tmp_path / "replies.jsonl", Recording))) == ARTICLES + 1
    offline = (tmp_path / "project.yaml").read_text().replace("endpoint", "recorded")
    offline = "\n".join(
        line
        for line in offline.splitlines()
        if not line.strip().startswith(("base_url", "retries"))
    )
    (tmp_path / "project.yaml").write_text(offline, encoding="utf-8")
    code, printed = jangin("run")
    assert code == 0, printed
    assert len(teacher.asked) == asked
    assert answers(tmp_path) == ALL


@pytest.mark.slow
def test_the_report_tells_what_was_spent_by_stage(write, jangin, tmp_path):
    write("price: {input_usd_per_million: 0, output_usd_per_million: 10000}")
    jangin("run")
    assert jangin("report", "--language", "en")[0] == 0
    page = (tmp_path / "store" / "report.html").read_text(encoding="utf-8")
    assert "Cost of the data and evaluations of this project file: $0.40." in page
    assert "<td>Questions and answers</td><td>writer (m)</td><td>4</td>" in page


@pytest.mark.slow
def test_a_share_of_failed_rows_can_be_accepted_and_is_named_at_the_end(teacher, jangin, tmp_path):
    teacher.odd = {1: "nonsense"}
    code, printed = jangin("run")
    assert code == 1
    path = tmp_path / "project.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("max_tokens", "allow_failed: 0.25, max_tokens"), encoding="utf-8")
    before = len(teacher.asked)
    code, printed = jangin("run")
    assert code == 0, printed
    assert len(teacher.asked) == before, "what is accepted changes no artifact"
    assert f"accepted: synthesize (main): 1 of {ARTICLES} rows failed, 25.0%" in printed
    path.write_text(text.replace("max_tokens", "allow_failed: 0.2, max_tokens"), encoding="utf-8")
    assert jangin("run")[0] == 1


@pytest.mark.slow
def test_reasons_are_printed_by_the_run_that_failed_and_later_runs_are_one_line(teacher, jangin):
    teacher.odd = {1: "nonsense", 2: "죄송하지만 도와드릴 수 없습니다."}
    assert "malformed: the reply is not" in jangin("run")[1]
    code, printed = jangin("run")
    assert code == 1
    assert "malformed: the reply is not" not in printed
    assert f"failed: still failed: synthesize (main) 2 of {ARTICLES} rows." in printed


@pytest.mark.slow
def test_failed_and_rejected_rows_are_counted_apart(teacher, jangin):
    pair = {"question": "언제?", "answer": "모름", "evidence": "어디에도 없는 문장입니다"}
    teacher.odd = {1: json.dumps({"pairs": [pair]}, ensure_ascii=False), 2: "nonsense"}
    assert f"{ARTICLES - 2} questions 1 failed 1 rejected" in jangin("run")[1]
