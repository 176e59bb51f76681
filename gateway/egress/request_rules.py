"""Which requests a credential is for, and what of their headers goes on. Pure.

Guarantee: a path that two readers could read in two ways is refused, whatever the list says: dot segments,
encoded dots, empty segments, backslashes, parameters behind a dot segment.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from gateway.config.credentials import NEVER_METHODS
from gateway.egress.spoken import begun

Header = tuple[bytes, bytes]
HOP_BY_HOP: Final = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization", b"proxy-authenticate"),
        *(b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect", b"content-length", b"host"),
    }
)
"""Of one connection; the gateway says its own (RFC 9110, 7.6.1)."""
_REWRITING: Final = frozenset(
    {
        *(b"x-http-method-override", b"x-http-method", b"x-method-override"),
        *(b"x-original-url", b"x-rewrite-url", b"x-forwarded-prefix", b"x-forwarded-host", b"forwarded"),
        *(b"x-host", b"x-original-host", b"x-forwarded-server", b"x-http-host-override", b"accept-encoding"),
    }
)
"""By which a server would do another method, path or host than the one that was checked. `Accept-Encoding`:
what is compressed cannot be searched for the credential.
"""
ONLY_FOR_A_CONNECTION: Final = frozenset({b"alt-svc", b"strict-transport-security"})
"""Of an answer: the first leads round the gateway, to another port."""
_TARGET_CHARACTERS: Final = re.compile(r"[\x21-\x7e]+")
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})?")
_DOTS: Final = (".", "..")
_SIGNS: Final = re.compile(rb"[+&<>'\"`]")
_MARKUP: Final = re.compile(rb"[&<>]")
_ENCODED_TWICE: Final = re.compile(r"%(2e|2f|5c)", re.IGNORECASE)


def refusal(method: str, target: str, *, methods: Sequence[str], paths: Sequence[str]) -> str | None:
    """Why a request may not be sent with the credential, in words; None if it may."""
    if method in NEVER_METHODS or (methods and method not in methods):
        allowed = ", ".join(methods) or "all but CONNECT and TRACE"
        return f"The method {method[:32]} is not allowed here: {allowed}."
    path = target.partition("?")[0]
    if not path.startswith("/") or not _TARGET_CHARACTERS.fullmatch(target) or "#" in target:
        return "The address of the request is not a path."
    if words := _ambiguity(path):
        return f"The path may be read in two ways: {words}."
    if paths and not any(_matches(pattern, path) for pattern in paths):
        return f"The path is not allowed here: {', '.join(paths)}."
    return None


def _ambiguity(path: str) -> str:
    escapes = [found[1] for found in _ESCAPE.finditer(path)]
    if None in escapes:
        return "% without two digits"
    if any(int(digits, 16) in (0x2E, 0x5C) or int(digits, 16) < 0x20 for digits in escapes):
        return "an encoded dot, backslash or control character"
    try:
        plain = unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        return "bytes that are no UTF-8"
    if "\\" in plain:
        return "a backslash"
    if _ENCODED_TWICE.search(plain):
        return "something encoded twice"
    segments = [segment.partition(";")[0] for segment in plain.split("/")[1:]]
    if any(segment in _DOTS for segment in segments):
        return "a segment of dots"
    if "" in segments[:-1] or any(segment.startswith(";") for segment in plain.split("/")[1:]):
        return "an empty segment"
    return ""


def _matches(pattern: str, path: str) -> bool:
    """Both as it is written, and as a server reads it that decodes first."""
    plain, plain_pattern = unquote_to_bytes(path).decode(), unquote_to_bytes(pattern).decode(errors="replace")
    escaped = _ESCAPE.sub(lambda found: found[0].lower(), path)
    escaped_pattern = _ESCAPE.sub(lambda found: found[0].lower(), pattern)
    return bool(_compiled(escaped_pattern).fullmatch(escaped) and _compiled(plain_pattern).fullmatch(plain))


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    """`*` is part of one segment, `**` any number of segments, the one at the end none too: `/a/**` is `/a`
    and all below it.
    """
    if pattern.endswith("/**"):
        return re.compile(f"{_expression(pattern[:-3])}(?:/.*)?", re.DOTALL)
    return re.compile(_expression(pattern), re.DOTALL)


def _expression(pattern: str) -> str:
    words = {"**": ".*", "*": "[^/]*"}
    return "".join(words.get(part, re.escape(part)) for part in re.split(r"(\*\*|\*)", pattern))


def passed_on(headers: Sequence[Header], credential: str) -> Iterator[Header]:
    """What goes on of a worker's headers: not its own value of the credential's, however it is spelled, and
    nothing that is named in Connection.
    """
    own = credential.lower().encode()
    named = {
        word.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for word in value.split(b",")
    }
    for name, value in headers:
        plain = name.lower()
        if plain.replace(b"_", b"-") == own.replace(b"_", b"-") or plain in named:
            continue
        if plain not in HOP_BY_HOP and plain.replace(b"_", b"-") not in _REWRITING:
            yield name, value


def answered(headers: Sequence[Header]) -> Iterator[Header]:
    """What goes back of a host's headers."""
    for name, value in headers:
        plain = name.lower()
        if plain not in HOP_BY_HOP and plain not in ONLY_FOR_A_CONNECTION:
            yield name, value


def _spellings(needle: bytes) -> Iterator[bytes]:
    """As it is, percent-encoded, and as writers of JSON spell it: with `\\/` (PHP), or with signs as
    `\\u002B` (.NET) or `\\u003c` (Go).
    """
    yield needle
    yield quote_from_bytes(needle, safe="").encode()
    plain = needle.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    yield plain
    yield plain.replace(b"/", b"\\/")
    for form in (b"\\u%04X", b"\\u%04x"):
        yield _SIGNS.sub(lambda found, form=form: form % ord(found[0]), needle)  # type: ignore[misc]
        yield _MARKUP.sub(lambda found, form=form: form % ord(found[0]), plain)  # type: ignore[misc]


def is_for(given: Sequence[bytes], host: str, port: int) -> bool:
    """Whether the Host headers of a request name this host, once."""
    if len(given) != 1:
        return False
    name, _, number = given[0].decode("latin-1").lower().partition(":")
    return name.removesuffix(".") == host and number in ("", str(port))


class Mask:
    """Replaces the credential in what a host answers, by as many asterisks, also across two pieces and as
    JSON and addresses spell it.
    """

    def __init__(self, needles: Sequence[bytes]) -> None:
        spelled = {one for needle in filter(None, needles) for one in _spellings(needle)}
        self._needles = sorted(spelled, key=len, reverse=True)
        self._held = b""

    def whole(self, data: bytes) -> bytes:
        """A text that is complete."""
        for needle in self._needles:
            if needle in data:
                data = data.replace(needle, b"*" * len(needle))
        return data

    def feed(self, data: bytes) -> bytes:
        """A piece; what might be the beginning of the credential waits for the next."""
        data = self.whole(self._held + data)
        held = max((begun(needle, data) for needle in self._needles), default=0)
        self._held = data[len(data) - held :]
        return data[: len(data) - held]

    def end(self) -> bytes:
        """What has waited."""
        held, self._held = self._held, b""
        return held
