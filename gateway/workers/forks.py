"""The gateway's end of the fork server: asks for workers, hears of their ends, and starts a new server where
one dies.

Guarantees: the gateway never forks a worker and never waits for the server in the loop; a worker's pipes are
made here and passed as descriptors; when the server dies its workers die with it, each `exited` tells so
(`forkserver_lost`), and the next spawn has a new server; one that does not answer is found within seconds and
ended with its workers; stopping a worker is bounded and shielded and ends with a receipt.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import logging
import os
import pathlib
import socket
import sys
import time
from collections import deque
from typing import Final, TypeVar

import msgspec

import worker
from gateway.workers import orphans
from gateway.workers.doors import DoorSockets, sockets_from
from gateway.workers.freezing import Freezer
from gateway.workers.memory import cpu_seconds, group_bytes, is_at_work, resident_bytes, tree_bytes
from gateway.workers.spawner import PASSED_VARIABLES, StartFailed, StderrTail
from gateway.workers.waiting import until_readable
from worker import spec
from worker.spec import (
    EndCause,
    Exit,
    Failed,
    GoOn,
    Ping,
    Pong,
    ProcessEnded,
    Reach,
    Ready,
    Receipt,
    Spawn,
    SpawnRequest,
    Started,
    Stop,
)

log = logging.getLogger(__name__)
T = TypeVar("T")

REACH_SECONDS: Final = 5.0
SOCKETS: Final = 16
"""Of a worker's own network that come at a time, at most."""
KILL_SECONDS: Final = 4.0
"""More than the fork server takes to report a survivor."""
CLOSE_SECONDS: Final = 5.0
BEAT_SECONDS: Final = 1.0
"""How often the server is asked for a sign of life."""
HUNG_BEATS: Final = 5
"""So many beats without a word from a server that does nothing, and it hangs. Beats are counted, not seconds:
while our own loop stood still, nobody listened for an answer.
"""
BUSY_BEATS: Final = 30
"""The same for a server that wants to run, or waits for a disk: the machine may be that slow."""
BUFFER_BYTES: Final = 512 * 1024
"""Of the channel: room for the largest request, and for the reports of a burst."""
REPORT_BYTES: Final = 64 * 1024
_SOURCES: Final = [str(pathlib.Path(package.__path__[0]).parent) for package in (worker, msgspec)]
"""Where the fork server, which is isolated from PYTHONPATH and the user's site, finds what it imports."""
_PROGRAM: Final = (
    "import sys; sys.path += sys.argv[3:]; from worker.forkserver.server import main; "
    "main(int(sys.argv[1]), sys.argv[2])"
)


