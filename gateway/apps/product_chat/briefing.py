"""What the agent gets with a visitor's message and the visitor does not see: the shop's own instructions, the
product, and what the shop knows about the question. Made for each message, so that a changed file and a
reload count at once.
"""

from __future__ import annotations

import asyncio
import logging
import pathlib
from collections.abc import Callable
from typing import Final

from gateway.apps.product_chat.catalogue import ChatProduct
from gateway.apps.product_chat.knowledge import Knowledge
from gateway.apps.product_chat.settings import ProductsConfig

log = logging.getLogger(__name__)

PASSAGES: Final = 3
INSTRUCTION_CHARACTERS: Final = 16_384


class Briefings:
    """See the module."""

    def __init__(self, config: Callable[[], ProductsConfig], *, monotonic: Callable[[], float]) -> None:
        self._config = config
        self.knowledge = Knowledge(lambda: config().knowledge, monotonic=monotonic)

    async def context(self, question: str, product: ChatProduct | None) -> str:
        """The text for one message; empty if the shop has said nothing."""
        named = self._config().instructions_file
        instructions = await asyncio.to_thread(_instructions, named) if named else ""
        found = await self.knowledge.find(question, limit=PASSAGES)
        parts = [instructions]
        if (instructions or found) and product is not None:
            parts.append(f"The product: {product.name}, {product.price}. {product.description}".strip(" ,."))
        if found:
            parts += ["What the shop knows about this:", *found]
        return "\n\n".join(filter(None, parts))


def _instructions(named: str) -> str:
    path = pathlib.Path(named).expanduser()
    try:
        text = path.read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        log.error(
            "THE INSTRUCTIONS in %s cannot be read, and the agent answers without them: %s", path, error
        )
        return ""
    if len(text) > INSTRUCTION_CHARACTERS:
        log.error("%s is longer than %d characters; the rest is left out", path, INSTRUCTION_CHARACTERS)
    return text[:INSTRUCTION_CHARACTERS]
