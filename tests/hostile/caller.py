"""An ACP agent that calls the gateway which started it, to be its owner: a prompt is a JSON object that says
where the gateway is and whom to attack, the answer is one that says what each attempt got.

Standard library only. A result is `[status, code]`; a connection that gave no answer is `[0, why]`.
"""

from __future__ import annotations

import array
import ctypes
import functools
import json
import os
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

SECONDS = 20
TARGET: dict[str, Any] = {}
Result = list[object]
Connect = Callable[[], socket.socket]


def say(message: dict[str, object]) -> None:
    os.write(1, json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")


# -- HTTP ---------------------------------------------------------------------------------------------------


def request(method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> bytes:
    data = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if data:
        lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def answer(sock: socket.socket) -> tuple[int, bytes]:
    """Status and body of one answer."""
    head = b""
    while b"\r\n\r\n" not in head:
        chunk = sock.recv(65_536)
        if not chunk:
            raise ConnectionError("closed without an answer")
        head += chunk
    head, _, rest = head.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    names = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
    }
    is_chunked = "transfer-encoding" in names
    length = int(names.get("content-length", 0))
    while not rest.endswith(b"0\r\n\r\n") if is_chunked else len(rest) < length:
        chunk = sock.recv(65_536)
        if not chunk:
            break
        rest += chunk
    return int(lines[0].split()[1]), rest


def code_of(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return ""


def ask(sock: socket.socket, *what: object) -> Result:
    try:
        sock.sendall(request(*what))  # type: ignore[arg-type]
        status, body = answer(sock)
    except OSError as error:
        return [0, str(error)]
    return [status, code_of(body)]


# -- what an owner may --------------------------------------------------------------------------------------


def wants() -> dict[str, tuple[Any, ...]]:
    victim, mine = TARGET["victim"], TARGET["mine"]
    one = f"/api/sessions/{victim}"
    more = {"session_id": f"more-{os.getpid()}-{time.monotonic_ns()}", "message": "/echo more"}
    return {
        "list": ("GET", "/api/sessions"),
        "read": ("GET", f"/api/state?session_id={victim}"),
        "export": ("GET", f"{one}/export"),
        "rename": ("PATCH", one, {"title": "owned"}),
        "approve": (
            "POST",
            f"/api/sessions/{mine}/permission",
            {"permission_id": asked(), "option_id": "yes"},
        ),
        "mint": ("POST", "/api/admin/keys", {"name": "owned", "scopes": ["admin"]}),
        "start": ("POST", "/api/chat", more),
        "metrics": ("GET", "/metrics"),
        "page": ("GET", "/"),
        "delete": ("DELETE", one),
    }


def asked() -> str:
    """The id of the permission that this agent has asked for, as an owner would read it."""
    if "permission" not in TARGET:
        TARGET["permission"] = look_for_permission()
    return str(TARGET["permission"])


def look_for_permission() -> str:
    end = time.monotonic() + 1
    while time.monotonic() < end:
        with tcp("127.0.0.1")() as sock:
            sock.sendall(request("GET", f"/api/state?session_id={TARGET['mine']}"))
            status, body = answer(sock)
        if status != 200:
            break
        if pending := json.loads(body)["pending_permission"]:
            return str(pending["permission_id"])
    return "unknown"


def attack(connect: Connect, headers: dict[str, str] | None = None) -> dict[str, Result]:
    """All of it on one connection, anew where that has ended."""
    results: dict[str, Result] = {}
    try:
        with connect() as sock:
            for name, what in wants().items():
                method, path, *body = what
                results[name] = ask(sock, method, path, body[0] if body else None, headers)
    except OSError as error:
        results["connect"] = [0, str(error)]
    return results


# -- ways to a connection -----------------------------------------------------------------------------------


def tcp(host: str, *, source: str = "") -> Connect:
    def connect() -> socket.socket:
        bound = (source, 0) if source else None
        return socket.create_connection((host, TARGET["port"]), SECONDS, bound)

    return connect


def mapped() -> socket.socket:
    sock = socket.socket(socket.AF_INET6)
    sock.settimeout(SECONDS)
    sock.connect(("::ffff:127.0.0.1", TARGET["port"]))
    return sock


def unix() -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(SECONDS)
    sock.connect(TARGET["unix"])
    return sock


def hidden() -> socket.socket:
    """By a process that may not be looked into any more."""
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
    return tcp("127.0.0.1")()


def passed() -> socket.socket:
    """Made by another process, which then ends."""
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        send_socket(theirs, tcp("127.0.0.1")())
        os._exit(0)
    theirs.close()
    return receive_socket(ours)


def send_socket(channel: socket.socket, sock: socket.socket) -> None:
    channel.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [sock.fileno()]))])


def receive_socket(channel: socket.socket) -> socket.socket:
    _, ancillary, _, _ = channel.recvmsg(1, socket.CMSG_SPACE(4))
    sock = socket.socket(fileno=struct.unpack("i", ancillary[0][2])[0])
    sock.settimeout(SECONDS)
    return sock


def in_flight() -> dict[str, Result]:
    """While the gateway looks, the socket lies in another one's queue, and no process has it."""
    results, wanted = {}, wants()
    for name in ("read", "mint", "delete"):
        method, path, *body = wanted[name]
        ours, theirs = socket.socketpair()
        sock = tcp("127.0.0.1")()
        send_socket(theirs, sock)
        sock.send(request(method, path, body[0] if body else None))
        sock.close()
        time.sleep(0.2)  # hides: the gateway has decided by then
        with receive_socket(ours) as back:
            try:
                status, text = answer(back)
                results[name] = [status, code_of(text)]
            except OSError as error:
                results[name] = [0, str(error)]
    return results


