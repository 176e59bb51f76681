"""Reading what others wrote: agents, model endpoints, anybody who speaks JSON to us. Pure.

One rule. An optional member that is null, of another type or out of range counts as absent and is reported
to `on_odd`; an item of a list that does not fit is left out in the same way. Only a required member that is
missing or does not fit refuses the message (msgspec.ValidationError, whose text names it).

A message that fits is decoded once and costs nothing more: the slow path begins if msgspec refuses it.

Guarantees: no text makes this raise anything but msgspec.DecodeError, RecursionError included; numbers that
are declared with `Count`, `Integer` or `Amount` are inside their bounds, whatever their spelling (`5`, `5.0`
and `5e0` are one integer); what is nested deeper than DEPTH_LIMIT is gone (`tidied`), so that no later reader
of the message, here or elsewhere, runs out of stack.
"""

from __future__ import annotations

import itertools
import re
import types
from collections.abc import Callable
from typing import Annotated, Any, Final, TypeVar, cast

import msgspec
from msgspec import Meta, Raw

T = TypeVar("T")
OnOdd = Callable[[str], None]
"""Hears the path of a value that was left out, such as `update.used`."""

LARGEST: Final = 2**53
"""The largest integer that every JSON reader keeps exact."""
DEPTH_LIMIT: Final = 200
"""Python's own stack ends at a thousand frames and JSON readers in C count against it."""

Count = Annotated[int, Meta(ge=0, le=LARGEST)]
Integer = Annotated[int, Meta(ge=-LARGEST, le=LARGEST)]
Amount = Annotated[float, Meta(ge=-1e15, le=1e15)]
"""A number with a fraction, such as a price."""
Name = Annotated[str, Meta(extra={"is_name": True})]
"""An id or a name: a value of another JSON type counts as its JSON text, `7` as "7"."""

_BOM: Final = b"\xef\xbb\xbf"
_ESCAPED: Final = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
"""A backslash that escapes itself, a pair of surrogates, or a lone one."""
_STRING: Final = rb'"(?:[^"\\]++|\\.)*+"?'
"""Possessive, and content with a string that never ends: else hostile text takes time without bound."""
_NOT_NUMBERS: Final = re.compile(_STRING + rb"|-?Infinity|NaN", re.DOTALL)
_BARE_STRINGS: Final = re.compile(rb'"[^"]*"?')
_NESTING: Final = re.compile(_STRING + rb"|[\[{]+|[\]}]+", re.DOTALL)
_NOT_NESTING: Final = bytes(set(range(256)) - set(b'[]{}"'))
_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")
_STEPS: Final = {ord("["): 1, ord("]"): -1}
SLICE_BYTES: Final = 256 * 1024
PEELED: Final = 6
"""Levels that are peeled off before the others are counted one bracket at a time."""


def ignored(_path: str) -> None:
    """For readers that do not count what they leave out."""


def clamped(value: int) -> int:
    """A sum of what others say, inside the bounds of what they may say at once."""
    return max(-LARGEST, min(value, LARGEST))


# -- text -------------------------------------------------------------------------------------------------


def tidied(text: bytes, on_odd: OnOdd = ignored) -> bytes:
    """JSON text that is safe to decode: no byte order mark, U+FFFD for broken UTF-8 and lone surrogates, null
    for what is nested too deep.
    """
    if text.startswith(_BOM):
        text = text[len(_BOM) :]
    if not text.isascii():
        text = _valid_utf8(text)
    if b"\\" in text and (b"\\ud" in text or b"\\uD" in text):
        text = _ESCAPED.sub(_paired, text)
    if text.count(b"[") + text.count(b"{") > DEPTH_LIMIT and _is_too_deep(text):
        on_odd("nesting")
        text = _pruned(text)
    return text


def _valid_utf8(text: bytes) -> bytes:
    try:
        text.decode()
    except UnicodeDecodeError:
        return text.decode("utf-8", "replace").encode()
    return text


def _paired(escape: re.Match[bytes]) -> bytes:
    found = escape[0]
    is_lone = len(found) == len(rb"\ud800")
    return rb"\ufffd" if is_lone else found


def _is_too_deep(text: bytes) -> bool:
    """Counted by what C does fast: this runs on everything that has many brackets."""
    bare = (
        text.replace(rb"\\", b"").replace(rb"\"", b"").translate(_ONE_KIND, _NOT_NESTING).replace(b'""', b"")
    )
    brackets = _BARE_STRINGS.sub(b"", bare) if b'"' in bare else bare
    for _ in range(PEELED):  # each time the innermost level goes, and most text has few
        brackets = brackets.replace(b"[]", b"")
    depths = itertools.accumulate(map(_STEPS.__getitem__, brackets))
    return any(map((DEPTH_LIMIT - PEELED).__lt__, depths))


