"""Tickets and keys: what is accepted, and what only looks like it."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Awaitable

import pytest

from gateway.api import shares
from gateway.auth import keys as keyring
from gateway.auth import passes
from gateway.auth.keys import KeyRing
from gateway.auth.tickets import Tickets, read_secret
from gateway.errors import KeyNotFound, StoreFailed
from gateway.http import gate as auth
from gateway.principal import Principal
from gateway.stores.credentials import ApiKey
from gateway.stores.memory.credentials import MemoryCredentials

VISITOR = Principal("default", "~abc", "visitor", frozenset({"chat", "read"}))


class Clock:
    def __init__(self) -> None:
        self.ms = 1_000_000

    def __call__(self) -> int:
        return self.ms


class SlowCredentials(MemoryCredentials):
    async def put_key(self, key: ApiKey) -> None:
        await asyncio.sleep(0.01)
        await super().put_key(key)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tickets(clock: Clock) -> Tickets:
    made = Tickets(wall_ms=clock)
    made.open(b"s" * 32)
    return made


def test_a_ticket_comes_back_until_it_expires(tickets: Tickets, clock: Clock) -> None:
    text = tickets.issue("visitor", seconds=10, principal=VISITOR, extra={"origin": "x"})
    ticket = tickets.read("visitor", text)
    assert ticket is not None
    assert (ticket.principal, ticket.extra) == (VISITOR, {"origin": "x"})
    clock.ms += 10_000
    assert tickets.read("visitor", text) is None


def test_a_ticket_of_one_use_is_none_of_another(tickets: Tickets) -> None:
    text = tickets.issue("handover", seconds=10, principal=VISITOR)
    assert tickets.read("visitor", text) is None
    assert tickets.read("handover", text) is not None


@pytest.mark.parametrize("text", ["", ".", "a", "a.b", "é.é", "\0", "x" * 5000, "bm8.c2lnbmF0dXJl"])
def test_what_was_not_signed_here_is_nothing(tickets: Tickets, text: str) -> None:
    assert tickets.read("visitor", text) is None


def test_no_letter_of_a_ticket_may_change(tickets: Tickets) -> None:
    text = tickets.issue("visitor", seconds=10, principal=VISITOR)
    for index in range(len(text)):  # the last one, too, though it holds bits of which base64 makes nothing
        changed = text[:index] + ("A" if text[index] != "A" else "B") + text[index + 1 :]
        found = tickets.read("visitor", changed)
        assert found is None, index
    assert tickets.read("visitor", text[:-1] + chr(ord(text[-1]) ^ 1)) is None


def test_another_secret_signs_nothing_for_us(tickets: Tickets, clock: Clock) -> None:
    other = Tickets(wall_ms=clock)
    other.open(b"t" * 32)
    assert tickets.read("visitor", other.issue("visitor", seconds=10, principal=VISITOR)) is None


def test_what_was_issued_before_a_revocation_is_refused(tickets: Tickets, clock: Clock) -> None:
    text = tickets.issue("visitor", seconds=10, principal=VISITOR)
    tickets.revoked[VISITOR.owner] = clock.ms
    assert tickets.read("visitor", text) is None
    clock.ms += 1
    assert tickets.read("visitor", tickets.issue("visitor", seconds=10, principal=VISITOR)) is not None


def test_a_clock_that_was_set_back_issues_nothing_that_is_revoked(tickets: Tickets, clock: Clock) -> None:
    tickets.revoked[VISITOR.owner] = tickets.revocation_ms(VISITOR.owner)
    for back in (0, 3_600_000):
        clock.ms -= back
        text = tickets.issue("user", seconds=10, principal=VISITOR)
        assert tickets.read("user", text) is not None


def test_a_revocation_ends_what_was_issued_before_the_clock_was_set_back(
    tickets: Tickets, clock: Clock
) -> None:
    text = tickets.issue("user", seconds=10, principal=VISITOR)
    clock.ms -= 3_600_000
    again = Tickets(wall_ms=clock)
    again.open(b"s" * 32)
    for some in (tickets, again):
        assert some.read("user", text) is not None
        some.revoked[VISITOR.owner] = some.revocation_ms(VISITOR.owner)
        assert some.read("user", text) is None
        clock.ms -= 1
        assert some.revocation_ms(VISITOR.owner) >= some.revoked[VISITOR.owner]


def test_what_is_ours_is_known_after_it_expired(tickets: Tickets, clock: Clock) -> None:
    text = tickets.issue("user", seconds=10, principal=VISITOR)
    clock.ms += 20_000
    assert tickets.read("user", text) is None
    assert tickets.is_own("user", text)
    assert not tickets.is_own("visitor", text)
    assert not tickets.is_own("user", text[:-2] + "AA")


def test_the_secret_is_made_once_and_kept_private(tmp_path: pathlib.Path) -> None:
    first = read_secret("", tmp_path)
    assert len(first) == 32
    assert read_secret("", tmp_path) == first
    assert (tmp_path / "cookies.key").stat().st_mode & 0o777 == 0o600


def test_a_short_or_missing_secret_is_said(tmp_path: pathlib.Path) -> None:
    (tmp_path / "short").write_bytes(b"x" * 31)
    with pytest.raises(StoreFailed, match="fewer than 32 bytes"):
        read_secret(str(tmp_path / "short"), tmp_path)
    with pytest.raises(StoreFailed, match="cannot be read"):
        read_secret(str(tmp_path / "nowhere"), tmp_path)


async def test_a_key_is_good_until_it_expires_or_is_revoked(clock: Clock) -> None:
    ring = KeyRing(MemoryCredentials(), wall_ms=clock)
    key, text = await ring.mint("t", "s", name="n", scopes=("chat",), expires_at=clock.ms + 10)
    assert ring.check(text) == key
    assert ring.check(text[:-1]) is None
    assert ring.check(text + "a") is None
    assert ring.check(text.replace(key.id, "a" * 12)) is None
    clock.ms += 10
    assert ring.check(text) is None
    other, text = await ring.mint("t", "s", name="n", scopes=("chat",))
    assert ring.check(text) is not None
    await ring.revoke(other.id)
    assert ring.check(text) is None
    with pytest.raises(KeyNotFound):
        await ring.revoke("nobody")


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("change", ["note_use", "rotate"])
async def test_what_else_is_noted_of_a_key_meanwhile_undoes_no_revocation(
    clock: Clock, change: str, is_first: bool
) -> None:
    """Also not in the store, where the next start reads it."""
    store = SlowCredentials()
    ring = KeyRing(store, wall_ms=clock)
    key, text = await ring.mint("t", "s", name="n", scopes=("chat",))
    assert ring.check(text) is not None
    other: Awaitable[object] = (
        ring.note_use() if change == "note_use" else ring.rotate(key.id, overlap_ms=100)
    )
    both = [ring.revoke(key.id), other]
    await asyncio.gather(*(both if is_first else reversed(both)))
    assert ring.check(text) is None
    again = KeyRing(store, wall_ms=clock)
    await again.open()
    assert again.check(text) is None


async def test_the_text_of_a_key_is_kept_nowhere(clock: Clock) -> None:
    store = MemoryCredentials()
    ring = KeyRing(store, wall_ms=clock)
    _, text = await ring.mint("t", "s", name="n", scopes=("chat",))
    secret = text.split("_", 2)[2]
    assert all(secret not in repr(key) for key in await store.keys())


async def test_a_rotated_key_goes_on_for_its_overlap(clock: Clock) -> None:
    ring = KeyRing(MemoryCredentials(), wall_ms=clock)
    key, old = await ring.mint("t", "s", name="n", scopes=("chat", "read"))
    new_key, new = await ring.rotate(key.id, overlap_ms=100)
    assert (new_key.tenant, new_key.subject, new_key.scopes) == ("t", "s", ("chat", "read"))
    assert ring.check(old) is not None
    assert ring.check(new) is not None
    clock.ms += 100
    assert ring.check(old) is None
    assert ring.check(new) is not None


async def test_keys_are_read_again_at_the_next_start(clock: Clock) -> None:
    store = MemoryCredentials()
    ring = KeyRing(store, wall_ms=clock)
    key, text = await ring.mint("t", "s", name="n", scopes=("chat",))
    ring.check(text)
    clock.ms += 5
    await ring.note_use()
    again = KeyRing(store, wall_ms=clock)
    await again.open()
    assert again.check(text) is not None
    assert [known.last_used_at for known in again.all()] == [clock.ms]
    assert key.last_used_at is None


def test_no_two_kinds_of_credentials_begin_alike() -> None:
    prefixes = (keyring.PREFIX, passes.PREFIX, shares.PREFIX, auth.VISITOR_PREFIX, auth.ACCESS_PREFIX)
    assert len(set(prefixes)) == len(prefixes)
    assert not passes.is_pass(shares.PREFIX + "a" * 16)
