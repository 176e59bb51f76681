"""Who is outside the fork server's family, on real processes of this machine."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

import pytest

from gateway.workers import holders
from gateway.workers.holders import MOST_KEPT, Holders, Outsiders, find_all

CHILD: Final = (sys.executable, "-I", "-S", "-c", "import sys; sys.stdin.read()")
_NURSERY: Final = f"""
import subprocess, sys
child = subprocess.Popen({CHILD!r})
print(child.pid, flush=True)
child.wait()
sys.stdin.read()
"""
NURSERY: Final = (sys.executable, "-I", "-S", "-c", _NURSERY)


@contextlib.contextmanager
def child(*, pass_fds: tuple[int, ...] = ()) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(CHILD, stdin=subprocess.PIPE, pass_fds=pass_fds) as process:
        try:
            yield process
        finally:
            process.communicate()


@contextlib.contextmanager
def nursery() -> Iterator[tuple[int, int]]:
    """A process that has a child: their ids."""
    with subprocess.Popen(NURSERY, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield process.pid, int(process.stdout.readline())
        finally:
            process.communicate()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def outsiders() -> Iterator[Outsiders]:
    before = descriptors()
    kept = Outsiders()
    yield kept
    kept.close()
    assert descriptors() == before


def test_an_ancestors_descendants_are_inside_however_often_others_were_looked_at(
    outsiders: Outsiders,
) -> None:
    with child() as one, child() as other, nursery() as (server, worker):
        for _ in range(3):
            assert outsiders.has(one.pid, ancestor=server)
            assert outsiders.has(os.getpid(), ancestor=server)
            assert not outsiders.has(server, ancestor=server)
            assert not outsiders.has(worker, ancestor=server)
            assert outsiders.has(worker, ancestor=other.pid)


def test_what_was_outside_of_one_server_may_be_inside_the_next_ones_family(outsiders: Outsiders) -> None:
    with child() as old, nursery() as (new, worker):
        assert outsiders.has(worker, ancestor=old.pid)
        assert not outsiders.has(worker, ancestor=new)
        assert not outsiders.has(os.getpid(), ancestor=0), "without a server nothing is known"


def test_a_number_that_another_process_has_now_is_looked_at_again(
    outsiders: Outsiders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of a client that ended, given to an agent's process."""
    with child() as server:
        with child() as client:
            assert outsiders.has(client.pid, ancestor=server.pid)
        assert outsiders.has_ended(client.pid)
        assert not outsiders.has(client.pid, ancestor=server.pid), "it is gone"
        with child() as client:
            assert outsiders.has(client.pid, ancestor=server.pid)
        parents = {client.pid: server.pid}
        monkeypatch.setattr(holders, "parent_of", parents.get)
        assert not outsiders.has(client.pid, ancestor=server.pid)


def test_a_parent_is_read_once_for_all_its_children(
    outsiders: Outsiders, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, parent_of = list[int](), holders.parent_of

    def reading(pid: int) -> int | None:
        read.append(pid)
        return parent_of(pid)

    monkeypatch.setattr(holders, "parent_of", reading)
    with child() as server, child() as one, child() as two:
        assert outsiders.has(one.pid, ancestor=server.pid)
        read.clear()
        assert outsiders.has(one.pid, ancestor=server.pid)
        assert outsiders.has(two.pid, ancestor=server.pid)
        assert read == [two.pid]


def test_only_so_many_are_kept(outsiders: Outsiders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holders, "MOST_KEPT", 2)
    before = descriptors()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(child())
        pipes = descriptors() - before
        clients = [stack.enter_context(child()) for _ in range(4)]
        for client in clients * 2:
            assert outsiders.has(client.pid, ancestor=server.pid)
        assert descriptors() - before - pipes * 5 == 2
    assert MOST_KEPT > 2


def test_kernels_without_descriptors_of_processes_are_asked_each_time(
    outsiders: Outsiders, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pidfd_open(_pid: int) -> int:
        raise OSError

    monkeypatch.setattr(os, "pidfd_open", pidfd_open)
    with child() as client, nursery() as (server, worker):
        for _ in range(2):
            assert outsiders.has(client.pid, ancestor=server)
            assert not outsiders.has(worker, ancestor=server)


def test_a_socket_is_found_where_it_is_and_its_holder_is_looked_at_first_afterwards() -> None:
    found = Holders()
    with contextlib.ExitStack() as stack:
        stack.callback(found.close)
        server = stack.enter_context(child())
        sock = stack.enter_context(socket.socket())
        inode = os.fstat(sock.fileno()).st_ino
        client = stack.enter_context(child(pass_fds=(sock.fileno(),)))
        sock.close()
        assert find_all([inode, 1], ancestor=server.pid) == {inode: client.pid}
        assert find_all([inode], ancestor=client.pid) == {}
        assert found.remember(client.pid, ancestor=server.pid)
        assert found.find_quickly(inode, ancestor=server.pid)
        assert not found.find_quickly(inode, ancestor=client.pid)
