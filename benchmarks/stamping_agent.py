"""An ACP agent that says the time: each chunk of an answer is the monotonic clock in nanoseconds when it was
sent.

A prompt is `COUNT MILLISECONDS`: so many chunks, one every so many milliseconds (0: as fast as it goes).
Run as `python -m benchmarks.stamping_agent`; CLOCK_MONOTONIC is one clock for all processes of a machine.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import msgspec

from worker import acp

CHUNK_CHARACTERS = 60
BATCH = 20
"""Chunks a write when it goes as fast as it can."""


def main() -> int:
    """Answers until stdin ends."""
    lines = acp.Lines()
    while chunk := os.read(0, 65_536):
        for message in lines.feed(chunk):
            if isinstance(message, acp.Envelope) and message.is_request:
                answer(message)
    return 0


def answer(message: acp.Envelope) -> None:
    """One request."""
    match message.method:
        case "initialize":
            reply(message, {"protocolVersion": 1, "agentCapabilities": {}})
        case "session/new":
            reply(message, {"sessionId": "s"})
        case "session/prompt":
            prompt: Any = msgspec.json.decode(acp.raw(message.params))["prompt"]
            count, milliseconds = prompt[-1]["text"].split()
            say(int(count), float(milliseconds) / 1000)
            reply(message, {"stopReason": "end_turn"})
        case _:
            os.write(1, acp.error_response(message.id_or_none, acp.METHOD_NOT_FOUND, "no"))


def say(count: int, seconds: float) -> None:
    """So many chunks, paced by a clock that does not drift."""
    if not seconds:
        for start in range(0, count, BATCH):
            write_all(b"".join(stamp() for _ in range(start, min(count, start + BATCH))))
        return
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number * seconds - time.monotonic()))
        write_all(stamp())


def stamp() -> bytes:
    """One chunk."""
    text = f"{time.monotonic_ns()} ".ljust(CHUNK_CHARACTERS)
    content = {"type": "text", "text": text}
    update = {"sessionUpdate": "agent_message_chunk", "content": content}
    return acp.notification("session/update", {"sessionId": "s", "update": update})


def reply(message: acp.Envelope, result: object) -> None:
    """The answer to a request."""
    write_all(acp.response(message.id_or_none, result))


def write_all(data: bytes) -> None:
    """Writes all of it, however full the pipe is."""
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    sys.exit(main())
