"""Which store the gateways of tests have: SQLite's, unless `GATEWAY_TEST_STORE=postgresql` says otherwise, or
they are started within `stored_in("postgresql")`. Each directory of data has a database of its own, which a
second gateway there finds again. A test whose configuration names a store keeps that.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import pytest

VARIABLE: Final = "GATEWAY_TEST_STORE"
KINDS: Final[dict[str, Callable[[], str]]] = {}
"""By name, what makes a new store and says its URL; postgres.py adds itself."""
_NAMES_A_STORE: Final = re.compile(r"^\s*store\s*=", re.MULTILINE)
_urls: Final[dict[tuple[str, pathlib.Path], str]] = {}


def kind() -> str:
    """The kind of store that gateways have now."""
    return os.environ.get(VARIABLE) or "sqlite"


IN_A_FILE: Final = pytest.mark.skipif(kind() != "sqlite", reason="it is about SQLite's file")
"""Marks a test of a gateway that makes sense with SQLite alone."""


def store_in(data: pathlib.Path, config: str, environ: Mapping[str, str] | None) -> Mapping[str, str]:
    """What the environment of a gateway says of its store."""
    is_named = "AGENT_GATEWAY_STORE" in (environ or {}) or _NAMES_A_STORE.search(config)
    if is_named or kind() == "sqlite":
        return {}
    place = (kind(), data)
    if place not in _urls:
        _urls[place] = KINDS[kind()]()
    return {"AGENT_GATEWAY_STORE": _urls[place]}


def with_store(config: str, stored: Mapping[str, str]) -> str:
    """A configuration that names the store, too, for commands that are given it."""
    return f'store = "{stored["AGENT_GATEWAY_STORE"]}"\n{config}' if stored and config else config


@contextlib.contextmanager
def stored_in(name: str) -> Iterator[None]:
    """Gateways that are started meanwhile have this kind of store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, name)
        yield
