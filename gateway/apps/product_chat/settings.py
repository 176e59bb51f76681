"""The settings of product chat: `[products]`."""

from __future__ import annotations

import pathlib
from typing import Final

from msgspec import field

from gateway.apps.product_chat.hours import hours_mistakes
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
    instructions_file: str = ""
    """A text that the agent gets with every message of a visitor: how it is to answer."""
    knowledge: str = ""
    """A folder of texts (.md, .txt): what fits a visitor's question goes to the agent with it."""
    commands: tuple[str, ...] = ()
    """Commands of the agent's (`/…`) that visitors may use, by name; every other one is a text to it."""
    greeting: str = ""
    """What the widget says first. `{product}` and `{price}` are the product's; empty: a few words of its own,
    in the page's language.
    """
    suggestions: tuple[str, ...] = ()
    """Questions that the widget offers, with `{product}` and `{price}`; empty: a few of its own."""
    hours: dict[str, str] = field(default_factory=dict)
    """When people of the shop are there: mon = "09:00-13:00, 14:00-17:00" … sun; a day that is left out is
    closed. Without any hours, always.
    """
    time_zone: str = "UTC"
    """That of `hours`, such as Asia/Jerusalem."""
    away: str = ""
    """What a visitor reads who wants a person outside the hours; empty: a few words of its own."""
    answers: dict[str, str] = field(default_factory=dict)
    """Answers that the staff often gives, by their names: the inbox offers them."""
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
    """Files and folders that are not there, hours that cannot be."""
    settings = config.of(ProductsConfig)
    found = list(hours_mistakes(settings.hours, settings.time_zone))
    if settings.instructions_file and not pathlib.Path(settings.instructions_file).expanduser().is_file():
        found.append(f"products.instructions_file: there is no file {settings.instructions_file}")
    if settings.knowledge and not pathlib.Path(settings.knowledge).expanduser().is_dir():
        found.append(f"products.knowledge: there is no folder {settings.knowledge}")
    return found + _of_catalogue(config)


def _of_catalogue(config: Config) -> list[str]:
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