def is_deep(text: Any) -> bool:
    """Whether anything in a long buffer of JSON is nested too deep, found with no more than a slice of it in
    memory; by at most PEELED levels less than exactly.
    """
    depth, is_inside, rest = 0, False, b""
    for start in range(0, len(text), SLICE_BYTES):
        piece = rest + text[start : start + SLICE_BYTES]
        cut = len(piece) - (len(piece) - len(piece.rstrip(b"\\"))) % 2
        piece, rest = piece[:cut], piece[cut:]
        bare = piece.replace(rb"\\", b"").replace(rb"\"", b"").translate(_ONE_KIND, _NOT_NESTING)
        bare = (b'"' if is_inside else b"") + bare
        is_inside = bare.count(b'"') % 2 == 1
        brackets = _BARE_STRINGS.sub(b"", bare) if b'"' in bare else bare
        for _ in range(PEELED):
            brackets = brackets.replace(b"[]", b"")
        highest = max(itertools.accumulate(map(_STEPS.__getitem__, brackets)), default=0)
        if depth + highest > DEPTH_LIMIT - PEELED:
            return True
        depth += brackets.count(b"[") - brackets.count(b"]")
    return False


def _pruned(text: bytes) -> bytes:
    """The text with null for everything that is nested too deep."""
    kept: list[bytes] = []
    depth = start = 0
    for token in _NESTING.finditer(text):
        run = token[0]
        if run.startswith(b'"'):
            continue
        before = depth
        depth += len(run) if run[0] in b"[{" else -len(run)
        if before <= DEPTH_LIMIT < depth:
            kept += (text[start : token.start() + DEPTH_LIMIT - before], b"null")
        elif depth <= DEPTH_LIMIT < before:
            start = token.start() + before - DEPTH_LIMIT
    if depth <= DEPTH_LIMIT:
        kept.append(text[start:])
    return b"".join(kept)


def _with_numbers(text: bytes) -> bytes:
    """The text with null for NaN and Infinity, which some encoders write and JSON does not know."""
    return _NOT_NUMBERS.sub(lambda found: found[0] if found[0].startswith(b'"') else b"null", text)


# -- shapes -----------------------------------------------------------------------------------------------


_decoders: dict[Any, tuple[Any, msgspec.json.Decoder[Any]]] = {}
"""By the type; by the id of a union, which is a module's, and kept, so that no other takes its id."""
_shapes: dict[Any, msgspec.inspect.Type] = {}
_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_items: Final = msgspec.json.Decoder(list[Raw]).decode
_string: Final = msgspec.json.Decoder(str).decode
_number: Final = msgspec.json.Decoder(int | float).decode
_encode: Final = msgspec.json.Encoder().encode


class _Odd(Exception):
    """A value does not fit; the text says which."""


def decode(text: bytes | memoryview | Raw, kind: type[T], on_odd: OnOdd = ignored) -> T:
    """Tidied text as `kind`; see the module. Raises msgspec.DecodeError."""
    decoder = _decoder(kind)
    try:
        return decoder.decode(text)
    except msgspec.ValidationError:
        pass
    except msgspec.DecodeError:
        whole = bytes(text)
        numbers = _with_numbers(whole) if b"NaN" in whole or b"Infinity" in whole else whole
        if numbers == whole:
            raise
        on_odd("number")
        return decode(numbers, kind, on_odd)
    except RecursionError as error:
        raise msgspec.DecodeError(str(error)) from None
    return decoder.decode(_mended(bytes(text), kind, on_odd))


def read(text: bytes, kind: type[T], on_odd: OnOdd = ignored) -> T:
    """What somebody else says in JSON text, which may be broken: `tidied`, then `decode`. Raises as that."""
    return decode(tidied(text, on_odd), kind, on_odd)


def fitted(value: object, kind: type[T], on_odd: OnOdd = ignored) -> T | None:
    """A decoded value as `kind`, read by the same rule; None if nothing fits."""
    try:
        return decode(_encode(value), kind, on_odd)
    except msgspec.DecodeError:
        return None


def _decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    """One decoder a type: building it costs ten times what a small message does."""
    key = id(kind) if isinstance(kind, types.UnionType) else kind  # hashing a union costs as much as decoding
    known = _decoders.get(key)
    if known is None:
        known = _decoders[key] = (kind, msgspec.json.Decoder(kind))
    return cast("msgspec.json.Decoder[T]", known[1])


