"""Messages of this gateway to another one of the same store (`/_node/…`), not passed on for anybody.

Guarantees: a message is signed with the secret that they share, its body too, and is taken once by the one
gateway that it is for; nobody waits longer than `POST_SECONDS` for its answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from gateway.auth.node_tickets import HEADER, NodeTickets, Said, digest, new_mark
from gateway.egress.node_http import NodeHttp
from gateway.egress.node_wire import AnswerCut, NodeSilent, NodeUnreachable
from gateway.http.forwarding import MISDIRECTED
from gateway.stores.directory import NodePlace

log = logging.getLogger(__name__)

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

    async def tell(self, place: NodePlace, body: bytes) -> bool:
        """Whether another gateway could do something with a message. Raises NodeDeaf."""
        target, host = f"{TELL_PATH}?sha256={body_digest(body)}", urlsplit(place.url).netloc
        said = Said(
            edge=self._own(),
            to=place.id,
            mark=new_mark(),
            asked=digest("http", "POST", target.encode(), host.encode()),
        )
        headers = [
            (b"host", host.encode()),
            (HEADER, self._tickets.write(said, None).encode()),
            (b"content-type", b"application/json"),
        ]
        try:
            async with (
                asyncio.timeout(POST_SECONDS),
                self._http.asked(
                    place.url, method="POST", target=target.encode(), headers=headers, body=body
                ) as answer,
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
