"""Sessions as things: list, make, show, rename, delete, export; permissions and the queue.

Not yours and not there are the same 404.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Annotated, Final, cast, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.agents.questions import Action
from gateway.answers import Counts, Deleted, SessionList, SessionSummary
from gateway.api.finding import labelled
from gateway.api.workspaces import workspace_agent
from gateway.config.host_rules import NoRule
from gateway.egress.rules import narrowed
from gateway.errors import EgressNotNarrower, GatewayError, InvalidField, SessionNotFound, UnknownWorkspace
from gateway.events.facts import NamedRule, SessionOption, iso
from gateway.events.fold import ChatState
from gateway.events.lifecycle import CloseReason
from gateway.files.names import disposition
from gateway.http.gate import principal_of
from gateway.http.operation import (
    IDEMPOTENCY_KEY,
    Operation,
    Parameter,
    SessionId,
    Spoken,
    json_response,
    one_by_one,
)
from gateway.http.packing import packed
from gateway.http.reading import checked_session_id, query_int, read_body
from gateway.principal import Account, Principal, tenant_of
from gateway.sessions.idempotency import Once
from gateway.sessions.manager import SessionManager
from gateway.sessions.reader import Events, Source, follow
from gateway.sessions.services import FaceServices
from gateway.sessions.session import Session
from gateway.stores.contract import SessionRecord
from gateway.stores.labels import Labels
from worker.spec import Network

TITLE_CHARACTERS = 200
EXPORT_SLICE_BYTES = 64 * 1024
MAX_RETENTION_DAYS = 3650
PINNED_MOST: Final = 100
"""Pinned sessions beyond the limit of a list."""
NARROWED_HOSTS: Final = 200
"""They are in each State of the session."""


QUESTION_ID: Final = {"type": "string", "maxLength": 200}
_DAYS: Final = {"minimum": 0, "maximum": MAX_RETENTION_DAYS}


class CreateRequest(Struct):
    """`POST /api/sessions`."""

    agent: str | None = None
    session_id: SessionId | None = None
    title: Spoken | None = None
    retention_days: Annotated[float, Meta(extra_json_schema=_DAYS)] | None = None
    """Kept so long after its last use; 0: for ever; absent: as the configuration says."""
    egress: EgressWanted | UnsetType | None = UNSET
    """Absent: all that the lists of its agent allow."""
    workspace: Spoken | None = None
    """The workspace whose files it starts with; absent: none."""


class EgressWanted(Struct):
    """What a new session's worker may reach at most."""

    hosts: list[str]
    """Entries as in `egress.hosts`, each within what the lists of its agent allow; none: no host at all."""


class RenameRequest(Struct):
    """`PATCH /api/sessions/{id}`."""

    title: Spoken


class PermissionRequest(Struct):
    """`POST /api/sessions/{id}/permission`."""

    permission_id: str
    option_id: str


class AnswerRequest(Struct):
    """`POST /api/sessions/{id}/questions/{question_id}`: `content` of an accepted form."""

    action: Annotated[str, Meta(extra_json_schema={"enum": ["accept", "decline", "cancel"]})]
    content: dict[str, str | int | float | bool | list[str] | None] | None = None


class OptionRequest(Struct):
    """`POST /api/sessions/{id}/options`: a value for an option of the agent."""

    option_id: str
    value: str | bool


class OptionList(Struct, frozen=True):
    """What can be chosen of a session's agent; empty until the agent has said it."""

    options: list[SessionOption]


class QueueRequest(Struct):
    """`POST /api/sessions/{id}/queue`: send or drop what an interrupt held; drop takes one message or all."""

    action: Annotated[str, Meta(extra_json_schema={"enum": ["send", "drop"]})]
    message_id: str | None = None


class AgentSummary(Struct, frozen=True):
    """An agent that a session may choose."""

    name: str
    title: str
    is_default: bool
    missing_api_key: bool
    network: Network
    """Of its workers: `none`, `broker` (the hosts of its lists, through the gateway) or `shared`."""
    network_advice: str | UnsetType = UNSET
    """For operators, if it shares the machine's network and nobody said so: why, and how to change it."""


