"""Searching: how large the index is, how long a search takes, and what building the index costs others.

    python -m benchmarks.search [--sessions N] [--turns N] [--seconds N]

Sessions of one owner with texts of made-up words, some of them with Hebrew and Chinese, are stored without an
index, as an upgrade finds them. Messages are then committed at a steady rate, in rounds in turn: with the
index at rest, and while it is built; `commit` is the time until one is durable. Searches are timed when it is
complete. Beside it: an index by SQLite's FTS5 of the same texts, contentless, with the trigram tokenizer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pathlib
import random
import sqlite3
import statistics
import tempfile
import time
from typing import Final

from gateway.events import facts as ev
from gateway.events.facts import Event, EventData
from gateway.sessions.indexing import Indexer
from gateway.stores.contract import Founding, SessionRecord
from gateway.stores.search import SearchPlace, words_of
from gateway.stores.sqlite.store import SqliteStore
from tests.contract.engines import Collector, filled

OWNER: Final = "bench/one"
EVERY_SECONDS: Final = 0.01
"""A message is committed so often."""
VOCABULARY: Final = 20_000
SOME: Final = ("המטרייה", "ליד", "הדלת", "雨伞在门边", "搜索引擎")


class Texts:
    """Texts as people write them: few words often, most words seldom."""

    def __init__(self) -> None:
        self._random = random.Random(7)
        letters = "etaoinshrdlucmfwypvbgk"
        self._words = [
            "".join(self._random.choices(letters, range(len(letters), 0, -1), k=self._random.randint(2, 11)))
            for _ in range(VOCABULARY)
        ]
        self._weights = [1 / (place + 5) for place in range(VOCABULARY)]

    def text(self, words: int) -> str:
        """So many words, now and then one of another script."""
        chosen = self._random.choices(self._words, self._weights, k=words)
        if self._random.random() < 0.1:
            chosen[-1] = self._random.choice(SOME)
        return " ".join(chosen)

    def turn(self, seq: int) -> list[Event]:
        """A question and an answer."""
        name = f"t{seq}"
        data: list[EventData] = [
            ev.MessageAdded(f"u{seq}", "user", self.text(20), name),
            ev.TurnStarted(name, f"u{seq}", f"a{seq}"),
            ev.MessageAdded(f"a{seq}", "agent", self.text(150), name),
            ev.TurnEnded(name, "end_turn"),
        ]
        return [Event(seq + place, 1_000 + seq + place, one) for place, one in enumerate(data)]


def quantiles(values: list[float]) -> str:
    """Median and 99th percentile in milliseconds."""
    found = sorted(values)
    return (
        f"p50 {statistics.median(found) * 1000:8.2f} ms   p99 {found[len(found) * 99 // 100] * 1000:8.2f} ms"
    )


async def fill(store: SqliteStore, texts: Texts, sessions: int, turns: int) -> None:
    """Stores sessions, each in one transaction with its log, hundreds of them in a commit."""
    for start in range(0, sessions, 500):
        made = []
        for number in range(start, min(start + 500, sessions)):
            record = SessionRecord(
                key=f"k{number}", owner=OWNER, session_id=f"s{number}", agent="a", created_at=number,
                last_active_at=number, title=texts.text(5),
            )  # fmt: skip
            events = [event for turn in range(turns) for event in texts.turn(1 + turn * 10)]
            made.append(store.sessions.create(record, Founding(reserved_seq=turns * 10, events=events)))
        await asyncio.gather(*made)


async def commits(
    store: SqliteStore, texts: Texts, seconds: float, first_seq: int
) -> tuple[list[float], int]:
    """How long each message of a steady stream of them took to be durable, and the next free number."""
    taken: list[float] = []
    seq, end = first_seq, time.monotonic() + seconds
    due = time.monotonic()
    while (now := time.monotonic()) < end:
        await asyncio.sleep(max(0.0, due - now))
        due += EVERY_SECONDS
        began = time.monotonic()
        await filled(store, Collector(f"k{seq % 50}"), texts.turn(seq)[:1])
        taken.append(time.monotonic() - began)
        seq += 10
    return taken, seq


async def searched(store: SqliteStore, query: str) -> tuple[float, int, float]:
    """Seconds to the first answer, how much is found in all, seconds until everything was searched."""
    began, first, found = time.monotonic(), 0.0, 0
    place: SearchPlace | None = None
    while True:
        answer = await store.search.find(OWNER, words_of(query), place=place, limit=30, seconds=0.5)
        first = first or time.monotonic() - began
        found += len(answer.matches)
        place = answer.following
        if place is None or found >= 300:
            return first, found, time.monotonic() - began


def sizes(path: pathlib.Path) -> tuple[int, int]:
    """Bytes of the index, and of all texts."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    index = connection.execute("SELECT sum(pgsize) FROM dbstat WHERE name LIKE '%search_%'").fetchone()[0]
    texts = sum(len(text.encode()) for text in all_texts(connection))
    return int(index or 0), texts


