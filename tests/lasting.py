"""Processes that a test process starts once, for all its tests, and ends when it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

PIDS: Final[set[int]] = set()
"""They and their children outlive the test that needed them first."""
ENDS: Final[list[Callable[[], None]]] = []
"""How each is ended."""
