"""Workspaces to start from, and what a session changed, taken out again."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.config.workspaces import WorkspaceConfig, is_branch
from gateway.errors import GatewayError, InvalidField, NoWorkspace, SessionNotFound
from gateway.events.fold import ChatState
from gateway.files.names import disposition
from gateway.files.snapshots import Snapshots
from gateway.files.workspaces_out import StartedFrom, author_of
from gateway.http.gate import principal_of
from gateway.http.operation import Operation, Spoken, json_response
from gateway.http.reading import checked_session_id, read_body
from gateway.principal import Principal
from gateway.sessions.files import brought_to_read
from gateway.sessions.manager import SessionManager
from gateway.sessions.services import FaceServices
from gateway.sessions.session import Session
from gateway.sessions.workspace import origin_of
from gateway.stores.contract import SessionRecord

BRANCH_CHARACTERS: Final = 200
MESSAGE_CHARACTERS: Final = 8_000


class BranchRequest(Struct):
    """`POST /api/sessions/{id}/branch`: its name, and what the commit says. The author is the caller."""

    name: Annotated[str, Meta(extra_json_schema={"maxLength": BRANCH_CHARACTERS})]
    message: Spoken | None = None


class WorkspaceSummary(Struct, frozen=True):
    """A workspace that a new session may start from."""

    name: str
    title: str
    repo: str
    ref: str
    """Empty: the default branch of the repository."""
    agent: str
    """The agent of its sessions that name none."""
    branch_prefix: str


class WorkspaceList(Struct, frozen=True):
    """Those that the caller may use."""

    workspaces: list[WorkspaceSummary]


class BranchPushed(Struct, frozen=True):
    """A branch that is on the server now."""

    branch: str
    commit: str
    author: str
    pull_request_url: str
    """Where a pull request is opened; empty if the host's pattern is not known."""
    left_out: str
    """What git said of files that it could not take; empty if it took all."""


