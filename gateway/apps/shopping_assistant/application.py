"""The shopping assistant as an application of the gateway: what it declares. It is built on the shop, whose
table of the configuration has its settings too.
"""

from __future__ import annotations

from typing import Final

from gateway.apps.shopping_assistant.settings import RedisConfig, mistakes
from gateway.config.applications import Application

NAME: Final = "shopping_assistant"
SHOP: Final = "shop"

APPLICATION: Final = Application(
    name=NAME,
    open="gateway.apps.shopping_assistant.face:open_assistant",
    table="redis",
    settings=RedisConfig,
    mistakes=mistakes,
    examine="gateway.apps.shopping_assistant.redis_server:examine",
    paths=("redis.url_file",),
    from_files=("redis.url",),
    needs=(SHOP,),
)
