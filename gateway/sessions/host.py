"""WorkerHost: one worker's life beside its session, from spawn to receipt, and the words for every way it
can fail.
"""

from __future__ import annotations

import asyncio
import logging
import pathlib
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from gateway.agents import help as agent_help
from gateway.agents.connection import AgentError, AgentGone, OutputLimit, WireError
from gateway.agents.greeting import Greeted
from gateway.agents.peer import AgentPeer, Owner
from gateway.agents.toolsets import Toolbox
from gateway.egress.admission import Admission
from gateway.egress.authority import variables
from gateway.egress.door import OWN_URL as DOOR_URL
from gateway.errors import GatewayError
from gateway.events import facts as ev
from gateway.events.lifecycle import WorkerEnd
from gateway.http.door_routes import by_path
from gateway.models.opening import Placeholders
from gateway.models.routes import ROOT
from gateway.models.tokens import ModelAccess
from gateway.principal import Account, tenant_of
from gateway.sessions.files import SessionFiles
from gateway.sessions.services import WorkerServices
from gateway.sessions.workspace import SessionWorkspace
from gateway.workers.home_files import write_files
from gateway.workers.spawner import StartFailed, Worker, base_environment, why_ended
from gateway.workers.usage import Running
from worker.acp import AUTH_REQUIRED
from worker.spec import FURTHER_DOORS, Limits, Receipt, Sandbox, SpawnRequest

log = logging.getLogger(__name__)

MCP_PATH: Final = "/mcp"
PORTS_SECONDS: Final = 3.0
"""Only the first starts after a gateway's own wait at all, for as long as tools take to name registries."""
_DOORS_OF_ALL: Final = frozenset((80, 443))
LAST_WORDS_SECONDS: Final = 0.5
"""How long a dying process's exit and stderr are waited for, to tell the user more."""


class WorkerFailed(Exception):
    """The worker's life ended before its session asked for it."""

    def __init__(self, reason: WorkerEnd, message: str, *, is_death: bool = True) -> None:
        """`is_death`: it says something of the next worker, too, which will fare no better."""
        self.reason = reason
        self.message = message
        self.is_death = is_death
        super().__init__(message)


class Used(Struct, frozen=True):
    """What a worker used in its life."""

    cpu_seconds: float = 0.0
    memory_mb_seconds: float = 0.0
    """Megabytes at its end times the seconds of its life."""
    seconds: float = 0.0
    """Its life."""


class HostOwner(Owner, Protocol):
    """The session, as its host sees it."""

    @property
    def admission(self) -> Admission:
        """The rules for the connections of its worker."""

    @property
    def workspace(self) -> SessionWorkspace:
        """The repository that it starts from."""

    @property
    def files(self) -> SessionFiles:
        """Its files, which may be elsewhere."""


