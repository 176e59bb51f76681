"""Webhook messages that wait for another try, a small file each, so that they outlive the gateway."""

from __future__ import annotations

import logging
import os
import pathlib
import re
from typing import Final

import msgspec
from msgspec import Struct

log = logging.getLogger(__name__)

_FILE: Final = re.compile(r"msg_[0-9a-f]{24}\.json")


class WebhookMessage(Struct, frozen=True, kw_only=True):
    """One message. Times are milliseconds since 1970 UTC."""

    id: str
    """The same at every try: a receiver that knows it has the message already."""
    kind: str
    body: str
    """JSON, exactly as it is signed."""
    tries: int = 0
    due_at: int = 0


class WebhookSpool:
    """See the module. Its methods block."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder

    def read(self) -> list[WebhookMessage]:
        """What waited when the last gateway ended. A file that cannot be read is left out, and named."""
        found = []
        paths = sorted(self._folder.glob("msg_*.json")) if self._folder.is_dir() else []
        for path in paths:
            try:
                if _FILE.fullmatch(path.name):
                    found.append(msgspec.json.decode(path.read_bytes(), type=WebhookMessage))
            except (OSError, msgspec.MsgspecError) as error:
                log.error("the webhook message %s cannot be read and is not sent: %s", path, error)
        return found

    def keep(self, message: WebhookMessage) -> None:
        """Writes a message down, whole or not at all. A full disk loses no more than its second life."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            path = self._path(message)
            part = path.with_suffix(".part")
            part.write_bytes(msgspec.json.encode(message))
            os.replace(part, path)
        except OSError as error:
            log.error("the webhook message %s would not outlive a restart: %s", message.id, error)

    def forget(self, message: WebhookMessage) -> None:
        """It was delivered, or given up."""
        try:
            self._path(message).unlink(missing_ok=True)
        except OSError as error:
            log.error("the webhook message %s may be sent again after a restart: %s", message.id, error)

    def _path(self, message: WebhookMessage) -> pathlib.Path:
        return self._folder / f"{message.id}.json"
