"""What the dialects share: bodies as members, addresses as lists of what is allowed. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from gateway.models.dialects.contract import CallRules, ModelCallRefused

BYTES_A_TOKEN: Final = 4
NAME_CHARACTERS: Final = 256
MODEL: Final = re.compile(r"[\w.:@/+-]{1,256}", re.ASCII)
_DOTS: Final = re.compile(r"(^|/)\.{1,2}(/|$)|//|^/|/$")
_FETCHED: Final = (b"image_url", b"file_url", b"fileUri", b"file_uri", b'"url"', b"\\u", b"video_url")
_decode: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_encode: Final = msgspec.json.Encoder().encode


def members(body: bytes, guarded: Collection[str]) -> dict[str, Raw]:
    """The members of a body; of two of one name the last, as JSON readers have it. A member whose name is
    one of `guarded` but for its case is left out: some providers read it as that. Raises ModelCallRefused.
    """
    try:
        found = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ModelCallRefused(400, "invalid_request", "The body is no JSON object.") from None
    lower = {name.lower(): name for name in guarded}
    return {name: value for name, value in found.items() if lower.get(name.lower(), name) == name}


def value_of(fields: Mapping[str, Raw], name: str) -> Any:
    """A member's value; None if it is not there. Raises ModelCallRefused."""
    if name not in fields:
        return None
    try:
        return msgspec.json.decode(fields[name])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ModelCallRefused(400, "invalid_request", f"{name} cannot be read.") from None


def raw(value: Any) -> Raw:
    """A value as a member."""
    return Raw(_encode(value))


def encoded(fields: Mapping[str, Raw]) -> bytes:
    """Members as a body."""
    return _encode(fields)


def count_of(fields: Mapping[str, Raw], *names: str) -> int:
    """The first of these members that is a positive whole number; 0 if none is."""
    for name in names:
        value = value_of(fields, name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return min(value, 2**53)
    return 0


def chosen_model(name: Any, rules: CallRules) -> str:
    """The model to ask for: the one that is named, or the default one. Raises ModelCallRefused."""
    if name is None and rules.default_model:
        return rules.default_model
    if not isinstance(name, str) or not MODEL.fullmatch(name) or _DOTS.search(name):
        raise ModelCallRefused(404, "model_not_found", "Name a model: none of that name may be used here.")
    if not rules.has_model(name):
        raise ModelCallRefused(404, "model_not_found", f"The model {name} may not be used here.")
    return name


def refuse_fetched(body: bytes, rules: CallRules) -> None:
    """Refuses pictures and files that the provider would fetch from an address. Raises ModelCallRefused."""
    if "urls" in rules.tools or not any(sign in body for sign in _FETCHED):
        return
    try:
        whole = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ModelCallRefused(400, "invalid_request", "The body is no JSON object.") from None
    for address in _addresses(whole):
        if address.lstrip().lower().startswith(_SCHEMES):
            words = "The provider may not fetch addresses here (provider_tools: urls); send the data itself."
            raise ModelCallRefused(400, "provider_tool_off", words)


_SCHEMES: Final = ("http:", "https:", "ftp:", "gs:", "s3:", "//")
_ADDRESS_NAMES: Final = frozenset({"image_url", "file_url", "video_url", "fileuri", "file_uri"})


def _addresses(value: Any) -> Iterator[str]:
    """Every address in a value that a provider would fetch. Tools are described by schemas and called with
    arguments; what these name is fetched by nobody.
    """
    waiting: list[Any] = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, list):
            waiting += found
        if not isinstance(found, dict):
            continue
        for name, inner in found.items():
            if name in _NOT_READ:
                continue
            if name.lower() in _ADDRESS_NAMES:
                yield from _text_or_url(inner)
            if name == "source" and isinstance(inner, dict) and inner.get("type") == "url":
                yield from _text_or_url(inner)
            waiting.append(inner)


_NOT_READ: Final = ("tools", "input_schema", "parameters", "args", "arguments", "response")


def _text_or_url(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = value.get("url")
    if isinstance(value, str):
        yield value


class Stripped:
    """What was taken out of a call because the provider may not do it."""

    def __init__(self, rules: CallRules) -> None:
        self._allowed = rules.tools
        self.names: list[str] = []

    def takes_out(self, name: str) -> bool:
        """Whether this is off; if so, it is noted."""
        if name in self._allowed:
            return False
        if name not in self.names:
            self.names.append(name)
        return True

    def member(self, fields: dict[str, Raw], member: str, name: str) -> None:
        """Takes a member out if this is off."""
        if member in fields and fields[member] not in _EMPTY and self.takes_out(name):
            del fields[member]

    def refuse(self, fields: Mapping[str, Raw], member: str, name: str) -> None:
        """Refuses a call with this member if this is off: without it, it would mean something else."""
        if member in fields and bytes(fields[member]).strip() not in _EMPTY and name not in self._allowed:
            raise off(name, member)

    def tools(self, given: list[Any], kept: Sequence[Any]) -> None:
        """Refuses a call of whose tools none is left. Raises ModelCallRefused."""
        if given and not kept and self.names:
            raise off(self.names[0], "tools")


_EMPTY: Final = (b"null", b"false", b"[]", b"{}", b'""')


def off(name: str, member: str) -> ModelCallRefused:
    """The refusal of something that the provider would do by itself."""
    words = f"{member}: the provider may not do this by itself here (provider_tools: {name})."
    return ModelCallRefused(400, "provider_tool_off", words)


def versioned(path: str, versions: tuple[str, ...]) -> str | None:
    """The path below its version, `/v1/models` → `models`; None if it has none of these."""
    for version in versions:
        if path.startswith(f"/{version}/"):
            return path[len(version) + 2 :]
    return None


def bearer_of(headers: Mapping[str, str]) -> str:
    """The token of `Authorization: Bearer`; empty if there is none."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""
