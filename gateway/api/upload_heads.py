"""What the heads of requests that upload say: how much comes, and which part of a file it is."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct
from starlette.requests import Request

from gateway.errors import BadRequest, InvalidField, WrongMediaType
from gateway.http.multipart import boundary_of

_RANGE: Final = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})")
_SIZE: Final = re.compile(r"[0-9]{1,15}")


class BodySpan(Struct, frozen=True):
    """Which part of a file a request brings."""

    start: int
    end: int | None
    """Behind its last byte; None: whatever comes."""
    total: int | None

    @property
    def is_last(self) -> bool:
        """Whether nothing of the file follows."""
        return self.end is None or self.end == self.total


def span_of(request: Request) -> BodySpan:
    """The part of a file that a request brings. Raises BadRequest."""
    text = request.headers.get("content-range")
    if text is None:
        length = content_length(request)
        return BodySpan(0, length, length)
    found = _RANGE.fullmatch(text)
    if found is None:
        raise BadRequest("Content-Range is `bytes FIRST-LAST/SIZE`.")
    first, last, total = (int(number) for number in found.groups())
    if not first <= last < total:
        raise BadRequest("Content-Range names no part of a file: FIRST <= LAST < SIZE.")
    return BodySpan(first, last + 1, total)


def boundary(request: Request) -> bytes:
    """Between the parts of a form. Raises WrongMediaType, BadRequest."""
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        raise WrongMediaType("Send a form, as curl -F file=@NAME does: multipart/form-data.")
    return boundary_of(kind)


def content_length(request: Request) -> int | None:
    """How long the body is said to be; None: that is not said, or not understood."""
    text = request.headers.get("content-length", "")
    return int(text) if _SIZE.fullmatch(text) else None


def whole_number(text: str | None) -> int | None:
    """The parameter `size`. Raises InvalidField."""
    if text is None:
        return None
    if not _SIZE.fullmatch(text):
        raise InvalidField("size is a whole number of bytes.", field=("query", "size"))
    return int(text)
