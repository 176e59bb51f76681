"""Requests as typed values: bodies, queries, ids. Everything that does not fit is a GatewayError with what
to do.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final, TypeVar

import msgspec
from starlette.requests import HTTPConnection, Request

from gateway.config.tables import Config, LimitsConfig, ServerConfig
from gateway.errors import (
    BadRequest,
    BodyTooLarge,
    InvalidField,
    MalformedSessionId,
    MessageTooLong,
    RequestTimeout,
    WrongMediaType,
)
from gateway.events.window import LAST_MOST, MessageWindow
from gateway.http import cookies

T = TypeVar("T")

SESSION_ID: Final = re.compile(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,127}")
_JSON_TYPES: Final = ("application/json",)
_ONLY_SESSION_ID: Final = re.compile(rb"session_id=([A-Za-z0-9_-]+)")
_OF_WINDOWS: Final = re.compile(rb"last|before|%")
MESSAGES_MOST: Final = 10**9
"""No conversation has more."""


async def read_body(request: Request, kind: type[T], config: Config, *, empty: bytes = b"{}") -> T:
    """The JSON body as `kind`; an empty body is `{}`, or what `empty` says.

    Raises WrongMediaType (415), BodyTooLarge (413), RequestTimeout (408), BadRequest (400: no JSON, too
    deep), InvalidField (422: wrong type, missing).
    """
    body = await read_bytes(request, config.server) or empty
    checked_depth(body, config.limits)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidField(f"{error}.", field=_field_in(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is not JSON: {error}.") from None


_FIELD: Final = re.compile(r"(?:at `\$\.|required field `)([^`.\[]+)")


def _field_in(words: str) -> tuple[str, ...]:
    """Which part of a body the decoder's words are about."""
    found = _FIELD.findall(words)
    return ("body", *reversed(found))


async def read_bytes(request: Request, server: ServerConfig) -> bytes:
    """The body, which says that it is JSON or is empty.

    Raises WrongMediaType (415), BodyTooLarge (413), RequestTimeout (408).
    """
    body = mended((await _bytes(request, server)).strip())
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and kind not in _JSON_TYPES:
        raise WrongMediaType(_curl_line(request))
    return body


def mended(json: bytes) -> bytes:
    """JSON with U+FFFD for every half of a surrogate pair, which a cut emoji leaves. Unicode has no such
    character, and to send it again would never help.
    """
    if b"\\ud" in json or b"\\uD" in json:
        json = _ESCAPE.sub(lambda found: b"\\ufffd" if found[1] else found[0], json)
    return _RAW_HALF.sub("\ufffd".encode(), json) if b"\xed" in json else json


_HALF: Final = rb"u[dD][89a-fA-F][0-9a-fA-F]{2}"
_ESCAPE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\(?:(" + _HALF + rb")|.)", re.DOTALL
)
"""A pair, a half, or any other escape."""
_RAW_HALF: Final = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
"""A half that was encoded as if it were a character."""


def checked_message(text: str, limits: LimitsConfig, *, may_be_empty: bool = False) -> str:
    """A message that may be sent. Raises InvalidField if it is empty, MessageTooLong."""
    if not text.strip() and not may_be_empty:
        raise InvalidField("message is empty - at `$.message`.")
    size = len(text.encode())
    if size > limits.message_bytes:
        raise MessageTooLong(f"The message is {size} bytes long; {limits.message_bytes} are allowed.")
    return text


def checked_depth(body: bytes, limits: LimitsConfig) -> None:
    """Raises BadRequest (400) where the JSON is nested too deep."""
    if _depth(body, limits.json_depth) > limits.json_depth:
        raise BadRequest(f"The JSON is nested deeper than {limits.json_depth} levels.")


def _curl_line(request: Request) -> str:
    url = f"{request.url.scheme}://{request.url.netloc}{request.url.path}"
    return (
        "Send JSON, and say so: "
        f"curl -X {request.method} {url} -H 'Content-Type: application/json' -d '{{\"message\": \"hello\"}}'"
    )


