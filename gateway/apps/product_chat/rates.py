"""How often visitors may write: by visitor, session, address and product."""

from __future__ import annotations

from collections.abc import Callable

from gateway.apps.product_chat.settings import ProductsConfig
from gateway.errors import RateLimited
from gateway.extension import MemoryBuckets


class Rates:
    """A refusal names the limit, and takes nothing from the others."""

    def __init__(self, config: Callable[[], ProductsConfig], buckets: MemoryBuckets) -> None:
        self._config = config
        self._buckets = buckets
        self.refused = 0
        self.taken = 0

    def take(self, *, owner: str, address: str, product_id: int, session_id: str) -> None:
        """A message may be written. Raises RateLimited."""
        config = self._config()
        limits = {
            "visitor": (f"visitor {owner}", config.visitor_rate),
            "session": (f"session {session_id}", config.session_rate),
            "address": (f"address {address}", config.address_rate),
            "product": (f"product {product_id}", config.product_rate),
        }
        for what, (name, rate) in limits.items():
            seconds = self._buckets.wait(name, rate=rate / 60, burst=max(1.0, rate / 2))
            if seconds:
                self.refused += 1
                raise RateLimited(f"Too many messages of one {what}", retry_after_seconds=seconds)
        for name, rate in limits.values():
            self._buckets.spend(name, rate=rate / 60, burst=max(1.0, rate / 2))
        self.taken += 1
