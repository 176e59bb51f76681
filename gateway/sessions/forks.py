"""Forks: a new session with the log and the files that another one had at a complete point.

Guarantees: the other session is not changed; a fork is there as a whole or not at all. Its files come first,
and a note that they do; then its record with all its events, in one transaction; then the note goes. What a
death left before the transaction is removed when the next gateway starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import pathlib
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Final
from weakref import WeakValueDictionary

import msgspec
from msgspec import UNSET, Struct

from gateway.auth.quotas import StoredShare
from gateway.errors import ForkRefused, GatewayError, SessionExists, SessionLimit, SessionNotFound, StoreFull
from gateway.events import facts as ev
from gateway.events.facts import Event
from gateway.files.snapshots import Filled
from gateway.principal import Account
from gateway.sessions.fork_point import CopiedLog, Outline, Point, closing
from gateway.sessions.idempotency import Once
from gateway.sessions.log import PAGE_EVENTS
from gateway.sessions.manager import SessionManager, new_session_id
from gateway.sessions.reader import Source
from gateway.sessions.services import Services
from gateway.sessions.session import Session
from gateway.stores.contract import SessionRecord
from gateway.stores.sessions import Forking

log = logging.getLogger(__name__)

HALF: Final = "forks.unfinished"
"""In the data directory: a file for each fork that is being made, named by its key."""


class ForkWanted(Struct, frozen=True, kw_only=True):
    """What is asked for."""

    at_seq: int | None = None
    before_message: str | None = None
    session_id: str | None = None
    agent: str | None = None
    """Another one than that of the session; None: the same."""
    among: tuple[str, ...] = ()
    """Those that the person may choose; empty: all of the tenant."""


class Forked(Struct, frozen=True, kw_only=True):
    """What came of it."""

    record: SessionRecord
    at_seq: int
    files: Filled


class _Half(Struct, frozen=True):
    """Whose a fork is that is being made."""

    owner: str
    session_id: str


class Forks:
    """See the module."""

    def __init__(self, manager: SessionManager, services: Services) -> None:
        self._manager = manager
        self._services = services
        self._half = services.config.data_path / HALF
        self._of_one_key: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        """Held while a request with an Idempotency-Key is done, by owner and key."""

    async def fork(
        self, owner: str, session_id: str, wanted: ForkWanted, *, once: Once | None = None
    ) -> Forked:
        """Forks one of the owner's sessions; with a key, answers the fork that the same request made before.

        Raises SessionNotFound, ForkRefused, SessionExists, QuotaExceeded, UnknownAgent, Draining,
        RateLimited, IdempotencyMismatch, StoreFull, StoreFailed.
        """
        self._manager.count_request(owner, session_id)
        self._manager.refuse_while_draining()
        if once is None:
            return await self._fork(owner, session_id, wanted, None)
        async with self._of_one_key.setdefault((owner, once.key), asyncio.Lock()):
            return await self._fork(owner, session_id, wanted, once)

    async def _fork(self, owner: str, session_id: str, wanted: ForkWanted, once: Once | None) -> Forked:
        keys, name = self._manager.idempotency, wanted.session_id or new_session_id()
        if once is not None and await keys.has_seen(owner, once.key):
            name = await keys.session_for(owner, once, name)
            if (earlier := await self._earlier(owner, session_id, name)) is not None:
                return earlier
        source = await self._manager.source(owner, session_id)
        if source is None:
            raise SessionNotFound(session_id=session_id)
        await self._refuse_used(owner, name)
        agent_name = wanted.agent or source.record.agent
        agent = self._services.agent_for(owner, agent_name, among=wanted.among).name
        if (of := source.fold.workspace) is not None and wanted.agent is not None:
            self._services.workers.repositories.check_agent(owner, of.name, agent)
        point = await self._point(source, wanted)
        if once is not None:  # after what is looked at: a request that cannot be done does not use up its key
            name = await keys.session_for(owner, once, name)
        forked = await self._make(source, point, name, agent)
        with contextlib.suppress(SessionLimit):  # it is there, and comes into memory when there is room
            await self._manager.find(owner, name)
        return forked

    async def _earlier(self, owner: str, parent: str, session_id: str) -> Forked | None:
        """The fork that this is, if it is one of this parent. Raises StoreFailed."""
        record = await self._services.store.sessions.find(owner, session_id)
        if record is None:
            return None
        told: ev.SessionForked | None = None
        async for events in self._pages(record.key):
            for event in events:
                if isinstance(event.data, ev.SessionForked):  # those before the last one are of its parents
                    told = event.data
        if told is None or told.parent != parent:
            return None
        filled = Filled(told.files, told.missing or 0, is_mixed=told.is_mixed is True)
        return Forked(record=record, at_seq=told.at_seq, files=filled)

    async def _pages(self, key: str) -> AsyncIterator[Sequence[Event]]:
        after, logs = 0, self._services.store.logs
        while events := await logs.read_events(key, after=after, limit=PAGE_EVENTS):
            yield events
            after = events[-1].seq

    async def _refuse_used(self, owner: str, session_id: str) -> None:
        """Not the id of a deleted session either: its readers would take the one for the other."""
        is_there = await self._manager.exists(owner, session_id)
        if is_there or await self._manager.tombstone(owner, session_id) is not None:
            raise SessionExists(session_id=session_id)

    async def _point(self, source: Source, wanted: ForkWanted) -> Point:
        if isinstance(source, Session):
            await source.log.written()
        outline = Outline()
        if await self._services.store.logs.oldest_seq(source.record.key):
            raise ForkRefused("The beginning of this conversation is not kept any more.")
        async for events in self._pages(source.record.key):
            outline.add(events)
        if not outline.last:
            raise SessionNotFound(session_id=source.record.session_id)
        return outline.point(at_seq=wanted.at_seq, before_message=wanted.before_message)

    async def _make(self, source: Source, point: Point, session_id: str, agent: str) -> Forked:
        services, parent, now = self._services, source.record, self._services.wall_ms()
        async with AsyncExitStack() as undo:
            await services.quotas.ready_to_store(parent.owner)
            services.quotas.add_session(parent.owner)
            undo.callback(services.quotas.unmake_session, parent.owner)
            share = StoredShare(services.quotas, Account(parent.owner, parent.key), session_bytes=0)
            undo.callback(share.end)
            share.reach(parent.stored_bytes)
            uid = services.workers.workspaces.take_uid()
            record = services.dated(_record_of(parent, session_id, agent, at=now, uid=uid), used_at=now)
            services.workers.workspaces.settle_uid(record.key, uid)
            undo.callback(services.workers.workspaces.session_gone, record.key, uid)
            note = self._half / record.key
            await asyncio.to_thread(_write_note, note, _Half(record.owner, session_id))
            undo.push_async_callback(self._discard, record.key)
            filled = await self._filled(source, record, point)
            if filled.files != "none":
                record = msgspec.structs.replace(record, uploaded_bytes=parent.uploaded_bytes)
            record = _resumable(record, parent, point, filled, agent)
            stored = await self._store(record, parent, point, filled)
            undo.pop_all()
        services.quotas.session_stored(parent.owner)
        share.end()
        services.quotas.add_bytes(parent.owner, stored.stored_bytes)
        await asyncio.to_thread(note.unlink, missing_ok=True)
        return Forked(record=stored, at_seq=point.through, files=filled)

    async def _filled(self, source: Source, record: SessionRecord, point: Point) -> Filled:
        """Gives the fork its files. Raises StoreFull, ForkRefused."""
        snapshots, parent = self._services.snapshots, source.record
        if isinstance(source, Session):
            await snapshots.settled(parent.key, seconds=20)
        if point.is_end and not point.is_running:
            await snapshots.take(parent.key, parent.uid, seq=source.log.visible_seq)
        try:
            return await snapshots.fill(
                parent.key,
                record.key,
                uids=(parent.uid, record.uid),
                before=point.files_before,
                seq=point.through,
                is_beginning=point.is_beginning,
            )
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreFull from error
            raise ForkRefused(f"Its files could not be copied: {error.strerror or error}.") from error
        except ValueError as error:
            raise ForkRefused(f"Its files could not be copied: {error}.") from error

    async def _store(
        self, record: SessionRecord, parent: SessionRecord, point: Point, filled: Filled
    ) -> SessionRecord:
        files: ev.ForkFiles = filled.files
        added: list[ev.EventData] = [
            *closing(point),
            *([point.workspace] if point.workspace is not None and files != "none" else []),
            ev.SessionForked(
                parent.session_id,
                point.through,
                files,
                missing=filled.missing or UNSET,
                is_mixed=filled.is_mixed or UNSET,
            ),
        ]
        at = self._services.wall_ms()
        copying = CopiedLog(
            point,
            session_id=record.session_id,
            agent=record.agent,
            is_same_agent=record.agent == parent.agent,
        )
        forking = Forking(
            source=parent.key,
            through=point.through,
            copied=copying,
            added=[Event(point.through + 1 + number, at, data) for number, data in enumerate(added)],
        )
        return await self._services.store.sessions.fork(record, forking)

    async def _discard(self, key: str) -> None:
        """Removes what was made of a fork that is not stored."""
        await self._services.workers.workspaces.remove(key)
        await self._services.snapshots.remove(key)
        await asyncio.to_thread((self._half / key).unlink, missing_ok=True)

    async def recover(self) -> None:
        """Removes what the last gateway's death left of forks that were being made."""
        for key, half in await asyncio.to_thread(_notes, self._half):
            try:
                found = await self._services.store.sessions.find(half.owner, half.session_id)
            except GatewayError as error:
                log.error("a half made fork is looked at when the gateway starts next: %s", error)
                return
            if found is not None and found.key == key:
                await asyncio.to_thread((self._half / key).unlink, missing_ok=True)
            else:
                await self._discard(key)


