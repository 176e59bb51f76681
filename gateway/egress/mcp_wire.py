"""What an MCP server answers, read leniently. Pure: bytes in, messages out.

Others wrote these bytes (worker/foreign.py). An optional value that is missing, null or of another type
counts as absent, what is nested too deep is null; only a body that is no JSON at all is `Unreadable`. What
comes out can be encoded again: whole numbers beyond 64 bits become fractional ones, halves of characters
become U+FFFD.
"""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec
from msgspec import Struct

from worker import foreign
from worker.foreign import OnOdd

WORDS_CHARACTERS: Final = 300
DIGITS: Final = 1000
"""Python itself refuses to read whole numbers of more than 4,300."""
_BOM: Final = b"\xef\xbb\xbf"
_LINE_ENDS: Final = (b"\r\n", b"\r")


class Unreadable(Exception):
    """The bytes are no JSON."""


class Reply(Struct, frozen=True):
    """The answer to one request: a result, or the words of a refusal."""

    result: Any = None
    refusal: str | None = None


class EventStream:
    """The data of server-sent events, as their bytes arrive (HTML, "Server-sent events")."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of each event that is whole now; events without data are none."""
        self._rest += chunk
        if b"\n" not in chunk and b"\r" not in chunk:  # a line that drips in is not searched again and again
            return []
        whole, rest = _lines(bytes(self._rest))
        self._rest = bytearray(rest)
        found = []
        for line in whole:
            if line:
                self._take(line)
            elif data := b"\n".join(self._data):
                found.append(data)
            if not line:
                self._data.clear()
        return found

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name.removeprefix(_BOM) == b"data":
            self._data.append(value.removeprefix(b" "))


def _lines(data: bytes) -> tuple[list[bytes], bytes]:
    """Whole lines, and the rest; a CR at the end may be half of a line's end."""
    held = data[-1:] if data.endswith(b"\r") else b""
    text = data[: len(data) - len(held)]
    for end in _LINE_ENDS:
        text = text.replace(end, b"\n")
    *whole, rest = text.split(b"\n")
    return whole, rest + held


def reply(data: bytes, request_id: int, on_odd: OnOdd = foreign.ignored) -> Reply | None:
    """The answer to a request, if it is in this message (or batch of messages). Raises Unreadable."""
    message = decode(data, on_odd)
    for each in message if isinstance(message, list) else [message]:
        if not isinstance(each, dict) or each.get("method") is not None:
            continue
        is_ours = _is_id(each.get("id"), request_id)
        if each.get("error") is not None and (is_ours or each.get("id") is None):
            return Reply(refusal=_words(each["error"], on_odd))
        if is_ours and "result" in each:
            return Reply(result=each["result"])
    return None


def _is_id(found: object, request_id: int) -> bool:
    return not isinstance(found, bool) and found in (request_id, str(request_id))


def _words(error: object, on_odd: OnOdd) -> str:
    """What a server says of its refusal."""
    message = error.get("message") if isinstance(error, dict) else error
    if not isinstance(message, str):
        on_odd("error.message")
        message = json.dumps(message) if message is not None else "without a reason"
    return message[:WORDS_CHARACTERS]


def decode(data: bytes, on_odd: OnOdd = foreign.ignored) -> Any:
    """JSON as others write it. Raises Unreadable."""
    text = foreign.tidied(data, on_odd)
    try:
        return tidy(msgspec.json.decode(text))
    except msgspec.DecodeError:
        pass
    try:  # NaN and numbers that are too large: the standard library takes them
        found = json.loads(text, parse_int=_whole)
    except ValueError:
        raise Unreadable("The answer is no JSON.") from None
    on_odd("number")
    return tidy(found)


def _whole(digits: str) -> int | None:
    """A whole number, but for one of thousands of digits."""
    return int(digits) if len(digits) < DIGITS else None


def tidy(value: Any) -> Any:
    """The same value, as it can be encoded again."""
    match value:
        case str():
            return value if value.isascii() else _mended(value)
        case dict():
            return {tidy(key): tidy(item) for key, item in value.items()}
        case list():
            return [tidy(item) for item in value]
        case bool() | None:
            return value
        case int() if not -(2**63) <= value < 2**64:
            return float(value) if abs(value) < 2**1000 else None
    return value


def _mended(text: str) -> str:
    """Halves of a character that belong together are joined, others become U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
