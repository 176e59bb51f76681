"""Mutations of JSON messages: every member of a message, replaced in turn by everything that it must not be.

Pure, and generic: whoever decodes foreign JSON (lines of agents, answers of model endpoints, documents of
identity providers) is given `mutated(message)`. What JSON itself cannot hold (NaN, a lone surrogate, ten
thousand levels) is why a mutation is text, not a value.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct

DEEP_LEVELS: Final = 10_000
LONG_CHARACTERS: Final = 1_000_000
_HOLE: Final = "\x00hole\x00"
_HOLE_TEXT: Final = json.dumps(_HOLE)

VALUES: Final[dict[str, str]] = {
    "null": "null",
    "true": "true",
    "zero": "0",
    "one": "1.0",
    "negative": "-1",
    "fraction": "0.5",
    "past_exact": str(2**53 + 1),
    "past_int64": str(2**63),
    "below_int64": str(-(2**63) - 1),
    "past_uint64": str(2**64),
    "endless_digits": "9" * 5_000,
    "huge_exponent": "1e999",
    "small_exponent": "-1e-999",
    "not_a_number": "NaN",
    "infinity": "-Infinity",
    "empty_text": '""',
    "text": '"odd"',
    "digits": '"5"',
    "lone_surrogate": r'"\ud800 \udc00"',
    "zero_byte": r'"\u0000"',
    "long_text": json.dumps("long " * (LONG_CHARACTERS // 5)),
    "empty_list": "[]",
    "list": '[1, "a", null, {}]',
    "empty_object": "{}",
    "object": '{"odd": 1}',
    "deep_list": "[" * DEEP_LEVELS + "]" * DEEP_LEVELS,
    "deep_object": '{"a":' * DEEP_LEVELS + "1" + "}" * DEEP_LEVELS,
}
"""What a member is replaced by, as JSON text (or nearly), by name."""
REMOVED: Final = "missing"
DOUBLED: Final = "doubled"


class Mutation(Struct, frozen=True):
    """One message with one mistake; `name` says which: `params.update.used: past_int64`."""

    name: str
    text: bytes


def mutated(message: Any) -> Iterator[Mutation]:
    """Every mutation of every member of a message, the message itself among them, always in one order."""
    for path in paths(message):
        for name, value in VALUES.items():
            yield Mutation(f"{_words(path)}: {name}", _filled(message, path, value))
        if path and isinstance(path[-1], str):
            yield Mutation(f"{_words(path)}: {REMOVED}", _without(message, path))
            yield Mutation(f"{_words(path)}: {DOUBLED}", _doubled(message, path))


def some(message: Any, *, count: int, seed: int) -> list[Mutation]:
    """So many mutations of a message, chosen by the seed."""
    every = list(mutated(message))
    return random.Random(seed).sample(every, min(count, len(every)))


def one(message: Any, chance: random.Random, *, longest: int) -> bytes:
    """One mutation that is not too long, for a fuzzer."""
    path = chance.choice(list(paths(message)))
    values = [value for value in VALUES.values() if len(value) <= longest]
    kind = chance.randrange(len(values) + 2)
    if kind < len(values) or not path or not isinstance(path[-1], str):
        return _filled(message, path, values[kind % len(values)])
    return _without(message, path) if kind == len(values) else _doubled(message, path)


Path = tuple[str | int, ...]


def paths(message: Any) -> Iterator[Path]:
    """Where every member of a message is, the message itself first."""
    yield ()
    below = (
        message.items()
        if isinstance(message, dict)
        else enumerate(message)
        if isinstance(message, list)
        else ()
    )
    for key, value in below:
        for path in paths(value):
            yield (key, *path)


def _words(path: Path) -> str:
    return ".".join(map(str, path)) or "the whole"


def _filled(message: Any, path: Path, value: str) -> bytes:
    if not path:
        return _bytes(value)
    return _bytes(json.dumps(_with(message, path, _HOLE)).replace(_HOLE_TEXT, value))


def _with(message: Any, path: Path, value: Any) -> Any:
    """A copy with another value at the path."""
    if not path:
        return value
    key, *rest = path
    copied: Any = dict(message) if isinstance(message, dict) else list(message)
    copied[key] = _with(message[key], tuple(rest), value)
    return copied


def _without(message: Any, path: Path) -> bytes:
    """A copy without this member."""
    parent = dict(_at(message, path[:-1]))
    del parent[path[-1]]
    return _bytes(json.dumps(_with(message, path[:-1], parent)))


def _doubled(message: Any, path: Path) -> bytes:
    """A copy that has this member twice, the second time as null."""
    name = json.dumps(path[-1])
    text = json.dumps(_with(message, path, _HOLE))
    return _bytes(text.replace(_HOLE_TEXT, f"{json.dumps(_at(message, path))}, {name}: null"))


def _at(message: Any, path: Path) -> Any:
    for key in path:
        message = message[key]
    return message


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
