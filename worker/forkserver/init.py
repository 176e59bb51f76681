"""The tiny init above an agent's command: reaps what the agent leaves, forwards signals, and takes all of it
along.

A command cannot be pid 1 itself: without handlers it would ignore SIGTERM and keep zombies
(pid_namespaces(7)). Outside a pid namespace the init is a subreaper, so that what double-forks away from the
agent is still found below it.

Guarantees: SIGTERM and its like go to the agent's process group; when the agent ends, when the fork server
dies or when it says so (SIGUSR1), everything below is killed before the init ends; the agent's own wait
status is the last word on the report pipe, since a pid 1 cannot die of a signal to show it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import time
from types import FrameType
from typing import Final, NoReturn

from worker.forkserver import reaper, tree
from worker.sandbox import kernel
from worker.sandbox import walls as sandbox
from worker.spec import SpawnRequest

FORWARDED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR2)
KILL_SECONDS: Final = 1.5
"""How long everything below is killed again and again; a tree that outlives it is the fork server's to
report.
"""
KILL_PAUSE_SECONDS: Final = 0.002
_FAILED: Final = 70


def run(request: SpawnRequest, report: int) -> NoReturn:
    """Starts the command behind its walls, tells `report` that it runs (or why not), and stays until it has
    ended.
    """
    if os.getpid() != 1:
        kernel.become_subreaper()
    # Outside a pid namespace an init that died with the fork server would leave its tree: it ends that first.
    death = signal.SIGKILL if os.getpid() == 1 else signal.SIGUSR1
    signal.signal(signal.SIGUSR1, _end_all)
    kernel.set_parent_death_signal(death)
    started, starting = os.pipe()
    agent = os.fork()
    if agent == 0:
        _execute(request, starting, init=started)
    for number in FORWARDED:
        signal.signal(number, lambda number, _frame: _forward(agent, number))
    os.close(starting)
    _let_go_of_pipes()
    if words := os.read(started, 4096):
        os.write(report, words)
        os._exit(_FAILED)
    os.close(started)
    os.write(report, b"+")
    if os.getpid() == 1:
        reaper.become(agent, report, FORWARDED)
    status = _wait_for(agent)
    _kill_all()
    with contextlib.suppress(OSError):
        os.write(report, struct.pack("i", status))
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _execute(request: SpawnRequest, starting: int, *, init: int) -> NoReturn:
    """In the agent's own process. The pipe closes when the command runs; what is written to it before is why
    not.
    """
    try:
        os.close(init)
        os.setsid()
        for number in (*FORWARDED, signal.SIGUSR1, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        sandbox.lock(request, parent=starting)
        os.execvpe(request.argv[0], request.argv, dict(os.environ))  # noqa: S606
    except FileNotFoundError:  # its file name is the last that was tried
        os.write(starting, f"The agent's command is not there: {request.argv[0]}.".encode())
    except OSError as error:
        what = f" ({os.fsdecode(error.filename)})" if error.filename else ""
        os.write(starting, f"The agent's command cannot be run: {error.strerror}{what}.".encode())
    finally:
        os._exit(_FAILED)


def _let_go_of_pipes() -> None:
    """The agent's pipes are the agent's: the end of its output must not wait for the init."""
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    os.close(nowhere)


def _wait_for(agent: int) -> int:
    while True:
        pid, status = os.wait()
        if pid == agent:
            return status


def _forward(agent: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(agent, number)


def _end_all(_number: int, _frame: FrameType | None) -> None:
    _kill_all()
    os._exit(128 + signal.SIGKILL)


def _kill_all() -> None:
    """A pid namespace dies with its pid 1; elsewhere everything below is killed until nothing is left to
    reap.
    """
    if os.getpid() == 1:
        return
    deadline = time.monotonic() + KILL_SECONDS
    while time.monotonic() < deadline:
        tree.kill_descendants(os.getpid())
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            time.sleep(KILL_PAUSE_SECONDS)
            continue
        return