async def _bytes(request: Request, server: ServerConfig) -> bytes:
    limit = server.body_limit_bytes
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise BodyTooLarge(f"The body may be {limit} bytes long.")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(server.body_deadline_seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise BodyTooLarge(f"The body may be {limit} bytes long.")
                parts.append(chunk)
    except TimeoutError:
        raise RequestTimeout(
            f"The body did not arrive within {server.body_deadline_seconds:g} seconds."
        ) from None
    return b"".join(parts)


_STRUCTURE: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


def _depth(body: bytes, limit: int) -> int:
    """How deep the JSON is nested; looked at only where there are enough brackets to exceed the limit."""
    if body.count(b"[") + body.count(b"{") <= limit:
        return 0
    depth = deepest = 0
    for token in _STRUCTURE.finditer(body):
        match token[0]:
            case b"[" | b"{":
                depth += 1
                deepest = max(deepest, depth)
            case b"]" | b"}":
                depth -= 1
    return deepest


def checked_session_id(session_id: str, *, field: tuple[str, ...] = ()) -> str:
    """The id. Raises MalformedSessionId (422)."""
    if not SESSION_ID.fullmatch(session_id):
        raise MalformedSessionId(field=field)
    return session_id


def named_session_id(request: Request, in_body: str | None = None) -> str | None:
    """The id that a request names: in the body, the query or the header; None if it names none.

    An empty one counts as none. Raises MalformedSessionId (422).
    """
    query = request.scope["query_string"]
    plain = _ONLY_SESSION_ID.fullmatch(query)  # of most requests all there is: it need not be parsed
    in_query = plain[1].decode() if plain is not None else request.query_params.get("session_id")
    for session_id in (in_body, in_query, request.headers.get("x-session-id")):
        if session_id:
            return checked_session_id(session_id)
    return None


def session_cookie_name(request: Request, server: ServerConfig) -> str:
    """What the cookie that keeps a client's session is called at the address that was asked."""
    host, scheme = request.headers.get("host", ""), request.url.scheme
    return cookies.name_of(cookies.SESSION, public_url=server.public_url, host=host, scheme=scheme)


def cookie_session_id(request: Request, server: ServerConfig) -> str | None:
    """The id in the cookie, under today's name or the old one; a malformed one counts as none, since nobody
    typed it.
    """
    given = request.cookies
    session_id = given.get(session_cookie_name(request, server)) or given.get(cookies.SESSION)
    return session_id if session_id and SESSION_ID.fullmatch(session_id) else None


def query_int(request: HTTPConnection, name: str, *, default: int, low: int, high: int) -> int:
    """A whole number in the query. Raises InvalidField (422)."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"-?[0-9]{1,12}", text) or not low <= int(text) <= high:
        raise InvalidField(f"{name} is a whole number from {low} to {high}.", field=("query", name))
    return int(text)


def query_window(request: HTTPConnection) -> MessageWindow | None:
    """The part of the conversation that is asked for: `last` and `before`; None: all of it. Raises
    InvalidField (422).
    """
    query = request.scope["query_string"]
    if not _OF_WINDOWS.search(query):  # most do not ask: their query need not be read
        return None
    before = query_int(request, "before", default=-1, low=0, high=MESSAGES_MOST)
    last = query_int(request, "last", default=-1, low=0, high=LAST_MOST)
    if last >= 0:
        return MessageWindow(last, before if before >= 0 else None)
    if before >= 0:
        raise InvalidField("before wants last, too: how many messages.", field=("query", "last"))
    return None


def query_last(request: HTTPConnection) -> MessageWindow | None:
    """The same of what goes on to the end: `last` alone. Raises InvalidField (422)."""
    window = query_window(request)
    if window is not None and window.before is not None:
        raise InvalidField("A stream goes on to the end: it has no before.", field=("query", "before"))
    return window


def query_view(request: Request) -> str:
    """`state` or `events`. Raises InvalidField (422)."""
    view = request.query_params.get("view") or "state"
    if view not in ("state", "events"):
        raise InvalidField("view is state or events.")
    return view


def cursor_in_query(connection: HTTPConnection) -> str:
    """The cursor in an address. Clients that can send no header put Last-Event-ID there, in their own
    spelling, beside the `after` that the first address had.
    """
    query = connection.query_params
    spelt = (text for name, text in query.items() if re.sub("[-_]", "", name).lower() == "lasteventid")
    return next(filter(None, spelt), query.get("after", ""))


UNKNOWN_CURSOR: Final = 2**62


def cursor_of(request: Request) -> int:
    """The last seq that the client saw; one that is no number is an unknown cursor."""
    text = request.headers.get("last-event-id") or cursor_in_query(request) or "0"
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 18 else UNKNOWN_CURSOR


def public_base(request: Request, config: Config) -> str:
    """The address that links begin with: the one that people know, else the one that was asked."""
    return (config.server.public_url or str(request.base_url)).rstrip("/")
