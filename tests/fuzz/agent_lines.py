"""A coverage-guided fuzzer of all that reads what an agent prints: `python -m tests.fuzz.agent_lines`.

One input is what an agent writes on its stdout, from its first byte on. It goes where it goes in the gateway:
the lines, the envelopes, the peer's requests and notifications, the translator; what comes out is encoded,
stored, read back, folded and rendered. Nothing may be raised but what a session turns into words, every
number must fit the store, and what the gateway writes to the agent must be JSON, a line each.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import pathlib
import random
import sys
import tempfile
from typing import Any, Final

from tests.fuzz import mutations

atheris: Any = None
if __name__ == "__main__":  # as a program: where the functions below are imported, nothing is instrumented
    with contextlib.suppress(ImportError):  # no build for this machine
        import atheris  # type: ignore[import-untyped, unused-ignore, no-redef]

with atheris.instrument_imports(include=["gateway", "worker"]) if atheris else contextlib.nullcontext():
    import msgspec

    from gateway.agents.broker import Broker
    from gateway.agents.catalogue import Agent
    from gateway.agents.connection import AgentError, AgentGone, WireError
    from gateway.agents.peer import AgentPeer
    from gateway.agents.spool import Intake
    from gateway.agents.toolsets import Answer, Tool, Toolbox
    from gateway.apps.shop.tools import TOOLS
    from gateway.config.tables import Config
    from gateway.events import facts as ev
    from gateway.events.compaction import compacted
    from gateway.events.fold import ChatState, Outside
    from gateway.events.state_json import StateJson
    from gateway.principal import Account
    from gateway.stores.contract import SessionRecord
    from gateway.workers.freezing import Freezer
    from tests.handlers import Unbounded
    from worker.foreign import LARGEST

CORPUS: Final = pathlib.Path(__file__).parent / "corpus" / "agent_lines"
LONGEST_BYTES: Final = 8_192
LINE_BYTES: Final = 4_096
"""The limit of one line, small enough that inputs reach past it."""
NO_BUILD: Final = 3
RAW_SHARE: Final = 0.5
"""Of the inputs, what is changed as bytes; the others have one member of one message replaced."""
_WORDS: Final = (AgentGone, AgentError, WireError)
"""What a session turns into words for its user."""


class Owner(Unbounded):
    """A session as its peer sees it, with its log and fold."""

    def __init__(self) -> None:
        self.record = SessionRecord(
            key="k", owner="o", session_id="s", agent="built-in", created_at=0, last_active_at=0
        )
        self.fold = ChatState("s")
        self.agent = Agent(name="built-in", title="", argv=(), env={}, is_built_in=True, tools=("shop",))
        self.account = Account("o", "k", agent="built-in")
        self.log: list[ev.Event] = []

    def on_events(self, events: list[ev.EventData], *, used: object = None) -> None:
        for data in events:
            self._keep(data)

    def on_asked(self, asked: ev.PermissionAsked) -> None:
        self._keep(asked)

    rules = (
        ev.NamedRule("r1", ev.PermissionRule(action="allow", kind="edit", path=("**",))),
        ev.NamedRule("r2", ev.PermissionRule(action="deny", command=("rm",))),
    )

    def on_ruled(self, asked: ev.PermissionAsked, answered: ev.PermissionAnswered) -> None:
        self._keep(asked)
        self._keep(answered)

    async def wanted_options(self) -> dict[str, ev.OptionValue]:
        return {}

    def on_question(self, asked: ev.QuestionAsked) -> None:
        self._keep(asked)

    def on_wallet(self, pending: str | None) -> None:
        self._keep(ev.WalletChanged(pending))

    def on_model_called(self, *_: object) -> None:
        """Nothing to keep."""

    def _keep(self, data: ev.EventData) -> None:
        written = ev.Event(len(self.log) + 1, 1, data)
        event = ev.Event.stored(written.seq, written.at, written.body)
        assert event.data == data or _raws_of(event.data) == _raws_of(data)
        if isinstance(data, ev.Usage):
            counts = (data.used, data.size, data.input_tokens, data.output_tokens)
            assert all(count is None or 0 <= count <= LARGEST for count in counts)
        self.log.append(event)
        self.fold.apply(event)


def _raws_of(data: ev.EventData) -> bytes:
    return msgspec.json.encode(data)


class Pipe:
    """Hears what the gateway says; every line must be JSON, and shallow."""

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, line: bytes) -> None:
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        msgspec.json.decode(line)


class Nobody:
    """A worker that is never asked anything."""

    pid = stdin = stdout = -1
    freezer = Freezer()


class Shop:
    """Tools that always work."""

    def describe(self) -> tuple[Tool, ...]:
        return TOOLS

    async def call(self, *_: object) -> Answer:
        return Answer(text="done")


class Bugs(logging.Handler):
    """Keeps what the gateway caught as a bug of its own and only logged."""

    found: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.found = self.found or record.exc_info[1]


BUGS: Final = Bugs()


async def play(data: bytes, *, line_bytes: int = LINE_BYTES) -> None:
    """One agent's whole output. Raises what must not be raised."""
    logging.getLogger().addHandler(BUGS)
    BUGS.found = None
    owner = Owner()
    config = Config()
    toolbox = Toolbox({"shop": _any(Shop())}, sets=("shop",), record=lambda: owner.record)
    peer = AgentPeer(
        owner,
        _any(Nobody()),
        config=_with_lines(config, line_bytes),
        broker=Broker(config.model),
        tools=toolbox,
        intake=Intake(),
    )
    peer.connection._writing = _any(Pipe())
    conversation = asyncio.create_task(_converse(peer))
    await asyncio.sleep(0)
    for line in data.split(b"\n"):
        peer.connection.feed(line + b"\n")
        while peer.connection._holding is not None:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    peer.end_turn()
    peer.connection.ended()
    await conversation
    _render(owner)
    if BUGS.found is not None:
        raise BUGS.found


