"""What a caller would rather have, as `Prefer` says (RFC 7240): of a verb, State or only where it is."""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from starlette.requests import HTTPConnection
from starlette.responses import Response

from gateway.http.operation import json_response

APPLIED: Final = {"Preference-Applied": "return=minimal"}
_MINIMAL: Final = "minimal"


def wants_minimal(connection: HTTPConnection) -> bool:
    """Whether the caller prefers `return=minimal`. Of several that say `return`, the first counts."""
    for line in connection.headers.getlist("prefer"):
        for preference in line.split(","):
            name, _, value = preference.partition(";")[0].partition("=")
            if name.strip().lower() == "return":
                return value.strip().strip('"').lower() == _MINIMAL
    return False


def minimal_response(answer: Struct, *, headers: dict[str, str] | None = None) -> Response:
    """The answer of a verb to who wants little."""
    return json_response(answer, headers={**APPLIED, **(headers or {})})