def _mended(text: bytes, kind: Any, on_odd: OnOdd) -> bytes:
    shape = _shapes.get(kind)
    if shape is None:
        shape = _shapes[kind] = msgspec.inspect.type_info(kind)
    odd: list[str] = []
    try:
        return _fitted(text.strip(), shape, "", odd)
    except _Odd as error:
        raise msgspec.ValidationError(str(error)) from None
    finally:
        for path in odd:
            on_odd(path)


def _fitted(text: bytes, shape: msgspec.inspect.Type, path: str, odd: list[str]) -> bytes:
    """The text without what does not fit; `odd` gets the paths of that. Raises _Odd if nothing is left."""
    match shape:
        case msgspec.inspect.Metadata(type=inner, extra=extra):
            is_name = extra is not None and extra.get("is_name") and text[:1] not in (b'"', b"n")
            return _encode(text.decode("utf-8", "replace")) if is_name else _fitted(text, inner, path, odd)
        case msgspec.inspect.UnionType(types=types):
            return _fitted_to_any(text, types, path, odd)
        case msgspec.inspect.StructType():
            return _fitted_struct(text, shape, path, odd)
        case msgspec.inspect.ListType(item_type=item) | msgspec.inspect.VarTupleType(item_type=item):
            return _fitted_list(text, item, path, odd)
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            return _fitted_number(text, shape, path)
        case msgspec.inspect.AnyType() | msgspec.inspect.DictType():
            return _readable(text, shape, path)
    starts = _STARTS.get(type(shape))
    if starts is not None and text[:1] not in starts:
        raise _odd(path)
    return text


def _readable(text: bytes, shape: msgspec.inspect.Type, path: str) -> bytes:
    """Plain JSON, or an object of it; some numbers that may be written cannot be held."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise _odd(path) from None
    if isinstance(shape, msgspec.inspect.DictType) and not isinstance(value, dict):
        raise _odd(path)
    return text


_STARTS: Final[dict[type, tuple[bytes, ...]]] = {
    msgspec.inspect.StrType: (b'"',),
    msgspec.inspect.BoolType: (b"t", b"f"),
    msgspec.inspect.NoneType: (b"n",),
}
"""How the JSON text of a type begins; a type that is not named takes any."""


def _fitted_to_any(text: bytes, shapes: tuple[msgspec.inspect.Type, ...], path: str, odd: list[str]) -> bytes:
    words = str(_odd(path))  # a kept exception would keep its frames, and with them the message
    for shape in shapes:
        found: list[str] = []
        try:
            fitted = _fitted(text, shape, path, found)
        except _Odd as error:
            words = str(error)
            continue
        odd += found
        return fitted
    raise _Odd(words)


def _fitted_struct(text: bytes, shape: msgspec.inspect.StructType, path: str, odd: list[str]) -> bytes:
    try:
        members = _members(text)
    except (msgspec.DecodeError, RecursionError):
        raise _odd(path) from None
    parts: list[bytes] = []
    if shape.tag_field is not None:
        tag = _encode(shape.tag)
        if bytes(members.get(shape.tag_field, b"")) != tag:
            raise _odd(_below(path, shape.tag_field))
        parts.append(_encode(shape.tag_field) + b":" + tag)
    for field in shape.fields:
        name = field.encode_name
        value = members.get(name)
        if value is None and not field.required:
            continue
        try:
            if value is None:
                raise _odd(_below(path, name), "is missing")
            fitted = _fitted(bytes(value), field.type, _below(path, name), odd)
        except _Odd:
            if field.required:
                raise
            odd.append(_below(path, name))
            continue
        parts.append(_encode(name) + b":" + fitted)
    return b"{" + b",".join(parts) + b"}"


def _fitted_list(text: bytes, item: msgspec.inspect.Type, path: str, odd: list[str]) -> bytes:
    try:
        values = _items(text)
    except (msgspec.DecodeError, RecursionError):
        raise _odd(path) from None
    fitted: list[bytes] = []
    for value in values:
        try:
            fitted.append(_fitted(bytes(value), item, f"{path}[]", odd))
        except _Odd:
            odd.append(f"{path}[]")
    return b"[" + b",".join(fitted) + b"]"


def _fitted_number(
    text: bytes, shape: msgspec.inspect.IntType | msgspec.inspect.FloatType, path: str
) -> bytes:
    try:
        value = _number(text)
    except msgspec.DecodeError:
        raise _odd(path) from None
    if isinstance(shape, msgspec.inspect.IntType):
        if value != value // 1:
            raise _odd(path)
        value = int(value)
    low, high = shape.ge, shape.le
    if (low is not None and value < low) or (high is not None and value > high):
        raise _odd(path)
    return _encode(value)


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _odd(path: str, words: str = "is not of the type or in the range that it must be") -> _Odd:
    return _Odd(f"`{path or 'the whole'}` {words}")
