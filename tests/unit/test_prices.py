"""Prices: those of the configuration, those that come along, and models that have none."""

from __future__ import annotations

import pytest

from gateway.config.models import PriceConfig
from gateway.models.meter import CallUsage
from gateway.models.prices import Prices, PriceSource, cost, is_called, known_price, known_prices

CALL = CallUsage(input=1_000, output=100)
URLS = {
    "anthropic": "https://api.anthropic.com",
    "google": "https://generativelanguage.googleapis.com/v1beta",
    "openai": "https://api.openai.com/v1",
}


def prices(**sources: PriceSource) -> Prices:
    return Prices(lambda: sources)


def test_the_list_that_comes_along_is_whole_and_no_price_in_it_is_negative() -> None:
    known = known_prices()
    assert {provider.id for provider in known.providers} >= {"anthropic", "google", "mistral", "openai"}
    for provider in known.providers:
        assert provider.models
        for model in provider.models:
            assert [rate.above for rate in model.rates] == sorted({rate.above for rate in model.rates})
            assert model.rates[0].above == 0
            assert all(rate.cost(CALL) >= 0 for rate in model.rates)


@pytest.mark.parametrize(
    ("provider", "model"),
    [("anthropic", "claude-3-opus"), ("openai", "gpt-4o"), ("google", "gemini-2.5-pro")],
)
def test_a_known_model_is_found_by_the_address_of_its_provider(provider: str, model: str) -> None:
    found = prices(ours=PriceSource(url=URLS[provider])).of("ours", model)
    assert found is not None
    assert cost(found, CALL) > 0
    assert found == known_price(provider, "", model)
    assert prices(ours=PriceSource(url=URLS[provider])).of("ours", model.upper()) == found


@pytest.mark.parametrize(
    "url", ["http://localhost:11434/v1", "https://api.openai.com.evil.test/v1", "https://proxy.corp.test/v1"]
)
def test_a_model_of_an_unknown_address_has_no_price(url: str) -> None:
    """Not even under the name of a known provider: whoever is called may charge something else."""
    assert prices(openai=PriceSource(url=url)).of("openai", "gpt-4o") is None


def test_an_unknown_model_has_no_price() -> None:
    assert prices(ours=PriceSource(url=URLS["openai"])).of("ours", "no-such-model") is None
    assert prices().of("nobody", "gpt-4o") is None


def test_the_configuration_comes_first_and_0_is_a_price() -> None:
    ours = PriceSource(url=URLS["openai"], prices={"gpt-4o": PriceConfig(input=0, output=0)})
    found = prices(ours=ours).of("ours", "gpt-4o")
    assert found is not None
    assert cost(found, CALL) == 0


def test_each_kind_of_token_has_its_price() -> None:
    table = {"m": PriceConfig(input=3, output=15, cache_read=0.3, cache_write=3.75)}
    found = prices(ours=PriceSource(prices=table)).of("ours", "m")
    assert found is not None
    usage = CallUsage(input=1_000, cache_read=10_000, cache_write=1_000, output=100, reasoning=100)
    assert cost(found, usage) == 3_000 + 3_000 + 3_750 + 3_000
    plain = prices(ours=PriceSource(prices={"m": PriceConfig(input=3, output=15)})).of("ours", "m")
    assert plain is not None
    assert cost(plain, usage) == 12_000 * 3 + 3_000, "what comes from a cache is input"


def test_a_long_prompt_goes_by_its_own_rate_as_a_whole() -> None:
    found = known_price("google", "", "gemini-2.5-pro")
    assert found is not None
    short, long = CallUsage(input=200_000), CallUsage(input=100_000, cache_read=100_001)
    assert cost(found, short) == found[0].cost(short)
    assert cost(found, long) == found[1].cost(long) > found[0].cost(long)


def test_a_cost_stays_a_number_that_can_be_kept() -> None:
    found = prices(ours=PriceSource(prices={"m": PriceConfig(input=1e300, output=1)})).of("ours", "m")
    assert found is not None
    assert cost(found, CallUsage(input=2**60)) <= 10**15


def test_clauses() -> None:
    clause = {
        "or": [{"and": [{"starts_with": "a"}, {"ends_with": "z"}]}, {"contains": "mm"}, {"equals": "q"}]
    }
    assert [is_called(name, clause) for name in ("abz", "ab", "xmmx", "q", "qq")] == [
        *(True, False, True, True, False)
    ]
    assert is_called("claude-5-20260101", {"regex": r"^claude-5-\d{8}$"})
    assert not is_called("anything", {"something new": "x"})
