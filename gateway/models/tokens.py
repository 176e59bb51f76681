"""Tokens: what a worker shows instead of a key when it calls a model through the gateway.

Guarantees: a token is random, belongs to one worker and ends with it; only its hash is kept, in memory; the
token of a worker that has a door of its own is good at that door alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from typing import Any, Final, cast

from gateway.principal import Account

TOKEN_PREFIX: Final = "agl_"  # noqa: S105 - how a token begins
"""No other credential begins so."""
TOKEN_BYTES: Final = 32
CUT_SECONDS: Final = 2.0
"""How long a call may go on after its turn has ended or was interrupted."""


class ModelAccess:
    """A worker's access to models: who pays, whose models, and the calls that are in flight."""

    def __init__(
        self,
        *,
        account: Callable[[], Account],
        provider: str,
        has_door: bool,
        notice: Callable[[str, str], None] = lambda _code, _words: None,
    ) -> None:
        """`account` is asked at each call, because turns have payers of their own; `notice` tells the
        session's people something (a code, and words).
        """
        self.account = account
        self.provider = provider
        self.has_door = has_door
        self.notice = notice
        self._calls: set[CallInFlight] = set()
        self._is_ended = False

    def begin(self) -> CallInFlight:
        """Notes the call that the current task makes. Raises CancelledError in it if the worker has ended."""
        call = CallInFlight()
        self._calls.add(call)
        if self._is_ended:
            call.cut()
        return call

    def done(self, call: CallInFlight) -> None:
        """The call is over."""
        self._calls.discard(call)

    def cut_soon(self) -> None:
        """Cuts what is in flight now and still is after `CUT_SECONDS`."""
        if calls := tuple(self._calls):
            asyncio.get_running_loop().call_later(CUT_SECONDS, self._cut, calls)

    def end(self) -> None:
        """Cuts everything at once: the worker is gone."""
        self._is_ended = True
        self._cut(tuple(self._calls))

    def _cut(self, calls: tuple[CallInFlight, ...]) -> None:
        for call in calls:
            if call in self._calls:
                call.cut()


class CallInFlight:
    """A call that the task which made this makes; the task itself goes on when the call is cut."""

    def __init__(self) -> None:
        self._task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._is_cut = False

    def cut(self) -> None:
        """Cancels the call, once."""
        if not self._is_cut:
            self._is_cut = True
            self._task.cancel()

    def is_its_end(self) -> bool:
        """Whether a CancelledError means the call alone, which takes it back; else it is the task's."""
        return self._is_cut and self._task.uncancel() == 0


class ModelTokens:
    """The tokens that are good now."""

    def __init__(self) -> None:
        self._good: dict[bytes, ModelAccess] = {}

    def __len__(self) -> int:
        return len(self._good)

    def issue(self, access: ModelAccess) -> str:
        """A new token."""
        text = TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
        self._good[_hash(text)] = access
        return text

    def find(self, text: str) -> ModelAccess | None:
        """What a token opens; None for one that is not good, or not any more."""
        return self._good.get(_hash(text)) if text.startswith(TOKEN_PREFIX) else None

    def revoke(self, text: str) -> None:
        """The token is good no longer, and what was called with it is cut."""
        access = self._good.pop(_hash(text), None)
        if access is not None:
            access.end()


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
