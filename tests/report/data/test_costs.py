"""What variants cost: from an endpoint that counts tokens, through runs that share some calls."""

import json

import pytest
from aiohttp import web

from jangin.cli.main import main
from jangin.core.ledger import Bill
from jangin.project.session import open_session
from jangin.report.data.results import VariantCost, variant_costs
from jangin.report.i18n.translate import Words
from tests.web_app import serve

PROJECT = """\
name: small
teachers:
  writer:
    type: endpoint
    model: m
    base_url: {url}
    {price}
documents:
  load: {{folder: documents}}
  chunk:
variants:
  plain: {{examples: {{synthesize: {{teacher: writer, max_tokens: 100}}}}}}
  again: {{examples: {{synthesize: {{teacher: writer, max_tokens: 100, concurrency: 2}}}}}}
  warm: {{examples: {{synthesize: {{teacher: writer, max_tokens: 100, temperature: 0.3}}}}}}
  unasked:
"""
PRICE = "price: {input_usd_per_million: 10000, output_usd_per_million: 100000}"
USD_OF_ONE = 2.0
"""100 tokens in and 10 out, at that price."""


@pytest.fixture(scope="module")
def url():
    """A teacher that asks about the one article it is shown."""
    pair = {
        "question": "창고는 언제 여나요?",
        "answer": "7시에 열고 저녁에 닫는다.",
        "evidence": "창고의 문은 7시에 열고 저녁에 닫는다",
    }
    content = json.dumps({"pairs": [pair]}, ensure_ascii=False)
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    reply = {
        "choices": [{"message": {"content": content}, "finish_reason": "stop"}],
        "usage": usage,
    }

    async def answer(_request):
        return web.json_response(reply)

    with serve(web.post("/v1/chat/completions", answer)) as address:
        yield f"{address}/v1"


def costs_of(folder, url, price, monkeypatch):
    (folder / "documents").mkdir()
    text = "창고의 문은 7시에 열고 저녁에 닫는다. 물건은 선반마다 이름표를 붙여 둔다."
    (folder / "documents" / "rules.txt").write_text(text, encoding="utf-8")
    project = folder / "project.yaml"
    project.write_text(PROJECT.format(url=url, price=price), encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["jangin", "run", "--project", str(project)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    with open_session(project) as session:
        made = {name: session.artifacts(name) for name in session.project.variants}
        assert "synthesize" in made["plain"]
        return variant_costs(session, made)


@pytest.mark.slow
def test_what_variants_share_is_paid_once_and_counts_for_each(tmp_path, url, monkeypatch):
    costs = costs_of(tmp_path, url, PRICE, monkeypatch)
    assert costs["plain"].bill == costs["again"].bill == Bill(calls=1, usd=USD_OF_ONE)
    assert costs["warm"].usd == USD_OF_ONE
    with open_session(tmp_path / "project.yaml") as session:
        assert session.ledger.spent_usd() == 2 * USD_OF_ONE
    assert costs["unasked"].text(Words("en")) == "$0.00 (no model calls)"


@pytest.mark.slow
def test_what_another_project_file_of_the_store_spent_is_not_counted(tmp_path, url, monkeypatch):
    costs_of(tmp_path, url, PRICE, monkeypatch)
    other, same = tmp_path / "other.yaml", tmp_path / "same.yaml"
    text = PROJECT.format(url=url, price=PRICE)
    other.write_text(text.replace("temperature: 0.3", "temperature: 0.4"), encoding="utf-8")
    same.write_text(text, encoding="utf-8")
    for file in (other, same):
        monkeypatch.setattr("sys.argv", ["jangin", "run", "--project", str(file)])
        with pytest.raises(SystemExit):
            main()
    spent, used = {}, {}
    for file in (tmp_path / "project.yaml", other, same):
        with open_session(file) as session:
            name = session.project_name
            spent[file.name] = session.budget.spent_usd
            used[file.name] = sum(row.usd for row in session.ledger.spend(name, used=True))
            assert session.ledger.count_calls(name).requests == 2
    assert spent == {"project.yaml": 2 * USD_OF_ONE, "other.yaml": USD_OF_ONE, "same.yaml": 0}
    assert used == dict.fromkeys(spent, 2 * USD_OF_ONE)


@pytest.mark.slow
def test_a_price_that_nobody_knows_is_not_0(tmp_path, url, monkeypatch):
    costs = costs_of(tmp_path, url, "", monkeypatch)
    assert costs["plain"].usd is None
    assert costs["plain"].text(Words("en")) == "price unknown (calls: 1)"


@pytest.mark.slow
def test_calls_of_a_stage_that_was_made_elsewhere_are_not_known(tmp_path, url, monkeypatch):
    costs_of(tmp_path, url, PRICE, monkeypatch)
    for name in ("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"):
        (tmp_path / "store" / name).unlink(missing_ok=True)
    with open_session(tmp_path / "project.yaml") as session:
        made = {name: session.artifacts(name) for name in session.project.variants}
        costs = variant_costs(session, made)
    assert costs["plain"].usd is None
    assert costs["plain"].text(Words("en")) == "not known (synthesize)"
    assert costs["unasked"].usd == 0


def test_replies_that_were_recorded_cost_nothing_and_say_so():
    cost = VariantCost(Bill(recorded=3))
    assert (cost.usd, cost.text(Words("ko"))) == (0, "$0.00(기록된 답)")
