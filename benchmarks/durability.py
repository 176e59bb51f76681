"""What durability costs: the same log over memory, SQLite and PostgreSQL in one run; restart and replay.

    python -m benchmarks.durability [--quick]

Rows: CPU an event, loop lag and append → visible at 10,000 events/s over 100 sessions, for `memory://`,
`sqlite://` and, if there is a PostgreSQL here, `postgresql://`; how many events/s each takes; from start to
the first answer with 10,000 stored sessions; replay of 100,000 events to one reader.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import pathlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from typing import Any, Final, TypeVar

import psutil
import uvloop
from msgspec import Struct, field

from gateway.events import facts as ev
from gateway.events.facts import Event
from gateway.principal import LOCAL
from gateway.server.collecting import Collector
from gateway.sessions.log import EventLog
from gateway.stores.contract import SessionRecord, Store
from gateway.stores.memory.store import MemoryStore
from gateway.stores.opening import open_store
from gateway.stores.sqlite.store import SqliteStore
from tests import aims
from tests.gateways import running_gateway
from tests.postgres import PostgresUnavailable, ServerInThread
from tests.streams import open_stream

T = TypeVar("T")

SESSIONS: Final = 100
EVENTS_A_SECOND: Final = 10_000
ROUNDS: Final = 5
"""One store and the other in turn: the machine's own speed changes in the course of a run."""
TICK_SECONDS: Final = 0.01
DURABLE_EVERY: Final = 200
"""Of a session's events, one in so many is a turn's edge: durable at once."""
STORED: Final = 10_000
STORED_EVENTS: Final = 12
OPEN_TURNS: Final = 1_000
REPLAYED: Final = 100_000
FLOOD_WAITING: Final = 20_000
"""Events that may wait for their commit."""
DELTA: Final = "some words of it "
STORE_MICROSECONDS: Final = 5
DURABLE_A_SECOND: Final = 35_000
"""Aims for a gateway on PostgreSQL: row 5 of the acceptance of several gateways."""


class Seen(Struct):
    """What one run over one store measured, in seconds."""

    cpu: float = 0
    server_cpu: float = 0
    """Of PostgreSQL's own processes."""
    events: int = 0
    lags: list[float] = field(default_factory=list)
    visible: list[float] = field(default_factory=list)
    durable: list[float] = field(default_factory=list)


def row(name: str, *figures: str) -> None:
    """One line of the table."""
    print(f"{name:58}" + "".join(f"{figure:>16}" for figure in figures), flush=True)


def middle(values: Sequence[float]) -> str:
    return f"{statistics.median(values) * 1000:.3f} ms"


def worst(values: Sequence[float]) -> str:
    """p99."""
    return f"{sorted(values)[int(len(values) * 0.99)] * 1000:.3f} ms"


def record(number: int) -> SessionRecord:
    return SessionRecord(
        key=f"k{number}",
        owner=LOCAL.owner,
        session_id=f"s{number}",
        agent="built-in",
        created_at=1,
        last_active_at=round(time.time() * 1000),
    )


# -- cost an event ----------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def opened(store: Store) -> AsyncIterator[list[EventLog]]:
    """A store with its sessions' logs."""
    await store.open()
    logs = []
    for number in range(SESSIONS):
        await store.sessions.create(record(number))
        log = EventLog(
            f"k{number}",
            store=store.logs,
            wall_ms=lambda: time.time_ns() // 1_000_000,
            max_events=20_000,
            max_bytes=8 << 20,
        )
        await log.load()
        logs.append(log)
    yield logs
    for log in logs:
        log.close()
    await store.close()


async def read(log: EventLog, born: dict[int, float], seen: Seen) -> None:
    """One reader by cursor; notes how long each event took to reach it."""
    cursor = log.visible_seq
    while True:
        await log.wait(cursor)
        now = time.perf_counter()
        if log.is_closed:
            return
        for seq in range(cursor + 1, log.visible_seq + 1):
            if (at := born.pop(seq, None)) is not None:
                seen.visible.append(now - at)
        cursor = log.visible_seq


async def append(logs: list[EventLog], born: list[dict[int, float]], seconds: float, seen: Seen) -> None:
    """The load: every tick each session gets its share."""
    loop = asyncio.get_running_loop()
    each = round(EVENTS_A_SECOND * TICK_SECONDS / SESSIONS)
    began, turns = loop.time(), [0] * SESSIONS
    for tick in range(round(seconds / TICK_SECONDS)):
        for number, log in enumerate(logs):
            for _ in range(each):
                seen.events += 1
                turns[number] += 1
                is_edge = (turns[number] + number) % DURABLE_EVERY == 0
                data: ev.EventData = (
                    ev.TurnEnded("t", "end_turn") if is_edge else ev.TextDelta("m", "t", DELTA)
                )
                born[number][log.last_seq + 1] = time.perf_counter()
                log.append(data, durable=is_edge)
        await asyncio.sleep(max(0.0, began + (tick + 1) * TICK_SECONDS - loop.time()))


