"""Budgets from the outside: a turn ends in words, its session stays, and goes on when they are raised."""

from __future__ import annotations

import asyncio
import pathlib
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from yarl import URL

from gateway.config.models import DEFAULT_PROVIDER
from gateway.config.tables import Config, SessionQuota, TenantConfig
from gateway.errors import BudgetReached
from gateway.events.lifecycle import CloseReason
from gateway.models.budgets import GATEWAY, MICRO, day_of, month_of
from gateway.models.meter import CallUsage, ModelCall
from gateway.models.tokens import ModelAccess
from gateway.stores.usage import UseName
from tests.fake_model import Behaviour, FakeModel, fake_model
from tests.gateway.test_model_routes import CALLS, PROVIDERS
from tests.gateway.test_model_routes import CONFIG as PROVIDING
from tests.inside import GatewayInside, gateway_inside
from tests.patience import within
from tests.shared import SHARED, ask, eventually, fresh_id
from tests.streams import open_stream, state_when

pytestmark = SHARED
CALL = {"prompt_tokens": 1_000, "completion_tokens": 100}
COST = 0.004
"""Of one call, by the prices below."""
PRICED = {"openai": "gpt-fake", "anthropic": "claude-fake", "gemini": "gemini-fake"}
CONFIG = """
[model]
retries = 0
[model.prices."fake-model"]
input = 3.0
output = 10.0
[sessions]
interrupt_timeout_seconds = 5
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model() -> AsyncIterator[FakeModel]:
    async with fake_model() as running:
        running.behaviour = Behaviour(usage=CALL)
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(model: FakeModel, tmp_path_factory: Any) -> AsyncIterator[GatewayInside]:
    environ = {"AGENT_MODEL_URL": model.url, "AGENT_MODEL": "fake-model", "AGENT_MODEL_KEY": "sk-1"}
    directory = tmp_path_factory.mktemp("gateway")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.sessions.budget_waits.LOOK_SECONDS", 0.05)
        async with gateway_inside(directory, config=CONFIG, environ=environ) as running:
            yield running


def set_session_budget(gateway: GatewayInside, **limits: float) -> None:
    """As a reload does."""
    config: Config = gateway.inner.services.current.config
    quotas = msgspec.structs.replace(config.quotas, session=SessionQuota(**limits))  # type: ignore[arg-type]
    gateway.inner.services.current.config = msgspec.structs.replace(config, quotas=quotas)


async def events_of(gateway: GatewayInside, session_id: str) -> list[dict[str, Any]]:
    text = await (await gateway.http.get(f"/api/sessions/{session_id}/export?format=jsonl")).text()
    return [msgspec.json.decode(line) for line in text.splitlines()]


async def test_what_calls_cost_is_shown_and_kept(gateway: GatewayInside) -> None:
    session_id = fresh_id("cost")
    set_session_budget(gateway)
    state = await gateway.chat(session_id, "hello")
    assert state["cost"] == {"spent": COST, "currency": "USD", "limit": None, "is_estimated": False}
    state = await gateway.chat(session_id, 'call calculate {"expression": "6*7"}')
    assert state["cost"]["spent"] == 3 * COST
    used = [event for event in await events_of(gateway, session_id) if "spending" in event]
    assert [(event["input_tokens"], event["provider"], event["model"]) for event in used] == [
        (1_000, DEFAULT_PROVIDER, "fake-model")
    ] * 3
    key = next(s.record.key for s in gateway.inner.manager.sessions() if s.session_id == session_id)
    rows = await gateway.inner.services.store.ledger.calls(session_key=key, limit=9)
    assert {(row.cost, row.status, row.agent, row.owner) for row in rows} == {
        (4_000, 200, "built-in", "default/local")
    }
    assert len(rows) == 3


async def test_a_budget_ends_the_turn_at_the_next_call_and_raised_it_goes_on(gateway: GatewayInside) -> None:
    session_id = fresh_id("budget")
    set_session_budget(gateway, cost_per_day=COST)
    state = await gateway.chat(session_id, 'call calculate {"expression": "6*7"}')
    events = await events_of(gateway, session_id)
    [ended] = [event for event in events if event["type"] == "turn_ended"]
    assert ended["stop_reason"] == "budget_reached", "the call in flight ended, the next was refused"
    assert [event["type"] for event in events].count("budget_reached") == 1
    [near] = [event for event in events if event["type"] == "budget_near"]
    assert near["limit"] == "session.cost_per_day"
    assert "administrator of this gateway" in state["messages"][-1]["content"]
    assert not state["is_processing"]
    assert state["cost"]["spent"] == state["cost"]["limit"] == COST
    body = {"message": "more", "session_id": session_id}
    refused = await ask(gateway.http, "POST", "/api/chat", body)
    error = refused.body["error"]
    assert (refused.status, error["code"], error["limit"]) == (402, "budget_reached", "session.cost_per_day")
    assert (error["used"], error["allowed"]) == (COST, COST)
    set_session_budget(gateway, cost_per_day=2 * COST)
    state = await gateway.chat(session_id, "more")
    assert state["messages"][-1]["content"] == "You said: more"
    set_session_budget(gateway)


SLOWLY = Behaviour(usage=CALL, seconds_a_token=0.05)
DAY_SECONDS = 86_400
IN_THE_TURN = 'call calculate {"expression": "6*7"}'
"""Two calls, of which the budget allows one."""
AFTER_IT = "one"
PAYERS: dict[str, UseName] = {
    "gateway": GATEWAY,
    "tenant": ("tenant", "default"),
    "subject": ("subject", "default/local"),
    "agent": ("agent", "built-in"),
}


def set_budget(gateway: GatewayInside, level: str, **limits: float) -> None:
    """As a reload does."""
    config: Config = gateway.inner.services.current.config
    changed = type(getattr(config.quotas, level))(**limits)
    quotas = msgspec.structs.replace(config.quotas, **{level: changed})
    gateway.inner.services.current.config = msgspec.structs.replace(config, quotas=quotas)


async def held(
    gateway: GatewayInside, model: FakeModel, level: str, *, per: str = "day", first: str = IN_THE_TURN
) -> tuple[str, float]:
    """A session with two messages that wait for a budget, and what was spent of that before."""
    session_id, spent = fresh_id("held"), 0.0
    budgets = gateway.inner.ledger.budgets
    if level in PAYERS:
        at = gateway.clock.wall_ms()
        used = budgets.days.of(day_of(at)) if per == "day" else budgets.months.of(month_of(at))
        spent = used[PAYERS[level]].cost / MICRO if PAYERS[level] in used else 0.0
    set_budget(gateway, level, **{f"cost_per_{per}": spent + COST})
    model.behaviour = SLOWLY
    for text in (first, "two", "three"):
        await gateway.send(session_id, text)
    async with open_stream(gateway.http, session_id, after=0) as stream:
        found = await stream.until(lambda frame: frame.event == "queue" and frame.data["is_held"])
        assert found.data["held_for"] == "budget"
        assert [message["text"] for message in found.data["waiting"]] == ["two", "three"]
        notice = await stream.until_event("notice")
        assert notice.data["text"] == "2 waiting messages are held until the budget allows them."
    model.behaviour = Behaviour(usage=CALL)
    state = await state_when(gateway.http, session_id, lambda state: not state["is_processing"])
    assert state["queued"] == 2
    return session_id, spent


async def gone_on(gateway: GatewayInside, session_id: str) -> None:
    """They were sent, in order."""
    state = await state_when(
        gateway.http, session_id, lambda state: not state["is_processing"] and not state["queued"]
    )
    said = [message["content"] for message in state["messages"] if message["sender"] == "agent"]
    assert said[-2:] == ["You said: two", "You said: three"]


async def left(gateway: GatewayInside, session_id: str) -> str:
    """It is not in memory any more; its key."""
    session = next(s for s in gateway.inner.manager.sessions() if s.session_id == session_id)
    session.ask_to_close(CloseReason.IDLE)
    await asyncio.wait([session.left])
    return session.record.key


@pytest.mark.parametrize(
    ("level", "first"),
    [
        ("gateway", IN_THE_TURN),
        ("tenant", AFTER_IT),
        ("subject", IN_THE_TURN),
        ("agent", AFTER_IT),
        ("session", IN_THE_TURN),
    ],
)
async def test_what_waits_for_a_budget_is_sent_when_that_is_raised(
    gateway: GatewayInside, model: FakeModel, level: str, first: str
) -> None:
    session_id, spent = await held(gateway, model, level, first=first)
    set_budget(gateway, level, cost_per_day=0 if first == AFTER_IT else spent + 9 * COST)
    await gone_on(gateway, session_id)
    set_budget(gateway, level)


async def test_what_waits_is_sent_when_somebody_sets_the_budget_of_the_session(
    gateway: GatewayInside, model: FakeModel
) -> None:
    set_session_budget(gateway, cost=COST)
    session_id = fresh_id("held")
    model.behaviour = SLOWLY
    for text in (AFTER_IT, "two", "three"):
        await gateway.send(session_id, text)
    await state_when(gateway.http, session_id, lambda state: not state["is_processing"])
    model.behaviour = Behaviour(usage=CALL)
    where = f"/api/sessions/{session_id}/budget"
    await gateway.post(where, {"cost": COST / 2})
    assert (await gateway.state(session_id))["queued"] == 2, "that is not more"
    await gateway.post(where, {"cost": 9 * COST})
    await gone_on(gateway, session_id)
    set_session_budget(gateway)


@pytest.mark.parametrize(("per", "days"), [("day", 1), ("month", 31)])
async def test_what_waits_is_sent_when_a_day_or_a_month_begins(
    gateway: GatewayInside, model: FakeModel, per: str, days: int
) -> None:
    session_id, _ = await held(gateway, model, "subject", per=per)
    gateway.clock.advance(days * DAY_SECONDS)
    set_budget(gateway, "subject", **{f"cost_per_{per}": 9 * COST})  # what was spent is of another time
    await gone_on(gateway, session_id)
    set_budget(gateway, "subject")


async def test_what_waits_in_a_session_that_left_the_memory_is_sent_when_there_is_room_and_it_may(
    gateway: GatewayInside, model: FakeModel
) -> None:
    session_id, spent = await held(gateway, model, "tenant")
    key = await left(gateway, session_id)
    services, releaser = gateway.inner.services, gateway.inner.sessions.releaser
    services.waits.forget(key)
    await releaser.open()  # the next gateway knows it from the store
    services.slots.resize(0, 0)
    config = services.current.config
    services.current.config = msgspec.structs.replace(
        config, tenants={"default": TenantConfig(is_disabled=True)}
    )
    set_budget(gateway, "tenant", cost_per_day=spent + 9 * COST)
    for _ in range(3):
        await releaser.look()
    assert session_id not in {s.session_id for s in gateway.inner.manager.sessions()}, "it is not served"
    gateway.inner.manager.is_draining, services.current.config = True, config
    set_budget(gateway, "tenant", cost_per_day=spent + 9 * COST)
    await releaser.look()
    assert session_id not in {s.session_id for s in gateway.inner.manager.sessions()}, "no work is taken"
    gateway.inner.manager.is_draining = False
    for _ in range(3):
        await releaser.look()
    assert (await gateway.state(session_id))["queued"] == 2, "there is no room for a worker"
    services.slots.resize(config.limits.max_live_workers, config.limits.waiting_turns)
    await gone_on(gateway, session_id)
    set_budget(gateway, "tenant")


async def test_a_new_message_comes_behind_those_that_waited(gateway: GatewayInside, model: FakeModel) -> None:
    session_id, spent = await held(gateway, model, "session")
    body = {"message": "four", "session_id": session_id}
    assert (await ask(gateway.http, "POST", "/api/chat", body)).status == 402
    set_budget(gateway, "session", cost_per_day=spent + 9 * COST)
    state = await gateway.chat(session_id, "four", wait=30)
    said = [message["content"] for message in state["messages"] if message["sender"] == "agent"]
    assert said[-3:] == ["You said: two", "You said: three", "You said: four"]
    set_budget(gateway, "session")


@pytest.mark.parametrize("is_raised_meanwhile", [False, True])
async def test_what_waits_for_the_budget_of_one_key_is_not_forgotten_when_another_has_a_turn(
    model: FakeModel, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, is_raised_meanwhile: bool
) -> None:
    monkeypatch.setattr("gateway.sessions.budget_waits.LOOK_SECONDS", 0.05)
    environ = {"AGENT_MODEL_URL": model.url, "AGENT_MODEL": "fake-model", "AGENT_MODEL_KEY": "sk-1"}
    config = f'{CONFIG}[auth]\nmodes = ["keys"]\n'
    async with gateway_inside(tmp_path, config=config, environ=environ) as gateway:
        first = gateway.caller(await gateway.mint("a", scopes=("chat",), subject="ann"))
        other = gateway.caller(await gateway.mint("b", scopes=("chat",), subject="ann"))
        async with first, other:
            set_budget(gateway, "key", cost_per_day=COST)
            model.behaviour = SLOWLY
            for text in (AFTER_IT, "two", "three"):
                await ask(first, "POST", "/api/chat", {"message": text, "session_id": "s"})
            await state_when(first, "s", lambda state: not state["is_processing"])
            await ask(other, "POST", "/api/chat", {"message": "four", "session_id": "s"})
            if is_raised_meanwhile:
                set_budget(gateway, "key")
                await gateway.inner.sessions.releaser.look()
            else:
                await state_when(first, "s", lambda state: not state["is_processing"])
                gateway.inner.services.waits.forget(await left(gateway, "s"))
                await gateway.inner.sessions.releaser.open()  # the next gateway knows it from the store
                set_budget(gateway, "key")
                await gateway.inner.sessions.releaser.look()
            model.behaviour = Behaviour(usage=CALL)
            state = await state_when(
                first, "s", lambda state: not state["is_processing"] and not state["queued"]
            )
            said = [message["content"] for message in state["messages"] if message["sender"] == "agent"]
            assert said[-3:] == ["You said: four", "You said: two", "You said: three"]


async def test_a_sessions_budget_is_raised_while_it_waits_and_kept(gateway: GatewayInside) -> None:
    session_id = fresh_id("own")
    set_session_budget(gateway, cost=COST)
    try:
        state = await gateway.chat(session_id, "hello")
        assert (state["cost"]["spent"], state["cost"]["budget"]) == (COST, COST)
        body = {"message": "more", "session_id": session_id}
        refused = await ask(gateway.http, "POST", "/api/chat", body)
        assert (refused.status, refused.body["error"]["limit"]) == (402, "session.cost")
        where = f"/api/sessions/{session_id}/budget"
        for wrong in (-1, "much", 1e300):
            assert (await ask(gateway.http, "POST", where, {"cost": wrong})).status == 422
        raised = await gateway.post(where, {"cost": 2 * COST})
        assert (raised["spent"], raised["budget"], raised["budget_by"]) == (COST, 2 * COST, "operator")
        state = await gateway.state(session_id)
        assert state["cost"] == raised
        await gateway.chat(session_id, "more")
        assert (await ask(gateway.http, "POST", "/api/chat", body)).status == 402
        session = next(s for s in gateway.inner.manager.sessions() if s.session_id == session_id)
        session.ask_to_close(CloseReason.IDLE)

        async def has_left() -> bool:
            return gateway.inner.manager.by_key(session.record.key) is None

        await eventually(has_left)
        assert (await ask(gateway.http, "POST", "/api/chat", body)).status == 402, "it is known from the log"
        key = next(s.record.key for s in gateway.inner.manager.sessions() if s.session_id == session_id)
        await gateway.post(f"/api/admin/sessions/{key}/budget", {"cost": 0})
        state = await gateway.chat(session_id, "more")
        assert "budget" not in state["cost"]
        assert (await ask(gateway.http, "POST", "/api/admin/sessions/none/budget", {"cost": 0})).status == 404
    finally:
        set_session_budget(gateway)


async def test_a_person_changes_the_budget_of_a_session_within_what_is_left_to_people(tmp_path: Any) -> None:
    config = '[auth]\nmodes = ["keys"]\n[tenants.acme]\n[tenants.other]\n'
    async with gateway_inside(tmp_path, config=config) as gateway:
        person = gateway.caller(await gateway.mint("ann", tenant="acme", scopes=("chat",)))
        operator = gateway.caller(await gateway.mint("op", tenant="acme", scopes=("operate",)))
        stranger = gateway.caller(await gateway.mint("far", tenant="other", scopes=("operate",)))
        async with person, operator, stranger:
            made = await ask(person, "POST", "/api/sessions", {"session_id": "s"})
            key = next(s.record.key for s in gateway.inner.manager.sessions())
            assert made.status == 201

            async def statuses(caller: Any, where: str, *costs: float) -> list[int]:
                return [(await ask(caller, "POST", where, {"cost": cost})).status for cost in costs]

            own, admins = "/api/sessions/s/budget", f"/api/admin/sessions/{key}/budget"
            assert await statuses(person, own, 5, 50, 0, 3) == [200] * 4, "one's own brake"
            set_session_budget(gateway, cost=1, cost_most=4)
            assert await statuses(person, own, 4, 4.5, 0, 0.5) == [200, 403, 403, 200]
            set_session_budget(gateway, cost=1)
            refused = await ask(person, "POST", own, {"cost": 2})
            assert "at most 1.00 USD" in refused.body["error"]["message"]
            assert await statuses(person, admins, 2) == [403]
            assert await statuses(stranger, admins, 2) == [404]
            assert await statuses(operator, admins, 2) == [200]
            set_session_budget(gateway)
            assert await statuses(person, own, 3, 0, 1, 2) == [403, 403, 200, 403], "an operator's holds"


async def test_a_model_without_a_price_is_refused_in_words_under_a_budget_in_money(
    gateway: GatewayInside,
) -> None:
    session_id = fresh_id("unpriced")
    config = gateway.inner.services.current.config
    model = msgspec.structs.replace(config.model, prices={})
    gateway.inner.services.current.config = msgspec.structs.replace(config, model=model)
    set_session_budget(gateway, cost_per_day=1)
    state = await gateway.chat(session_id, "hello")
    assert "price of the model fake-model is not known" in state["messages"][-1]["content"]
    set_session_budget(gateway)
    state = await gateway.chat(session_id, "hello")
    assert state["cost"] == {"spent": 0.0, "currency": "USD", "limit": None, "is_estimated": True}
    gateway.inner.services.current.config = config


async def test_a_cancelled_call_counts_what_is_known(gateway: GatewayInside, model: FakeModel) -> None:
    session_id = fresh_id("cancelled")
    model.behaviour = Behaviour(seconds_a_token=0.05)
    await gateway.send(session_id, "word " * 200)
    async with open_stream(gateway.http, session_id, after=0) as stream:
        await stream.until_event("text_delta")
    await gateway.post("/api/interrupt", {"session_id": session_id})
    model.behaviour = Behaviour(usage=CALL)
    key = next(s.record.key for s in gateway.inner.manager.sessions() if s.session_id == session_id)

    async def is_settled() -> bool:
        rows = await gateway.inner.services.store.ledger.calls(session_key=key, limit=9)
        return [(row.status, row.is_estimated, row.input > 0, row.output > 0) for row in rows] == [
            (499, True, True, True)
        ]

    await eventually(is_settled)


class Spans:
    """A tracer that only notes the spans that are recorded."""

    def __init__(self) -> None:
        self.recorded: list[tuple[str, Any, str]] = []

    def record(self, name: str, *, attributes: Any, error: str, **_: object) -> None:
        self.recorded.append((name, attributes, error))

    def close(self) -> None:
        """Nothing to do."""


async def test_what_an_agent_says_of_its_own_model_is_counted_as_that(tmp_path: pathlib.Path) -> None:
    """And no more once its calls go through the gateway, which counts them itself."""
    update = {"sessionUpdate": "usage_update", "used": 120, "size": 1000}
    scenario = {"turns": [[{"update": update}]], "repeat": True}
    config = 'default_agent = "talker"\n'
    async with gateway_inside(tmp_path, config=config, agents={"talker": scenario}) as gateway:
        await gateway.chat("own", "hello")
        ledger = gateway.inner.ledger
        name = ("subject", "default/local")
        assert ledger.budgets.tokens_today(name) == 120
        [session] = gateway.inner.manager.sessions()
        call = ModelCall(
            id="a", account=session.account, provider="p", model="m", dialect="messages", input_tokens=5
        )
        ledger.reserve(call).settle(CallUsage(input=20), status=200)
        await gateway.chat("own", "hello again")
        assert ledger.budgets.tokens_today(name) == 140
        await ledger.close()
        report = await gateway.get("/api/usage", by="agent")
        [row] = report["rows"]
        assert (row["names"], row["told_tokens"], row["input_tokens"]) == ({"agent": "talker"}, 120, 20)


async def test_an_agent_that_does_not_stop_is_cancelled_after_two_seconds(tmp_path: pathlib.Path) -> None:
    """An agent with a command, whose calls come to the gateway: here the test makes one in its stead."""
    config = 'default_agent = "talker"\n[quotas.session]\ntokens_per_day = 10\n'
    async with gateway_inside(tmp_path, config=config, agents={"talker": "streams_slowly"}) as gateway:
        session_id = fresh_id("stubborn")
        await gateway.send(session_id, "go on for ever")
        await state_when(gateway.http, session_id, lambda state: state["is_processing"])
        [session] = gateway.inner.manager.sessions()
        async with within(10):
            while session.state != "running":
                await asyncio.sleep(0.01)
        ledger = gateway.inner.ledger
        call = ModelCall(
            id="a", account=session.account, provider="p", model="m", dialect="messages", input_tokens=5
        )
        spans: Any = Spans()
        gateway.inner.services.tracer = spans
        ledger.reserve(call).settle(CallUsage(input=20, output=3), status=200, model="m-1")
        [(name, said, error)] = spans.recorded
        assert (name, error) == ("chat m", "")
        assert said["gen_ai.provider.name"] == "p"
        assert (said["gen_ai.request.model"], said["gen_ai.response.model"]) == ("m", "m-1")
        assert (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]) == (20, 3)
        began = time.monotonic()
        for name in ("b", "c"):
            try:
                ledger.reserve(msgspec.structs.replace(call, id=name))
            except BudgetReached:
                continue
            raise AssertionError("it is over its budget")
        state = await state_when(gateway.http, session_id, lambda state: not state["is_processing"])
        assert time.monotonic() - began >= 1.9
        assert "may use 10 tokens of models a day" in state["messages"][-1]["content"]
        types = [event["type"] for event in await events_of(gateway, session_id)]
        assert types.count("budget_reached") == 1
        assert str(session.state) == "idle"


@pytest.mark.parametrize(
    ("dialect", "refused_with"), [("chat", 402), ("messages", 402), ("gemini", 402), ("responses", 400)]
)
async def test_a_worker_that_calls_its_provider_is_counted_and_stopped(
    providing: GatewayInside, dialect: str, refused_with: int
) -> None:
    """As an agent with a command does: with a token, at the gateway's routes, in each dialect."""
    session_id = fresh_id(dialect)
    await providing.send(session_id, "go on for ever")
    session = next(s for s in providing.inner.manager.sessions() if s.session_id == session_id)
    models = providing.inner.services.workers.models
    access = ModelAccess(
        account=lambda: session.account,
        provider=PROVIDERS[dialect],
        has_door=False,
        notice=lambda _code, _words: None,
    )
    token = models.tokens.issue(access)
    async with within(10):
        while str(session.state) != "running":
            await asyncio.sleep(0.01)
    path, body = CALLS[dialect]

    async def called() -> tuple[int, str]:
        url = URL(providing.url + path, encoded=True)
        headers = {"Authorization": f"Bearer {token}", "x-api-key": token, "x-goog-api-key": token}
        async with providing.http.post(url, json=body, headers=headers) as answer:
            return answer.status, await answer.text()

    assert (await called())[0] == 200
    for _ in range(2):
        status, text = await called()
        assert (status, "administrator of this gateway" in text) == (refused_with, True)
    state = await state_when(providing.http, session_id, lambda state: not state["is_processing"])
    assert state["cost"]["spent"] > 0
    [ended] = [one for one in await events_of(providing, session_id) if one["type"] == "turn_ended"]
    assert ended["stop_reason"] == "budget_reached"
    rows = await providing.inner.services.store.ledger.calls(session_key=session.record.key, limit=9)
    assert [(row.agent, row.dialect, row.status, row.is_estimated) for row in rows] == [
        ("talker", dialect, 200, False)
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def providing(model: FakeModel, tmp_path_factory: Any) -> AsyncIterator[GatewayInside]:
    """A gateway whose sessions may make one call of a provider a day."""
    config = PROVIDING.format(url=model.url, base=model.url.removesuffix("/v1"), key="k")
    for provider, name in PRICED.items():
        config += f'[providers.{provider}.prices."{name}"]\ninput = 1000.0\noutput = 1000.0\n'
    config = 'default_agent = "talker"\n' + config
    config += "[quotas.session]\ncost_per_day = 0.001\n"
    directory = tmp_path_factory.mktemp("providing")
    async with gateway_inside(directory, config=config, agents={"talker": "streams_slowly"}) as running:
        yield running
