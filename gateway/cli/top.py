"""`agent-gateway top`: the gateway at a glance in a terminal, drawn anew every two seconds; once for scripts.

It reads what the operations page reads: numbers and metadata, no word of a conversation.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from typing import Final

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

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
GAP: Final = 2
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
    console = Console()
    sight = await _look(client, rows)
    if is_json:
        terminal.say_json(msgspec.json.encode(sight).decode())
        return
    if is_once:
        with terminal.printing():
            console.print(drawn(sight, console.width))
        return
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in one
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
    with (
        Live(drawn(sight, console.width), console=console, screen=True, auto_refresh=False) as live,
        contextlib.suppress(asyncio.CancelledError),
    ):
        while not task.cancelling():  # asked too, as an interrupt can be lost in what a look awaits
            await asyncio.sleep(EVERY_SECONDS)
            live.update(drawn(await _look(client, rows), console.width), refresh=True)


async def _look(client: GatewayClient, rows: int) -> Sight:
    overview, sessions = await asyncio.gather(client.overview(), client.watched_sessions(limit=rows))
    return Sight(overview, sessions)


def drawn(sight: Sight, width: int) -> Group:
    """The screen, for a terminal of so many columns."""
    head, tenants = _head(sight.overview, width), _tenants(sight.overview)
    return Group(head, tenants, _sessions(sight.sessions, width=width))


def _head(now: Overview, width: int) -> Text:
    states = " ".join(f"{state} {count}" for state, count in sorted(now.states.items())) or "none"
    lines = (
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
    return Text("\n".join(_folded(terminal.plain(line), width) for line in lines))


def _folded(line: str, width: int) -> str:
    """A line of parts, broken between two of them if it is too long."""
    folded = ""
    for part in line.split(_DOT):
        is_full = len(folded.rpartition("\n")[2]) + len(_DOT) + len(part) > width
        folded += (f"\n  {part}" if is_full else f"{_DOT}{part}") if folded else part
    return folded


def _tenants(now: Overview) -> Table:
    table = Table(box=None, pad_edge=False, title_justify="left")
    table.add_column("TENANT", no_wrap=True)
    for name in ("SESSIONS", "WORKERS", "MEMORY", "TURNS/MIN", "TOKENS/MIN"):
        table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    for row in now.tenants:
        table.add_row(
            Text(terminal.plain(row.tenant)),
            *(str(row.sessions), str(row.workers), _size(row.memory_bytes)),
            *(f"{row.turns_per_minute:g}", f"{row.tokens_per_minute:g}"),
        )
    return table


def _sessions(watched: WatchedSessions, *, width: int) -> Table:
    """Keys and numbers are never cut, because they mean something else then; names share what is left."""
    is_wide = width >= WIDE_COLUMNS
    names = ("IDLE", "MEMORY", *(("MESSAGES", "QUEUED", "CPU") if is_wide else ()))
    numbers = {name: max(len(name), NUMBER_LETTERS.get(name, 0)) for name in names}
    state = max(map(len, BUSY))
    left = width - KEY_LETTERS - state - sum(numbers.values()) - GAP * (3 + len(numbers))
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    table.add_column("SESSION", no_wrap=True, min_width=KEY_LETTERS)
    for name in ("TENANT", "AGENT"):
        table.add_column(name, no_wrap=True, max_width=max(left // 2, len(name)))
    table.add_column("STATE", no_wrap=True, min_width=state)
    for name, letters in numbers.items():
        table.add_column(name, justify="right", no_wrap=True, min_width=letters)
    for row in watched.sessions:
        table.add_row(*_cells(row, is_wide=is_wide))
    if (more := watched.total - len(watched.sessions)) > 0:
        table.add_row(f"… {more} more")
    return table


def _cells(row: WatchedSession, *, is_wide: bool) -> tuple[Text | str, ...]:
    more = (str(row.messages), str(row.queued), f"{row.cpu_seconds:.1f} s") if is_wide else ()
    return (
        *(Text(terminal.plain(text)) for text in (row.key, row.tenant, row.agent)),
        Text(terminal.plain(row.state), style="bold green" if row.state in BUSY else ""),
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
