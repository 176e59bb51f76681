"""Answers given below the application, which has no request to see: what each says, and its bytes."""

from __future__ import annotations

import secrets
from typing import Final

import msgspec
from msgspec import Struct

from gateway.answers import ErrorBody, ErrorDetail
from gateway.errors import BrokenInvariant

HEAD_BYTES: Final = 64 * 1024
"""Of request line and headers together; browsers and proxies stay below 16 KiB."""
TARGET_BYTES: Final = 16 * 1024
RETRY_AFTER_SECONDS: Final = 2


class Refusal(Struct, frozen=True):
    """An answer given below the application."""

    status: int
    code: str
    message: str


MALFORMED: Final = Refusal(400, "bad_request", "This is no HTTP/1.1 request.")
BAD_TARGET: Final = Refusal(400, "bad_request", "The target of the request is neither a path nor a URL.")
NO_HOST: Final = Refusal(400, "bad_request", "A request has one Host header.")
CHUNKED_1_0: Final = Refusal(400, "bad_request", "HTTP/1.0 has no Transfer-Encoding.")
UPGRADE_WITH_BODY: Final = Refusal(
    400, "bad_request", "Nothing is upgraded here; send the request without Upgrade."
)
HEAD_LATE: Final = Refusal(408, "request_timeout", "The head of the request did not arrive in time.")
BODY_LATE: Final = Refusal(408, "request_timeout", "The body of the request did not arrive in time.")
BODY_LARGE: Final = Refusal(413, "body_too_large", "The request body is larger than this gateway takes.")
TARGET_LONG: Final = Refusal(414, "target_too_long", f"The target may be {TARGET_BYTES} bytes long.")
PIPELINE_LONG: Final = Refusal(429, "rate_limited", "Too many requests at once on one connection.")
HEAD_LARGE: Final = Refusal(431, "head_too_large", f"The head of a request may be {HEAD_BYTES} bytes long.")
BROKEN: Final = Refusal(500, BrokenInvariant.code, BrokenInvariant().message)
UNKNOWN_CODING: Final = Refusal(501, "not_implemented", "Of transfer codings there is chunked alone.")
OVER_LIMIT: Final = Refusal(503, "too_many_connections", "Too many connections; try again in a moment.")
UNKNOWN_VERSION: Final = Refusal(505, "version_not_supported", "HTTP/1.1 and HTTP/1.0 are spoken here.")

_BY_PARSER_WORDS: Final = {"Invalid HTTP version": UNKNOWN_VERSION, "Pause on PRI/Upgrade": UNKNOWN_VERSION}


def unparsable(error: Exception) -> Refusal:
    """The refusal of what the parser cannot read; its words are constants of the parser."""
    words = str(error)
    return _BY_PARSER_WORDS.get(words) or Refusal(400, MALFORMED.code, f"{MALFORMED.message[:-1]}: {words}.")


def body_and_headers(refusal: Refusal) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The gateway's JSON error, with a request id of its own, and the headers of an answer that ends its
    connection.
    """
    request_id = secrets.token_hex(8)
    body = msgspec.json.encode(ErrorBody(ErrorDetail(refusal.code, refusal.message), request_id))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-request-id", request_id.encode()),
        (b"connection", b"close"),
    ]
    if refusal.status in (429, 503):
        headers.append((b"retry-after", b"%d" % RETRY_AFTER_SECONDS))
    return body, headers


def answer(refusal: Refusal, *, status_line: bytes, default_headers: list[tuple[bytes, bytes]]) -> bytes:
    """A whole response."""
    body, headers = body_and_headers(refusal)
    lines = [b"%b: %b\r\n" % header for header in (*default_headers, *headers)]
    return b"".join([status_line, *lines, b"\r\n", body])
