"""What a model call costs: prices of the configuration, then those that come along (prices.json).

`make prices` makes that file from genai-prices, of the providers that are called by their own addresses; it
is read when the first price is asked for. A model that is in neither has no price. That is not the price 0:
under a budget in money it is refused (`quotas.unpriced`), and a report says how many calls had none.

Guarantee: pure but for reading the file, which is part of the program.
"""

from __future__ import annotations

import functools
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct

from gateway.models.meter import CallUsage

PRICES_FILE: Final = pathlib.Path(__file__).parent / "prices.json"
MOST_TOKENS: Final = 2**40
"""More than this is no number of tokens of one call."""
MOST_COST: Final = 10**15
"""A thousand million dollars, for one call; so that sums stay numbers that a database keeps."""


class Rate(Struct, frozen=True, kw_only=True):
    """Dollars per million tokens, which are millionths of a dollar per token."""

    input: float
    output: float
    cache_read: float | None = None
    """None: as `input`."""
    cache_write: float | None = None
    above: int = 0
    """It holds for calls with more input than this."""

    def cost(self, usage: CallUsage) -> int:
        """Of one call, in millionths of a dollar."""
        cache_read = self.input if self.cache_read is None else self.cache_read
        cache_write = self.input if self.cache_write is None else self.cache_write
        whole = (
            self.input * min(usage.input, MOST_TOKENS)
            + cache_read * min(usage.cache_read, MOST_TOKENS)
            + cache_write * min(usage.cache_write, MOST_TOKENS)
            + self.output * min(usage.output + usage.reasoning, MOST_TOKENS)
        )
        return round(min(whole, MOST_COST))


Price = tuple[Rate, ...]
"""Rates by the length of the input, the one for short ones first."""


def cost(price: Price, usage: CallUsage) -> int:
    """What a call costs, in millionths of a dollar: its whole input goes by the rate for its length."""
    length = usage.input + usage.cache_read + usage.cache_write
    rates = [rate for rate in price if length > rate.above] or price[:1]
    return rates[-1].cost(usage)


class PriceLike(Protocol):
    """A price as the configuration has it."""

    @property
    def input(self) -> float:
        """Dollars per million tokens."""

    @property
    def output(self) -> float:
        """The same."""

    @property
    def cache_read(self) -> float | None:
        """None: as input."""

    @property
    def cache_write(self) -> float | None:
        """None: as input."""


class PriceSource(Struct, frozen=True, kw_only=True):
    """A provider of the configuration, as far as prices go."""

    url: str = ""
    """By this the prices that come along are found."""
    prices: Mapping[str, PriceLike] = {}
    """By the names of its models."""


class Prices:
    """See the module."""

    def __init__(self, sources: Callable[[], Mapping[str, PriceSource]]) -> None:
        """`sources` gives the providers as they are configured now, by the names of their tables."""
        self._sources = sources

    def of(self, provider: str, model: str) -> Price | None:
        """The price of a model of a provider; None: nobody knows it."""
        source = self._sources().get(provider)
        if source is None:
            return known_price(provider, "", model)
        set_price = source.prices.get(model)
        if set_price is not None:
            return (
                Rate(
                    input=set_price.input,
                    output=set_price.output,
                    cache_read=set_price.cache_read,
                    cache_write=set_price.cache_write,
                ),
            )
        return known_price(provider, source.url, model)


# -- the prices that come along ---------------------------------------------------------------------------


class KnownModel(Struct, frozen=True, kw_only=True):
    """A row of prices.json."""

    match: dict[str, Any]
    """Which names it is called by: {"equals": …}, {"starts_with": …}, {"or": […]} and so on."""
    rates: Price


class KnownProvider(Struct, frozen=True, kw_only=True):
    """A provider in prices.json."""

    id: str
    url: str
    """A regular expression for the beginning of its addresses."""
    models: tuple[KnownModel, ...]


class KnownPrices(Struct, frozen=True, kw_only=True):
    """prices.json."""

    source: str
    """Where the prices are from, with its version."""
    made_on: str
    providers: tuple[KnownProvider, ...]


@functools.cache
def known_prices() -> KnownPrices:
    """The prices that come along."""
    return msgspec.json.decode(PRICES_FILE.read_bytes(), type=KnownPrices)


@functools.lru_cache(maxsize=1024)
def known_price(provider: str, url: str, model: str) -> Price | None:
    """The price that comes along, of a provider that is found by its address or, without one, by its name."""
    for known in known_prices().providers:
        if _is_at(url, known.url) if url else known.id == provider:
            name = model.lower()
            return next((row.rates for row in known.models if is_called(name, row.match)), None)
    return None


def _is_at(url: str, pattern: str) -> bool:
    """Whether an address is one of a provider's: another host may begin as one of theirs."""
    found = re.match(pattern, url)
    if found is None:
        return False
    rest = url[found.end() :]
    return rest[:1] in ("", "/", ":", "?") or found[0].endswith(("/", "."))


def is_called(name: str, match: dict[str, Any]) -> bool:
    """Whether a model of this name is meant by a clause of prices.json."""
    ((how, what),) = match.items()
    match how:
        case "or":
            return any(is_called(name, each) for each in what)
        case "and":
            return all(is_called(name, each) for each in what)
        case "equals":
            return bool(name == what)
        case "starts_with":
            return name.startswith(what)
        case "ends_with":
            return name.endswith(what)
        case "contains":
            return what in name
        case "regex":
            return re.search(what, name) is not None
    return False
