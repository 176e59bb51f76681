"""The fork server: the parent of every worker. It has loaded and warmed up the built-in agent, and forks it
in a millisecond; any other agent's command goes the same way and is executed behind the same walls.

Small and boring on purpose: one thread, one `poll`, no worker's data ever decoded here.

Guarantees:
- it listens on one inherited SEQPACKET socket, to which no path leads and which no worker has;
- a request's body is overwritten before the next fork: what was said for one worker is in no other's memory;
- it is the only waiter of its children (SIGCHLD, wait4), so that no pid is signalled after it was reaped; it
  is their subreaper, and a process that is adopted outlived its worker and is killed;
- it dies with the gateway (end of the socket, parent-death signal) and takes every worker along;
- where the machine has control groups, each worker is in one of its own, and its end is the group's;
- a gateway that says until when it may work is held to it: past that, every worker rests, and later ends,
  whether the gateway runs or not (`worker.forkserver.resting`);
- garbage on the socket is skipped; a worker that cannot be walled in is reported with words and never runs.
"""

from __future__ import annotations

import array
import contextlib
import errno
import gc
import os
import select
import signal
import socket
import struct
import sys
import time
from types import FrameType
from typing import Final, NoReturn

import msgspec

from worker import spec
from worker.agent import agent
from worker.forkserver import init, reach, tree
from worker.forkserver.groups import Group, Groups
from worker.forkserver.resting import BirthGate, Rest, Rule, Watch
from worker.sandbox import kernel
from worker.sandbox import walls as sandbox
from worker.spec import (
    EndCause,
    Exit,
    Failed,
    GoOn,
    Ping,
    Pong,
    ProcessEnded,
    Profile,
    Reach,
    Ready,
    Spawn,
    Started,
    Stop,
)

DATAGRAM_BYTES: Final = 256 * 1024
"""One request, environment included; what the kernel's default socket buffer lets through."""
REPORT_BYTES: Final = 4096
KILL_SECONDS: Final = 2.0
"""After so long of killing, what still lives is counted as a survivor."""
KILL_PAUSE_MILLISECONDS: Final = 10
_NAMESPACES_REFUSED: Final = (errno.ENOSPC, errno.ENOSYS, errno.EPERM, errno.EUSERS)
"""clone3(2): user.max_user_namespaces is reached, or the kernel or a container's filter forbids it. Docker's
filter says that there is no such call.
"""
_REPORT_FD: Final = 3
_CHANNEL_FD: Final = 4
"""To which a worker's doors are sent; closed before the agent runs."""
_FAILED: Final = 70
_ZEROS: Final = bytes(DATAGRAM_BYTES)


class Child:
    """One worker as its parent knows it."""

    def __init__(self, order: Spawn, pid: int, report: int, group: Group | None) -> None:
        self.id = order.id
        self.pid = pid
        self.group = group
        self.report = report
        """The pipe on which the child says that it runs, or why not; -1 when it is closed."""
        self.profile: Profile = order.profile
        self.has_init = order.has_init
        self.has_started = False
        self.agent_status: int | None = None
        self.cause: EndCause = ""
        self.killed_at: float | None = None
        self.tree: list[tuple[int, int]] = []
        """(pid, start time) of all that lived below it when it was killed."""
        self.end: Exit | None = None
        self.rest: Rest | None = None
        """While it rests."""
        self.gate: BirthGate | None = None
        """Where it waits, if it was started during a rest."""

    def open_gate(self) -> None:
        """Has it wait no longer."""
        if self.gate is not None:
            self.gate.open()
            self.gate = None