class WorkspacesFace:
    """The handlers."""

    def __init__(self, manager: SessionManager, services: FaceServices, snapshots: Snapshots) -> None:
        self._manager = manager
        self._services = services
        self._snapshots = snapshots

    def operations(self) -> list[Operation]:
        """Workspaces as operations."""
        one = "/api/sessions/{session_id}"
        return [
            Operation(
                method="GET", scope="read", path="/api/workspaces", handler=self.list_workspaces,
                summary="Repositories that a session may start from", answer=WorkspaceList,
            ),
            Operation(
                method="GET", scope="read", path=one + "/changes.diff", handler=self.download_diff,
                summary="What a session changed since the commit that it started from",
                media_type="text/x-diff", errors=(404, 409, 413, 502),
            ),
            Operation(
                method="GET", scope="read", path=one + "/changes.patch", handler=self.download_patch,
                summary="The same as a commit of yours, for git am",
                media_type="text/x-diff", errors=(404, 409, 413, 502),
            ),
            Operation(
                method="POST", scope="chat", path=one + "/branch", handler=self.push_branch,
                summary="Commit what a session changed, and push it as a branch",
                body=BranchRequest, answer=BranchPushed, status=201,
                errors=(403, 404, 409, 413, 502),
            ),
        ]  # fmt: skip

    async def list_workspaces(self, request: Request) -> Response:
        principal = principal_of(request)
        usable = self._services.repositories.usable(principal.owner)
        found = []
        for name, one in usable.items():
            try:
                agent = workspace_agent(self._services, principal, one, None)
            except GatewayError:
                continue  # none of its agents is the caller's to choose
            found.append(
                WorkspaceSummary(name, one.title or name, one.repo, one.ref, agent, one.branch_prefix)
            )
        return json_response(WorkspaceList(found))

    async def download_diff(self, request: Request) -> Response:
        return await self._text(request, "diff")

    async def download_patch(self, request: Request) -> Response:
        return await self._text(request, "patch")

    async def _text(self, request: Request, kind: Literal["diff", "patch"]) -> Response:
        principal = principal_of(request)
        record, fold = await self._found(request)
        origin, config = self._origin(record, fold, principal)
        author = author_of(principal.owner, config)
        message = fold.title or f"Changes of the session {record.session_id}"
        text = await self._services.outbox.text(origin, kind, author=author, message=message)
        self._services.audit.note(principal, "changes.downloaded", target=record.key, detail=kind)
        name = record.session_id.replace(":", "_")
        return Response(
            text,
            media_type="text/x-diff; charset=utf-8",
            headers={
                "Content-Disposition": disposition(f"session-{name}.{kind}"),
                "X-Content-Type-Options": "nosniff",
                "Cache-Control": "no-store",
            },
        )

    async def push_branch(self, request: Request) -> Response:
        body = await read_body(request, BranchRequest, self._services.config)
        principal, services = principal_of(request), self._services
        record, fold = await self._found(request)
        origin, config = self._origin(record, fold, principal)
        branch = _branch(body.name, config)
        message = (body.message or fold.title or f"Changes of the session {record.session_id}").strip()
        if len(message) > MESSAGE_CHARACTERS or "\0" in message:
            raise InvalidField(f"A message is at most {MESSAGE_CHARACTERS} characters long - at `$.message`.")
        of = fold.workspace
        author = author_of(principal.owner, config)
        try:
            pushed = await services.outbox.push(
                origin,
                config,
                owner=principal.owner,
                branch=branch,
                expected=of.pushed if of is not None and of.pushed_branch == branch else "",
                author=author,
                message=message,
            )
        except GatewayError as error:
            services.audit.note(
                principal, "branch.pushed", target=record.key, outcome="failed", detail=error.code
            )
            raise
        services.audit.note(principal, "branch.pushed", target=record.key, detail=branch)
        await self._manager.do(
            principal.owner,
            record.session_id,
            lambda session: session.note_pushed(branch, pushed.commit),
            is_making=False,
        )
        shown = BranchPushed(
            branch,
            pushed.commit,
            f"{author.name} <{author.email}>",
            pushed.pull_request_url,
            pushed.left_out,
        )
        return json_response(shown, status=201)

    # -- inner ------------------------------------------------------------------------------------------

    async def _found(self, request: Request) -> tuple[SessionRecord, ChatState]:
        """The caller's session, which need not be in memory. Raises SessionNotFound."""
        session_id = checked_session_id(request.path_params["session_id"])
        source = await self._manager.source(principal_of(request).owner, session_id)
        if source is None:
            raise SessionNotFound(session_id=session_id)
        if not (isinstance(source, Session) and source.files.are_here):
            await brought_to_read(self._snapshots, source.record)
        return source.record, source.fold

    def _origin(
        self, record: SessionRecord, fold: ChatState, principal: Principal
    ) -> tuple[StartedFrom, WorkspaceConfig]:
        """Raises NoWorkspace, UnknownWorkspace."""
        origin = origin_of(record, fold)
        if origin is None:
            raise NoWorkspace(session_id=record.session_id)
        return origin, self._services.repositories.get(principal.owner, origin.workspace)


def workspace_agent(
    services: FaceServices, principal: Principal, workspace: WorkspaceConfig, named: str | None
) -> str:
    """The agent of a new session that starts from a workspace: the one that is named, the workspace's own, or
    the first that both it and the person may have. Raises UnknownAgent.
    """
    if named or workspace.agent:
        return services.agent_of(principal, named or workspace.agent)
    if not workspace.agents:
        return services.agent_of(principal, None)
    choice = [name for name in workspace.agents if services.may_choose(principal, name)]
    return services.agent_of(principal, (choice or list(workspace.agents))[0])


def _branch(name: str, workspace: WorkspaceConfig) -> str:
    """Raises InvalidField for a name that no branch may have here."""
    branch = name.strip()
    if not is_branch(branch):
        raise InvalidField("That is no name of a branch - at `$.name`.", field=("body", "name"))
    if not branch.startswith(workspace.branch_prefix):
        raise InvalidField(
            f"The name of a branch begins with {workspace.branch_prefix} here - at `$.name`.",
            field=("body", "name"),
        )
    return branch
