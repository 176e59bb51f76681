"""Which store a URL or a path means, and what is said of one that means none."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from gateway.config.file import ConfigError, load, shown, without_password
from gateway.config.tables import DATABASE_NAME, STORE_SCHEMES
from gateway.stores.memory.store import MemoryStore
from gateway.stores.opening import ENGINES, open_store
from gateway.stores.postgresql.store import PostgresqlStore
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


@pytest.mark.parametrize("url", ["postgresql://me:SECRET@host/x", "postgres://a:1,b:2/x?password=SECRET"])
def test_a_database_of_postgresql_is_a_url_whose_password_is_not_shown(url: str) -> None:
    config = load(environ={"AGENT_GATEWAY_STORE": url})
    assert config.is_on_postgresql
    assert not config.is_in_memory
    assert config.database_path == config.data_path / DATABASE_NAME
    lines = shown(config)
    assert "SECRET" not in lines
    assert 'store = "postgres' in lines
    assert isinstance(open_store(url), PostgresqlStore)


@pytest.mark.parametrize(
    ("url", "shows"),
    [
        ("postgresql://me:a@b:c/d@host/x", "postgresql://me:…@host/x"),
        ("postgresql://me@host/x?sslmode=require&password=a%26b&x=1", None),
        ("postgresql://host/x?sslpassword=abc&sslkey=/k", None),
        ("postgresql://me@host/x", "postgresql://me@host/x"),
    ],
)
def test_what_is_shown_of_a_url(url: str, shows: str | None) -> None:
    found = without_password(url)
    assert "abc" not in found
    assert "a%26b" not in found
    assert shows is None or found == shows


def test_without_its_library_postgresql_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    for name in [name for name in sys.modules if name.startswith("gateway.stores.postgresql")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ConfigError) as refused:
        open_store("postgresql://me:SECRET@host/x")
    assert refused.value.mistakes == ["store: for PostgreSQL: pip install 'agent-gateway[postgres]'"]


def test_a_gateway_on_another_store_loads_nothing_of_postgresql() -> None:
    program = (
        "import sys, gateway.app; from gateway.stores.opening import configured_store;"
        "from gateway.config.tables import Config; configured_store(Config(store='memory:'));"
        "print([name for name in sys.modules if name.startswith(('asyncpg', 'gateway.stores.postgresql.s'))])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_settings_know_every_engine() -> None:
    assert set(STORE_SCHEMES) == set(ENGINES)
