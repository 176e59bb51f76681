"""How many attacks a run of the tests has tried, and how many of them were held: the card that `conftest.py`
prints at the end, and docs/isolation.md quotes.

A run of all of these tests fails if the document quotes other figures; with HOSTILE_CARD=write it writes them
into the document instead, and their sum into the README.
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Mapping
from typing import Final

ROOT: Final = pathlib.Path(__file__).parent.parent.parent
DOCUMENT: Final = ROOT / "docs" / "isolation.md"
README: Final = ROOT / "README.md"
MODULES: Final = ("test_hostile.py", "test_worker_connections.py")
"""In tests/integration: the tests that note attacks."""
TITLE: Final = "attacks by agents"
TOGETHER: Final = "together"
_ROW: Final = re.compile(r"^(\S.*?) +(\d+) +(\d+)$", re.MULTILINE)
_QUOTED: Final = re.compile(rf"(?<=```\n){TITLE}.*?\n(?=```)", re.DOTALL)
_SUM: Final = re.compile(r"Of (\d+) attacks from behind the walls, (\d+) were blocked; the other (\d+) are")

Rows = dict[str, tuple[int, int]]
"""What was attacked → attacks tried, held."""
CARD: Final[Rows] = {}


def note(what: str, *, tried: int, held: int) -> None:
    """Adds a row's figures."""
    before = CARD.get(what, (0, 0))
    CARD[what] = (before[0] + tried, before[1] + held)


def add(rows: Mapping[str, tuple[int, int]]) -> None:
    """Adds what another process of the same run has noted."""
    for what, (tried, held) in rows.items():
        note(what, tried=tried, held=held)


def lines() -> list[str]:
    """The card."""
    if not CARD:
        return []
    rows = [*sorted(CARD.items()), (TOGETHER, total(CARD))]
    return [f"{TITLE:58} {'tried':>7} {'held':>7}", *(f"{n:58} {t:7} {h:7}" for n, (t, h) in rows)]


def total(rows: Rows) -> tuple[int, int]:
    """The sums of a card's rows."""
    return sum(tried for tried, _ in rows.values()), sum(held for _, held in rows.values())


def quoted() -> Rows:
    """The rows that the document quotes, with their sum."""
    found = _QUOTED.search(DOCUMENT.read_text("utf-8"))
    assert found, f"{DOCUMENT} quotes no card"
    return {what: (int(tried), int(held)) for what, tried, held in _ROW.findall(found[0])}


def in_readme() -> tuple[int, int, int]:
    """How many attacks the README says were tried, held and not held."""
    found = _SUM.search(README.read_text("utf-8"))
    assert found, f"{README} says nothing of attacks"
    tried, held, others = map(int, found.groups())
    return tried, held, others


def objection(*, is_whole: bool) -> str | None:
    """What is wrong with the figures in the documents, after a run; None if nothing is, or if the run was not
    all of these tests on a machine that has all these walls. Writes them instead if that was asked for.
    """
    noted = CARD | {TOGETHER: total(CARD)}
    if not is_whole or not CARD or noted == quoted():
        return None
    if os.environ.get("HOSTILE_CARD") == "write":
        _write()
        return None
    if not quoted().keys() <= noted.keys():
        return None
    return (
        f"docs/{DOCUMENT.name} quotes another card of attacks than this run has printed. See what changed; "
        "HOSTILE_CARD=write with the same tests writes it there and into the README."
    )


def _write() -> None:
    card = "".join(line + "\n" for line in lines())
    DOCUMENT.write_text(_QUOTED.sub(lambda _: card, DOCUMENT.read_text("utf-8")), "utf-8")
    tried, held = total(CARD)
    words = f"Of {tried} attacks from behind the walls, {held} were blocked; the other {tried - held} are"
    README.write_text(_SUM.sub(words, README.read_text("utf-8")), "utf-8")
