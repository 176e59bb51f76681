"""Whether a connection comes from an agent's process: decided once, when it is accepted.

A worker that shares the machine's network reaches the gateway's port, and in `open` mode everybody who
reaches that is the owner. So the kernel is asked who made the socket at the other end, and one that a worker
made is nobody's. Of these ways the first that can be had is used:

- `uid`: if the gateway is root, each worker has a uid of its own, and a socket keeps that of its maker;
- `control group`: if workers have groups of version 2, a socket keeps the group of its maker;
- `process`: else a peer of the workers' own user counts as an agent unless a process that does not descend
  from the fork server is found to hold its socket.

Guarantees: only peers on this machine are looked at; a local peer that is gone already is refused, since it
cannot be told any more; what a socket was made as counts, however often it is handed on; with `uid` and
`control group` the decision is made before the first byte is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal, Protocol

from gateway.config.addresses import is_within
from gateway.config.tables import Config
from gateway.workers.forks import ForkWorker
from gateway.workers.holders import Holders, children_of, descends, find_all, holds, parent_of
from gateway.workers.sockdiag import Address, SockDiag, SocketPeer
from worker.spec import Counting

log = logging.getLogger(__name__)

Method = Literal["", "uid", "control group", "process"]

FROM_AGENT: Final = (
    "This connection comes from an agent's process. An agent may call /mcp with the pass that it was given, "
    "and nothing else of this gateway."
)
FROM_UNKNOWN: Final = (
    "The process at the other end of this connection was not found, so it may be an agent's. It may have "
    "ended, or be one that the gateway may not look into (sshd, say): docs/isolation.md says what to do."
)
SEARCH_PAUSE: Final = 4
"""After looking in vain, as many times as that took: an agent that connects without end must not keep the
gateway busy.
"""
_SO_NETNS_COOKIE: Final = 71
"""Linux 5.14 (socket(7)); Python has no name for it."""
_SO_PEERCRED: Final = struct.Struct("iII")
_COOKIE_BYTES: Final = 8
_ANY_PORT: Final = 0


class PeerOrigin:
    """Where a connection comes from."""

    __slots__ = ("_verdict", "refusal")

    def __init__(self, verdict: bool | asyncio.Future[bool], refusal: str = "") -> None:
        self._verdict = verdict
        self.refusal = refusal
        """The error that its caller gets if it is refused."""

    @property
    def may_be_agent(self) -> bool:
        """Whether it is not known at once to be somebody else's."""
        return self._verdict is not False

    async def is_agent(self) -> bool:
        """Whether it is an agent's, or cannot be told from one."""
        if isinstance(self._verdict, asyncio.Future):
            return await asyncio.shield(self._verdict)
        return self._verdict


ELSEWHERE: Final = PeerOrigin(False)
AGENT: Final = PeerOrigin(True, FROM_AGENT)
UNKNOWN: Final = PeerOrigin(True, FROM_UNKNOWN)


class Family(Protocol):
    """The spawner, as far as it is needed here."""

    @property
    def server_pid(self) -> int:
        """The fork server; 0 while there is none."""

    @property
    def workers(self) -> list[ForkWorker]:
        """Every worker there is."""

    @property
    def shares_network(self) -> bool:
        """Whether any worker shares the machine's network."""

    @property
    def group_ids(self) -> set[int]:
        """The control groups of version 2 of all workers of which something may live."""

    counting: Counting