class ForkWorker:
    """A worker of the fork server."""

    def __init__(
        self, server: ForkServerLink, worker_id: int, request: SpawnRequest, pipes: tuple[int, int, int]
    ) -> None:
        loop = asyncio.get_running_loop()
        self.pid = 0
        self.stdin, self.stdout, stderr = pipes
        self.profile = request.sandbox.profile
        is_inside = self.profile == "strict"
        self.cwd = spec.INNER_WORK if is_inside else request.cwd
        self.request = request
        self._id = worker_id
        self._server = server
        self._stderr = StderrTail(stderr, loop)
        self._exited: asyncio.Future[Exit] = loop.create_future()
        self.started: asyncio.Future[None] = loop.create_future()
        self.doors: DoorSockets | None = None
        """Of its own network; None if it has none, or shares the machine's. Closed at its end."""
        self._spare: list[socket.socket] = []
        """Sockets of its own network that nobody has used yet; each keeps the namespace alive."""
        self.memory_events = self.processes_events = ""
        """Files of its control group; empty if it has none."""
        self.group_id = 0
        """The number of its control group of version 2; 0 if it has none."""
        self.cpu_file = ""
        self.freezer = Freezer()
        self.turn = 0
        """The number of the turn that runs; 0 between turns."""
        self._turns = 0
        self._cpu_seconds = 0.0
        self._processes = 1
        self._survivors = 0
        self._swept: asyncio.Future[None] | None = None
        """Done when what a hung server left of it has been killed and counted."""

    @property
    def exited(self) -> asyncio.Future[Exit]:
        """Done when the worker's first process is reaped."""
        return self._exited

    def stderr_tail(self) -> str:
        """The last lines of its stderr."""
        return self._stderr.tail()

    def memory_bytes(self) -> int:
        """Memory of its processes, shared pages by share."""
        return tree_bytes(self.pid) if self.pid and not self._exited.done() else 0

    def charged_bytes(self) -> int:
        """The same, quickly: as its control group counts it, else shared pages in full by each."""
        if not self.pid or self._exited.done():
            return 0
        return group_bytes(self.memory_events) or resident_bytes(self.pid)

    def end(self, cause: EndCause) -> None:
        """Kills it now, for a limit that it passed."""
        self._note_cpu()
        self._server.send(Stop(id=self._id, cause=cause))

    def _note_cpu(self) -> None:
        """Before it is killed: without a group, a process that nobody waits for takes its figure along."""
        if self.pid and not self._exited.done():
            self._cpu_seconds = max(self._cpu_seconds, cpu_seconds(self.cpu_file, self.pid))

    def begin_turn(self) -> None:
        """From here on its CPU time is that of a new turn."""
        self._turns += 1
        self.turn = self._turns

    def end_turn(self) -> None:
        """From here on its CPU time is counted for no turn."""
        self.turn = 0

    def hear(self, report: Started | Failed | ProcessEnded) -> None:
        """What the fork server says of it."""
        match report:
            case Started():
                self.pid = report.pid
                self.group_id = self._server.note_group(report)
                self.memory_events, self.processes_events = report.memory_events, report.processes_events
                self.cpu_file = report.cpu_file
                self.freezer = Freezer(report.freezer_file, report.memory_events)
                _settle(self.started, None)
            case Failed():
                _refuse(self.started, StartFailed(report.words))
            case ProcessEnded():
                self._processes, self._survivors = report.processes, report.survivors
                self._close_doors()
                if not report.survivors:
                    self._server.group_ids.discard(self.group_id)
                used = max(report.exit.cpu_seconds, self._cpu_seconds)
                _settle(self._exited, msgspec.structs.replace(report.exit, cpu_seconds=used))

    def lose(self, swept: asyncio.Future[None] | None = None) -> None:
        """The fork server died, and the worker with it; or it hung, and they are killed until `swept`."""
        self._swept = swept
        self.freezer.thaw()
        self._close_doors()
        _refuse(self.started, StartFailed("The fork server ended while the agent was started."))
        _settle(self._exited, Exit(signal=9, cause="forkserver_lost"))

    def note_left(self, processes: int, survivors: int) -> None:
        """What it was when its server hung, and what is left of that."""
        self._processes, self._survivors = max(1, processes), survivors

    def let_go(self) -> None:
        """Closes what belongs to it; for a worker that never ran, its pipes too."""
        self._stderr.close()
        self._close_doors()
        if not self.pid:
            os.close(self.stdin)
            os.close(self.stdout)

    def take_doors(self, doors: DoorSockets) -> None:
        """Its doors have come; if it has ended meanwhile they are of no use."""
        self.doors = doors
        if self._exited.done():
            self._close_doors()

    def _close_doors(self) -> None:
        """Before anybody hears of its end: what it still had open leads nowhere from here on."""
        if self.doors is not None:
            self.doors.close()
        while self._spare:
            self._spare.pop().close()

    async def open_socket(self) -> socket.socket:
        """A socket of its own network, not connected yet. Raises OSError if there is none to be had, and
        TimeoutError.
        """
        while not self._spare:
            made = await self._sockets()
            if self._exited.done():
                for each in made:
                    each.close()
                raise ConnectionRefusedError(errno.ECONNREFUSED, "the agent has ended")
            self._spare += made
        return self._spare.pop()

    async def _sockets(self) -> list[socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            ours.setblocking(False)
            self._server.send(Reach(id=self._id), theirs.detach())
            async with asyncio.timeout(REACH_SECONDS):
                return await _received(ours)

    async def stop(self, *, grace_seconds: float) -> Receipt:
        """Ends it and everything it started; see the module."""
        return await asyncio.shield(asyncio.create_task(self._stop(grace_seconds), name=f"stop {self.pid}"))

    async def _stop(self, grace_seconds: float) -> Receipt:
        began = time.monotonic()
        self.freezer.thaw()
        freed = self.memory_bytes()
        if grace_seconds and not await self._exits_within(grace_seconds):
            self._server.send(Stop(id=self._id, is_gentle=True))
            await self._exits_within(grace_seconds)
        if not self._exited.done():
            self._note_cpu()
            self._server.send(Stop(id=self._id))
            if not await self._is_ended():
                log.error("worker %d did not end", self.pid)
                self._survivors = max(1, self._survivors)
        self._close_doors()
        if self._swept is not None:
            await asyncio.wait([self._swept], timeout=KILL_SECONDS)
        self._stderr.close()
        self._server.forget(self._id)
        return Receipt(
            processes=self._processes,
            survivors=self._survivors,
            bytes_freed=freed,
            milliseconds=round((time.monotonic() - began) * 1000),
        )

    async def _is_ended(self) -> bool:
        """Waits for the end that the server was asked for; while the server says nothing at all, until it
        does or is ended itself.
        """
        while not await self._exits_within(KILL_SECONDS):
            if not self._server.is_silent:
                return False
        return True

    async def _exits_within(self, seconds: float) -> bool:
        await asyncio.wait([self._exited], timeout=seconds)
        return self._exited.done()


class ForkServerLink:
    """One fork server process and the socket to it."""

    def __init__(self, groups_name: str = "") -> None:
        self._groups_name = groups_name
        self._channel: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._workers: dict[int, ForkWorker] = {}
        self._unsent: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self.group_ids: set[int] = set()
        """The control groups of version 2 of all workers of which something may live."""
        self.ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._is_asked = False
        """Whether a sign of life is owed."""
        self._unanswered = 0
        """For how many beats."""

    async def start(self) -> None:
        """Starts the process; `ready` is done when it has warmed up. Its environment holds no secret of
        the gateway.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        ours.setblocking(False)
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-B", "-c", _PROGRAM),
                *(str(theirs.fileno()), self._groups_name, *_SOURCES),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                env={name: os.environ[name] for name in PASSED_VARIABLES if name in os.environ},
                cwd="/",
                start_new_session=True,
            )
        self._channel = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._receive)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid if self._process is not None else 0

    @property
    def workers(self) -> list[ForkWorker]:
        """Those that it has."""
        return list(self._workers.values())

    @property
    def shares_network(self) -> bool:
        """Whether any worker shares the machine's network; asked for each connection, so no list is made."""
        return any(worker.request.sandbox.network == "shared" for worker in self._workers.values())

    def spawn(self, order: Spawn, new: ForkWorker, fds: tuple[int, ...]) -> None:
        """Sends an order with its descriptors, which are closed here in any case."""
        if self._channel is None:  # lost already, and nobody would tell the worker again
            close_all(fds)
            new.lose()
            return
        self._workers[order.id] = new
        self._put(spec.encode(order) + b"\n" + spec.encode(new.request), fds)

    def send(self, order: Stop | Reach | GoOn, *fds: int) -> None:
        """Sends an order, with descriptors that are closed here."""
        self._put(spec.encode(order), fds)

    def forget(self, worker_id: int) -> None:
        """Nobody waits for this worker any more."""
        self._workers.pop(worker_id, None)

    def note_group(self, started: Started) -> int:
        """The number of a worker's control group of version 2, remembered; 0 if it has none."""
        counting = self.ready.result().counting
        files = ((counting.memory, started.memory_events), (counting.processes, started.processes_events))
        for mechanism, file in files:
            if mechanism == "cgroup v2" and file:
                with contextlib.suppress(OSError):  # it has ended already
                    found = os.stat(os.path.dirname(file)).st_ino
                    self.group_ids.add(found)
                    return found
        return 0

    # -- its life -----------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Returns when the server is lost; one that hangs is ended, and with it its workers."""
        while not self.lost.done():
            await asyncio.wait([self.lost], timeout=BEAT_SECONDS)
            if not self.lost.done():
                self._beat()
                if self._hangs():
                    await self._end_hung()

    @property
    def is_silent(self) -> bool:
        """Whether an answer is overdue."""
        return self._unanswered > 0 and not self.lost.done()

    def _beat(self) -> None:
        """Counts a beat that had no answer, or asks anew."""
        if self._is_asked:
            self._unanswered += 1
        else:
            self._is_asked = True
            self._put(spec.encode(Ping()), ())

    def _heard(self) -> None:
        """Any word from it is a sign of life: an answer may wait behind a hundred orders."""
        self._is_asked = False
        self._unanswered = 0

    def _hangs(self) -> bool:
        if self._unanswered < HUNG_BEATS:
            return False
        return self._unanswered >= BUSY_BEATS or not is_at_work(self.pid)

    async def _end_hung(self) -> None:
        seconds = self._unanswered * BEAT_SECONDS
        log.error("the fork server %d said nothing for %g s: it is ended with its workers", self.pid, seconds)
        swept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        workers = self.workers
        self._lose(swept)
        try:
            left = await asyncio.to_thread(orphans.end_family, self.pid, [known.pid for known in workers])
            for known in workers:
                known.note_left(*left.get(known.pid, (1, 0)))
        finally:
            _settle(swept, None)

    # -- the channel --------------------------------------------------------------------------------------

    def _put(self, data: bytes, fds: tuple[int, ...]) -> None:
        if self._channel is None:
            close_all(fds)
            return
        self._unsent.append((data, fds))
        if len(self._unsent) == 1:
            self._flush()

    def _flush(self) -> None:
        """Sends what the socket takes; the rest when it is writable. A datagram that is too long is
        dropped: `spawn` looked at its length before.
        """
        loop = asyncio.get_running_loop()
        channel = self._channel
        while self._unsent and channel is not None:
            data, fds = self._unsent[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            try:
                channel.sendmsg([data], rights)
            except BlockingIOError:
                loop.add_writer(channel.fileno(), self._flush)
                return
            except OSError:
                self._lose()
                return
            close_all(fds)
            self._unsent.popleft()
        if channel is not None:
            loop.remove_writer(channel.fileno())

    def _receive(self) -> None:
        channel = self._channel
        while channel is not None and self._channel is channel:
            try:
                data = channel.recv(REPORT_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._lose()
                return
            report = spec.decode_report(data)
            self._heard()
            if isinstance(report, Pong):
                continue
            if isinstance(report, Ready):
                _settle(self.ready, report)
            elif (known := self._workers.get(report.id)) is not None:
                known.hear(report)

    def _lose(self, swept: asyncio.Future[None] | None = None) -> None:
        """The process is gone, or going: its workers die with it."""
        self._let_go()
        for known in self.workers:
            known.lose(swept)
        self._workers.clear()
        _refuse(self.ready, StartFailed("The fork server could not be started; the gateway's log says more."))
        _settle(self.lost, None)

    def _let_go(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(channel.fileno())
            loop.remove_writer(channel.fileno())
            channel.close()
        for _, fds in self._unsent:
            close_all(fds)
        self._unsent.clear()

    async def close(self) -> None:
        """Ends the process and with it whatever worker is left; bounded."""
        self._lose()
        process = self._process
        if process is None:
            return
        try:
            await asyncio.wait_for(process.wait(), CLOSE_SECONDS)
        except TimeoutError:
            log.error("the fork server did not end and was killed")
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def make_pipes() -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """Three pipes: the gateway's ends (stdin, stdout, stderr) and the worker's."""
    made: list[int] = []
    try:
        for _ in range(3):
            made += os.pipe()
    except OSError as error:
        close_all(tuple(made))
        raise StartFailed(f"No pipe could be made: {error.strerror}.") from error
    stdin_read, stdin_write, stdout_read, stdout_write, stderr_read, stderr_write = made
    return (stdin_write, stdout_read, stderr_read), (stdin_read, stdout_write, stderr_write)


async def _received(channel: socket.socket) -> list[socket.socket]:
    """The sockets that come through a channel. Raises OSError if it ends without any."""
    while True:
        try:
            found = sockets_from(channel, SOCKETS)
            break
        except BlockingIOError:
            await until_readable(channel.fileno())
    if not found:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "the agent's network cannot be reached")
    for each in found:
        each.setblocking(False)
    return found


def close_all(fds: tuple[int, ...]) -> None:
    for fd in fds:
        os.close(fd)


def _settle(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _refuse(future: asyncio.Future[Ready] | asyncio.Future[None], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # looked at: nobody may be waiting for it any more
