"""For `benchmarks/egress.py`: a client and an upstream host that import nothing of the gateway, so that a
worker can run them. `egress_client.py upstream` listens and says its port; `egress_client.py ask JSON` asks
and prints seconds.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from typing import Any


def main() -> None:
    """Runs one of both."""
    if sys.argv[1] == "upstream":
        serve()
    else:
        print(json.dumps(ask(**json.loads(sys.argv[2]))))


def serve() -> None:
    """Answers each request with so many chunks of so many bytes, so many milliseconds apart: `?4000,200,0`.
    A POST is a call of a model, whose prompt says that; each chunk of its answer is an event.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            made, _ = listener.accept()
            threading.Thread(target=answer, args=(made,), daemon=True).start()


def answer(made: socket.socket) -> None:
    with made:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            head = b""
            while b"\r\n\r\n" not in head:
                more = made.recv(65_536)
                if not more:
                    return
                head += more
            head, _, body = head.partition(b"\r\n\r\n")
            is_call = head.startswith(b"POST ")
            query = head.split(b" ", 2)[1].partition(b"?")[2].decode()
            if is_call:
                query = json.loads(read_body(made, head, body))["messages"][0]["content"]
            count, size, pause = (int(word) for word in query.split(","))
            piece, last = event(size) if is_call else b"x" * size, LAST if is_call else b""
            kind = b"Content-Type: text/event-stream\r\n" if is_call else b""
            length = count * size + len(last)
            made.sendall(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n" % (kind, length))
            for _ in range(count):
                made.sendall(piece)
                if pause:
                    time.sleep(pause / 1_000)
            made.sendall(last)


LAST = (
    b'data: {"model":"m","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":9}}\n\ndata: [DONE]\n\n'
)
"""Of a model's stream."""


def read_body(made: socket.socket, head: bytes, body: bytes) -> bytes:
    """The whole of it; `body` is what came with the head."""
    lines = head.lower().split(b"\r\n")
    size = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
    while len(body) < size and (more := made.recv(size - len(body))):
        body += more
    return body


def event(size: int) -> bytes:
    """A piece of a model's answer, of so many bytes, as OpenAI writes it that was asked for usage."""
    before = b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"'
    after = b'"}}],"usage":null}\n\n'
    return before + b"x" * max(1, size - len(before) - len(after)) + after


def written(path: str, host: str, body: str, token: str) -> bytes:
    """A request; with a body, a call of a model."""
    if not body:
        return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def ask(
    *,
    address: str,
    port: int,
    connect: str,
    path: str,
    host: str,
    times: int,
    is_kept: bool,
    body: str = "",
    token: str = "",
) -> dict[str, Any]:
    """Seconds to the first byte of each of so many requests, of the look-ups of names for them, and of the
    whole of them.
    """
    firsts: list[float] = []
    names: list[float] = []
    total, made = 0, None
    began = time.perf_counter()
    for _ in range(times):
        asked = time.perf_counter()
        if made is None:
            found = socket.gethostbyname(address)
            names.append(time.perf_counter() - asked)
            asked = time.perf_counter()
            made = socket.create_connection((found, port))
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if connect:
                made.sendall(f"CONNECT {connect} HTTP/1.1\r\nHost: {connect}\r\n\r\n".encode())
                made.recv(65_536)
                asked = time.perf_counter()
        made.sendall(written(path, host, body, token))
        data = made.recv(262_144)
        firsts.append(time.perf_counter() - asked)
        head, _, rest = data.partition(b"\r\n\r\n")
        total += len(rest)
        is_chunked = b"chunked" in head.lower()
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        last = rest
        while (not last.endswith(b"0\r\n\r\n")) if is_chunked else (len(rest) < length):
            more = made.recv(262_144)
            if not more:
                break
            total += len(more)
            rest = b"" if is_chunked else rest + more
            last = (last + more)[-8:]
        if not is_kept:
            made.close()
            made = None
    return {"firsts": firsts, "names": names, "seconds": time.perf_counter() - began, "bytes": total}


main()
