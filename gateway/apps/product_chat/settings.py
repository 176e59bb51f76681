"""The settings of product chat: `[products]`."""

from __future__ import annotations

import pathlib
from typing import Final

from msgspec import field

from gateway.apps.shop.settings import ShopConfig
from gateway.config.applications import enabled
from gateway.config.tables import Config, Table

SHOP: Final = "shop"
SHOP_PREFIX: Final = "shop:"
"""`products.catalogue = "shop:NAME"`: the store of this name in the shop."""


class ProductsConfig(Table, frozen=True, kw_only=True):
    """Product chat for visitors. Rates are messages a minute; a burst is half of that."""

    admins: dict[str, str] = field(default_factory=dict)
    """The staff that may log in: name → argon2 hash of the password."""
    token_hours: float = 12
    """How long a log-in is good for."""
    catalogue: str = ""
    """What can be chatted about: a JSON file `{"products": [{"id", "name", "price", "description"}]}` with
    numbers of its own; `shop:NAME`, a store of the shop, its products numbered from 1; empty: the few that
    come along.
    """
    agent: str = ""
    """The agent that answers; empty: the default one."""
    visitor_rate: float = 30
    session_rate: float = 30
    address_rate: float = 240
    product_rate: float = 1_200
    sockets_per_visitor: int = 10
    sockets_per_session: int = 50
    sockets_per_address: int = 100
    socket_frames_per_second: float = 20
    """From one socket; three times as many in a burst."""
    socket_idle_seconds: float = 3600
    """A socket on which the client has sent nothing for so long is closed."""


def mistakes(config: Config) -> list[str]:
    """A catalogue that is not there."""
    named, folder = config.of(ProductsConfig).catalogue, config.of(ShopConfig).stores_dir
    path = pathlib.Path(named).expanduser()
    if named.startswith(SHOP_PREFIX):
        if SHOP not in (one.name for one in enabled(config)):
            return [f"products.catalogue: {named} is the shop's, and the application shop is switched off"]
        if not folder:
            return []
        path = pathlib.Path(folder).expanduser() / named.removeprefix(SHOP_PREFIX) / "data" / "products.json"
    if not named or path.is_file():
        return []
    return [f"products.catalogue: there is no file {path}"]
