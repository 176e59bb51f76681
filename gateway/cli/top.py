"""`agent-gateway top`: the gateway at a glance in a terminal, drawn anew every two seconds; once for scripts.

It reads what the operations page reads: numbers and metadata, no word of a conversation.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from collections.abc import Iterator
from typing import Final

import msgspec

from gateway.cli.columns import GAP, Column, aligned, joined, lines
from gateway.cli.options import add_common, configured, run_by
from gateway.cli.reach import asked
from gateway.client import GatewayClient
from gateway.maintenance.lock import is_held
from gateway.sights import Overview, WatchedSession, WatchedSessions
from gateway.telemetry import terminal

EVERY_SECONDS: Final = 2.0
ROWS: Final = 20
WIDE_COLUMNS: Final = 110
"""A narrower terminal has no room for every column."""
KEY_LETTERS: Final = 24
NUMBER_LETTERS: Final = {"IDLE": len("100h00m"), "MEMORY": len("100.0 MB"), "CPU": len("10000.0 s")}
_DOT: Final = " · "
BUSY: Final = ("starting", "running", "waiting", "interrupting")


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    add_common(parser)
    parser.add_argument("--once", action="store_true", help="print it once")
    parser.add_argument("--json", action="store_true", help="print it once, for programs")
    parser.add_argument("--rows", type=int, default=ROWS, metavar="N", help=f"so many sessions ({ROWS})")
    run_by(parser, _top)


def _top(options: argparse.Namespace) -> int:
    config = configured(options)
    if not is_held(config.data_path):
        terminal.complain(f"agent-gateway: no gateway runs on {config.data_path}")
        return 1

    async def act(client: GatewayClient) -> None:
        await show(client, is_once=options.once, is_json=options.json, rows=max(1, options.rows))

    try:
        return asked(config, act)
    except KeyboardInterrupt:
        return 0


class Sight(msgspec.Struct, frozen=True):
    """One look."""

    overview: Overview
    sessions: WatchedSessions


async def show(client: GatewayClient, *, is_once: bool, is_json: bool, rows: int = ROWS) -> None:
    """Shows the gateway until it is interrupted, or once. Raises what the client raises."""
    sight = await _look(client, rows)
    if is_json:
        terminal.say_json(msgspec.json.encode(sight).decode())
        return
    if is_once:
        for line in drawn(sight, terminal.columns()):
            terminal.say(line)
        return
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in one
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
    with terminal.screen() as screen, contextlib.suppress(asyncio.CancelledError):
        while not task.cancelling():  # asked too, as an interrupt can be lost in what a look awaits
            screen.show(drawn(sight, terminal.columns(), is_coloured=screen.is_coloured))
            await asyncio.sleep(EVERY_SECONDS)
            sight = await _look(client, rows)


async def _look(client: GatewayClient, rows: int) -> Sight:
    overview, sessions = await asyncio.gather(client.overview(), client.watched_sessions(limit=rows))
    return Sight(overview, sessions)


def drawn(sight: Sight, width: int, *, is_coloured: bool = False) -> list[str]:
    """The lines of the screen, for a terminal of so many columns."""
    sessions = _sessions(sight.sessions, width=width, is_coloured=is_coloured)
    now = sight.overview
    return [*_head(now, width), *_nodes(now), *_tenants(now), *sessions]


def _head(now: Overview, width: int) -> list[str]:
    states = " ".join(f"{state} {count}" for state, count in sorted(now.states.items())) or "none"
    told = (
        f"agent-gateway {now.version} · up {_span(now.uptime_seconds)}" + (" · DRAINING" * now.is_draining),
        f"sessions {now.sessions} ({states}) · streams {now.streams} · waiting messages {now.queued}",
        (
            f"workers {now.workers}/{now.worker_limit} · memory {_size(now.worker_memory_bytes)}"
            f" · cpu {now.worker_cpu_seconds:.1f} s · gateway {_size(now.gateway_memory_bytes)}"
            f", {now.gateway_cpu_seconds:.1f} s"
        ),
        (
            f"a minute: starts {now.starts_per_minute:g} · turns {now.turns_per_minute:g}"
            f" · tokens {now.tokens_per_minute:g}"
        ),
        (
            f"start {_pair(now.start_p50_seconds, now.start_p99_seconds)}"
            f" · first token {_pair(now.first_token_p50_seconds, now.first_token_p99_seconds)}"
            f" · loop lag {_milliseconds(now.loop_lag_p99_seconds)} · store {now.store_waiting} waiting"
        ),
    )
    return [folded for line in told for folded in _folded(terminal.plain(line), width).split("\n")]


def _folded(line: str, width: int) -> str:
    """A line of parts, broken between two of them if it is too long."""
    folded = ""
    for part in line.split(_DOT):
        is_full = len(folded.rpartition("\n")[2]) + len(_DOT) + len(part) > width
        folded += (f"\n  {part}" if is_full else f"{_DOT}{part}") if folded else part
    return folded


def _nodes(now: Overview) -> Iterator[str]:
    """The gateways on one store, if there are several; the others' numbers are those of their last beats."""
    if now.nodes is msgspec.UNSET:
        return iter(())
    rows = [
        (
            terminal.plain(row.name) + " *" * row.is_this,
            *(row.state, str(row.sessions), f"{row.workers}/{row.worker_limit}"),
            *(f"{row.still_seconds:.1f} s", terminal.plain(row.version)),
        )
        for row in now.nodes
    ]
    numbers = (Column(name=name, is_number=True) for name in ("SESSIONS", "WORKERS", "BEAT"))
    return lines([Column(name="GATEWAY"), Column(name="STATE"), *numbers, Column(name="VERSION")], rows)