class PeerIdentity:
    """See the module. `open` finds the method; then `origin` decides."""

    def __init__(
        self,
        family: Family,
        *,
        is_worker_uid: Callable[[int], bool],
        is_allowed: bool = False,
    ) -> None:
        """`is_allowed`: agents' connections are served like others, and nothing is asked."""
        self._family = family
        self._is_worker_uid = is_worker_uid
        self._is_allowed = is_allowed
        self._uid = os.geteuid()
        self._diag: SockDiag | None = None
        self._holders = Holders()
        self._wanted: dict[int, asyncio.Future[bool]] = {}
        self._searching: asyncio.Task[None] | None = None
        self._cookie = b""
        self._looks_again_at = 0.0
        self._own_group: int | None = None
        self._own_groups_text = b""
        self.method: Method = ""
        self.missing = ""
        """Why it cannot be told here."""

    # -- its life ---------------------------------------------------------------------------------------

    def open(self) -> None:
        """Finds out, with a real connection, by what agents are told from others here."""
        if self._is_allowed:
            log.warning("connections that come from agents' processes are served like any other")
            return
        try:
            self._diag = SockDiag()
            found = self._own_connection(self._diag)
        except OSError as error:
            self._give_up(f"the kernel does not say who made a socket ({error.strerror or error})")
            return
        if found is None:
            self._give_up("the kernel does not find a connection of this process's own")
            return
        self.method = self._find_method(found)
        if self.method:
            log.info("connections of agents are told from others by %s", self.method)

    async def close(self) -> None:
        """Ends it."""
        if self._searching is not None:
            self._searching.cancel()
            await asyncio.wait([self._searching])
        self._holders.close()
        if self._diag is not None:
            self._diag.close()
            self._diag = None

    def _give_up(self, words: str) -> None:
        self.missing = words
        if self._diag is not None:
            self._diag.close()
            self._diag = None
        log.warning("connections of agents CANNOT be told from others: %s", words)

    def _own_connection(self, diag: SockDiag) -> tuple[SocketPeer, int] | None:
        """What the kernel says of a connection of this process's own, and its inode."""
        with contextlib.ExitStack() as stack:
            listener, client = _loopback(stack)
            accepted = stack.enter_context(listener.accept()[0])
            self._cookie = _namespace(accepted)
            peer = diag.find(accepted.getpeername(), accepted.getsockname())
            inode = os.fstat(client.fileno()).st_ino
            if peer is None or peer.inode != inode or not diag.is_own(accepted.getpeername()):
                return None
            return peer, len(holds(os.getpid(), {inode}))

    def _find_method(self, found: tuple[SocketPeer, int]) -> Method:
        peer, held = found
        if self._uid == 0:
            return "uid"
        counting, directories = self._family.counting, self._family.counting.directories
        if "cgroup v2" in (counting.memory, counting.processes):
            places = (*directories, *map(os.path.dirname, directories))
            if peer.group in set(_inodes(places)):
                return "control group"
        if not held or descends(os.getpid(), -1, if_hidden=True):
            self._give_up(
                "/proc does not show the processes of this machine, and agents have no uids or groups"
            )
            return ""
        self._own_group = peer.group
        self._own_groups_text = _group_of(self._family.server_pid)
        if self._own_groups_text != _group_of(os.getpid()):
            self._own_group = None
        return "process"

    # -- decisions --------------------------------------------------------------------------------------

    def origin(self, transport: asyncio.Transport) -> PeerOrigin:
        """Where a connection that was just accepted comes from."""
        if self._is_allowed:
            return ELSEWHERE
        sock = transport.get_extra_info("socket")
        try:
            if sock.family == socket.AF_UNIX:
                return self._unix(sock)
            if not self.method:
                return ELSEWHERE
            if self._cookie and _namespace(sock) != self._cookie:
                return ELSEWHERE  # a listener of another network, where no worker is
            return self._tcp(sock.getpeername(), sock.getsockname())
        except (OSError, ValueError, AttributeError) as error:
            log.debug("a peer could not be told: %s", error)
            return UNKNOWN

    def _unix(self, sock: Any) -> PeerOrigin:
        """By what the kernel kept of the process that connected (unix(7), SO_PEERCRED)."""
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _SO_PEERCRED.size)
        pid, uid, _ = _SO_PEERCRED.unpack(credentials)
        if (known := self._by_uid(uid)) is not None:
            return known
        if not pid:
            return ELSEWHERE  # in another container
        server = self._family.server_pid
        is_one = server and descends(pid, server, if_hidden=False)
        return (AGENT if parent_of(pid) is not None else UNKNOWN) if is_one else ELSEWHERE

    def _tcp(self, peer: Address, own: Address) -> PeerOrigin:
        assert self._diag is not None  # noqa: S101 - there is a method
        found = self._diag.find(peer, own)
        if found is None:
            return UNKNOWN if self._diag.is_own(peer) else ELSEWHERE
        if (known := self._by_uid(found.uid)) is not None:
            return known
        if self.method == "control group":
            return AGENT if found.group in self._family.group_ids else ELSEWHERE
        return self._by_process(found)

    def _by_uid(self, uid: int) -> PeerOrigin | None:
        """None if the uid does not settle it: there are workers that run as the gateway's own user."""
        if self._is_worker_uid(uid):
            return AGENT
        if uid != self._uid:
            return ELSEWHERE
        have_their_own = self._uid == 0 and all(worker.request.uid for worker in self._family.workers)
        return ELSEWHERE if have_their_own else None

    def _by_process(self, found: SocketPeer) -> PeerOrigin:
        server = self._family.server_pid
        if not self._has_suspects(server):
            return ELSEWHERE
        if self._is_of_another_group(found, server):
            return ELSEWHERE
        if self._finds_quickly(found.inode, server):
            return ELSEWHERE
        return PeerOrigin(self._search_for(found.inode), FROM_UNKNOWN)

    def _finds_quickly(self, inode: int, server: int) -> bool:
        """Looks where a person's client usually is; after a miss, not again before some time has passed."""
        began = time.monotonic()
        if began < self._looks_again_at:
            return False
        is_found = self._holders.find_quickly(inode, ancestor=server)
        if not is_found:
            now = time.monotonic()
            self._looks_again_at = now + (now - began) * SEARCH_PAUSE
        return is_found

    def _has_suspects(self, server: int) -> bool:
        """Whether anything that the fork server started could connect: a worker that shares the network, or
        what is left of one.
        """
        if self._family.shares_network:
            return True
        workers = {worker.pid for worker in self._family.workers}
        return not workers.issuperset(children_of(server) if server else ())

    def _is_of_another_group(self, found: SocketPeer, server: int) -> bool:
        """Whether the socket was made in another control group of version 2 than workers are in, who have
        none of their own here and cannot leave it.
        """
        if self._own_group is None or found.group is None or found.group == self._own_group:
            return False
        return _group_of(server) == self._own_groups_text

    # -- looking at all processes -----------------------------------------------------------------------

    def _search_for(self, inode: int) -> asyncio.Future[bool]:
        """Done when all processes were looked at; sockets that wait together are looked for together."""
        wanted = self._wanted.setdefault(inode, asyncio.get_running_loop().create_future())
        if self._searching is None or self._searching.done():
            self._searching = asyncio.create_task(self._search(), name="peer search")
        return wanted

    async def _search(self) -> None:
        while self._wanted:
            wanted, self._wanted = self._wanted, {}
            found: dict[int, int] = {}
            began = time.monotonic()
            try:
                server = self._family.server_pid
                found = await asyncio.to_thread(find_all, list(wanted), ancestor=server)
                for pid in set(found.values()):
                    self._holders.remember(pid, ancestor=server)
            except OSError as error:
                log.error("the processes of this machine could not be looked at: %s", error)
            finally:
                for inode, verdict in wanted.items():
                    if not verdict.done():
                        verdict.set_result(inode not in found)
            await asyncio.sleep((time.monotonic() - began) * SEARCH_PAUSE)

    # -- whether to serve at all --------------------------------------------------------------------------

    def objection(self, config: Config, sharing: Sequence[str]) -> str:
        """Why a gateway of this configuration must not serve; empty if it may. `sharing` are the names of
        the agents that share the machine's network.
        """
        if self.method or self._is_allowed or not sharing:
            return ""
        modes = config.auth.modes
        trusts_itself = "proxy" in modes and _hold_own(config.proxy.peers)
        if "open" not in modes and not trusts_itself:
            return ""
        trusting = (
            "in open mode everybody is" if "open" in modes else "proxy.peers holds an address of its own"
        )
        return (
            f"An agent could call this gateway and be served as its owner: {trusting}, the network is shared "
            f"with {', '.join(sharing)}, and connections of agents cannot be told from others here "
            f'({self.missing}). Set workers.network = "none", or ask for credentials (auth.modes); to run it '
            "all the same, set server.allow_agent_connections = true."
        )