class AgentList(Struct, frozen=True):
    """The agents of this gateway."""

    agents: list[AgentSummary]


class RuleList(Struct, frozen=True):
    """The permission rules that hold for a session: its own, which can be revoked, and the operator's."""

    rules: list[NamedRule]
    operator: list[NamedRule]


class RuleRevoked(Struct, frozen=True):
    """A rule that answers no longer."""

    rule_id: str
    revoked: bool


class SessionsFace:
    """The handlers."""

    def __init__(self, manager: SessionManager, services: FaceServices) -> None:
        self._manager = manager
        self._services = services

    def operations(self) -> list[Operation]:
        """Sessions as operations."""
        one = "/api/sessions/{session_id}"
        limit = Parameter(
            name="limit", schema={"type": "integer", "minimum": 1, "maximum": 1000}, description="How many."
        )
        export = Parameter(
            name="format",
            schema={"enum": ["jsonl", "markdown"]},
            description="Every event, or the conversation.",
        )
        return [
            Operation(
                method="GET", scope="read", path="/api/sessions", handler=self.list_sessions,
                summary="Your sessions",
                answer=SessionList, parameters=(limit,),
            ),
            Operation(
                method="POST", scope="chat", path="/api/sessions", handler=self.create_session,
                summary="Make a session",
                body=CreateRequest, answer=SessionSummary, status=201, errors=(409,),
                parameters=(IDEMPOTENCY_KEY,),
            ),
            Operation(
                method="GET", scope="read", path="/api/sessions/count", handler=self.count_sessions,
                summary="How many there are", answer=Counts,
            ),
            Operation(
                method="GET", scope="read", path="/api/agents", handler=self.list_agents,
                summary="Agents to choose from",
                answer=AgentList,
            ),
            Operation(
                method="GET", scope="read", path=one, handler=self.show_session, summary="One session",
                answer=SessionSummary, errors=(404,),
            ),
            Operation(
                method="PATCH", scope="chat", path=one, handler=self.rename_session,
                summary="Give a session a title",
                body=RenameRequest, answer=SessionSummary, errors=(404,),
            ),
            Operation(
                method="DELETE", scope="chat", path=one, handler=self.delete_session,
                summary="End and erase a session",
                answer=Deleted, errors=(404,),
            ),
            Operation(
                method="POST", scope="approve", path=one + "/permission", handler=self.answer_permission,
                summary="Answer a permission request", body=PermissionRequest, answer=SessionSummary,
                errors=(404, 409),
            ),
            Operation(
                method="GET", scope="read", path=one + "/rules", handler=self.list_rules,
                summary="The permission rules that hold for a session", answer=RuleList, errors=(404,),
            ),
            Operation(
                method="DELETE", scope="approve", path=one + "/rules/{rule_id}", handler=self.revoke_rule,
                summary="Revoke a permission rule of a session", answer=RuleRevoked, errors=(404,),
            ),
            Operation(
                method="POST", scope="chat", path=one + "/questions/{question_id}",
                handler=self.answer_question, summary="Answer a question of the agent", body=AnswerRequest,
                answer=SessionSummary, errors=(404, 409), path_schemas={"question_id": QUESTION_ID},
            ),
            Operation(
                method="GET", scope="read", path=one + "/options", handler=self.list_options,
                summary="What can be chosen of the agent: its mode, its model, its own options",
                answer=OptionList, errors=(404,),
            ),
            Operation(
                method="POST", scope="chat", path=one + "/options", handler=self.choose_option,
                summary="Choose a mode, a model or an option of the agent", body=OptionRequest,
                answer=OptionList, errors=(404, 409),
            ),
            Operation(
                method="POST", scope="chat", path=one + "/queue", handler=self.edit_queue,
                summary="Send or drop held messages", body=QueueRequest, answer=SessionSummary, errors=(404,),
            ),
            Operation(
                method="POST", scope="chat", path=one + "/restart", handler=self.restart_session,
                summary="Bring a new worker, also after a crash loop", answer=SessionSummary, errors=(404,),
            ),
            Operation(
                method="GET", scope="read", path=one + "/export", handler=self.export_session,
                summary="Take a session with you", parameters=(export,),
                media_type="application/x-ndjson", other_media_types=("text/markdown",), errors=(404,),
            ),
        ]  # fmt: skip

    # -- reading ----------------------------------------------------------------------------------------

    async def list_sessions(self, request: Request) -> Response:
        limit = query_int(request, "limit", default=100, low=1, high=1000)
        owner, store = principal_of(request).owner, self._services.store
        labels = await store.labels.of_owner(owner)
        records = list(await self._manager.stored(owner, limit=limit))
        records += await self._pinned(owner, labels, {record.session_id for record in records})
        rows = [labelled(self._manager.summary(record), labels.get(record.session_id)) for record in records]
        found = SessionList(rows)
        return packed(request, json_response(found))

    async def count_sessions(self, request: Request) -> Response:
        return json_response(await self._manager.counts(principal_of(request)))

    async def list_agents(self, request: Request) -> Response:
        services, principal = self._services, principal_of(request)
        agents = [agent for agent in services.agents.all() if services.may_choose(principal, agent.name)]
        first = services.agent_of(principal, None) if agents else ""
        operates = "operate" in principal.scopes
        return json_response(
            AgentList(
                [
                    AgentSummary(
                        agent.name,
                        agent.title,
                        agent.name == first,
                        services.outside(agent.name).missing_api_key,
                        agent.sandbox.network,
                        (agent.network.advice(agent.name) if operates else "") or UNSET,
                    )
                    for agent in agents
                ]
            )
        )

    async def show_session(self, request: Request) -> Response:
        record = await self._record(request)
        labels = await self._services.store.labels.find(record.owner, record.session_id)
        return json_response(labelled(self._manager.summary(record), labels))

    async def export_session(self, request: Request) -> Response:
        session_id, owner = self._path_id(request), principal_of(request).owner
        kind = request.query_params.get("format") or "jsonl"
        if kind not in ("jsonl", "markdown"):
            raise InvalidField("format is jsonl or markdown.")
        source = await self._manager.source(owner, session_id)
        if source is None:
            raise SessionNotFound(session_id=session_id)
        self._services.audit.note(
            principal_of(request), "session.exported", target=source.record.key, detail=kind
        )
        suffix = "jsonl" if kind == "jsonl" else "md"
        headers = {
            "Content-Disposition": disposition(f"session-{session_id.replace(':', '_')}.{suffix}"),
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }
        if kind == "markdown":
            text = one_by_one(markdown(source.fold))
            media_type = "text/markdown; charset=utf-8"
            return packed(request, StreamingResponse(text, media_type=media_type, headers=headers))
        lines = _jsonl(source, source.log.visible_seq)
        return packed(request, StreamingResponse(lines, media_type="application/x-ndjson", headers=headers))

    # -- changing ---------------------------------------------------------------------------------------

    async def create_session(self, request: Request) -> Response:
        body = await read_body(request, CreateRequest, self._services.config)
        if body.session_id is not None:
            checked_session_id(body.session_id)
        if body.retention_days is not None and not 0 <= body.retention_days <= MAX_RETENTION_DAYS:
            raise InvalidField(f"retention_days is 0 to {MAX_RETENTION_DAYS} - at `$.retention_days`.")
        key = request.headers.get("idempotency-key")
        asked = f"create {msgspec.json.encode(body)!r}"
        once = None if key is None else Once(key, asked, is_unnamed=body.session_id is None)
        principal = principal_of(request)
        owner, agent = principal.owner, self._agent(principal, body)
        hosts = await self._narrowed(owner, agent, body.egress) if body.egress else None
        session = await self._manager.create(owner, body.session_id, agent=agent, once=once)
        if hosts is not None:
            await session.narrow_egress(hosts)
        if body.workspace:
            await session.start_from(body.workspace)
        if body.title:
            await session.rename(_title(body.title))
        if body.retention_days is not None:
            await session.retain(body.retention_days)
        return json_response(
            self._manager.summary(session.fresh_record()),
            status=201,
            headers={"X-Session-Id": session.session_id},
        )

    async def rename_session(self, request: Request) -> Response:
        body = await read_body(request, RenameRequest, self._services.config)
        return await self._done(request, lambda session: session.rename(_title(body.title)))

    async def delete_session(self, request: Request) -> Response:
        principal, session_id = principal_of(request), self._path_id(request)
        session = await self._manager.find(principal.owner, session_id)
        if session is None:
            raise SessionNotFound(session_id=session_id)
        key = session.record.key
        try:
            receipt = await self._manager.close(session, CloseReason.DELETED)
        except GatewayError as error:
            detail = error.code
            self._services.audit.note(
                principal, "session.deleted", target=key, outcome="failed", detail=detail
            )
            raise
        self._services.audit.note(principal, "session.deleted", target=key)
        return json_response(Deleted(session.session_id, True, receipt))

    async def answer_permission(self, request: Request) -> Response:
        body = await read_body(request, PermissionRequest, self._services.config)
        chosen = body.permission_id, body.option_id
        return await self._done(request, lambda session: session.answers.answer_permission(*chosen))

    async def list_rules(self, request: Request) -> Response:
        source = await self._manager.source(principal_of(request).owner, self._path_id(request))
        if source is None:
            raise SessionNotFound(session_id=self._path_id(request))
        operators = list(self._services.operator_rules(source.record))
        return json_response(RuleList(list(source.fold.rules.values()), operators))

    async def revoke_rule(self, request: Request) -> Response:
        rule_id, principal = request.path_params["rule_id"], principal_of(request)

        async def revoke(session: Session) -> None:
            await session.answers.remove_rule(rule_id)
            self._services.audit.note(principal, "rule.revoked", target=session.record.key, detail=rule_id)

        await self._done(request, revoke)
        return json_response(RuleRevoked(rule_id, True))

    async def answer_question(self, request: Request) -> Response:
        body = await read_body(request, AnswerRequest, self._services.config)
        if body.action not in get_args(Action):
            raise InvalidField(
                f"action is one of {', '.join(get_args(Action))} - at `$.action`.", field=("body", "action")
            )
        principal, question_id = principal_of(request), request.path_params["question_id"]
        action = cast("Action", body.action)

        async def answer(session: Session) -> None:
            account = Account(principal.owner, session.record.key, principal.key_id)
            await session.answers.answer_question(
                question_id, action, body.content, account=account, chat=session.chat
            )

        return await self._done(request, answer)

    async def list_options(self, request: Request) -> Response:
        session_id = self._path_id(request)
        source = await self._manager.source(principal_of(request).owner, session_id)
        if source is None:
            raise SessionNotFound(session_id=session_id)
        return json_response(OptionList(source.fold.listed_options))

    async def choose_option(self, request: Request) -> Response:
        body = await read_body(request, OptionRequest, self._services.config)
        owner, session_id = principal_of(request).owner, self._path_id(request)
        session, _ = await self._manager.do(
            owner,
            session_id,
            lambda one: one.answers.choose_option(body.option_id, body.value),
            is_making=False,
        )
        return json_response(OptionList(session.fold.listed_options))

    async def edit_queue(self, request: Request) -> Response:
        body = await read_body(request, QueueRequest, self._services.config)

        async def edit(session: Session) -> None:
            match body.action:
                case "send":
                    await session.release_queue()
                case "drop":
                    await session.drop_queued(body.message_id)
                case _:
                    raise InvalidField("action is send or drop - at `$.action`.")

        return await self._done(request, edit)

    async def restart_session(self, request: Request) -> Response:
        return await self._done(request, Session.restart)

    def _agent(self, principal: Principal, body: CreateRequest) -> str:
        """The agent of a new session. Raises UnknownAgent, UnknownWorkspace."""
        if not body.workspace:
            return self._services.agent_of(principal, body.agent)
        workspace = self._services.repositories.get(principal.owner, body.workspace)
        agent = workspace_agent(self._services, principal, workspace, body.agent)
        if workspace.agents and agent not in workspace.agents:
            names = ", ".join(workspace.agents)
            raise UnknownWorkspace(f"The workspace {body.workspace} is used with {names}, not with {agent}.")
        return agent

    # -- inner ------------------------------------------------------------------------------------------

    async def _narrowed(self, owner: str, name: str | None, wanted: EgressWanted) -> tuple[str, ...]:
        """What a new session keeps to. Raises EgressNotNarrower, InvalidField, UnknownAgent."""
        agent, egress = self._services.agent_for(owner, name), self._services.egress
        if agent.sandbox.network != "broker":
            network = agent.sandbox.network
            raise EgressNotNarrower(f"The network of {agent.name} is {network!r}: it has no list of hosts.")
        if len(wanted.hosts) > NARROWED_HOSTS:
            raise InvalidField(f"A session names at most {NARROWED_HOSTS} hosts - at `$.egress.hosts`.")
        await egress.wait_for_registries(agent=agent.name, tenant=tenant_of(owner))
        lists = egress.lists(agent=agent.name, tenant=tenant_of(owner))
        try:
            return narrowed(lists, wanted.hosts, registries=egress.registries.entries)
        except NoRule as error:
            raise InvalidField(f"{error} - at `$.egress.hosts`.") from None
        except LookupError as error:
            raise EgressNotNarrower(
                f"{error} is not within the hosts that this agent's lists allow - at `$.egress.hosts`."
            ) from None

    async def _pinned(self, owner: str, labels: dict[str, Labels], listed: set[str]) -> list[SessionRecord]:
        """The pinned ones that were not used lately enough to be listed."""
        names = [name for name, one in labels.items() if one.is_pinned and name not in listed]
        found = [await self._services.store.sessions.find(owner, name) for name in names[:PINNED_MOST]]
        return [record for record in found if record is not None]

    def _path_id(self, request: Request) -> str:
        return checked_session_id(request.path_params["session_id"])

    async def _done(self, request: Request, verb: Callable[[Session], Awaitable[object]]) -> Response:
        """Does it on the session of the path, and shows where that is now."""
        owner, session_id = principal_of(request).owner, self._path_id(request)
        session, _ = await self._manager.do(owner, session_id, verb, is_making=False)
        return json_response(self._manager.summary(session.fresh_record()))

    async def _record(self, request: Request) -> SessionRecord:
        session_id, owner = self._path_id(request), principal_of(request).owner
        record = await self._manager.record(owner, session_id)
        if record is None:
            raise SessionNotFound(session_id=session_id)
        return record


