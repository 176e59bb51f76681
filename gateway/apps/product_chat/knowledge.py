"""What a shop knows: its folder of texts, as passages that are found by the words of a question.

A folder that changes is read again. A file that cannot be read is left out, and that is said loudly.
"""

from __future__ import annotations

import asyncio
import logging
import pathlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from gateway.apps.shop.search_words import TOKENIZER, any_of, search_words

log = logging.getLogger(__name__)

SUFFIXES: Final = (".md", ".txt")
CHECK_SECONDS: Final = 1.0
MAX_FILE_BYTES: Final = 1024 * 1024
MAX_FILES: Final = 1_000
PASSAGE_CHARACTERS: Final = 1_200
"""About a printed half page: what a question is answered from, not a book."""
_TABLE: Final = f"CREATE VIRTUAL TABLE passages USING fts5 (title, text, tokenize = '{TOKENIZER}')"
_FIND: Final = (
    "SELECT title, text FROM passages WHERE passages MATCH ? ORDER BY bm25(passages, 4, 1), rowid LIMIT ?"
)
_Stamp = tuple[tuple[str, int, int], ...]


class Knowledge:
    """See the module. `folder` says which one it is now; empty: none."""

    def __init__(self, folder: Callable[[], str], *, monotonic: Callable[[], float]) -> None:
        self._folder = folder
        self._monotonic = monotonic
        self._checked: tuple[str, float] | None = None
        self._stamp: _Stamp | None = None
        self._index: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    async def find(self, question: str, *, limit: int) -> list[str]:
        """The passages that fit a question best, each with its title."""
        folder, words = self._folder(), search_words(question)
        if not folder or not words:
            return []
        return await asyncio.to_thread(self._find, folder, words, limit)

    def close(self) -> None:
        """Lets go of the index."""
        with self._lock:
            if self._index is not None:
                self._index.close()
                self._index = None

    def _find(self, folder: str, words: Sequence[str], limit: int) -> list[str]:
        with self._lock:
            now = self._monotonic()
            if self._checked is None or self._checked[0] != folder or now - self._checked[1] > CHECK_SECONDS:
                self._checked = (folder, now)
                self._look(pathlib.Path(folder).expanduser())
            if self._index is None:
                return []
            rows = self._index.execute(_FIND, (any_of(words), limit)).fetchall()
        return [f"{title}\n{text}".strip() for title, text in rows]

    def _look(self, folder: pathlib.Path) -> None:
        try:
            paths = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)[:MAX_FILES]
            stats = [(path, path.stat()) for path in paths]
        except OSError as error:
            log.error("THE KNOWLEDGE in %s cannot be read; what was known stays: %s", folder, error)
            return
        stamp = tuple((str(path), stat.st_mtime_ns, stat.st_size) for path, stat in stats)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        if self._index is not None:
            self._index.close()
        self._index = sqlite3.connect(":memory:", check_same_thread=False)
        self._index.execute(_TABLE)
        found = [passage for path in paths for passage in _read(path)]
        self._index.executemany("INSERT INTO passages VALUES (?, ?)", found)
        log.info("%s has %d passages to answer from", folder, len(found))


def _read(path: pathlib.Path) -> list[tuple[str, str]]:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"it is larger than {MAX_FILE_BYTES} bytes")
        return list(passages(path.stem, path.read_text("utf-8-sig")))
    except (OSError, ValueError) as error:
        log.error("%s is left out of what is known: %s", path, error)
        return []


def passages(title: str, text: str) -> Iterator[tuple[str, str]]:
    """A text in pieces that answer a question, each below its heading (or the file's name)."""
    heading, part = title, ""
    for block in (block.strip() for block in text.replace("\r\n", "\n").split("\n\n")):
        is_heading = block.startswith("#")
        if part and (is_heading or len(part) + len(block) > PASSAGE_CHARACTERS):
            yield heading, part
            part = ""
        if is_heading:
            first, _, block = block.partition("\n")
            heading = first.lstrip("#").strip() or title
        while len(block) > PASSAGE_CHARACTERS:
            yield heading, block[:PASSAGE_CHARACTERS]
            block = block[PASSAGE_CHARACTERS:]
        part = f"{part}\n\n{block}".strip()
    if part:
        yield heading, part