class WorkerHost:
    """See the module. `open`, then talk to `peer`, then `stop`; each once."""

    def __init__(self, owner: HostOwner, services: WorkerServices) -> None:
        self._owner = owner
        self._services = services
        self._worker: Worker | None = None
        self._pass: str | None = None
        self._access: ModelAccess | None = None
        self._token = ""
        self._began = services.monotonic()
        self.peer: AgentPeer | None = None
        self.network = ""
        """Of its worker, as it was started: none, broker or shared."""
        self.trusted_hosts: tuple[str, ...] = ()
        """Those for which its programs trust the gateway: credentials are added for these."""
        self.stopped = asyncio.Event()
        """Set when `stop` is done."""

    async def prepare(self) -> None:
        """Puts the files of its workspace there. Raises WorkerFailed; TimeoutError passes through."""
        workspaces, record = self._services.workspaces, self._owner.record
        uid = workspaces.worker_uid(record.key, record.uid)
        try:
            await self._owner.files.bring()
            workspaces.make(record.key, uid)
            await self._owner.workspace.prepare(uid=uid, limits=self._limits())
        except TimeoutError:  # an OSError too
            raise
        except OSError as error:
            words = f"The session's files cannot be made: {error.strerror}."
            raise WorkerFailed(WorkerEnd.START_FAILED, words, is_death=False) from error
        except GatewayError as error:
            raise WorkerFailed(WorkerEnd.START_FAILED, str(error), is_death=False) from error

    async def open(self) -> ev.AgentStarted:
        """Spawns the worker and opens the agent's session. Raises WorkerFailed; TimeoutError passes
        through.
        """
        began = self._began = self._services.monotonic()
        try:
            await self._know_ports()
            request = self._spawn_request()
            spare = self._services.spares.take(request)
            worker = self._worker = spare.worker if spare is not None else await self._spawned(request)
            self._open_doors(worker)
            peer = self.peer = self._peer_of(worker, spare.greeted if spare is not None else None)
            await peer.connection.__aenter__()
            how = await peer.open(worker.cwd)
        except TimeoutError:  # an OSError too
            raise
        except (OSError, StartFailed, AgentGone, AgentError, WireError, GatewayError) as error:
            raise await self._why_not_started(error) from error
        milliseconds = round((self._services.monotonic() - began) * 1000)
        return peer.started(how, milliseconds, walls=worker.profile, network=self.network)

    async def _spawned(self, request: SpawnRequest) -> Worker:
        await self._services.spares.forget(request.session_key)  # one that is not fit for it
        async with self._services.starts.turn(tenant_of(self._owner.record.owner)):
            return await self._services.spawner.spawn(request)

    async def _know_ports(self) -> None:
        """Waits shortly for hosts that are being read: doors at further ports are made at the start only."""
        agent, tenant = self._owner.agent, tenant_of(self._owner.record.owner)
        if agent.sandbox.network == "broker":
            await self._services.egress.wait_for_registries(
                agent=agent.name, tenant=tenant, seconds=PORTS_SECONDS
            )

    def _open_doors(self, worker: Worker) -> None:
        """From here on the connections of a worker with the network `broker` are answered."""
        if worker.doors is None or worker.exited.done():  # its doors are closed with it
            return
        services = self._services
        routes = dict(services.door_routes)
        if self._access is not None:
            routes[ROOT.rstrip("/")] = services.models.routes.at_door(self._access)
        services.doors.open(worker.doors, self._account(), self._owner.admission, routes=by_path(routes))

    def _account(self) -> Account:
        record = self._owner.record
        return Account(owner=record.owner, session_key=record.key, agent=self._owner.agent.name)

    def _peer_of(self, worker: Worker, greeted: Greeted | None) -> AgentPeer:
        tools = self._toolbox()
        return AgentPeer(
            self._owner,
            worker,
            config=self._services.config,
            broker=self._services.current.broker,
            tools=tools,
            intake=self._services.intake,
            mcp_servers=self._mcp_servers(tools),
            work_dir=self._services.workspaces.work(self._owner.record.key),
            on_odd=self._services.metrics.odd("agent"),
            greeted=greeted,
        )

    async def _why_not_started(self, error: Exception) -> WorkerFailed:
        """For an agent that did not come up, by what went wrong."""
        match error:
            case OSError():
                return self.start_failed(f"The session's files cannot be made: {error.strerror}.")
            case StartFailed():
                return self.start_failed(str(error), agent_help.not_started(self._owner.agent))
            case AgentError():
                return self.start_failed(self._refusal(error))
        await self._let_last_words_arrive()
        advice = ""
        if isinstance(error, AgentGone):
            is_walled = self._worker is not None and self._worker.profile != "none"
            advice = agent_help.ended_at_once(self._owner.agent, self._stderr() if is_walled else "")
        return self.start_failed(str(error), advice)

    def _spawn_request(self) -> SpawnRequest:
        agent, record = self._owner.agent, self._owner.record
        workspaces = self._services.workspaces
        uid = workspaces.worker_uid(record.key, record.uid)
        workspaces.make(record.key, uid)
        home = workspaces.home(record.key)
        sandbox = self._sandbox()
        self.network = sandbox.network
        trusted = self._trusted(sandbox)
        base = base_environment(home) | (variables(trusted) if trusted else {})
        env, files = self._settings(agent.environment(base) | self._owner.workspace.env)
        write_files(home, files, uid=uid)
        return SpawnRequest(
            argv=agent.argv,
            env=env,
            cwd=workspaces.work(record.key),
            home=home,
            session_key=record.key,
            uid=uid,
            is_built_in=agent.is_built_in,
            sandbox=_that_reads(sandbox, trusted),
            limits=self._limits(),
            is_freezable=agent.warm_seconds > 0,
            nice=self._services.config.workers.nice,
        )

    def _settings(self, env: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
        """The agent's variables and files; with a provider they say where it is reached, and with which
        token.
        """
        agent, services = self._owner.agent, self._services
        if not agent.provider:
            return env, agent.home_files
        access = self._access = ModelAccess(
            account=lambda: self._owner.account,
            provider=agent.provider,
            has_door=agent.sandbox.network == "broker",
            notice=self._notice,
        )
        filled = Placeholders(access, services.models, own_url=services.own_url)
        self._token = filled.token
        files = {path: filled.text(text) for path, text in agent.home_files.items()}
        return filled.env(env), files

    def _notice(self, code: str, words: str) -> None:
        """Tells the session's people what is wrong with a provider; told again, it replaces itself."""
        notice_id = f"{code}.{self._owner.agent.provider}"
        self._owner.on_events([ev.Notice(notice_id, "error", code, words, values={"why": words})])

    def cut_calls(self) -> None:
        """Cuts the calls to models that are in flight now, if they do not end by themselves in a moment."""
        if self._access is not None:
            self._access.cut_soon()

    def _sandbox(self) -> Sandbox:
        """The walls of its agent, with doors at the ports that its rules name."""
        walls = self._owner.agent.walls()
        if objects := self._owner.workspace.readable:
            walls = msgspec.structs.replace(walls, readable=(*walls.readable, *objects))
        if walls.network != "broker":
            return walls
        lists = self._services.egress.lists(
            agent=self._owner.agent.name, tenant=tenant_of(self._owner.record.owner)
        )
        further = sorted(lists.ports - _DOORS_OF_ALL)
        return msgspec.structs.replace(walls, ports=tuple(further[:FURTHER_DOORS]))

    def _trusted(self, walls: Sandbox) -> pathlib.Path | None:
        """The file of authorities that its programs must trust, if credentials are added to its requests.
        Raises OSError.
        """
        if walls.network != "broker":
            return None
        interception, tenant = self._services.interception, tenant_of(self._owner.record.owner)
        self.trusted_hosts = interception.hosts(agent=self._owner.agent.name, tenant=tenant)
        return interception.authority.bundle(self.trusted_hosts) if self.trusted_hosts else None

    def _limits(self) -> Limits:
        """What this worker may use: the stricter of its agent's limits and its tenant's."""
        tenant = self._services.config.tenant(tenant_of(self._owner.record.owner))
        limits = self._owner.workspace.limits(self._owner.agent.limits)
        return limits.within(tenant.limits if tenant is not None else {})

    @property
    def turn_seconds(self) -> float:
        """How long one answer may take."""
        return self._limits().turn_seconds or self._services.config.sessions.turn_timeout_seconds

    def _raised_by(self, setting: str) -> str:
        """Who can raise a limit of this worker, and where."""
        agent, name = self._owner.agent, tenant_of(self._owner.record.owner)
        tenant = self._services.config.tenant(name)
        workspace = self._owner.workspace
        own = getattr(workspace.limits(agent.limits), setting)
        theirs = (tenant.limits if tenant else {}).get(setting, 0)
        table = f"agents.{agent.name}.limits"
        if 0 < theirs < (own or theirs + 1):
            table = f"tenants.{name}.limits"
        elif named := workspace.has_limit(setting):
            table = f"workspaces.{named}.limits"
        return f"The operator can raise it: `{setting}` in `[{table}]`."

    def _toolbox(self) -> Toolbox:
        owner, services = self._owner, self._services
        return Toolbox(services.toolsets, sets=owner.agent.tools, record=lambda: owner.record)

    def _mcp_servers(self, tools: Toolbox) -> list[dict[str, object]]:
        """The gateway's own MCP server, for an agent that cannot be asked over the pipe."""
        has_door = self._worker is not None and self._worker.doors is not None
        url = DOOR_URL if has_door else self._services.own_url
        if not tools or self._owner.agent.is_built_in or not url:
            return []
        self._pass = self._services.passes.issue(tools.key, toolsets=tools.sets)
        headers = [{"name": "Authorization", "value": f"Bearer {self._pass}"}]
        return [{"type": "http", "name": "-".join(tools.sets), "url": url + MCP_PATH, "headers": headers}]

    def memory_bytes(self) -> int:
        """Resident memory of the worker's processes; 0 without one."""
        return self._worker.memory_bytes() if self._worker is not None else 0

    def _last_bytes(self) -> int:
        """The same of a worker that may be dying: what cannot be read does not keep it from being ended."""
        try:
            return self.memory_bytes()
        except Exception:
            log.exception("session %s: its worker's memory could not be read", self._owner.record.key)
            return 0

    @property
    def process(self) -> Worker | None:
        """The worker itself, while there is one."""
        return self._worker

    @property
    def running(self) -> Running | None:
        """Its worker, for those who measure; None while there is none."""
        worker, record = self._worker, self._owner.record
        return Running(record.key, record.agent, worker.pid, worker.cpu_file) if worker is not None else None

    def begin_turn(self) -> None:
        """From here on the worker's CPU time is that of a turn."""
        if self._worker is not None:
            self._worker.begin_turn()

    def end_turn(self) -> None:
        """Ends the turn of its worker, so that CPU time no longer counts for the turn."""
        if self._worker is not None:
            self._worker.end_turn()
        self.cut_calls()

    async def stop(self, *, grace_seconds: float) -> tuple[Receipt, Used]:
        """Ends the worker and all that it started, and says what it used; nothing to do where there is
        none.
        """
        peer, worker, running = self.peer, self._worker, self.running
        held = self._last_bytes()  # before the end of its input makes it leave
        self.peer = self._worker = None
        if self._pass is not None:
            self._services.passes.revoke(self._pass)
            self._pass = None
        self._services.models.tokens.revoke(self._token)
        try:
            if peer is not None:
                await peer.connection.__aexit__()
        except Exception:  # the worker is to be ended all the same
            log.exception("session %s: its agent's pipes could not be closed", self._owner.record.key)
        if worker is None or running is None:
            self.stopped.set()
            return Receipt(), Used()
        seconds = self._services.monotonic() - self._began
        receipt = await worker.stop(grace_seconds=grace_seconds)
        receipt = msgspec.structs.replace(receipt, bytes_freed=max(held, receipt.bytes_freed))
        self.stopped.set()
        cpu_seconds = worker.exited.result().cpu_seconds if worker.exited.done() else 0.0
        self._services.usage.ended(running, cpu_seconds)
        if receipt.survivors:
            log.error("session %s: %d processes survived", self._owner.record.key, receipt.survivors)
        return receipt, Used(cpu_seconds, receipt.bytes_freed / 1e6 * seconds, seconds)

    # -- the words of a failure -------------------------------------------------------------------------

    async def why_gone(self) -> WorkerFailed:
        """For an agent that ended by itself."""
        if self.peer is not None and isinstance(self.peer.connection.end, WireError):
            return output_failed(self.peer.connection.end)
        await self._let_last_words_arrive()
        worker = self._worker
        if worker is not None and worker.exited.done():
            known = why_ended(worker.exited.result(), self._limits(), self._raised_by)
            if known is not None:
                return WorkerFailed(*known)
        return WorkerFailed(WorkerEnd.EXITED, self._with_stderr("The agent ended unexpectedly."))

    def start_failed(self, words: str, advice: str = "") -> WorkerFailed:
        """For an agent that did not come up; `words` is a sentence, `advice` what to do about it."""
        return WorkerFailed(WorkerEnd.START_FAILED, self._with_stderr(words, advice))

    def _refusal(self, error: AgentError) -> str:
        if error.error.code == AUTH_REQUIRED and self.peer is not None:
            return self.peer.wants_credentials(str(error))
        return f"The agent refused to start a session: {error}"

    async def _let_last_words_arrive(self) -> None:
        if self._worker is not None:
            await asyncio.wait([self._worker.exited], timeout=LAST_WORDS_SECONDS)

    def _stderr(self) -> str:
        return self._worker.stderr_tail() if self._worker is not None else ""

    def _with_stderr(self, words: str, advice: str = "") -> str:
        worker = self._worker
        if worker is None:
            return agent_help.joined((words, advice))
        how = f" ({worker.exited.result()})" if worker.exited.done() else ""
        tail = self._stderr()
        last = f"Its last words: {tail}" if tail else ""
        return agent_help.joined((f"{words.removesuffix('.')}{how}.", advice, last))


def _that_reads(walls: Sandbox, file: pathlib.Path | None) -> Sandbox:
    """Walls through which a file can be read."""
    if file is None:
        return walls
    return msgspec.structs.replace(walls, readable=(*walls.readable, str(file)))


def output_failed(error: WireError) -> WorkerFailed:
    """For an agent whose output ended the connection."""
    end = WorkerEnd.LIMIT_EXCEEDED if isinstance(error, OutputLimit) else WorkerEnd.WIRE_ERROR
    return WorkerFailed(end, str(error))
