"""A restart as systemd does it: the manager holds the listening socket, so that nobody is refused."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.deploy.load import People
from tests.gateways import ROOT, RunningGateway, running_gateway
from tests.patience import crowding, soon
from tests.shared import eventually
from tests.streams import open_stream

UNLIMITED = "[limits]\nsession_burst = 100_000\naddress_burst = 100_000\n"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """The socket that the service manager holds."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as held:
        yield held


async def test_a_restart_under_load_refuses_nobody_and_loses_nothing(
    tmp_path: pathlib.Path, listener: socket.socket
) -> None:
    people = People(f"http://127.0.0.1:{listener.getsockname()[1]}")
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(
            running_gateway(tmp_path, config=UNLIMITED, listener=listener)
        )
        assert first.url == people.url
        async with people.at_work():
            await people.until(100)
            for _ in range(2):
                assert await first.stop() == 0
                first = await stack.enter_async_context(
                    running_gateway(tmp_path, config=UNLIMITED, listener=listener)
                )
                await people.until(50)
        words = await people.check(first.http)
    assert set(people.trouble) <= {"status 503"}, "503 says to come again; anything else is a cut"
    print(  # noqa: T201 - what a rehearsal is for
        f"\n2 restarts, {words} words, 0 lost, 0 refused, told to come again {people.trouble.total()} times; "
        f"the longest wait for an acknowledgement was {max(people.waits):.2f} s"
    )


async def test_a_stream_goes_on_after_a_restart_where_it_was(
    tmp_path: pathlib.Path, listener: socket.socket
) -> None:
    async with running_gateway(tmp_path, listener=listener) as gateway:
        await gateway.chat("a", "/echo before")
        async with open_stream(gateway.http, "a") as stream:
            last = await stream.until_event("turn_ended")
    async with running_gateway(tmp_path, listener=listener) as gateway:
        await gateway.chat("a", "/echo after")
        async with open_stream(gateway.http, "a", after=last.id) as stream:
            await stream.until_event("turn_ended")
            assert stream.text == "after"


async def test_a_turn_that_outlasts_the_grace_ends_with_a_clear_event(tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path, config="[server]\ndrain_seconds = 0.3\n") as gateway:
        async with open_stream(gateway.http, "a") as stream:
            await gateway.send("a", "/count 1000 50")
            await stream.until_event("text_delta")
            gateway.process.send_signal(signal.SIGTERM)
            frame = await stream.until_event("turn_interrupted")
            assert frame.data["message"]
        assert await gateway.stop() == 0


def test_a_socket_that_does_not_listen_is_refused_in_one_line(tmp_path: pathlib.Path) -> None:
    with socket.socket() as idle:
        done = subprocess.run(
            [*_passing(idle.fileno()), sys.executable, "-m", "gateway", "serve", "--data-dir", str(tmp_path)],
            cwd=ROOT, pass_fds=[idle.fileno()], capture_output=True, text=True, check=False,
            timeout=30 * crowding(),
        )  # fmt: skip
    assert done.returncode == 1
    assert "no TCP socket that listens" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_open_gateway_behind_a_socket_for_everybody_is_refused(tmp_path: pathlib.Path) -> None:
    """The passed socket's own address counts, not the configured one. It is bound, and nobody is let in."""
    with socket.create_server(("0.0.0.0", 0)) as everybody:  # noqa: S104
        done = subprocess.run(
            [*_passing(everybody.fileno()), sys.executable, "-m", "gateway", "serve"],
            cwd=ROOT, pass_fds=[everybody.fileno()], capture_output=True, text=True, check=False,
            timeout=30 * crowding(),
        )  # fmt: skip
    assert done.returncode == 2
    assert "without credentials" in done.stderr


def _passing(fd: int) -> list[str]:
    return ["bash", "-c", f'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&{fd}', "bash"]


async def test_the_service_manager_is_told_when_it_is_ready_and_when_it_stops(tmp_path: pathlib.Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        async with running_gateway(tmp_path, environ={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as gateway:
            assert manager.recv(100) == b"READY=1"
            await gateway.stop()
            assert manager.recv(100) == b"STOPPING=1"


async def test_who_has_just_connected_is_heard_although_the_gateway_ends(tmp_path: pathlib.Path) -> None:
    """The kernel had taken the connection; a client cannot know that its request would have come too late."""
    async with running_gateway(tmp_path) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        gateway.process.send_signal(signal.SIGTERM)
        await eventually(lambda: _is_draining(gateway))
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await soon(reader.read(), 10)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer.lower()
        writer.close()
        await writer.wait_closed()


async def _is_draining(gateway: RunningGateway) -> bool:
    return "draining" in gateway.log()