def all_texts(connection: sqlite3.Connection) -> list[str]:
    """Every message of the store."""
    bodies = connection.execute("SELECT body FROM events UNION ALL SELECT body FROM tail")
    rows = (json.loads(body) for (body,) in bodies)
    events = [
        event for row in rows for event in ([one[2] for one in row] if isinstance(row, list) else [row])
    ]
    return [event["content"] for event in events if event["type"] == "message"]


def fts5(path: pathlib.Path, folder: pathlib.Path) -> tuple[float, int]:
    """Seconds to build the other index, and its bytes."""
    texts = all_texts(sqlite3.connect(f"file:{path}?mode=ro", uri=True))
    connection = sqlite3.connect(folder / "fts5.db")
    connection.execute(
        "CREATE VIRTUAL TABLE found USING fts5 (text, content = '', detail = none, tokenize = 'trigram')"
    )
    began = time.monotonic()
    with connection:
        connection.executemany("INSERT INTO found (rowid, text) VALUES (?, ?)", enumerate(texts, 1))
    size = connection.execute("SELECT sum(pgsize) FROM dbstat").fetchone()[0]
    return time.monotonic() - began, int(size)


async def run(sessions: int, turns: int, seconds: float) -> None:
    """Prints everything."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        store, texts = SqliteStore(folder / "gateway.db"), Texts()
        await store.open()
        await fill(store, texts, sessions, turns)
        await store.close()
        store = SqliteStore(folder / "gateway.db")
        await store.open()
        await measure(store, texts, folder, sessions, seconds)
        await store.close()


async def measure(
    store: SqliteStore, texts: Texts, folder: pathlib.Path, sessions: int, seconds: float
) -> None:
    """With a store that has no index yet."""
    seq, quiet, busy = 100_000, list[float](), list[float]()
    before = await searched(store, "hardly umbrella")
    print(f"{sessions} sessions; a search before there is an index: {before[2]:.2f} s")
    for _ in range(3):
        taken, seq = await commits(store, texts, seconds / 6, seq)
        quiet += taken
        indexing = asyncio.create_task(Indexer(store.search, time.monotonic).run())
        taken, seq = await commits(store, texts, seconds / 6, seq)
        busy += taken
        indexing.cancel()
        await asyncio.wait([indexing])
    print(f"commit, index at rest    {quantiles(quiet)}")
    print(f"commit, index is built   {quantiles(busy)}")
    began = time.monotonic()
    left = 0
    while await store.search.index():
        left += 1
    print(f"the rest of the index, without rests: {time.monotonic() - began:.1f} s in {left} pieces")
    index, size = await asyncio.to_thread(sizes, store.path)
    print(f"index {index / 1e6:.1f} MB of {size / 1e6:.1f} MB of text: {index / size:.3f} bytes a byte")
    for query in ("the", texts._words[3_000], texts._words[15_000], "雨伞", "מטרי", "q", "no such words"):
        times = [await searched(store, query) for _ in range(5)]
        first, whole = sorted(one[0] for one in times)[2], sorted(one[2] for one in times)[2]
        print(f"search {query!r:20} first {first * 1000:7.1f} ms, {times[0][1]:4} in {whole * 1000:7.1f} ms")
    taken_seconds, other = await asyncio.to_thread(fts5, store.path, folder)
    print(f"FTS5, trigrams, detail none: {other / size:.3f} bytes a byte, built in {taken_seconds:.1f} s")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=24.0, help="of commits, half of them while it is built"
    )
    args = parser.parse_args()
    asyncio.run(run(args.sessions, args.turns, args.seconds))


if __name__ == "__main__":
    main()