async def _converse(peer: AgentPeer) -> None:
    """As a session does: the handshake, then one prompt."""
    try:
        peer.started(await peer.open("/"), 1, walls="none", network="none")
        ended = await peer.prompt("t", [{"type": "text", "text": "hi"}])
    except _WORDS:
        return
    ev.Event.stored(1, 1, ev.Event(1, 1, ended).body)


def _render(owner: Owner) -> None:
    state = StateJson(owner.fold).json(Outside())
    msgspec.json.decode(state if isinstance(state, bytes) else b"".join(state))
    snapshot = msgspec.json.encode(owner.fold.snapshot())
    json.loads(snapshot, parse_int=len)
    again = ChatState("s")
    for event in compacted(owner.log):
        again.apply(ev.Event.stored(event.seq, event.at, event.body))


def _any(value: object) -> Any:
    return value


def _with_lines(config: Config, line_bytes: int) -> Config:
    limits = msgspec.structs.replace(config.limits, line_bytes=line_bytes)
    return msgspec.structs.replace(config, limits=limits)


def seeds() -> list[pathlib.Path]:
    """The corpus that is kept."""
    return sorted(CORPUS.iterdir())


def _json_of(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def main(arguments: list[str]) -> int:
    """Fuzzes for so many seconds, from the corpus on; an input that breaks something is printed and kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.agent_lines", description=main.__doc__)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument(
        "--corpus", type=pathlib.Path, help="a directory that inputs of new coverage are added to"
    )
    parser.add_argument("--crashes", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()))
    options = parser.parse_args(arguments)
    if atheris is None:
        sys.stderr.write("atheris has no build for this machine\n")
        return NO_BUILD
    loop = asyncio.new_event_loop()

    def one(data: bytes) -> None:
        loop.run_until_complete(play(data))

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        chance = random.Random(seed)
        lines = data.split(b"\n")
        at = chance.randrange(len(lines))
        if chance.random() < RAW_SHARE or (message := _json_of(lines[at])) is None:
            return bytes(atheris.Mutate(data, longest))
        lines[at] = mutations.one(message, chance, longest=longest // 2)
        return b"\n".join(lines)[:longest]

    logging.getLogger().setLevel(logging.ERROR)
    grown = options.corpus or pathlib.Path(tempfile.mkdtemp(prefix="agent-lines-"))
    atheris.Setup(
        [
            *(sys.argv[0], str(grown), str(CORPUS)),
            *(f"-max_total_time={options.seconds}", f"-max_len={LONGEST_BYTES}", "-timeout=20"),
            *(f"-artifact_prefix={options.crashes}/", "-print_final_stats=1", "-rss_limit_mb=2048"),
        ],
        one,
        custom_mutator=mutate,
    )
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
