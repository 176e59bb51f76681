"""What applications declare and add, part by part: facts, settings, observers, toolsets, tables. And the core
names none of them.
"""

from __future__ import annotations

import importlib.machinery
import json
import pathlib
import re
import sqlite3
import sys
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import pytest
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.agents.toolsets import Answer, Caller, CallTool, Tool, Toolbox, Toolset, UnknownTool
from gateway.api.mcp.conversation import CallOrigin
from gateway.api.mcp.server import _Tools
from gateway.auth.passes import Granted
from gateway.config import applications
from gateway.config.applications import SHIPPED, enabled, installed, own_agents
from gateway.config.file import ConfigError, load, shown
from gateway.config.reloading import compared
from gateway.config.tables import ApplicationsConfig, Config
from gateway.errors import StoreFailed
from gateway.events import facts as ev
from gateway.events.compaction import compacted
from gateway.events.fold import ChatState, FoldPart
from gateway.extension import refuse_taken
from gateway.http.operation import Handler, Operation
from gateway.principal import LOCAL, ConversationKey
from gateway.sessions.observers import Observer, Observers
from gateway.stores.contract import SessionRecord
from gateway.stores.opening import migrations_of
from gateway.stores.sqlite.schema import has_table, schema_version
from gateway.stores.sqlite.store import SqliteStore

ROOT: Final = pathlib.Path(__file__).parent.parent.parent
RECORD: Final = SessionRecord(
    key="k", owner="default/local", session_id="s", agent="a", created_at=0, last_active_at=0
)
BODY: Final = '{"type":"never_heard_of","n":1,"deep":{"a":[1,2.50]},"text":"×"}'.encode()


# -- operations -------------------------------------------------------------------------------------------


async def hello(_request: Request) -> Response:
    raise NotImplementedError


async def hello_again(_request: Request) -> Response:
    raise NotImplementedError


def operation(path: str, handler: Handler) -> Operation:
    return Operation(method="GET", path=path, handler=handler, summary="Hello", scope="read")


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (operation("/api/hello", hello_again), "two operations have GET /api/hello"),
        (operation("/api/other", hello), "two operations have the name hello"),
    ],
)
def test_an_operation_that_is_taken_is_refused(second: Operation, words: str) -> None:
    refuse_taken([operation("/api/hello", hello), operation("/api/other", hello_again)])
    with pytest.raises(ConfigError, match=words):
        refuse_taken([operation("/api/hello", hello), second])


# -- facts ------------------------------------------------------------------------------------------------


def test_a_fact_that_nobody_knows_is_kept_and_streamed_as_it_is() -> None:
    event = ev.Event.stored(7, 1_000, BODY)
    assert (event.type, event.body) == ("never_heard_of", BODY)
    assert event.frame.startswith(b"id: 7\nevent: never_heard_of\ndata: {")
    assert event.frame.endswith(BODY[1:] + b"\n\n")
    assert json.loads(event.json) == {"seq": 7, "at": "1970-01-01T00:00:01.000Z", **json.loads(BODY)}


def test_a_fact_that_nobody_knows_changes_no_fold_and_survives_a_compaction() -> None:
    delta = ev.Event(1, 1, ev.TextDelta("m", "t", "a"))
    events = [delta, ev.Event.stored(2, 2, BODY), ev.Event(3, 3, ev.TextDelta("m", "t", "b"))]
    with_it, without = ChatState("s"), ChatState("s")
    for event in events:
        with_it.apply(event)
    for event in (events[0], events[2]):
        without.apply(event)
    assert with_it.snapshot() == without.snapshot()
    assert ev.merged(events)[1].body == BODY
    assert BODY in [event.body for event in compacted(events)]


@pytest.mark.parametrize(
    "body", [b'{"type":"message","message_id":5}', b'{"type":"cart","lines":"x"}', b"{}", b"["]
)
def test_a_known_fact_that_is_damaged_is_no_unknown_one(body: bytes) -> None:
    assert installed()
    with pytest.raises(msgspec.DecodeError):
        ev.Event.stored(1, 1, body)


def test_a_type_on_the_wire_has_one_fact() -> None:
    assert installed()

    class Cart(ev.ApplicationFact, frozen=True, tag="cart"):
        n: int

    class Message(ev.ApplicationFact, frozen=True, tag="message"):
        n: int

    class Untagged(ev.ApplicationFact, frozen=True):
        n: int

    for kind in (Cart, Message, Untagged):
        with pytest.raises(ValueError, match="fact of type"):
            ev.register(kind)
    assert ev.Event.stored(1, 1, b'{"type":"cart","lines":1,"items":2,"total":"3.00"}').type == "cart"


class _Part(FoldPart):
    __slots__ = ("heard",)
    name = "mine"

    def __init__(self) -> None:
        self.heard: list[str] = []

    def apply(self, data: ev.EventData, at: int) -> None:
        self.heard.append(type(data).__name__)

    def snapshot(self) -> Any:
        return self.heard

    @property
    def person(self) -> str | None:
        return "Ruth" if self.heard else None