class ForkServer:
    """Serves one gateway; see the module."""

    def __init__(self, channel: socket.socket, groups: Groups) -> None:
        self._channel = channel
        self._groups = groups
        self._children: dict[int, Child] = {}
        self._by_pid: dict[int, Child] = {}
        self._by_report: dict[int, Child] = {}
        self._buffer = bytearray(DATAGRAM_BYTES)
        self._poll = select.poll()
        self._is_open = True
        self._watch = Watch()
        self._rule: Rule = "go"
        """What the workers were last told."""
        self._woken, self._waking = os.pipe()

    def run(self) -> None:
        """Serves until the gateway is gone; then ends every worker."""
        os.set_blocking(self._waking, False)
        os.set_blocking(self._woken, False)
        signal.signal(signal.SIGCHLD, _note)
        signal.signal(signal.SIGTERM, self._leave)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self._waking, warn_on_full_buffer=False)
        self._poll.register(self._channel, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)
        self._send(
            Ready(
                pid=os.getpid(),
                threads=_threads(),
                frozen_objects=gc.get_freeze_count(),
                counting=self._groups.counting(),
            )
        )
        while self._is_open:
            self._step(self._pause())
        self._end_all()
        self._groups.close()

    def _step(self, milliseconds: int | None) -> None:
        for fd, _ in self._poll.poll(milliseconds):
            if fd == self._channel.fileno():
                self._receive()
            elif fd == self._woken:
                _drain(self._woken)
            elif (child := self._by_report.get(fd)) is not None:
                self._read_report(child)
        self._reap()
        if self._watch.is_on:
            self._hold_to_its_word()
        self._go_on_killing()

    def _pause(self) -> int | None:
        """While something is being killed, it is looked after; otherwise there is nothing to do but wait."""
        if any(child.killed_at is not None for child in self._children.values()):
            return KILL_PAUSE_MILLISECONDS
        return self._watch.pause(time.monotonic_ns())

    def _hold_to_its_word(self) -> None:
        """Lets the workers rest, go on or end, by what the gateway said last."""
        before, self._rule = self._rule, self._watch.rule(time.monotonic_ns())
        rule = self._rule
        if rule == "go" == before:
            return
        for child in [child for child in self._children.values() if child.killed_at is None]:
            if rule == "end":
                self._stop(Stop(id=child.id, cause="lease"))
            elif rule == "rest":
                self._rest(child)
            elif child.rest is not None:
                child.rest.end()
                child.rest = None
                child.open_gate()

    def _rest(self, child: Child) -> None:
        child.rest = child.rest or Rest(child.pid, has_init=child.has_init, group=child.group)
        child.rest.hold()

    def _leave(self, _number: int, _frame: FrameType | None) -> None:
        self._is_open = False

    # -- the gateway's side -----------------------------------------------------------------------------

    def _receive(self) -> None:
        fds: list[int] = []
        try:
            size, ancillary, flags, _ = self._channel.recvmsg_into([self._buffer], socket.CMSG_SPACE(16))
        except OSError:
            self._is_open = False
            return
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                numbers = array.array("i")
                numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
                fds += numbers
        try:
            if size == 0 and not fds:
                self._is_open = False
            elif not flags & socket.MSG_TRUNC:
                self._obey(size, fds)
        finally:
            self._buffer[:size] = _ZEROS[:size]
            for fd in fds:
                os.close(fd)

    def _obey(self, size: int, fds: list[int]) -> None:
        end = self._buffer.find(b"\n", 0, size)
        head = self._buffer[: end if end >= 0 else size]
        try:
            order = spec.decode_order(head)
        except msgspec.DecodeError as error:
            print(f"fork server: skipped an order that cannot be read: {error}", file=sys.stderr)  # noqa: T201
            return
        if isinstance(order, Ping):
            self._send(Pong())
        elif isinstance(order, Stop):
            self._stop(order)
        elif isinstance(order, GoOn):
            self._watch.hear(order)
        elif isinstance(order, Reach):
            self._reach(order, fds)
        elif len(fds) != _descriptors(order) or order.id in self._children or end < 0:
            self._send(Failed(id=order.id, words="The order for this worker was not complete."))
        elif self._watch.rule(time.monotonic_ns()) == "end":
            self._send(Failed(id=order.id, words="This gateway may start no agent: it has lost its place."))
        else:
            self._spawn(order, memoryview(self._buffer)[end + 1 : size], fds)

    def _send(self, report: spec.FromForkServer) -> None:
        try:
            self._channel.send(spec.encode(report))
        except OSError:
            self._is_open = False

    # -- birth ------------------------------------------------------------------------------------------

    def _spawn(self, order: Spawn, body: memoryview, fds: list[int]) -> None:
        reading, writing = os.pipe()
        gate = None if self._watch.rule(time.monotonic_ns()) == "go" else BirthGate()
        try:
            group = self._make_group(order)
            pid = _clone(order, group)
        except OSError as error:
            os.close(reading)
            os.close(writing)
            if gate is not None:
                gate.open()
            self._send(Failed(id=order.id, words=_no_process(order, error)))
            return
        if pid == 0:
            if gate is not None:
                gate.wait()
            _become_worker(body, fds, writing, group)
        os.close(writing)
        body.release()
        child = Child(order, pid, reading, group)
        child.gate = gate
        self._children[order.id] = self._by_pid[pid] = self._by_report[reading] = child
        self._poll.register(reading, select.POLLIN)

    def _make_group(self, order: Spawn) -> Group | None:
        """An init is one process more than the agent may have."""
        processes = order.processes + order.has_init if order.processes else 0
        return self._groups.make(
            order.id,
            memory_bytes=order.memory_bytes,
            processes=processes,
            is_freezable=order.is_freezable or self._watch.is_on,
        )

    def _read_report(self, child: Child) -> None:
        """`+`: it runs. Four bytes after it: the wait status of the agent below an init. Else: why it cannot
        run.
        """
        data = os.read(child.report, REPORT_BYTES)
        if not data:
            self._close_report(child)
            return
        if not child.has_started and data[:1] != b"+":
            self._close_report(child)
            self._forget(child)
            self._send(Failed(id=child.id, words=data.decode("utf-8", "replace")))
            return
        if not child.has_started:
            child.has_started = True
            data = data[1:]
            self._send(_started(child))
        if len(data) == 4:
            (child.agent_status,) = struct.unpack("i", data)

    def _close_report(self, child: Child) -> None:
        if child.report >= 0:
            self._poll.unregister(child.report)
            del self._by_report[child.report]
            os.close(child.report)
            child.report = -1

    def _forget(self, child: Child) -> None:
        """Never ran: nobody hears of its end."""
        self._children.pop(child.id, None)

    def _reach(self, order: Reach, fds: list[int]) -> None:
        """Who asked hears of a failure by the end of the socket, which is closed when this order is done."""
        child = self._children.get(order.id)
        if child is None or not child.has_started or child.end is not None or len(fds) != 1:
            return
        with contextlib.suppress(OSError), open(f"/proc/{child.pid}/ns/net", "rb", 0) as network:
            # opened here, where nobody else waits for the child: its number is still its own
            if os.fork() == 0:
                _forget_signals()
                os.dup2(network.fileno(), 1)
                os.dup2(fds[0], 0)
                reach.hand_over(network=1, out=0)

    # -- death ------------------------------------------------------------------------------------------

    def _stop(self, order: Stop) -> None:
        child = self._children.get(order.id)
        if child is None:
            return
        child.cause = child.cause or order.cause
        if order.is_gentle and child.rest is None:
            if child.group is not None:
                child.group.thaw()
            _signal(child.pid, signal.SIGTERM)
        elif child.killed_at is None:
            self._kill(child)

    def _kill(self, child: Child) -> None:
        child.killed_at = time.monotonic()
        child.tree = [(pid, tree.start_time(pid)) for pid in tree.descendants(child.pid)]
        if child.rest is not None:
            child.rest.kill()  # before it thaws: it must not go on
        _signal(child.pid, _last_signal(child))
        if child.group is not None:
            child.group.thaw()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
                if pid == 0:
                    return
                child = self._by_pid.pop(pid, None)
                if child is not None:
                    self._ended(child, status, usage.ru_utime + usage.ru_stime)

    def _ended(self, child: Child, status: int, cpu_seconds: float) -> None:
        child.open_gate()
        if child.report >= 0:
            self._read_report(child)
            self._close_report(child)
        if child.agent_status is not None:
            status = child.agent_status
        code = os.waitstatus_to_exitcode(status)
        if child.group is not None:  # which knows of what nobody waited for, too
            cpu_seconds = max(cpu_seconds, child.group.cpu_seconds())
        cause = _counted(child, code) or child.cause or _cause_of(-code)
        if code < 0:
            child.end = Exit(signal=-code, cpu_seconds=cpu_seconds, cause=cause)
        else:
            child.end = Exit(code=code, cpu_seconds=cpu_seconds, cause=cause)
        if child.killed_at is None:
            child.killed_at = time.monotonic()
        if child.id in self._children and not child.has_started:
            self._forget(child)
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            self._send(Failed(id=child.id, words=f"The worker ended before its walls stood ({how})."))
        if child.id not in self._children and child.group is not None:
            child.group.kill()
            child.group.remove()

    def _go_on_killing(self) -> None:
        """Ends what is being ended, and what outlived its worker; reports those of which nothing lives."""
        dying = [child for child in self._children.values() if child.killed_at is not None]
        if not dying:
            return
        needs_search = any(child.profile != "strict" for child in dying)
        strays = (
            [pid for pid in tree.children(os.getpid()) if pid not in self._by_pid] if needs_search else []
        )
        for pid in strays:
            tree.kill_descendants(pid)
            _signal(pid, signal.SIGKILL)
        now = time.monotonic()
        for child in dying:
            is_late = now - (child.killed_at or now) > KILL_SECONDS
            has_left = (
                child.end is not None and (child.profile == "strict" or not strays) and _is_empty(child)
            )
            if child.end is not None and (has_left or is_late):
                del self._children[child.id]
                self._send(_receipt(child, child.end))
            elif child.end is None and is_late:
                tree.kill_descendants(child.pid)
                _signal(child.pid, signal.SIGKILL)

    def _end_all(self) -> None:
        """The gateway is gone: nothing is left behind."""
        for child in list(self._children.values()):
            self._stop(Stop(id=child.id))
        deadline = time.monotonic() + KILL_SECONDS
        while self._by_pid and time.monotonic() < deadline:
            self._poll_only_children()
            self._reap()
        for pid in tree.children(os.getpid()):
            tree.kill_descendants(pid)
            _signal(pid, signal.SIGKILL)

    def _poll_only_children(self) -> None:
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        if poll.poll(KILL_PAUSE_MILLISECONDS):
            _drain(self._woken)


