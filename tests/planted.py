"""A gateway with a fault in its store, planted: `python tests/planted.py FAULT [python -m] gateway serve …`.

`ends` the thread that writes ends, `hangs` it never comes back, both once the file `plant` lies in the data
directory; `spoils` one notice of an agent's cannot be stored.
"""

from __future__ import annotations

import pathlib
import sqlite3
import sys
import time
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from gateway.cli.main import main  # noqa: E402 - the line above makes it importable
from gateway.events import facts as events  # noqa: E402 - the line above makes it importable
from gateway.server import server  # noqa: E402 - the line above makes it importable
from gateway.stores.sqlite import writer  # noqa: E402

PLANT = "plant"
POISON = "poison"
HOURS = 3600


def plant(fault: str, data: pathlib.Path) -> None:
    """Changes the store of this process."""
    write = writer.Writer._write_group

    def faulty(self: Any, connection: sqlite3.Connection, group: Any) -> None:
        if (data / PLANT).exists():
            if fault == "ends":
                raise SystemError("planted")
            time.sleep(HOURS)
        write(self, connection, group)

    def spoiling(start: Callable[[Any], None]) -> Callable[[Any], None]:
        def begin(self: Any) -> None:
            self.projections[events.ToolCall] = [spoil]
            start(self)

        return begin

    if fault == "spoils":
        writer.Writer.start = spoiling(writer.Writer.start)  # type: ignore[method-assign, assignment]
    else:
        writer.Writer._write_group = faulty  # type: ignore[method-assign]
    if fault == "hangs":
        server.LAST_SECONDS = 1.0  # type: ignore[misc]


def spoil(connection: sqlite3.Connection, _session: int, event: events.Event) -> None:
    """As a number too large for SQLite does."""
    if isinstance(event.data, events.ToolCall) and event.data.title == POISON:
        connection.execute("SELECT ?", (2**63,))


if __name__ == "__main__":
    arguments = sys.argv[sys.argv.index("serve") :]
    plant(sys.argv[1], pathlib.Path(arguments[arguments.index("--data-dir") + 1]))
    sys.exit(main(arguments))
