"""Requests that attack a worker's doors, each with the answer that is expected: data for
`tests/gateway/test_door_requests.py` and, from inside a worker, `tests/integration/test_worker_doors.py`.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from tests.doors import LISTED, OTHER
from worker.spec import DOOR_PORT

REFUSED: Final = rb"HTTP/1.1 (4\d\d|501|505) "


class Attack(Struct, frozen=True):
    """Bytes for one connection."""

    name: str
    data: bytes
    answer: bytes = REFUSED
    """What the answer looks like, from its first byte."""
    port: int = DOOR_PORT
    reaches: int = 0
    """How many requests reach a listed host."""


def _connect(name: str, target: str | bytes, answer: bytes = REFUSED) -> Attack:
    raw = target if isinstance(target, bytes) else target.encode()
    return Attack(f"CONNECT to {name}", b"CONNECT %b HTTP/1.1\r\nHost: x\r\n\r\n" % raw, answer)


def _own(name: str, data: str, answer: bytes = REFUSED) -> Attack:
    return Attack(name, data.replace("\n", "\r\n").encode("latin-1"), answer)


def _http(name: str, data: str, answer: bytes = REFUSED) -> Attack:
    return Attack(name, data.replace("\n", "\r\n").encode("latin-1"), answer, port=80)


_TARGETS: Final = {
    "loopback": "127.0.0.1:443",
    "loopback in brackets": "[::1]:443",
    "mapped loopback": "[::ffff:127.0.0.1]:443",
    "a decimal address": "2130706433:443",
    "a hexadecimal address": "0x7f000001:443",
    "an octal address": "0177.0.0.1:443",
    "a short address": "127.1:443",
    "metadata": "169.254.169.254:80",
    "a private address": "10.0.0.1:443",
    "an unlisted host": f"{OTHER}:443",
    "a listed host at another port": f"{LISTED}:23",
    "two dots at the end": f"{LISTED}..:443",
    "a dot before": f".{LISTED}:443",
    "a user": f"user@{LISTED}:443",
    "a user of another": f"{LISTED}@{OTHER}:443",
    "port 0": f"{LISTED}:0",
    "no port": LISTED,
    "an empty port": f"{LISTED}:",
    "a port with a path": f"{LISTED}:443/x",
    "port 65536": f"{LISTED}:65536",
    "port 4430000": f"{LISTED}:4430000",
    "a negative port": f"{LISTED}:-1",
    "an encoded NUL": f"{LISTED}%00.{OTHER}:443",
    "a homograph": "xn--fles-lza.invented.test:443",
    "letters of others": "f\u0131les.invented.test:443",
    "a long name": "a" * 254 + ":443",
    "a very long name": "a" * 5_000 + ":443",
    "nothing": ":443",
    "a URL": f"http://{LISTED}:443",
    "a path": "/llm/a",
}

ATTACKS: Final = [
    *(_connect(name, target) for name, target in _TARGETS.items()),
    _connect("a NUL", LISTED.encode() + b"\0." + OTHER.encode() + b":443"),
    _own("data behind CONNECT", f"CONNECT {LISTED}:22 HTTP/1.1\nHost: x\n\nSSH-2.0-x\n"),
    _own("CONNECT with a body", f"CONNECT {LISTED}:22 HTTP/1.1\nHost: x\nContent-Length: 3\n\nabc"),
    _http("CONNECT at port 80", f"CONNECT {LISTED}:443 HTTP/1.1\nHost: {LISTED}\n\n"),
    # -- where it leads
    _http("unlisted", f"GET / HTTP/1.1\nHost: {OTHER}\n\n", rb"HTTP/1.1 403 .*is refused"),
    _http("metadata", "GET /latest HTTP/1.1\nHost: 169.254.169.254\n\n", rb"HTTP/1.1 403 "),
    _http("an address in brackets", "GET / HTTP/1.1\nHost: [::1]\n\n", rb"HTTP/1.1 403 "),
    _http("two hosts", f"GET / HTTP/1.1\nHost: {LISTED}\nHost: {OTHER}\n\n", rb"HTTP/1.1 400 "),
    _http("no host", "GET / HTTP/1.1\n\n", rb"HTTP/1.1 400 "),
    _http("an empty host", "GET / HTTP/1.1\nHost: \n\n", rb"HTTP/1.1 400 "),
    _http("a host with a user", f"GET / HTTP/1.1\nHost: u@{LISTED}\n\n", rb"HTTP/1.1 400 "),
    _http("a host with a path", f"GET / HTTP/1.1\nHost: {LISTED}/x\n\n", rb"HTTP/1.1 400 "),
    _http("the URL of another host", f"GET http://{OTHER}/ HTTP/1.1\nHost: {LISTED}\n\n", rb"HTTP/1.1 403 "),
    _own("a URL of ftp", f"GET ftp://{LISTED}/ HTTP/1.1\nHost: x\n\n", rb"HTTP/1.1 400 "),
    _own("a URL of https", f"GET https://{LISTED}/ HTTP/1.1\nHost: x\n\n", rb"HTTP/1.1 400 "),
    _own("a URL with a user", f"GET http://u:p@{LISTED}/ HTTP/1.1\nHost: x\n\n", rb"HTTP/1.1 400 "),
    _own("a URL with a fragment", f"GET http://{LISTED}/#x HTTP/1.1\nHost: x\n\n", rb"HTTP/1.1 400 "),
    _own("a URL of nothing", "GET http:///x HTTP/1.1\nHost: x\n\n", rb"HTTP/1.1 400 "),
    _own("an asterisk", "OPTIONS * HTTP/1.1\nHost: x\n\n", rb"HTTP/1.1 400 "),
    _own("no route", "GET /api/sessions HTTP/1.1\nHost: x\nConnection: close\n\n", rb"HTTP/1.1 404 "),
    _own("a WebSocket at a route",
         "GET /llm/x HTTP/1.1\nHost: x\nConnection: Upgrade\nUpgrade: websocket\n\n", rb"HTTP/1.1 426 "),
    # -- what can be read in two ways
    _own("two lengths", "POST /llm/x HTTP/1.1\nHost: x\nContent-Length: 1\nContent-Length: 2\n\nab"),
    _own("the same length twice", "POST /llm/x HTTP/1.1\nHost: x\nContent-Length: 1\nContent-Length: 1\n\na"),
    _own("a list of lengths", "POST /llm/x HTTP/1.1\nHost: x\nContent-Length: 1, 1\n\na"),
    _own("a length with a sign", "POST /llm/x HTTP/1.1\nHost: x\nContent-Length: +1\n\na"),
    _own("a length and chunks", "POST /llm/x HTTP/1.1\nHost: x\nContent-Length: 5\n"
         "Transfer-Encoding: chunked\n\n0\n\nGET /llm/smuggled HTTP/1.1\nHost: x\n\n"),
    _own("chunks and a length", "POST /llm/x HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n"
         "Content-Length: 5\n\n0\n\nGET /llm/smuggled HTTP/1.1\nHost: x\n\n"),
    _own("an unknown coding", "POST /llm/x HTTP/1.1\nHost: x\nTransfer-Encoding: xchunked\n\n0\n\n",
         rb"HTTP/1.1 (400|501) "),
    _own("two codings", "POST /llm/x HTTP/1.1\nHost: x\nTransfer-Encoding: gzip, chunked\n\n0\n\n",
         rb"HTTP/1.1 (400|501) "),
    _own("chunks of an old client", "POST /llm/x HTTP/1.0\nTransfer-Encoding: chunked\n\n0\n\n"),
    _own("a space before the colon", "GET /llm/x HTTP/1.1\nHost : x\n\n"),
    _own("a folded line", "GET /llm/x HTTP/1.1\nHost: x\nX-A: a\n b\n\n"),
    _own("a name of two words", "GET /llm/x HTTP/1.1\nHost: x\nBad Name: a\n\n"),
    Attack("bare line feeds", b"GET /llm/x HTTP/1.1\nHost: x\n\n"),
    Attack("a NUL in a value", b"GET /llm/x HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n"),
    Attack("a carriage return in a value", b"GET /llm/x HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n"),
    _own("the preface of HTTP/2", "PRI * HTTP/2.0\n\nSM\n\n"),
    _own("version 2", "GET /llm/x HTTP/2.0\nHost: x\n\n", rb"HTTP/1.1 (400|505) "),
    _own("version 0.9", "GET /llm/x\n\n"),
    Attack("TLS at a plain door", bytes.fromhex("16030100a0010000")),
    Attack("letters of others in a target", "GET /llm/ü HTTP/1.1\r\nHost: x\r\n\r\n".encode()),
    # -- too much
    Attack("a head that is too large",
           b"GET /llm/x HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
           rb"HTTP/1.1 431 "),
    Attack("a head without end",
           b"GET /llm/x HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 140_000, rb"HTTP/1.1 431 "),
    Attack("too many fields", b"GET /llm/x HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 201 + b"\r\n",
           rb"HTTP/1.1 431 "),
    # -- more than one
    _http("a request behind a refused one",
          f"GET / HTTP/1.1\nHost: {OTHER}\n\nGET / HTTP/1.1\nHost: {LISTED}\n\n",
          rb"HTTP/1.1 403 "),
    Attack("a request behind another", f"GET /a HTTP/1.1\r\nHost: {LISTED}\r\n\r\nGET /b HTTP/1.1\r\n"
           f"Host: {OTHER}\r\n\r\n".encode(), rb"HTTP/1.1 200 .*GET /a$", port=80, reaches=1),
    Attack("a request behind one to a route", b"GET /llm/a HTTP/1.1\r\nHost: x\r\n\r\n"
           b"GET /llm/b HTTP/1.1\r\nHost: x\r\n\r\n", rb"HTTP/1.1 200 .*Connection: close"),
]  # fmt: skip