def _descriptors(order: Spawn) -> int:
    """How many come with an order; not more than four are taken from the socket."""
    return 4 if order.network == "broker" else 3


def _no_process(order: Spawn, error: OSError) -> str:
    """Why not even the process could be made."""
    if order.profile == "strict" and error.errno in _NAMESPACES_REFUSED:
        return f"This machine gives the gateway's user no namespaces of its own ({error.strerror})."
    return f"No process could be started: {error.strerror}."


def _clone(order: Spawn, group: Group | None) -> int:
    """Clones the worker's process into its group. Returns twice, like fork."""
    flags = sandbox.clone_flags(order.profile, order.network)
    if group is None:
        return kernel.clone(flags)
    try:
        pid = kernel.clone(flags, cgroup_fd=group.directory_fd)
    except OSError:
        group.remove()
        raise
    if pid:
        group.let_go()
    return pid


def _forget_signals() -> None:
    """In a child: signals do again what they do to any program."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def _become_worker(body: memoryview, fds: list[int], report: int, group: Group | None) -> NoReturn:
    """In the child: from a copy of the fork server to a worker."""
    try:
        if group is not None:
            group.enter()
        _forget_signals()
        report = _take_descriptors(fds, report)
        os.setsid()
        request = spec.decode_request(body)
        counted = group.controllers if group is not None else ()
        sandbox.enter(request, counted=counted, channel=_CHANNEL_FD)
        if request.is_built_in:
            sandbox.lock(request, parent=report)
            os.write(report, b"+")
            os.close(report)
            gc.enable()
            code = agent.main(0, 1)
            sys.stderr.flush()
            os._exit(code)
        init.run(request, report)
    except OSError as error:
        what = f" ({os.fsdecode(error.filename)})" if error.filename else ""
        os.write(report, f"The worker could not be walled in: {error.strerror}{what}.".encode())
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.write(report, f"The worker failed at its start: {error!r}."[:REPORT_BYTES].encode())
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(_FAILED)


def _take_descriptors(fds: list[int], report: int) -> int:
    """stdin, stdout, stderr, the report pipe and, if it came, the channel of the doors; every other
    descriptor is closed.
    """
    high = [_high_copy(fd) for fd in (*fds[:3], report, *fds[3:])]
    for target, fd in enumerate(high):
        os.dup2(fd, target, inheritable=target < _REPORT_FD)
    kernel.close_from(len(high))
    return _REPORT_FD


def _high_copy(fd: int) -> int:
    """A copy above the standard descriptors, so that none is overwritten before it is moved."""
    copy = os.dup(fd)
    return copy if copy > _CHANNEL_FD else _high_copy(fd)


def _started(child: Child) -> Started:
    group = child.group
    if group is None:
        return Started(id=child.id, pid=child.pid)
    return Started(
        id=child.id,
        pid=child.pid,
        memory_events=group.events_file("memory"),
        processes_events=group.events_file("pids"),
        cpu_file=group.cpu_file(),
        freezer_file=group.freezer_file(),
    )


def _counted(child: Child, code: int) -> EndCause:
    """The limit of its group that ended a worker, if it neither ended well nor exceeded another limit."""
    is_its = child.group is not None and code and child.cause in ("", "memory", "processes")
    return child.group.cause() if child.group is not None and is_its else ""


def _is_empty(child: Child) -> bool:
    """Whether nothing lives in a worker's group, which is then gone; what does is killed."""
    if child.group is None or child.group.remove():
        return True
    child.group.kill()
    return False