def _record_of(
    parent: SessionRecord, session_id: str, agent: str, *, at: int, uid: int | None
) -> SessionRecord:
    return SessionRecord(
        key=secrets.token_hex(12),
        owner=parent.owner,
        session_id=session_id,
        agent=agent,
        created_at=at,
        last_active_at=at,
        title=parent.title,
        uid=uid,
        message_count=parent.message_count,
        retention_days=parent.retention_days,
    )


def _resumable(
    record: SessionRecord, parent: SessionRecord, point: Point, filled: Filled, agent: str
) -> SessionRecord:
    """With the agent's own id of the conversation, if the agent finds in HOME what it knew at the end."""
    is_known = point.is_end and not point.is_running and filled.files != "none" and agent == parent.agent
    return msgspec.structs.replace(record, agent_session_id=parent.agent_session_id) if is_known else record


def _write_note(path: pathlib.Path, half: _Half) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(msgspec.json.encode(half))


def _notes(folder: pathlib.Path) -> list[tuple[str, _Half]]:
    """Those that can be read; of the others nothing was made yet."""
    found: list[tuple[str, _Half]] = []
    for path in sorted(folder.glob("*")):
        try:
            found.append((path.name, msgspec.json.decode(path.read_bytes(), type=_Half)))
        except msgspec.MsgspecError:
            path.unlink()
    return found
