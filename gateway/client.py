"""The typed client of a gateway: what the command line itself uses, for others to import too.

async with GatewayClient("http://127.0.0.1:8080") as gateway:
    for session in await gateway.sessions():
        print(session.session_id, session.title)
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, TypeVar

import aiohttp
import msgspec
from msgspec import UNSET

from gateway.answers import (
    Counts,
    Deleted,
    ErrorBody,
    Forgotten,
    KeyList,
    KeySummary,
    MintedKey,
    OwnKeysErased,
    PeopleList,
    PersonSummary,
    Reloaded,
    SearchAnswer,
    SearchHit,
    SessionList,
    SessionSummary,
    TenantList,
    TenantSummary,
    UsageReport,
)
from gateway.sights import Acted, DrainBegun, Overview, OwnedSessions, WatchedSessions

T = TypeVar("T")

CHUNK_BYTES: Final = 64 * 1024
CONNECT_SECONDS: Final = 10
_DATA: Final = re.compile(rb"^data: ?(.*)$", re.MULTILINE)
"""The gateway's frames have one such line."""


class Refused(Exception):
    """The gateway said no: `status`, its slug `code`, and its words."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status = status
        self.code = code
        super().__init__(message)


class GatewayClient:
    """See the module. Every method raises Refused, or aiohttp.ClientError if no gateway answers."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        unix_path: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """`token`: an API key or another Bearer. `unix_path`: speak over this socket, whatever `url` says."""
        self._url = url
        self._unix_path = unix_path
        self._headers = dict(headers or {})
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> GatewayClient:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        connector = aiohttp.UnixConnector(self._unix_path) if self._unix_path else None
        self._http = aiohttp.ClientSession(
            self._url, timeout=timeout, connector=connector, headers=self._headers
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()

    async def counts(self) -> Counts:
        """How many sessions are in memory, with a worker, parked."""
        return await self._json("GET", "/api/sessions/count", Counts)

    async def sessions(self, *, limit: int = 1000) -> list[SessionSummary]:
        """The caller's sessions, last active first."""
        return (await self._json("GET", f"/api/sessions?limit={limit}", SessionList)).sessions

    async def session(self, session_id: str) -> SessionSummary:
        """One session."""
        return await self._json("GET", f"/api/sessions/{session_id}", SessionSummary)

    async def rename(self, session_id: str, title: str) -> SessionSummary:
        """Gives a session a title, which its agent does not change any more."""
        return await self._json("PATCH", f"/api/sessions/{session_id}", SessionSummary, body={"title": title})

    async def label(
        self,
        session_id: str,
        *,
        pinned: bool | None = None,
        archived: bool | None = None,
        tags: Sequence[str] | None = None,
        seen_seq: int | None = None,
    ) -> SessionSummary:
        """Pins, archives or tags a session, or marks it as seen up to an event; what is None stays as it is.
        `tags` are all of them, in place of those before.
        """
        body = {"pinned": pinned, "archived": archived, "tags": tags, "seen_seq": seen_seq}
        return await self._json("PUT", f"/api/sessions/{session_id}/labels", SessionSummary, body=body)

    async def search(self, words: str) -> AsyncIterator[SearchHit]:
        """Where every one of these words occurs, in titles and texts of the caller's sessions: titles first,
        then messages, those of the session last used first. Searches on while hits are asked for.
        """
        query = {"q": words}
        while True:
            path = f"/api/search?{urllib.parse.urlencode(query)}"
            answer = await self._json("GET", path, SearchAnswer)
            for hit in answer.hits:
                yield hit
            if answer.following is UNSET:
                return
            query["after"] = answer.following

    async def delete(self, session_id: str) -> Deleted:
        """Ends and erases a session."""
        return await self._json("DELETE", f"/api/sessions/{session_id}", Deleted)

    async def chat(
        self,
        session_id: str,
        message: str,
        *,
        agent: str | None = None,
        wait_seconds: int = 0,
        attachments: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Sends a message; State, at once or when the turn has ended. `agent` is that of a new session;
        `attachments` are paths of files in its working directory.
        """
        body: dict[str, Any] = {"session_id": session_id, "message": message}
        body |= {"agent": agent} if agent else {}
        body |= {"attachments": list(attachments)} if attachments else {}
        return await self._json("POST", f"/api/chat?wait={wait_seconds}", dict[str, Any], body=body)

    async def overview(self) -> Overview:
        """The gateway at a glance."""
        return await self._json("GET", "/api/admin/overview", Overview)

    async def watched_sessions(self, *, limit: int = 1000) -> WatchedSessions:
        """Everybody's sessions in memory, without their content, last used first."""
        return await self._json("GET", f"/api/admin/sessions?limit={limit}", WatchedSessions)

    async def owned_sessions(self, *, tenant: str | None = None, limit: int = 10_000) -> OwnedSessions:
        """Everybody's sessions with their owners, last active first; only over the operator's socket."""
        query = urllib.parse.urlencode({"limit": limit} | ({"tenant": tenant} if tenant else {}))
        return await self._json("GET", f"/api/admin/owned-sessions?{query}", OwnedSessions)

    async def park(self, key: str) -> Acted:
        """Stops an idle session's worker; `key` is the internal one."""
        return await self._json("POST", f"/api/admin/sessions/{key}/park", Acted)

    async def kill(self, key: str) -> Acted:
        """Ends a session's worker and the turn that runs."""
        return await self._json("POST", f"/api/admin/sessions/{key}/kill", Acted)

    async def drain(self) -> DrainBegun:
        """Asks the gateway to end as SIGTERM does."""
        return await self._json("POST", "/api/admin/drain", DrainBegun)

    async def keys(self) -> list[KeySummary]:
        """The API keys, oldest first."""
        return (await self._json("GET", "/api/admin/keys", KeyList)).keys

    async def mint_key(
        self,
        name: str,
        *,
        tenant: str,
        subject: str | None = None,
        scopes: Sequence[str] = ("chat",),
        days: float | None = None,
    ) -> MintedKey:
        """Creates an API key; only this answer contains its text."""
        body = {"name": name, "tenant": tenant, "subject": subject, "scopes": scopes, "days": days}
        return await self._json("POST", "/api/admin/keys", MintedKey, body=body)

    async def rotate_key(self, key_id: str, *, overlap_hours: float) -> MintedKey:
        """A new key for an old one, which goes on for so long."""
        body = {"overlap_hours": overlap_hours}
        return await self._json("POST", f"/api/admin/keys/{key_id}/rotate", MintedKey, body=body)

    async def revoke_key(self, key_id: str) -> KeySummary:
        """Ends a key at once."""
        return await self._json("DELETE", f"/api/admin/keys/{key_id}", KeySummary)

    async def erase_own_keys(self) -> int:
        """Removes every key of the caller's own, for providers and hosts; how many."""
        return (await self._json("DELETE", "/api/me/keys", OwnKeysErased)).removed

    async def tenants(self) -> list[TenantSummary]:
        """The tenants and what they use."""
        return (await self._json("GET", "/api/admin/tenants", TenantList)).tenants

    async def make_tenant(self, name: str, *, title: str = "") -> TenantSummary:
        """A tenant besides those of the configuration."""
        body = {"name": name, "title": title}
        return await self._json("POST", "/api/admin/tenants", TenantSummary, body=body)

    async def disable_tenant(self, name: str) -> TenantSummary:
        """Refuses everybody of a tenant and ends what runs for them; all that is theirs stays."""
        return await self._json("POST", f"/api/admin/tenants/{name}/disable", TenantSummary)

    async def enable_tenant(self, name: str) -> TenantSummary:
        """Serves a tenant again that was disabled here."""
        return await self._json("POST", f"/api/admin/tenants/{name}/enable", TenantSummary)

    async def usage(self, query: Mapping[str, str]) -> UsageReport:
        """What everybody used, by `by`, between `from` and `to`, of a `tenant`, at most `limit` rows."""
        return await self._json("GET", f"/api/admin/usage?{urllib.parse.urlencode(query)}", UsageReport)

    async def usage_table(self, query: Mapping[str, str]) -> str:
        """The same as CSV."""
        words = urllib.parse.urlencode({**query, "format": "csv"})
        async with self._client.get(f"/api/admin/usage?{words}") as response:
            await _check(response)
            return await response.text()

    async def forget_usage(self, owner: str) -> Forgotten:
        """Takes a person out of what was used; the sums stay."""
        return await self._json("POST", "/api/admin/usage/forget", Forgotten, body={"owner": owner})

    async def people(self, *, tenant: str | None = None, visitors: bool = False) -> PeopleList:
        """People with what they have and use, last used first; anonymous visitors too if asked for."""
        query = {"limit": "10000", "visitors": str(visitors).lower()} | ({"tenant": tenant} if tenant else {})
        return await self._json("GET", f"/api/admin/people?{urllib.parse.urlencode(query)}", PeopleList)

    async def disable_person(self, tenant: str, subject: str) -> PersonSummary:
        """Refuses a person's requests and ends what runs for them; all that is theirs stays."""
        body = {"tenant": tenant, "subject": subject}
        return await self._json("POST", "/api/admin/people/disable", PersonSummary, body=body)

    async def enable_person(self, tenant: str, subject: str) -> PersonSummary:
        """Serves a person again who was disabled."""
        body = {"tenant": tenant, "subject": subject}
        return await self._json("POST", "/api/admin/people/enable", PersonSummary, body=body)

    async def reload(self) -> Reloaded:
        """Reads the configuration again."""
        return await self._json("POST", "/api/admin/reload", Reloaded)

    async def export(self, session_id: str, *, form: str = "jsonl") -> AsyncIterator[bytes]:
        """A session's events as JSON lines, or its conversation as Markdown, chunk by chunk."""
        async with self._client.get(f"/api/sessions/{session_id}/export?format={form}") as response:
            await _check(response)
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                yield chunk

    async def events(self, session_id: str, *, after: int = 0) -> AsyncIterator[dict[str, Any]]:
        """A session's events behind `after`, then each new one, as docs/events.md has them; `seq` and `type`
        are in each that is stored. Ends with the connection: go on behind the last `seq`.
        """
        words = urllib.parse.urlencode({"session_id": session_id, "view": "events", "after": after})
        async with self._client.get(f"/api/chat/stream?{words}") as response:
            await _check(response)
            rest = b""
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                *frames, rest = (rest + chunk).split(b"\n\n")
                for frame in frames:
                    if data := b"".join(_DATA.findall(frame)):
                        yield msgspec.json.decode(data)

    @property
    def _client(self) -> aiohttp.ClientSession:
        if self._http is None:
            raise RuntimeError("use it as `async with GatewayClient(url)`")
        return self._http

    async def _json(self, method: str, path: str, kind: type[T], *, body: object = None) -> T:
        async with self._client.request(method, path, json=body) as response:
            await _check(response)
            return msgspec.json.decode(await response.read(), type=kind)


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status < 400:
        return
    try:
        error = msgspec.json.decode(await response.read(), type=ErrorBody).error
    except msgspec.DecodeError:
        raise Refused(response.status, "error", response.reason or "") from None
    raise Refused(response.status, error.code, error.message)