async def _jsonl(source: Source, through: int) -> AsyncIterator[bytes]:
    """Every kept event up to one, one JSON object a line: what comes later may be somebody else's."""
    oldest = await source.log.oldest()
    async for item in follow(source, oldest, through=through):
        if isinstance(item, Events):
            for event in item.events:
                for piece in event.json_slices(EXPORT_SLICE_BYTES):
                    yield piece
                yield b"\n"


def markdown(fold: ChatState) -> Iterator[str]:
    """The conversation as Markdown, for people."""
    names = {"user": "You", "agent": fold.agent or "Agent", "system": "System"}
    # What is said meanwhile may be somebody else's: each text is taken as it is now.
    texts: list[Iterable[str]] = [(f"# {fold.title or fold.session_id}\n",)]
    for message in fold.messages:
        if not message.says_nothing and (message.text.length or message.attachments):
            head = f"\n## {names[message.sender]} — {iso(message.at)}\n\n"
            files = [f"\n- Attached: `{one.path}` ({one.media_type})\n" for one in message.attachments]
            texts += ((head,), message.text.pieces(), ("\n", *files))
    return itertools.chain.from_iterable(texts)


def _title(text: str) -> str:
    title = " ".join(text.split())
    if not title or len(title) > TITLE_CHARACTERS:
        raise InvalidField(f"A title is 1 to {TITLE_CHARACTERS} characters long - at `$.title`.")
    return title