async def lag(seen: Seen) -> None:
    """How late a timer rings."""
    while True:
        due = time.perf_counter() + 0.005
        await asyncio.sleep(0.005)
        seen.lags.append(max(0.0, time.perf_counter() - due))


async def commits(log: EventLog, seen: Seen) -> None:
    """What a user's message waits for: appended, committed, visible."""
    while True:
        began = time.perf_counter()
        await log.commit(log.append(ev.MessageAdded("u", "user", DELTA), durable=True, rejectable=True))
        seen.durable.append(time.perf_counter() - began)
        await asyncio.sleep(0.05)


def server_seconds(server: psutil.Process | None) -> float:
    """CPU time of a PostgreSQL: its processes, and those that have ended."""
    if server is None:
        return 0
    own = server.cpu_times()
    alive = [child.cpu_times() for child in server.children()]
    return sum(own[:4]) + sum(times.user + times.system for times in alive)


async def cost(store: Store, seconds: float, server: psutil.Process | None = None) -> Seen:
    """The load over one store."""
    seen = Seen()
    async with opened(store) as logs:
        born: list[dict[int, float]] = [{} for _ in logs]
        tasks = [asyncio.create_task(read(log, born[n], seen)) for n, log in enumerate(logs)]
        tasks += [asyncio.create_task(lag(seen)), asyncio.create_task(commits(logs[0], seen))]
        Collector(lambda: True).begin()  # as the gateway does
        cpu, server_cpu = time.process_time(), server_seconds(server)
        await append(logs, born, seconds, seen)
        seen.cpu = time.process_time() - cpu
        seen.server_cpu = server_seconds(server) - server_cpu
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    return seen


async def flood(store: Store, seconds: float) -> float:
    """Events a second that one store commits if it is always given more."""
    async with opened(store) as logs:
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            for log in logs:
                for _ in range(20):
                    log.append(ev.TextDelta("m", "t", DELTA), durable=False)
                    count += 1
            while store.logs.backlog() > FLOOD_WAITING:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0)
        await asyncio.gather(*(log.commit(log.last_seq) for log in logs))
        return count / (time.perf_counter() - began)


def house_of(name: str, path: pathlib.Path, postgresql: ServerInThread | None) -> Store:
    """A new store of an engine."""
    if name == "sqlite://":
        return SqliteStore(path)
    if name == "postgresql://" and postgresql is not None:
        return open_store(postgresql.database())
    return MemoryStore(max_events=20_000, max_bytes=8 << 20)


def run(work: Coroutine[Any, Any, T]) -> T:
    """On the loop that the gateway has."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def cost_rows(directory: pathlib.Path, seconds: float, postgresql: ServerInThread | None) -> None:
    """The stores in turn, round by round."""
    names = ["memory://", "sqlite://", *(["postgresql://"] if postgresql else [])]
    server = psutil.Process(postgresql.server.pid) if postgresql else None
    all_seen, rounds = [Seen() for _ in names], [[0.0] * 0 for _ in names]
    floods = [[0.0] * 0 for _ in names]
    for number in range(ROUNDS):
        for name, total, micros, most in zip(names, all_seen, rounds, floods, strict=True):
            store = house_of(name, directory / f"{number}.db", postgresql)
            seen = run(cost(store, seconds / ROUNDS, server if name == "postgresql://" else None))
            micros.append(1e6 * seen.cpu / seen.events)
            total.events += seen.events
            total.server_cpu += seen.server_cpu
            total.visible += seen.visible
            total.durable += seen.durable
            total.lags += seen.lags
            most.append(run(flood(house_of(name, directory / f"{number}f.db", postgresql), seconds / 20)))
    row(f"{EVENTS_A_SECOND} events/s over {SESSIONS} sessions, {ROUNDS} rounds", *names)
    row("CPU an event, reader and load included", *(f"{statistics.median(each):.1f} µs" for each in rounds))
    more = [[own - bare for bare, own in zip(rounds[0], each, strict=True)] for each in rounds]
    row("durability alone: median of the rounds", "", *(f"{statistics.median(m):+.1f} µs" for m in more[1:]))
    row("its range", "", *(f"{min(m):+.1f} to {max(m):+.1f}" for m in more[1:]))
    row("CPU an event of the server", *(f"{1e6 * one.server_cpu / one.events:.1f} µs" for one in all_seen))
    row("append → visible, p50", *(middle(seen.visible) for seen in all_seen))
    row("append → visible, p99", *(worst(seen.visible) for seen in all_seen))
    row("a message: append → committed, p50", *(middle(seen.durable) for seen in all_seen))
    row("a message: append → committed, p99", *(worst(seen.durable) for seen in all_seen))
    row("loop lag, p50", *(middle(seen.lags) for seen in all_seen))
    row("loop lag, p99", *(worst(seen.lags) for seen in all_seen))
    row("events/s, if always given more", *(f"{statistics.median(each):,.0f}" for each in floods))
    if postgresql:
        what = f"µs of processor an event more than in memory, {SESSIONS} sessions"
        wanted = [
            aims.Aim(what=what, seen=statistics.median(more[-1]), most=STORE_MICROSECONDS),
            aims.Aim(what="durable events/s", seen=statistics.median(floods[-1]), least=DURABLE_A_SECOND),
        ]
        print(aims.row(5, wanted))


@contextlib.contextmanager
def postgresql_here() -> Iterator[ServerInThread | None]:
    """A server that keeps what it acknowledges; None, and a line that says why, if there is none."""
    try:
        server = ServerInThread(is_durable=True)
    except PostgresUnavailable as error:
        print(f"without PostgreSQL: {error}")
        yield None
        return
    try:
        yield server
    finally:
        server.end()


# -- restart and replay -----------------------------------------------------------------------------------


class _Sink:
    """A log's end of the store, where only the order matters."""

    def __init__(self, key: str) -> None:
        self.key = key

    def committed(self, seq: int) -> None:
        """Nobody waits."""

    def refused(self, error: Exception) -> None:
        raise AssertionError(error)

    def spoiled(self, seqs: set[int], error: Exception) -> None:
        raise AssertionError(error)