def _tenants(now: Overview) -> Iterator[str]:
    names = ("SESSIONS", "WORKERS", "MEMORY", "TURNS/MIN", "TOKENS/MIN")
    rows = [
        (
            *(terminal.plain(row.tenant), str(row.sessions), str(row.workers), _size(row.memory_bytes)),
            *(f"{row.turns_per_minute:g}", f"{row.tokens_per_minute:g}"),
        )
        for row in now.tenants
    ]
    return lines([Column(name="TENANT"), *(Column(name=name, is_number=True) for name in names)], rows)


def _sessions(watched: WatchedSessions, *, width: int, is_coloured: bool) -> Iterator[str]:
    """Keys and numbers are never cut, because they mean something else then; names share what is left."""
    is_wide = width >= WIDE_COLUMNS
    names = ("IDLE", "MEMORY", *(("MESSAGES", "QUEUED", "CPU") if is_wide else ()))
    numbers = {name: max(len(name), NUMBER_LETTERS.get(name, 0)) for name in names}
    state = max(map(len, BUSY))
    left = width - KEY_LETTERS - state - sum(numbers.values()) - GAP * (3 + len(numbers))
    columns = [
        Column(name="SESSION", least=KEY_LETTERS),
        *(Column(name=name, most=max(left // 2, len(name))) for name in ("TENANT", "AGENT")),
        Column(name="STATE", least=state),
        *(Column(name=name, is_number=True, least=letters) for name, letters in numbers.items()),
    ]
    head, *rows = aligned(columns, [_cells(row, is_wide=is_wide) for row in watched.sessions])
    yield joined(head)
    for row, (key, tenant, agent, state_cell, *more) in zip(watched.sessions, rows, strict=True):
        is_marked = is_coloured and row.state in BUSY
        yield joined((key, tenant, agent, terminal.marked(state_cell) if is_marked else state_cell, *more))
    if (left_out := watched.total - len(watched.sessions)) > 0:
        yield f"… {left_out} more"


def _cells(row: WatchedSession, *, is_wide: bool) -> tuple[str, ...]:
    more = (str(row.messages), str(row.queued), f"{row.cpu_seconds:.1f} s") if is_wide else ()
    return (
        *(terminal.plain(text) for text in (row.key, row.tenant, row.agent, row.state)),
        *(_span(row.idle_seconds), _size(row.memory_bytes), *more),
    )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"


def _pair(half: float | None, most: float | None) -> str:
    return f"{_milliseconds(half)} / {_milliseconds(most)}"