class AgentsAreOwners(OSError):
    """The gateway would serve its agents as its owner; the text says why and what to set."""


def _loopback(stack: contextlib.ExitStack) -> tuple[socket.socket, socket.socket]:
    """A listener on loopback and a connection to it. Raises OSError."""
    try:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", _ANY_PORT)))
    except OSError:
        listener = stack.enter_context(socket.create_server(("::1", _ANY_PORT), family=socket.AF_INET6))
    client = stack.enter_context(socket.socket(listener.family))
    client.settimeout(1)
    client.connect(listener.getsockname())  # resolves no name, for which a codec would be loaded
    return listener, client


def _namespace(sock: Any) -> bytes:
    """Which network namespace a socket belongs to; empty on kernels that do not say."""
    try:
        return bytes(sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, _COOKIE_BYTES))
    except OSError:
        return b""


def _inodes(places: Iterable[str]) -> list[int]:
    found = []
    for place in places:
        with contextlib.suppress(OSError):
            found.append(os.stat(place).st_ino)
    return found


def _group_of(pid: int) -> bytes:
    """The control group of version 2 that a process is in."""
    try:
        with open(f"/proc/{pid}/cgroup", "rb") as file:
            return next((line for line in file if line.startswith(b"0::")), b"")
    except OSError:
        return b""


def _hold_own(networks: tuple[str, ...]) -> bool:
    """Whether one of these networks holds an address of this machine's."""
    return any(is_within(address, networks) for address in own_addresses())


def own_addresses() -> list[str]:
    """This machine's addresses, of loopback and of its interfaces."""
    found = ["127.0.0.1", "::1", "::ffff:127.0.0.1"]
    with contextlib.suppress(OSError), open("/proc/net/if_inet6", encoding="ascii") as file:
        found += [socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line[:32])) for line in file]
    with contextlib.suppress(OSError), open("/proc/net/fib_trie", encoding="ascii") as file:
        before = ""
        for line in file:
            if line.strip().startswith("/32 host LOCAL"):
                found.append(before.strip().rpartition(" ")[2])
            before = line
    return found
