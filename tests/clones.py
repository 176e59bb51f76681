"""Gateways and commands of tests as clones of one interpreter that has loaded the gateway already: most of
what it takes of the processor to start one is spent on loading modules.

    process = await cloned(["serve", "--port", "0"], environ=…, cwd=…, stderr=…)   # None: not here

A clone is what `python -m gateway` is from there on: a process and a child of the test's own, with the
command line, environment, directory and streams that it was given. It differs in what `/proc/PID` says of its
start (`cmdline`, `environ`) and shares memory with others that it has not written to. A test of the start
itself executes its gateway: `running_gateway(…, prefix=("env",))`; so does one that gives an environment
of more than settings.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Any, Final

import gateway
from tests import lasting
from worker.sandbox import kernel

_OUTSIDE: Final = ("argon2", "encodings.idna", "uvicorn.lifespan.off")
"""What a gateway loads while it starts, beside its own modules."""
_CLONE_PARENT: Final = 0x0000_8000
"""clone(2): the child's parent is the caller's, which is told of its end as it is of the caller's."""
_LONGEST: Final = 1 << 20
_lock: Final = threading.Lock()
_templates: Final[dict[int, socket.socket]] = {}


class Clone:
    """A process, with the methods of asyncio's that tests use."""

    def __init__(self, pid: int, stdout: asyncio.StreamReader) -> None:
        self.pid = pid
        self.stdout: asyncio.StreamReader | None = stdout
        self._code: int | None = None
        self._ended = asyncio.Event()
        self._pidfd = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._code

    def send_signal(self, number: int) -> None:
        if self._code is None:
            signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Its exit code; the number of a signal that ended it, negative."""
        await self._ended.wait()
        assert self._code is not None
        return self._code

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        _, status = os.waitpid(self.pid, 0)
        self._code = os.waitstatus_to_exitcode(status)
        self._ended.set()


async def cloned(
    arguments: Sequence[str], *, environ: Mapping[str, str], cwd: os.PathLike[str], stderr: IO[bytes]
) -> Clone | None:
    """`agent-gateway` with these arguments, its stdout a pipe. None if the kernel does not clone so, and
    outside of tests: benchmarks run what ships.
    """
    if "PYTEST_CURRENT_TEST" not in os.environ:
        return None
    ours, theirs = os.pipe()
    try:
        asked = {"arguments": list(arguments), "environ": dict(environ), "cwd": os.fspath(cwd)}
        pid = await asyncio.to_thread(_ask, json.dumps(asked).encode(), [theirs, stderr.fileno()])
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    if pid < 0:
        os.close(ours)
        return None
    stdout, loop = asyncio.StreamReader(), asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdout), os.fdopen(ours, "rb", 0))
    return Clone(pid, stdout)


def _ask(request: bytes, fds: list[int]) -> int:
    with _lock:
        if (template := _templates.get(os.getpid())) is None:
            template = _templates[os.getpid()] = _template()
        socket.send_fds(template, [request], fds)
        return int(template.recv(16))


def _template() -> socket.socket:
    """Starts the interpreter of which clones are made; it ends with this process at the latest."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.clones", str(theirs.fileno())],
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
            pass_fds=[theirs.fileno()],
            stdout=subprocess.DEVNULL,
        )
    lasting.PIDS.add(process.pid)

    def end() -> None:
        ours.close()
        process.wait()

    lasting.ENDS.append(end)
    return ours


def _serve(asking: socket.socket) -> int:
    """Clones for each request until nobody can ask any more; in a clone, the exit code of the gateway."""
    while True:
        try:
            request, fds, _, _ = socket.recv_fds(asking, _LONGEST, 2)
        except KeyboardInterrupt:
            return 0
        if not request:
            return 0
        try:
            pid = kernel.clone(_CLONE_PARENT, exit_signal=0)
        except OSError:
            pid = -1
        if pid == 0:
            asking.close()
            return _become(json.loads(request), fds)
        for fd in fds:
            os.close(fd)
        asking.send(b"%d" % pid)


def _become(asked: Any, fds: Sequence[int]) -> int:
    for fd, number in zip(fds, (1, 2), strict=True):
        os.dup2(fd, number)
        os.close(fd)
    sys.stdout = open(1, "w", closefd=False)
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.environ.clear()
    os.environ.update(asked["environ"])
    os.chdir(asked["cwd"])
    from gateway.cli.main import main

    return main(asked["arguments"])


if __name__ == "__main__":
    kernel.touch()
    gc.disable()
    for name in (*(each.name for each in pkgutil.walk_packages(gateway.__path__, "gateway.")), *_OUTSIDE):
        if not name.endswith("__main__"):
            with contextlib.suppress(ImportError):  # what is for an extra that is not installed
                importlib.import_module(name)
    gc.freeze()
    gc.enable()
    sys.exit(_serve(socket.socket(fileno=int(sys.argv[1]))))