def test_a_part_of_the_fold_has_its_field_and_says_who_answers() -> None:
    assert installed()
    fold = ChatState("s", parts=(_Part(),))
    assert (fold.person, fold.is_joined, fold.briefings) == (None, False, [])
    fold.apply(ev.Event(1, 1, ev.SessionInfo("title")))
    fold.apply(ev.Event.stored(2, 2, b'{"type":"cart","lines":1,"items":2,"total":"3.00"}'))
    assert fold.snapshot()["mine"] == ["CartChanged"]
    assert fold.person == "Ruth"
    assert "cart" not in fold.snapshot()


# -- settings ---------------------------------------------------------------------------------------------


def written(directory: pathlib.Path, text: str) -> Config:
    file = directory / "gateway.toml"
    file.write_text(text)
    return load(file, environ={})


def names(config: Config) -> list[str]:
    return [application.name for application in enabled(config)]


def test_those_that_come_along_run_unless_others_are_named(tmp_path: pathlib.Path) -> None:
    assert sorted(names(Config())) == sorted(SHIPPED)
    assert names(written(tmp_path, "[applications]\nenabled = []\n")) == []
    assert names(written(tmp_path, '[applications]\nenabled = ["shopping_assistant", "shop"]\n')) == [
        "shop",
        "shopping_assistant",
    ]
    chosen = load(environ={"AGENT_GATEWAY_APPLICATIONS_ENABLED": "shop, product_chat"})
    assert names(chosen) == ["shop", "product_chat"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[applications]\nenabled = ["shpo"]\n', "there is no application 'shpo'; there are: shop, "),
        ('[applications]\nenabled = ["shopping_assistant"]\n', "shopping_assistant needs shop, which is not"),
        ('default_agent = "shop"\n[applications]\nenabled = []\n', "default_agent: there is no agent 'shop'"),
        ('[agents.a]\ncommand = "x"\ntools = ["shop"]\n[applications]\nenabled = []\n', "there are: none"),
        (
            '[applications]\nenabled = ["product_chat"]\n[products]\ncatalogue = "shop:corner"\n',
            "the application shop is switched off",
        ),
        ("[products]\nvisitor_rates = 1\n", "products.visitor_rates: no such setting"),
        ("[tables]\nshop = 1\n", "tables: no such table, and no application that can be loaded has it"),
        ("table = 1\n", "table: no such setting"),
    ],
)
def test_a_mistake_is_named(tmp_path: pathlib.Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        written(tmp_path, text)


def test_tables_of_applications_that_are_switched_off_may_stay(tmp_path: pathlib.Path) -> None:
    config = written(tmp_path, '[shop]\nmax_lines = 3\nagent = "gone"\n[applications]\nenabled = []\n')
    assert own_agents(config) == {}
    assert "shop.max_lines = 3" in shown(config).split("\n")
    changes = compared(Config(), config)
    assert set(changes.applied) == {"shop.max_lines", "shop.agent"}
    assert changes.waiting == ["applications.enabled"]


def test_entry_points_name_those_that_come_along() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    declared = dict(re.findall(r'^(\w+) = "(gateway\.apps\.[\w.]+:\w+)"$', text, re.M))
    assert declared == SHIPPED


def test_entry_points_are_asked_for_only_if_there_may_be_others(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "meta_path", [importlib.machinery.PathFinder])
    about = tmp_path / "x-1.0.dist-info"
    about.mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "missing")])
    for entries, may in (
        (None, False),
        ("[console_scripts]\nshop = x:y\n", False),
        (
            f"[{applications.GROUP}]\nshop = gateway.apps.shop.application:APPLICATION\n[other]\nx = y\n",
            False,
        ),
        (f"[other]\nx = y\n[ {applications.GROUP} ]\nmine = x:y\n", True),
    ):
        if entries is not None:
            (about / "entry_points.txt").write_text(entries)
        assert applications._may_name_others() is may, entries
    monkeypatch.setattr(sys, "path", [str(about / "entry_points.txt")])
    assert applications._may_name_others()  # an archive


