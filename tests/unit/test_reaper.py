"""The program that is the init of a command's namespace: what it reaps, sends on and says last."""

from __future__ import annotations

import errno
import os
import pathlib
import platform
import signal
import struct
import sys
import time
from collections.abc import Callable
from typing import Final

import psutil
import pytest

from tests.patience import crowding
from worker.forkserver import init, reaper
from worker.sandbox import kernel

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.platform != "linux", reason="the program is for Linux on x86-64"
)
MOST_BYTES: Final = 100_000
"""Of the whole program, its stack and the kernel's page for what it asks for."""
NO_PROGRAM: Final = 3


class Init:
    """One that runs, above an agent that does what it is told."""

    def __init__(self, agent: Callable[[], None]) -> None:
        self.report, report = os.pipe()
        telling, told = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            kernel.become_subreaper()
            child = os.fork()
            if child == 0:
                for number in (*init.FORWARDED, signal.SIGSEGV):
                    signal.signal(number, signal.SIG_DFL)
                os.setsid()
                agent()
                os._exit(0)
            os.write(told, struct.pack("i", child))
            reaper.become(child, report, init.FORWARDED)
            os._exit(NO_PROGRAM)
        os.close(report)
        (self.agent,) = struct.unpack("i", os.read(telling, 4))
        os.close(telling)
        os.close(told)

    def is_running(self) -> bool:
        """Whether the program has begun, and the agent has its group."""
        has_begun = pathlib.Path(f"/proc/{self.pid}/cmdline").read_bytes() == b"init\0"
        return has_begun and os.getpgid(self.agent) == self.agent

    def status(self) -> int:
        """The agent's wait status, once the program has ended."""
        assert os.waitpid(self.pid, 0)[1] == 0
        words = os.read(self.report, 100)
        os.close(self.report)
        (status,) = struct.unpack("i", words)
        return int(status)


def soon(holds: Callable[[], bool]) -> None:
    ends = time.monotonic() + 10 * crowding()
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.005)


@pytest.fixture
def waiting() -> Init:
    """Above an agent that waits for a signal."""
    made = Init(signal.pause)
    soon(made.is_running)
    return made


@pytest.mark.parametrize("code", [0, 7, 137, 255])
def test_it_says_the_agents_exit_code(code: int) -> None:
    assert os.waitstatus_to_exitcode(Init(lambda: os._exit(code)).status()) == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_it_says_the_signal_that_ended_the_agent(waiting: Init, number: signal.Signals) -> None:
    os.kill(waiting.agent, number)
    assert os.WTERMSIG(waiting.status()) == number


@pytest.mark.parametrize("number", init.FORWARDED)
def test_it_sends_a_signal_on_to_the_agents_group(waiting: Init, number: signal.Signals) -> None:
    os.kill(waiting.pid, number)
    assert os.WTERMSIG(waiting.status()) == number


def test_it_reaps_what_the_agent_leaves_and_goes_on() -> None:
    def leave() -> None:
        for _ in range(20):
            if os.fork() == 0:
                if os.fork() == 0:
                    time.sleep(0.05)
                os._exit(0)
            os.wait()
        signal.pause()

    made = Init(leave)
    soon(lambda: [one.pid for one in psutil.Process(made.pid).children()] == [made.agent])
    os.kill(made.agent, signal.SIGTERM)
    assert os.WTERMSIG(made.status()) == signal.SIGTERM


def test_a_stopped_agent_goes_on_under_it(waiting: Init) -> None:
    os.kill(waiting.agent, signal.SIGSTOP)
    soon(lambda: psutil.Process(waiting.agent).status() == psutil.STATUS_STOPPED)
    os.kill(waiting.agent, signal.SIGCONT)
    soon(lambda: psutil.Process(waiting.agent).status() == psutil.STATUS_SLEEPING)
    os.kill(waiting.pid, signal.SIGTERM)
    assert os.WTERMSIG(waiting.status()) == signal.SIGTERM


def test_it_takes_next_to_no_memory_and_has_no_environment(waiting: Init) -> None:
    assert psutil.Process(waiting.pid).memory_info().rss < MOST_BYTES
    environ = pathlib.Path(f"/proc/{waiting.pid}/environ")
    if os.geteuid() == 0:
        assert not environ.read_bytes()
    else:
        with pytest.raises(PermissionError):
            environ.read_bytes()
    os.kill(waiting.agent, signal.SIGKILL)
    waiting.status()


def test_where_nothing_is_run_from_memory_the_interpreter_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_name: str, _flags: int) -> int:
        raise PermissionError(errno.EACCES, "vm.memfd_noexec")

    monkeypatch.setattr(os, "memfd_create", refused)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    reaper.become(1, 2, init.FORWARDED)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
