"""Programs of the flood campaign that import nothing of the gateway, so that workers can run them.

`upstream` is a listed host: it answers `GET /N` with N bytes, and names at a UDP port. `flood` and
`neighbour` read orders from stdin, a JSON object a line, and answer each with one line.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
ALERT = 21
"""The first byte of what TLS is refused with."""
PIECE = bytes(1 << 20)
PATIENCE = 60.0
PAUSE = 0.005
"""Between two requests of a neighbour."""


def main() -> None:
    """Runs one of them."""
    if sys.argv[1] == "upstream":
        if "idle" in sys.argv:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        serve()
    obey: Callable[..., dict[str, Any]] = flood
    if sys.argv[1] == "neighbour":
        obey = Neighbour(json.loads(sys.argv[2])).ask_for
    for line in sys.stdin:
        tell(json.dumps(obey(**json.loads(line))))


def tell(line: object) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


# -- the host -----------------------------------------------------------------------------------------------


def serve() -> None:
    with (
        socket.create_server(("127.0.0.1", 0), backlog=4_096) as listener,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as names,
    ):
        names.bind(("127.0.0.1", 0))
        threading.Thread(target=answer_names, args=(names,), daemon=True).start()
        tell(json.dumps([one.getsockname()[1] for one in (listener, names)]))
        while True:
            made, _ = listener.accept()
            threading.Thread(target=answer, args=(made,), daemon=True).start()


def answer_names(names: socket.socket) -> None:
    """Each with the question, as if it had one answer: enough for who counts them."""
    while True:
        question, asker = names.recvfrom(512)
        names.sendto(question[:7] + b"\1" + question[8:], asker)


def answer(made: socket.socket) -> None:
    with made, contextlib.suppress(OSError):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                more = made.recv(65_536)
                if not more:
                    return
                head += more
            size = int(head.split(b" ", 2)[1].strip(b"/"))
            made.sendall(HEAD % size + bytes(min(size, 4_096)))
            for sent in range(4_096, size, len(PIECE)):
                made.sendall(PIECE[: size - sent])
            if b"\r\nConnection: close" in head:
                return


# -- the flood ----------------------------------------------------------------------------------------------


def flood(
    *,
    doors: dict[str, list[Any]],
    connections: int,
    names: int,
    name_server: list[Any],
    first_name: int,
    times: int,
    downloads: int,
    size: int,
    hoard: int,
    threads: int,
    seconds: float,
) -> dict[str, Any]:
    """Connections one after the other in each of so many threads, names so many times, downloads of so many
    bytes, and a hoard of connections that say nothing: all at once, spread over so many seconds. How each of
    them ended.
    """
    counts: dict[str, int] = {}
    lock = threading.Lock()

    def count(what: str, by: int = 1) -> None:
        with lock:
            counts[what] = counts.get(what, 0) + by

    kinds = [kind for kind in doors if kind != "download"]
    asked = range(first_name, first_name + names)
    jobs: list[Callable[[], None]] = [lambda: look_up(name_server, asked, times, seconds, count)]
    hoarded = [socket.socket() for _ in range(hoard)]
    for one in hoarded:
        with contextlib.suppress(OSError):
            one.settimeout(PATIENCE)
            one.connect((doors["own"][0], doors["own"][1]))
    for number in range(threads):
        paced = Pace(connections // threads, seconds)
        kind = kinds[number % len(kinds)]
        jobs.append(lambda kind=kind, paced=paced: connect(kind, doors[kind], paced, count))  # type: ignore[misc]
    jobs += [lambda: download(doors["download"], Pace(size, seconds), count)] * downloads
    running = [threading.Thread(target=job) for job in jobs]
    for one_thread in running:
        one_thread.start()
    for one_thread in running:
        one_thread.join()
    for one in hoarded:
        one.close()
    return counts


class Pace:
    """So much in so many seconds, and no sooner."""

    def __init__(self, amount: int, seconds: float) -> None:
        self.amount = amount
        self._each = seconds / max(1, amount)
        self._began = time.monotonic()

    def wait(self, done: int) -> None:
        """After so much of it."""
        early = self._began + done * self._each - time.monotonic()
        if early > 0:
            time.sleep(early)


def connect(kind: str, where: list[Any], paced: Pace, count: Callable[..., None]) -> None:
    for done in range(paced.amount):
        paced.wait(done)
        try:
            with socket.create_connection((where[0], where[1]), timeout=PATIENCE) as made:
                asked = f"GET /8 HTTP/1.1\r\nHost: {where[0]}\r\nConnection: close\r\n\r\n"
                made.sendall(b"no TLS" if kind == "tls" else asked.encode())
                said = made.recv(65_536)
                while (more := made.recv(65_536)) != b"":
                    said += more
        except TimeoutError:
            count("hung")
        except OSError:
            count("cut")  # there were too many
        else:
            is_well = said[:1] == bytes([ALERT]) if kind == "tls" else b" 200 OK\r\n" in said
            count("served" if is_well else "cut" if not said else "wrong")


def look_up(
    server: list[Any], numbers: range, times: int, seconds: float, count: Callable[..., None]
) -> None:
    paced = Pace(len(numbers) * times, seconds)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(PATIENCE)
        for done, number in enumerate([*numbers] * times):
            paced.wait(done)
            label = b"name-%d" % number
            question = b"\1\1\1\0\0\1" + bytes(6) + bytes([len(label)]) + label + b"\4test\0\0\1\0\1"
            asking.sendto(question, (server[0], server[1]))
            said = asking.recv(512)
            count("names" if said[7] else "names refused")


def download(where: list[Any], paced: Pace, count: Callable[..., None]) -> None:
    received, size = 0, paced.amount
    with socket.create_connection((where[0], where[1]), timeout=PATIENCE) as made:
        made.sendall(b"GET /%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % size)
        room = bytearray(1 << 18)
        while got := made.recv_into(room):
            received += got
            paced.wait(received)
    count("bytes", received - len(HEAD % size))


# -- the neighbour ------------------------------------------------------------------------------------------


class Neighbour:
    """Asks one thing after the other, each in its ways: kept connections, and new ones."""

    def __init__(self, doors: dict[str, list[Any]]) -> None:
        self._doors = doors
        self._kept: dict[str, socket.socket] = {}

    def ask_for(self, seconds: float) -> dict[str, Any]:
        """Seconds of each request by kind, for so long; and what failed."""
        took: dict[str, list[float]] = {kind: [] for kind in self._doors}
        failed: list[str] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for kind, where in self._doors.items():
                began = time.perf_counter()
                try:
                    self._ask(kind, where)
                except OSError as error:
                    failed.append(f"{kind}: {error!r}")
                    self._kept.pop(kind, None)
                else:
                    took[kind].append(time.perf_counter() - began)
                time.sleep(PAUSE)
        return {"took": took, "failed": failed}

    def _ask(self, kind: str, where: list[Any]) -> None:
        made = self._kept.get(kind)
        if made is None:
            made = socket.create_connection((where[0], where[1]), timeout=PATIENCE)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        is_kept = kind.startswith("kept")
        last = "" if is_kept else "\r\nConnection: close"
        path = "/llm/x" if kind == "kept route" else "/512"
        made.sendall(f"GET {path} HTTP/1.1\r\nHost: {where[0]}{last}\r\n\r\n".encode())
        said = b""
        while b"\r\n\r\n" not in said or len(said.partition(b"\r\n\r\n")[2]) < 512:
            more = made.recv(65_536)
            if not more:
                raise ConnectionError(f"it ended after {said[:80]!r}")
            said += more
        if b" 200 OK\r\n" not in said:
            raise ConnectionError(said[:80].decode("latin-1"))
        if is_kept:
            self._kept[kind] = made
        else:
            made.close()


if __name__ == "__main__":
    main()
