"""An ACP agent that starts a server: the prompt says `HOST PORT`, and the turn is over when it listens.

`GET /PATH` answers with the request, as lines; `/stream` counts for ever; `/socket` is a WebSocket that sends
back what comes; `/evil?GATEWAY` is a page that tries what it must not do, and says what came of it. Standard
library only, so that it runs behind any walls.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sys

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


EVIL = """<!doctype html><title>evil</title><script type="module">
const out = {origin: self.origin};
const gateway = decodeURIComponent(location.search.slice(1));
const attempt = async (name, act) => {
  try { out[name] = String(await act()); } catch (error) { out[name] = "refused"; }
};
await attempt("cookie", () => document.cookie || "none");
await attempt("storage", () => localStorage.length);
await attempt("read", async () => (await fetch(gateway + "/api/sessions", {credentials: "include"})).status);
await attempt("write", async () => (await fetch(gateway + "/api/chat", {
  method: "POST", credentials: "include", headers: {"Content-Type": "application/json"},
  body: JSON.stringify({message: "evil", session_id: "evil"})})).status);
await attempt("simple", async () => (await fetch(gateway + "/api/chat", {
  method: "POST", mode: "no-cors", credentials: "include",
  body: JSON.stringify({message: "evil", session_id: "evil"})})).status);
await attempt("parent", () => (window.opener || window.parent).document.title);
await attempt("worker", () => navigator.serviceWorker.register("sw.js").then(() => "registered"));
await attempt("own", async () => (await (await fetch("data?x")).text()).includes("GET /data?x"));
await attempt("socket", () => new Promise((done, fail) => {
  const socket = new WebSocket(new URL("socket", location.href).href.replace(/^http/, "ws"));
  socket.onopen = () => socket.send("hello");
  socket.onmessage = (event) => done(event.data);
  socket.onerror = fail;
}));
document.body.textContent = JSON.stringify(out);
document.title = "done";
</script><body></body>"""


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            line, *headers = head.decode("latin-1").split("\r\n")
            fields = {
                name.lower(): value.strip() for name, _, value in (each.partition(":") for each in headers)
            }
            body = await reader.readexactly(int(fields.get("content-length", "0")))
            path = line.split()[1]
            if "websocket" in fields.get("upgrade", ""):
                await echo(reader, writer, fields)
                return
            if path in ("/switch", "/interim"):
                await odd(writer, path)
                return
            if path == "/stream":
                await count(writer)
                return
            await answer(writer, path, line, head, body)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def answer(writer: asyncio.StreamWriter, path: str, line: str, head: bytes, body: bytes) -> None:
    if path == "/moved":
        extra, text = "Location: /there?x=1\r\n", b""
    else:
        extra, text = "", json.dumps([line, head.decode("latin-1"), body.decode("latin-1")]).encode()
    if path.startswith("/evil"):
        text = EVIL.encode()
    status = "302 Found" if path == "/moved" else "200 OK"
    writer.write(
        (
            f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {len(text)}\r\n{extra}"
            "Set-Cookie: theirs=1\r\nSet-Cookie: more=2\r\nStrict-Transport-Security: max-age=1\r\n"
            "X-Accel-Redirect: /secret\r\n"
            'Clear-Site-Data: "*"\r\nAccess-Control-Allow-Origin: http://evil.example\r\n\r\n'
        ).encode()
        + text
    )
    await writer.drain()


async def odd(writer: asyncio.StreamWriter, path: str) -> None:
    if path == "/switch":
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\nConnection: Upgrade\r\n\r\n")
    while path == "/interim":
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\n" * 100)
        await writer.drain()
    await writer.drain()


async def count(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
    for number in range(100_000):
        writer.write(b"data: %d\n\n" % number)
        await writer.drain()
        await asyncio.sleep(0.01)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fields: dict[str, str]) -> None:
    digest = hashlib.sha1(fields["sec-websocket-key"].encode() + GUID)  # noqa: S324 - RFC 6455
    accept = base64.b64encode(digest.digest()).decode()
    chosen = fields.get("sec-websocket-protocol", "").split(",")[0]
    more = f"Sec-WebSocket-Protocol: {chosen}\r\n" if chosen else ""
    writer.write(
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
        ).encode()
    )
    while True:
        first, size = await reader.readexactly(2)
        size &= 0x7F
        if size == 126:
            size = int.from_bytes(await reader.readexactly(2), "big")
        mask, data = await reader.readexactly(4), await reader.readexactly(size)
        plain = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
        kind = first & 0x0F
        if kind == 8:
            writer.write(bytes([0x88, len(plain)]) + plain)
            return
        length = bytes([len(plain)]) if len(plain) < 126 else b"\x7e" + len(plain).to_bytes(2, "big")
        writer.write(bytes([0x80 | kind]) + length + plain)


async def start(text: str) -> str:
    host, port = text.split()
    try:
        await asyncio.start_server(serve, host, int(port))
    except OSError as error:
        return f"no server: {error}"
    return "listening"


def say(**message: object) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


async def main() -> None:
    reader = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        message = json.loads(line)
        result: object = {}
        match message.get("method"):
            case "initialize":
                result = {"protocolVersion": 1, "agentCapabilities": {}}
            case "session/new":
                result = {"sessionId": "s"}
            case "session/prompt":
                said = await start(message["params"]["prompt"][0]["text"])
                update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": said}}
                say(method="session/update", params={"sessionId": "s", "update": update})
                result = {"stopReason": "end_turn"}
        if "id" in message:
            say(id=message["id"], result=result)


asyncio.run(main())
