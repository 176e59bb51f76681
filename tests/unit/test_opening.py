"""Which store a URL or a path means, and what is said of one that means none."""

from __future__ import annotations

import pathlib

import pytest

from gateway.config.file import ConfigError, load
from gateway.config.tables import STORE_SCHEMES
from gateway.stores.memory.store import MemoryStore
from gateway.stores.opening import ENGINES, open_store
from gateway.stores.sqlite.store import SqliteStore


@pytest.mark.parametrize("url", ["memory:", "memory://"])
def test_memory_is_a_url(url: str) -> None:
    assert isinstance(open_store(url), MemoryStore)
    assert load(environ={"AGENT_GATEWAY_STORE": url}).is_in_memory


@pytest.mark.parametrize("where", ["sqlite:///srv/x.db", "sqlite:////srv/x.db", "/srv/x.db"])
def test_a_file_is_a_url_or_a_path(where: str) -> None:
    for store in (open_store(where), open_store(pathlib.Path("/srv/x.db"))):
        assert isinstance(store, SqliteStore)
        assert store.path == pathlib.Path("/srv/x.db")


@pytest.mark.parametrize(
    "url", ["mongodb://me:SECRET@host/x", "sqlite://", "sqlite:///", "memory:x", "file", "9:x"]
)
def test_a_store_that_means_nothing_is_refused_with_those_that_are_known(url: str) -> None:
    with pytest.raises(ConfigError) as from_settings:
        load(environ={"AGENT_GATEWAY_STORE": url})
    for mistake in from_settings.value.mistakes:
        assert mistake.startswith("store: ")
        assert "SECRET" not in mistake
        assert all(words in mistake for words in STORE_SCHEMES.values())


def test_opening_refuses_an_unknown_scheme_in_the_same_words() -> None:
    with pytest.raises(ConfigError) as from_settings:
        load(environ={"AGENT_GATEWAY_STORE": "mongodb://me:SECRET@host/x"})
    with pytest.raises(ConfigError) as from_opening:
        open_store("mongodb://me:SECRET@host/x")
    assert from_opening.value.mistakes == from_settings.value.mistakes


def test_the_settings_know_every_engine() -> None:
    assert set(STORE_SCHEMES) == set(ENGINES)
