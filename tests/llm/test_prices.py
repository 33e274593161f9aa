from datetime import date

import pytest

from jangin.core.errors import ConfigError
from jangin.llm.prices import PRICES, ListPrice, Price, downloaded_price, list_price


def test_a_call_costs_by_its_tokens():
    price = Price(input_usd_per_million=2, output_usd_per_million=8)
    assert price.usd(1_000_000, 0) == 2
    assert price.usd(500, 250) == pytest.approx(0.003)
    assert price.scaled(0.5).usd(500, 250) == pytest.approx(0.0015)
    assert price.usd(500, 250, 400) == price.usd(500, 250)
    cheaper = price.model_copy(update={"cached_input_usd_per_million": 0.2})
    assert cheaper.usd(500, 250, 400) == pytest.approx(0.00228)
    assert cheaper.scaled(0.5).usd(500, 250, 400) == pytest.approx(0.00114)
    written = cheaper.model_copy(update={"cache_write_usd_per_million": 2.5})
    assert written.usd(500, 250, 400, 100) == pytest.approx(0.00008 + 0.00025 + 0.002)
    assert written.scaled(0.5).usd(500, 250, 400, 900) == pytest.approx(0.001165)
    assert price.usd(500, 250, 0, 500) == price.usd(500, 250)
    assert price.identity() == {"input_usd_per_million": 2, "output_usd_per_million": 8}


def test_a_known_model_has_a_price_at_its_own_host_alone():
    assert list_price("https://api.openai.com/v1", "gpt-6-luna") == Price(
        input_usd_per_million=0.1, output_usd_per_million=0.5, cached_input_usd_per_million=0.01
    )
    assert list_price("http://127.0.0.1:8000/v1", "gpt-6-luna") is None
    assert list_price("https://api.openai.com/v1", "gpt-6-luna-2026-09-22") is None
    assert list_price("http://[broken", "gpt-6-luna") is None
    assert list_price("", "gpt-6-luna") is None


def test_a_price_that_has_ended_is_unknown(monkeypatch):
    row = ListPrice(1, 0.1, 2, checked=date(2020, 1, 1), until=date(2020, 12, 31))
    monkeypatch.setitem(PRICES, "x.com", {"m": row})
    assert list_price("https://x.com/v1", "m") is None


@pytest.mark.parametrize("text", ["", "[1]", '{"m": 1}', '{"m": {"input_cost_per_token": "x"}}'])
def test_a_table_without_the_price_is_a_sentence(text, tmp_path):
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"p\.json .*input_usd_per_million"):
        downloaded_price(path, "m", "openai")
