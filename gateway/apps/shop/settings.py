"""The settings of the shop, and of the shopping assistant that is built on it: `[shop]`."""

from __future__ import annotations

from typing import Final

from gateway.config.applications import agent_names
from gateway.config.tables import Config, Table

SHOP_AGENT: Final = "shop"
"""The built-in agent with the shop's tools: it answers the shopping assistant unless told otherwise."""


class ShopConfig(Table, frozen=True, kw_only=True):
    """The shop: its catalogue, and how long it remembers."""

    stores_dir: str = ""
    """A folder of stores, each `NAME/data/products.json`; empty: the catalogue that comes along."""
    expire_after_seconds: float = 24 * 3600
    """Without use for so long, a conversation's cart and preferences are forgotten."""
    purchase_days: float = 365
    """What was bought is remembered for so long."""
    max_conversations: int = 100_000
    max_lines: int = 100
    """Different products in one cart."""
    agent: str = SHOP_AGENT
    """Who answers the shopping assistant; `shop` is the built-in agent with the shop's tools."""
    conversation_seconds: float = 2 * 3600
    """What was said to the shopping assistant is erased so long after its last message."""
    answer_seconds: float = 120
    """An answer that has not ended by then is stopped."""
    cache_seconds: float = 300
    """An equal question in an unchanged conversation is answered with what was said before (0: never)."""
    context_tokens: int = 2_000
    """What is found for a question, with cart and preferences, takes at most so much of a prompt."""


def mistakes(config: Config) -> list[str]:
    """An agent that there is not."""
    agent = config.of(ShopConfig).agent
    return [] if agent in agent_names(config) else [f"shop.agent: there is no agent {agent!r}"]
