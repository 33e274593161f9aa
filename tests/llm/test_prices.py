import pytest

from jangin.llm.prices import Price, list_price


def test_a_call_costs_by_its_tokens():
    price = Price(input_usd_per_million=2, output_usd_per_million=8)
    assert price.usd(1_000_000, 0) == 2
    assert price.usd(500, 250) == pytest.approx(0.003)
    assert price.scaled(0.5).usd(500, 250) == pytest.approx(0.0015)


def test_a_known_model_has_a_price_at_its_own_host_alone():
    assert list_price("https://api.openai.com/v1", "gpt-4o-mini") == Price(
        input_usd_per_million=0.15, output_usd_per_million=0.6
    )
    assert list_price("http://127.0.0.1:8000/v1", "gpt-4o-mini") is None
    assert list_price("https://api.openai.com/v1", "gpt-4o-mini-2024-07-18") is None
    assert list_price("http://[broken", "gpt-4o") is None
    assert list_price("", "gpt-4o") is None
