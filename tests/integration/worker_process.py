"""An ACP client for tests: starts an agent as a real process and talks to it over its pipes.

Guarantees: every wait is bounded and fails with what the agent wrote on stderr; leaving the `with` block
leaves no process and no open file behind.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any

import msgspec

from tests.patience import crowding
from worker import acp

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = ROOT / "tests" / "scenarios"
PATIENCE_SECONDS = 20
"""Far above what anything here takes; only a hanging agent meets it."""

Params = dict[str, Any]


@dataclass
class TurnLog:
    """What arrived from a prompt to its response."""

    updates: list[Params] = field(default_factory=list)
    messages: list[acp.AcpMessage] = field(default_factory=list)
    result: Params = field(default_factory=dict)
    error: acp.RpcError | None = None

    @property
    def text(self) -> str:
        return self.spoken("agent_message_chunk")

    def spoken(self, kind: str) -> str:
        return "".join(update["content"]["text"] for update in self.of(kind))

    def of(self, kind: str) -> list[Params]:
        return [update for update in self.updates if update["sessionUpdate"] == kind]


class AgentProcess:
    """One agent process and its pipes; use it in a `with` block."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self._stderr = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [sys.executable, "-m", *(arguments or ("worker",))],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,
        )
        self._lines = acp.Lines()
        self._arrived: list[acp.AcpMessage] = []
        self._next_id = 0
        self.on: dict[str, Callable[[acp.Envelope, Params], None]] = {}
        """Called for requests and notifications of the agent, besides being logged."""
        self.session_id = ""

    def __enter__(self) -> AgentProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close_stdin()
            self.process.wait(PATIENCE_SECONDS * crowding() if kind is None else 0.2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            if kind is None:
                raise
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()
            self._stderr.close()

    def stderr(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read().decode("utf-8", "replace")

    def close_stdin(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def send(self, line: bytes) -> None:
        assert self.process.stdin is not None
        rest = memoryview(line)
        while rest:
            rest = rest[self.process.stdin.write(rest) or 0 :]

    def request(self, method: str, params: Params) -> int:
        request_id = self._next_id
        self._next_id += 1
        self.send(acp.request(request_id, method, params))
        return request_id

    def receive(self) -> acp.AcpMessage | None:
        """The next message; None at the end of stdout."""
        assert self.process.stdout is not None
        end = monotonic() + PATIENCE_SECONDS * crowding()
        while not self._arrived:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, end - monotonic()))
            if not ready:
                raise AssertionError(f"the agent is silent; stderr: {self.stderr()}")
            chunk = os.read(self.process.stdout.fileno(), 1 << 20)
            if not chunk:
                return None
            self._arrived += self._lines.feed(chunk)
        return self._arrived.pop(0)

    def wait_for(self, request_id: int, *, until: Callable[[TurnLog], bool] | None = None) -> TurnLog:
        """Everything up to the response with this id, or up to the moment when `until` is true."""
        log = TurnLog()
        while True:
            message = self.receive()
            if message is None:
                raise EOFError(self.stderr())
            log.messages.append(message)
            if not isinstance(message, acp.Envelope):
                continue
            if message.is_response and message.id == request_id:
                log.error = message.error if isinstance(message.error, acp.RpcError) else None
                log.result = acp.parse(message.result, Params) if log.error is None else {}
                return log
            self._handle(message, log)
            if until is not None and until(log):
                return log

    def _handle(self, message: acp.Envelope, log: TurnLog) -> None:
        params = acp.parse(message.params, Params)
        if message.method == "session/update":
            log.updates.append(params["update"])
        if message.method in self.on:
            self.on[message.method](message, params)
        elif message.is_request:
            self.send(acp.error_response(request_id(message), acp.METHOD_NOT_FOUND, "not here"))

    def call(self, method: str, params: Params) -> TurnLog:
        return self.wait_for(self.request(method, params))

    def start(self, *, cwd: str | Path = "/tmp", model: Params | None = None) -> TurnLog:
        """initialize and session/new."""
        capabilities = {"_meta": {"agent-gateway": {"model": model}}} if model else {}
        self.call("initialize", {"protocolVersion": 1, "clientCapabilities": capabilities})
        log = self.call("session/new", {"cwd": str(cwd), "mcpServers": []})
        self.session_id = log.result.get("sessionId", "")
        return log

    def begin_prompt(self, *blocks: str | Params) -> int:
        prompt = [{"type": "text", "text": b} if isinstance(b, str) else b for b in blocks]
        return self.request("session/prompt", {"sessionId": self.session_id, "prompt": prompt})

    def prompt(self, *blocks: str | Params) -> TurnLog:
        return self.wait_for(self.begin_prompt(*blocks))

    def cancel(self) -> None:
        self.send(acp.notification("session/cancel", {"sessionId": self.session_id}))

    def answer_permissions(self, option_id: str | None) -> list[Params]:
        """Answers every permission from now on (None: cancelled); the list fills with what was asked."""
        asked: list[Params] = []
        outcome = {"outcome": "selected", "optionId": option_id} if option_id else {"outcome": "cancelled"}

        def answer(message: acp.Envelope, params: Params) -> None:
            asked.append(params)
            self.send(acp.response(request_id(message), {"outcome": outcome}))

        self.on["session/request_permission"] = answer
        return asked


def scripted(name: str) -> AgentProcess:
    """The scripted agent playing one of `tests/scenarios`."""
    return AgentProcess("worker.scripted", str(SCENARIOS / f"{name}.json"))


def gateway_block(kind: str, text: str) -> Params:
    """A text block that the gateway puts in front of a prompt."""
    return {"type": "text", "text": text, "_meta": {"agent-gateway": {"kind": kind}}}


def request_id(message: acp.Envelope) -> acp.Id:
    assert not isinstance(message.id, msgspec.UnsetType)
    return message.id