def turn(number: int) -> list[ev.EventData]:
    """A stored turn of some events."""
    name = f"t{number}"
    deltas: list[ev.EventData] = [ev.TextDelta(f"{name}.m", name, DELTA)] * (STORED_EVENTS - 4)
    user = ev.MessageAdded(f"u{name}", "user", DELTA, name)
    started = ev.TurnStarted(name, f"u{name}", f"r{name}")
    return [ev.SessionCreated("s", "built-in"), user, started, *deltas, ev.TurnEnded(name, "end_turn")]


async def stored(path: pathlib.Path, logs: Sequence[Sequence[ev.EventData]]) -> None:
    """A database with these logs, s0, s1, …"""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    store = SqliteStore(path)
    await store.open()
    await asyncio.gather(*(store.sessions.create(record(number)) for number in range(len(logs))))
    for number, log in enumerate(logs):
        sink = _Sink(f"k{number}")
        for seq, data in enumerate(log, 1):
            store.logs.enqueue(sink, Event(seq, 1_700_000_000_000 + seq, data), urgent=False)
    await asyncio.gather(*(store.logs.reserve(f"k{number}", len(log)) for number, log in enumerate(logs)))
    await store.close()


async def restart(directory: pathlib.Path, name: str, *, count: int, is_cut: int = 0) -> None:
    """From the start of the process to a stored session's State; `is_cut` turns lack their end."""
    logs = [turn(number)[: -1 if number < is_cut else None] for number in range(count)]
    await stored(directory / "data" / "gateway.db", logs)
    began = time.monotonic()
    async with running_gateway(directory) as gateway:
        healthy = time.monotonic() - began
        state = await gateway.state(f"s{count - 1}")
        answered = time.monotonic() - began
        assert len(state["messages"]) == 2
        rss = psutil.Process(gateway.pid).memory_info().rss / 2**20
        row(name, f"{healthy:.2f} s", f"{answered:.2f} s", f"{rss:.0f} MB")


async def replay(directory: pathlib.Path, name: str, events: list[ev.EventData]) -> None:
    """One reader takes a whole log from the disk."""
    whole = [*turn(0), *events]
    await stored(directory / "data" / "gateway.db", [whole])
    async with running_gateway(directory) as gateway, open_stream(gateway.http, "s0") as stream:
        size, tail, end, began = 0, b"", b"id: %d\n" % len(whole), time.monotonic()
        async for chunk in stream.response.content.iter_any():
            size += len(chunk)
            tail = tail[-100:] + chunk
            if end in tail:
                break
        seconds = time.monotonic() - began
        row(name, f"{seconds:.2f} s", f"{len(events) / seconds:,.0f}/s", f"{size / 2**20:.1f} MB")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.durability")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    scale = 10 if parser.parse_args().quick else 1
    with tempfile.TemporaryDirectory(prefix="durability-") as name:
        top = pathlib.Path(name)
        top.chmod(0o755)
        parts = {part: top / part for part in ("cost", "none", "restart", "cut", "deltas", "messages")}
        for path in parts.values():
            path.mkdir()
        with postgresql_here() as server:
            cost_rows(parts["cost"], 20 / scale, server)
        print()
        row("start of the process with stored sessions", "healthy", "first State", "RSS")
        asyncio.run(restart(parts["none"], "1 session", count=1))
        count = STORED // scale
        asyncio.run(restart(parts["restart"], f"{count} sessions", count=count))
        cut = OPEN_TURNS // scale
        asyncio.run(restart(parts["cut"], f"{count} sessions, {cut} turns cut", count=count, is_cut=cut))
        print()
        events = REPLAYED // scale
        row(f"replay of {events} events to one reader", "seconds", "events", "bytes")
        deltas: list[ev.EventData] = [ev.TextDelta("m", "t0", DELTA)] * events
        asyncio.run(replay(parts["deltas"], "deltas of one message (they are merged)", deltas))
        notices: list[ev.EventData] = [ev.Notice(f"n{n}", "info", "code", DELTA) for n in range(events)]
        asyncio.run(replay(parts["messages"], "events that cannot be merged", notices))


if __name__ == "__main__":
    main()