def in_a_grandchild(attempt: Callable[[], dict[str, Result]]) -> dict[str, Result]:
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.close(reading)
            with os.fdopen(writing, "w") as file:
                file.write(json.dumps(attempt()))
        os._exit(0)
    os.close(writing)
    os.wait()
    with os.fdopen(reading) as file:
        results: dict[str, Result] = json.loads(file.read())
        return results


def gone() -> dict[str, Result]:
    """Connects, sends and is no more; what it did shows on the victim."""
    for what in (*wants().values(),) * 3:
        method, path, *body = what
        if os.fork() == 0:
            tcp("127.0.0.1")().send(request(method, path, body[0] if body else None))
            os._exit(0)
        os.wait()
    return {}


def socket_upgrade() -> dict[str, Result]:
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    with tcp("127.0.0.1")() as sock:
        return {"watch": ask(sock, "GET", "/ws/chat/admin/owned", None, headers)}


def own_pass(servers: list[Any]) -> dict[str, Result]:
    """What the gateway gave this agent opens /mcp, and nothing else."""
    given = {entry["name"]: entry["value"] for entry in servers[0]["headers"]} if servers else {}
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    with tcp("127.0.0.1")() as sock:
        return {
            "mcp": ask(sock, "POST", "/mcp", listing, given),
            "mcp without": ask(sock, "POST", "/mcp", listing),
            "elsewhere": ask(sock, "GET", "/api/sessions", None, given),
        }


def guesses() -> dict[str, Result]:
    """Wrong keys, each from another address if the gateway believes that."""
    results = {}
    with tcp("127.0.0.1")() as sock:
        for number in range(TARGET["guesses"]):
            headers = {"Authorization": "Bearer agk_no_no", "X-Forwarded-For": f"198.51.100.{number}"}
            results[f"guess {number}"] = ask(sock, "GET", "/api/sessions", None, headers)
    return results


def in_anothers_name() -> dict[str, Result]:
    headers = {"X-Forwarded-User": TARGET["name"], "Sec-Fetch-Site": "same-origin"}
    return attack(tcp("127.0.0.1"), headers)


def open_mode(servers: list[Any]) -> dict[str, dict[str, Result]]:
    ways: dict[str, Callable[[], dict[str, Result]]] = {
        f"tcp {host}": functools.partial(attack, tcp(host)) for host in TARGET["hosts"]
    }
    ways |= {
        f"from {source}": functools.partial(attack, tcp("127.0.0.1", source=source))
        for source in TARGET["sources"]
    }
    ways |= {
        "::ffff:127.0.0.1": lambda: attack(mapped),
        "double fork": lambda: in_a_grandchild(lambda: attack(tcp("127.0.0.1"))),
        "passed": lambda: attack(passed),
        "hidden": lambda: in_a_grandchild(lambda: attack(hidden)),
        "in flight": in_flight,
        "web socket": socket_upgrade,
        "gone": gone,
    }
    if TARGET.get("unix"):
        ways["unix"] = lambda: attack(unix)
    return {**{name: way() for name, way in ways.items()}, "pass": own_pass(servers)}


def storm(_servers: list[Any]) -> dict[str, dict[str, Result]]:
    """Connections without end, as many as the limits give."""
    end = time.monotonic() + TARGET["seconds"]
    kept: list[socket.socket] = []
    made = 0
    while time.monotonic() < end:
        try:
            sock = tcp("127.0.0.1")()
            sock.send(request("GET", "/api/sessions"))
        except OSError:
            kept.clear()
            continue
        made += 1
        kept.append(sock)
    return {"storm": {"made": [made]}}


def proxy_mode(_servers: list[Any]) -> dict[str, dict[str, Result]]:
    return {"another's name": in_anothers_name(), "wrong keys": guesses()}


# -- the agent ----------------------------------------------------------------------------------------------


def update(text: str) -> None:
    content = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}
    say({"method": "session/update", "params": {"sessionId": "mine", "update": content}})


def ask_permission() -> None:
    options = [{"optionId": "yes", "name": "Yes", "kind": "allow_once"}]
    call = {"toolCallId": "t", "title": "Own everything?"}
    say(
        {
            "method": "session/request_permission",
            "id": "p",
            "params": {"sessionId": "mine", "toolCall": call, "options": options},
        }
    )


def has_been_allowed() -> bool:
    """Whether somebody has answered the permission, within a moment."""
    if not select.select([0], [], [], 0.2)[0]:
        return False
    return b'"selected"' in os.read(0, 65_536)


def main() -> None:
    servers: list[Any] = []
    while line := read_line():
        message = json.loads(line)
        method, request_id = message.get("method"), message.get("id")
        if method == "initialize":
            say({"id": request_id, "result": {"protocolVersion": 1}})
        elif method == "session/new":
            servers = message["params"]["mcpServers"]
            say({"id": request_id, "result": {"sessionId": "mine"}})
        elif method == "session/prompt":
            TARGET.update(json.loads(message["params"]["prompt"][-1]["text"]))
            ask_permission()
            attempts = {"open": open_mode, "proxy": proxy_mode, "storm": storm}[TARGET["mode"]](servers)
            update(json.dumps({"attempts": attempts, "allowed": has_been_allowed()}))
            say({"id": request_id, "result": {"stopReason": "end_turn"}})
        elif request_id is not None and method:
            say({"id": request_id, "error": {"code": -32601, "message": "no"}})


def read_line() -> bytes:
    """A line, and not a byte more: the rest may be the answer to a permission."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return b""
        line += byte
    return line


main()
