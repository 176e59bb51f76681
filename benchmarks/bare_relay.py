"""The least that a durable relay can do: agents' pipes, a log of each in SQLite, server-sent events.

    python -m benchmarks.bare_relay AGENT CORE DATABASE NORMAL|FULL

Raw ASGI on the gateway's own server and loop (uvicorn, uvloop, httptools), the same agents over the same
pipes: each line is decoded, becomes an event with a number, is committed with all others of 50 ms, and leaves
as a frame; what waits for a reader leaves together. Nothing else: no owners, limits, walls, history or State.
It speaks as much of the gateway's interface as `benchmarks.streams` asks for. Agents run on the core CORE. It
prints its port.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec
import uvicorn
import uvloop
from msgspec import Struct

GROUP_SECONDS: Final = 0.05
Row = tuple[int, int, bytes]


class Content(Struct):
    text: str


class Update(Struct):
    content: Content


class Params(Struct):
    update: Update


class Line(Struct):
    method: str = ""
    params: Params | None = None


class Delta(Struct, tag="text_delta"):
    seq: int
    text: str


class Writer:
    """The group commit: every event, each 50 ms, in a thread."""

    def __init__(self, path: str, synchronous: str) -> None:
        self.rows: list[Row] = []
        self._path = path
        self._synchronous = synchronous
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute("CREATE TABLE events (log, seq, body, PRIMARY KEY (log, seq)) WITHOUT ROWID")
        while not self._end.wait(GROUP_SECONDS):
            rows, self.rows = self.rows, []
            if rows:
                connection.execute("BEGIN")
                connection.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)
                connection.execute("COMMIT")


class Agent(asyncio.Protocol):
    """One agent's output, and who reads it."""

    def __init__(self, number: int, writer: Writer) -> None:
        self._number = number
        self._writer = writer
        self._seq = 0
        self._rest = b""
        self._decode = msgspec.json.Decoder(Line).decode
        self._encode = msgspec.json.Encoder().encode
        self.frames: list[bytes] = []
        self.bell: asyncio.Future[None] | None = None
        self.stdin = -1

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            message = self._decode(line)
            if message.params is not None:
                self._seq += 1
                body = self._encode(Delta(self._seq, message.params.update.content.text))
                self._writer.rows.append((self._number, self._seq, body))
                self.frames.append(b"id: %d\nevent: text_delta\ndata: %b\n\n" % (self._seq, body))
        if self.bell is not None and not self.bell.done():
            self.bell.set_result(None)

    def say(self, method: str, params: object) -> None:
        """One request to the agent."""
        line = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        os.write(self.stdin, msgspec.json.encode(line) + b"\n")


class Relay:
    """The ASGI application."""

    def __init__(self, command: str, core: int, writer: Writer) -> None:
        self._command = command
        self._core = core
        self._writer = writer
        self._agents: dict[str, Agent] = {}
        self._processes: list[subprocess.Popen[bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/api/chat/stream":
            name = parse_qs(scope["query_string"].decode())["session_id"][0]
            await self._stream(await self._agent(name), receive, send)
            return
        body = msgspec.json.decode((await receive())["body"])
        agent = await self._agent(body["session_id"])
        agent.say("session/prompt", {"prompt": [{"type": "text", "text": body["message"]}]})
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})

    async def _agent(self, name: str) -> Agent:
        if (known := self._agents.get(name)) is not None:
            return known
        agent = self._agents[name] = Agent(len(self._agents), self._writer)
        process = subprocess.Popen([self._command], stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: ASYNC220
        os.sched_setaffinity(process.pid, {self._core})
        self._processes.append(process)
        assert process.stdin is not None
        agent.stdin = process.stdin.fileno()
        await asyncio.get_running_loop().connect_read_pipe(lambda: agent, process.stdout)
        return agent

    async def _stream(self, agent: Agent, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b": \n\n", "more_body": True})
        following = asyncio.ensure_future(self._follow(agent, send))
        while (await receive())["type"] != "http.disconnect":
            pass
        following.cancel()

    async def _follow(self, agent: Agent, send: Any) -> None:
        loop = asyncio.get_running_loop()
        agent.frames.clear()
        while True:
            agent.bell = loop.create_future()
            await agent.bell
            frames, agent.frames = agent.frames, []
            await send({"type": "http.response.body", "body": b"".join(frames), "more_body": True})

    def end(self) -> None:
        for process in self._processes:
            with contextlib.suppress(OSError):
                process.kill()
            process.wait()


async def serve(command: str, core: int, path: str, synchronous: str) -> None:
    """Until a signal."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    with Writer(path, synchronous) as writer:
        relay = Relay(command, core, writer)
        config = uvicorn.Config(relay, loop="none", http="httptools", lifespan="off", log_config=None,
                                access_log=False, timeout_graceful_shutdown=1)  # fmt: skip
        print(listener.getsockname()[1], flush=True)
        try:
            await uvicorn.Server(config).serve([listener])
        finally:
            relay.end()


def main() -> None:
    command, core, path, synchronous = sys.argv[1:]
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(command, int(core), path, synchronous))


if __name__ == "__main__":
    main()
