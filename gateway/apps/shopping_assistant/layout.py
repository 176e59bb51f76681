"""The keys of the mirror and what is written to them: pure, but for Lua.

    session:ID:info            a string of JSON, which expires with the session's cart
    session:ID:conversation    a list, the newest message first, each as JSON with its `role`
    session:ID:owner           whose the two are, if names have no owner

With `mirror = "owned"`, ID is preceded by a hash of the owner and a colon, and the third key is not there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from gateway.apps.shop.store import ShopKey
from gateway.apps.shopping_assistant.redis_server import Script
from gateway.apps.shopping_assistant.settings import MirrorNames

MARK_BYTES: Final = 8
"""What is kept of a message that was written: enough to tell whether the list has it."""
CHANGED: Final = -1
"""The list is not what was left there: it is to be written as a whole."""
OF_ANOTHER: Final = -2
"""Another owner has the name."""


class Mirrored(Struct, frozen=True):
    """What a mirror shows of one session. Seconds are what is left until it is forgotten."""

    info: bytes
    info_seconds: int
    messages: Sequence[bytes] | None
    """Oldest first; None: the list stays as it is."""
    seconds: int = 0
    """The list's."""


def owner_hash(owner: str) -> str:
    """An owner in a name: the first 16 digits of the SHA-256 of TENANT/SUBJECT."""
    return hashlib.sha256(owner.encode()).hexdigest()[:16]


def names(key: ShopKey, kind: MirrorNames) -> list[str]:
    """The keys of a session: information, conversation, owner."""
    part = f"{owner_hash(key.owner)}:{key.conversation}" if kind == "owned" else key.conversation
    return [f"session:{part}:{what}" for what in ("info", "conversation", "owner")]


def marks(messages: Sequence[bytes]) -> bytes:
    """What tells these messages from others."""
    return b"".join(hashlib.blake2b(one, digest_size=MARK_BYTES).digest() for one in messages)


def overlap(before: bytes, now: bytes) -> int:
    """How many messages of a list that was written are the first ones of what is to be there."""
    for start in range(0, len(before), MARK_BYTES):
        if now.startswith(before[start:]):
            return (len(before) - start) // MARK_BYTES
    return 0


def write(key: ShopKey, kind: MirrorNames, shown: Mirrored, *, before: bytes, now: bytes) -> Script:
    """Writes what is shown: of the list only what is new, if it still has what was there `before`."""
    known = overlap(before, now)
    new: Sequence[bytes] = shown.messages[known:] if shown.messages is not None else ()
    kept = -1 if shown.messages is None else len(before) // MARK_BYTES if known else 0
    arguments: list[str | bytes | int] = [_mark(key, kind), shown.info]
    arguments += [max(shown.info_seconds, 1), max(shown.seconds, 1), kept, len(shown.messages or ()), *new]
    return Script(_WRITE, names(key, kind), arguments)


def erase(key: ShopKey, kind: MirrorNames) -> Script:
    """Takes everything of a session away, unless it is another owner's."""
    return Script(_ERASE, names(key, kind), (_mark(key, kind),))


def _mark(key: ShopKey, kind: MirrorNames) -> str:
    """What is in the third key; empty: there is none."""
    return owner_hash(key.owner) if kind == "seed" else ""


_WRITE: Final = """
local info, list, owner = KEYS[1], KEYS[2], KEYS[3]
local mark, text, alive, heard = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local kept, whole = tonumber(ARGV[5]), tonumber(ARGV[6])
if mark ~= '' then
  local of = redis.call('GET', owner)
  if of and of ~= mark then return -2 end
  redis.call('SET', owner, mark, 'EX', math.max(alive, heard))
end
redis.call('SETEX', info, alive, text)
if kept < 0 then return 0 end
if kept == 0 then redis.call('DEL', list)
elseif redis.call('LLEN', list) ~= kept then return -1 end
for i = 7, #ARGV do redis.call('LPUSH', list, ARGV[i]) end
if whole > 0 then
  redis.call('LTRIM', list, 0, whole - 1)
  redis.call('EXPIRE', list, heard)
end
return whole
"""
_ERASE: Final = """
if ARGV[1] ~= '' and redis.call('GET', KEYS[3]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
"""