def _receipt(child: Child, end: Exit) -> ProcessEnded:
    """Which processes lived when the worker was killed, and which still live, by pid and start time."""
    survivors = sum(1 for pid, start in child.tree if tree.is_alive(pid) and tree.start_time(pid) == start)
    if child.group is not None and not child.group.remove():
        survivors = max(survivors, len(child.group.members()))
    processes = max(1, 1 + len(child.tree) - child.has_init)
    return ProcessEnded(id=child.id, exit=end, processes=processes, survivors=survivors)


def _last_signal(child: Child) -> signal.Signals:
    """A pid namespace dies with its init; elsewhere the init kills what is below it, then itself."""
    return signal.SIGUSR1 if child.has_init and child.profile != "strict" else signal.SIGKILL


def _cause_of(number: int) -> EndCause:
    causes: dict[int, EndCause] = {signal.SIGXCPU: "cpu", signal.SIGXFSZ: "file_size"}
    return causes.get(number, "")


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def _drain(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.read(fd, 4096)


def _note(_number: int, _frame: FrameType | None) -> None:
    """SIGCHLD only has to wake the poll."""


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def main(channel_fd: int, groups_name: str = "") -> None:
    """Serves the gateway at the other end of the socket; returns when it is gone. `groups_name` is what the
    gateway's control groups are called; empty: there are to be none.
    """
    kernel.set_parent_death_signal(signal.SIGTERM)
    kernel.become_subreaper()
    channel = socket.socket(fileno=channel_fd)
    channel.set_inheritable(False)
    gc.disable()
    sandbox.touch()
    agent.warm_up()
    groups = Groups(groups_name, os.getppid())
    groups.open()
    server = ForkServer(channel, groups)
    gc.collect()
    gc.freeze()
    server.run()
