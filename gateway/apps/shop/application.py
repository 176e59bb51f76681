"""The shop as an application of the gateway: what it declares. It is light to import."""

from __future__ import annotations

import pathlib
from typing import Final

from gateway.apps.shop.facts import CartChanged, CartPart
from gateway.apps.shop.settings import SHOP_AGENT, ShopConfig, mistakes
from gateway.config.applications import Application, Outliving, OwnAgent
from gateway.config.tables import AgentConfig

NAME: Final = "shop"
TOOLS: Final = "shop"

APPLICATION: Final = Application(
    name=NAME,
    open="gateway.apps.shop.faces:open_shop",
    keep="gateway.apps.shop.keeping:keep",
    table="shop",
    settings=ShopConfig,
    mistakes=mistakes,
    paths=("shop.stores_dir",),
    facts=(CartChanged,),
    fold=CartPart,
    migrations=pathlib.Path(__file__).parent / "migrations",
    outliving=(
        Outliving(table="shop_sessions", session="conversation"),
        Outliving(table="shop_purchases", session="conversation", made_at="at"),
    ),
    tools=(TOOLS,),
    agents={SHOP_AGENT: OwnAgent(title="Shopping assistant", config=AgentConfig(tools=(TOOLS,)))},
)
