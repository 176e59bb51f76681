"""Messages of this gateway to another one of the same store (`/_node/…`), not passed on for anybody.

Guarantees: a message is signed with the secret that they share, its body too, and is taken once by the one
gateway that it is for; nobody waits longer for its answer than `POST_SECONDS`, or `PING_SECONDS`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final
from urllib.parse import urlsplit

from gateway.auth.node_tickets import HEADER, NodeTickets, Said, digest, new_mark
from gateway.egress.http_wire import AnswerCut
from gateway.egress.node_http import NodeAnswer, NodeHttp
from gateway.egress.node_wire import NodeSilent, NodeUnreachable
from gateway.http.forwarding import MISDIRECTED
from gateway.stores.directory import NodePlace

log = logging.getLogger(__name__)

PING_PATH: Final = "/_node/ping"
PING_SECONDS: Final = 5.0
TELL_PATH: Final = "/_node/tell"
POST_SECONDS: Final = 2.0
"""For one answer: who needs longer is asked again, or is dead."""
TOLD: Final = 204
NOT_THERE: Final = 404
"""What was said is of a session that it does not have in memory."""


class NodeDeaf(Exception):
    """It is not known whether the other gateway has heard; it may be told again."""


def body_digest(body: bytes) -> str:
    """What the address of a message says of its body, so that the ticket is for that one."""
    return hashlib.sha256(body).hexdigest()


class NodePost:
    """See the module."""

    def __init__(self, *, own: Callable[[], int], tickets: NodeTickets, http: NodeHttp) -> None:
        """`own`: the id of this gateway's row."""
        self._own = own
        self._tickets = tickets
        self._http = http

    async def ping(self, node: int, url: str) -> bool:
        """Whether the gateway at a URL answers at all."""
        ping = self._asked(node, url, method="GET", target=PING_PATH)
        try:
            async with asyncio.timeout(PING_SECONDS), ping:
                return True
        except (TimeoutError, NodeUnreachable, NodeSilent):
            return False

    async def tell(self, place: NodePlace, body: bytes) -> bool:
        """Whether another gateway could do something with a message. Raises NodeDeaf."""
        target = f"{TELL_PATH}?sha256={body_digest(body)}"
        try:
            async with (
                asyncio.timeout(POST_SECONDS),
                self._asked(place.id, place.url, method="POST", target=target, body=body) as answer,
            ):
                words = await answer.whole()
        except (NodeUnreachable, NodeSilent, AnswerCut, TimeoutError) as error:
            raise NodeDeaf(str(error) or "no answer in time") from None
        if answer.status == TOLD:
            return True
        if answer.status in (NOT_THERE, MISDIRECTED):
            return False
        log.error(
            "gateway %s at %s does not listen: %s", place.name, place.url, words.decode("utf-8", "replace")
        )
        raise NodeDeaf(f"status {answer.status}")

    def _asked(
        self, node: int, url: str, *, method: str, target: str, body: bytes | None = None
    ) -> AbstractAsyncContextManager[NodeAnswer]:
        """An answer to a message that is signed for this one gateway. `body` is JSON."""
        path, host = target.encode(), urlsplit(url).netloc.encode()
        asked = digest("http", method, path, host)
        said = Said(edge=self._own(), to=node, mark=new_mark(), asked=asked)
        headers = [(b"host", host), (HEADER, self._tickets.write(said, None).encode())]
        if body is not None:
            headers.append((b"content-type", b"application/json"))
        return self._http.asked(url, method=method, target=path, headers=headers, body=body)
