"""Product chat as an application of the gateway: what it declares. It is light to import."""

from __future__ import annotations

import pathlib
from typing import Final

from gateway.apps.product_chat.facts import FACTS, PERSON_WANTED
from gateway.apps.product_chat.posting import ChatPart
from gateway.apps.product_chat.settings import ProductsConfig, mistakes
from gateway.config.applications import Application

APPLICATION: Final = Application(
    name="product_chat",
    open="gateway.apps.product_chat.faces:open_chats",
    table="products",
    settings=ProductsConfig,
    mistakes=mistakes,
    paths=("products.catalogue", "products.instructions_file", "products.knowledge"),
    secrets=("admins",),
    facts=FACTS,
    fold=ChatPart,
    webhook_events=(PERSON_WANTED,),
    migrations=pathlib.Path(__file__).parent / "migrations",
)