def test_an_application_that_cannot_be_loaded_is_named_and_stops_no_other(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = tmp_path / "packages" / "broken-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    entries = f"[console_scripts]\na = b:c\n\n[{applications.GROUP}]\nbroken = no_such_module:APPLICATION\n"
    (about / "entry_points.txt").write_text(entries)
    monkeypatch.setattr(sys, "path", [str(about.parent), *sys.path])
    applications._found.cache_clear()
    try:
        assert sorted(names(Config())) == sorted(SHIPPED)
        words = r"applications.enabled: broken cannot be loaded \(ModuleNotFoundError: .*no_such_module"
        with pytest.raises(ConfigError, match=words):
            written(tmp_path, '[applications]\nenabled = ["broken"]\n')
    finally:
        applications._found.cache_clear()


# -- observers --------------------------------------------------------------------------------------------


class _Ear(Observer):
    def __init__(self, failure: Exception | None = None) -> None:
        self.heard: list[str] = []
        self._failure = failure

    def appended(self, session: Any, event: ev.Event | None) -> None:
        self._hear("appended")

    async def erased(self, key: ConversationKey, *, reason: str) -> None:
        self._hear(f"erased {key.conversation} {reason}")

    async def swept(self, now: int) -> None:
        self._hear("swept")

    def _hear(self, what: str) -> None:
        self.heard.append(what)
        if self._failure is not None:
            raise self._failure


async def test_every_observer_hears_whatever_another_does(caplog: pytest.LogCaptureFixture) -> None:
    first, broken, full, last = _Ear(), _Ear(KeyError("x")), _Ear(StoreFailed()), _Ear()
    observers = Observers()
    for ear in (first, broken, full, last):
        observers.add(ear)
    session: Any = type("Session", (), {"record": RECORD})
    observers.appended(session, None)
    with pytest.raises(StoreFailed):
        await observers.erased(ConversationKey("t", "t/o", "c"), reason="deleted")
    with pytest.raises(StoreFailed):
        await observers.swept(1)
    heard = ["appended", "erased c deleted", "swept"]
    assert [ear.heard for ear in (first, broken, full, last)] == [heard] * 4
    assert "an application failed" in caplog.text


# -- toolsets ---------------------------------------------------------------------------------------------


class _Nothing(Struct):
    pass


class _Set(Toolset):
    def __init__(self, name: str) -> None:
        self.name = name

    def describe(self) -> list[Tool]:
        return [
            Tool(name=f"{self.name}_do", title="", description="", arguments=_Nothing, is_read_only=False)
        ]

    async def call(self, name: str, arguments: Mapping[str, Any], caller: Caller) -> Answer:
        return Answer(text=f"{name} for {caller.key.conversation}")


async def test_a_sessions_agent_has_the_toolsets_that_it_names_and_no_others() -> None:
    sets = {name: _Set(name) for name in ("one", "two")}
    box = Toolbox(sets, sets=("two", "three"), record=lambda: RECORD)
    assert [tool["name"] for tool in box.described()] == ["two_do"]
    assert (await box.call(CallTool("two_do")))["text"] == "two_do for s"
    with pytest.raises(UnknownTool, match="Tools: two_do"):
        await box.call(CallTool("one_do"))


def test_a_pass_opens_the_toolsets_of_its_agent_over_mcp_and_no_others() -> None:
    tools = _Tools([_Set("one"), _Set("two")])
    key = ConversationKey("default", "default/local", "s")
    anybody, agent = CallOrigin(principal=LOCAL), CallOrigin(principal=LOCAL, granted=Granted(key, ("two",)))
    assert [tool.name for tool in tools.announced(anybody)] == ["one_do", "two_do"]
    assert [tool.name for tool in tools.announced(agent)] == ["two_do"]
    assert tools.find("one_do", anybody)[1].name == "one"
    with pytest.raises(Exception, match="Unknown tool: one_do"):
        tools.find("one_do", agent)


# -- tables -----------------------------------------------------------------------------------------------


def tables(path: pathlib.Path) -> dict[str, bool]:
    with sqlite3.connect(path) as connection:
        found = {name: has_table(connection, name) for name in ("shop_sessions", "product_chat_sessions")}
    connection.close()
    return found


async def opened(path: pathlib.Path, *chosen: str) -> None:
    config = Config(applications=ApplicationsConfig(enabled=chosen))
    store = SqliteStore(path, migrations=migrations_of(config))
    await store.open()
    await store.close()


async def test_an_application_has_tables_once_it_runs(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "gateway.db"
    await opened(path)
    version = schema_version(path)
    assert tables(path) == {"shop_sessions": False, "product_chat_sessions": False}
    for _ in range(2):
        await opened(path, "shop")
        assert tables(path) == {"shop_sessions": True, "product_chat_sessions": False}
    await opened(path, "shop", "product_chat")
    assert tables(path) == {"shop_sessions": True, "product_chat_sessions": True}
    await opened(path)
    assert tables(path) == {"shop_sessions": True, "product_chat_sessions": True}
    assert schema_version(path) == version, "an older program refuses a file of a newer schema"


# -- the core ---------------------------------------------------------------------------------------------

NAMED: Final = re.compile(
    r"shop|\bcarts?\b|product[ _-]?chat|\bproducts?\b|assistant|\bdesk\b|\binbox\b|widget\.js", re.I
)
ALLOWED: Final = {
    '_ROLES: Final = {"user": "user", "agent": "assistant", "system": "system"}': "a role of the model's API",
    '*("owner", "theowner", "you", "me", "agent", "theagent", "assistant", "ai", "bot", "system", "user"),': (
        "names that no guest may take"
    ),
    '"gen_ai.output.messages": _messages("assistant", "".join(turn.answer)),': "a role of OpenTelemetry's",
    **{f'"{name}": "{place}",': "where an application is found" for name, place in SHIPPED.items()},
}


def test_no_line_of_the_core_names_an_application() -> None:
    core = [
        path
        for path in (ROOT / "gateway").rglob("*")
        if path.suffix in (".py", ".sql") and not path.is_relative_to(ROOT / "gateway" / "apps")
    ]
    assert len(core) > 100
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in core
        for line in path.read_text().splitlines()
        if NAMED.search(line) and line.strip() not in ALLOWED
    ]
    assert found == []
