"""What three gateways on one database count together, also when one of them dies: budgets, turns at once, and
idempotency keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
from typing import Final

import aiohttp

from tests.fake_model import Behaviour, FakeModel, fake_model
from tests.nodes import Nodes, running_nodes
from tests.shared import Answer, ask, crowding, eventually
from tests.torture.keys import TEN, TENANTS, KeyCampaign, KeyFigures, Sent, begun_at_once, judge

COST: Final = 0.004
"""What a call comes to."""
CALLS: Final = 5
"""So many are begun below the limit of `few`: the last one goes over it, by less than a call."""
LIMIT: Final = (CALLS - 0.5) * COST
HELD_ONCE: Final = 0.065
"""What one call holds back fits, and not twice that: 4,096 tokens of an answer, and its prompt."""
MOST_ROUNDS: Final = 3 * CALLS
CONFIG: Final = f"""
[auth]
modes = ["keys"]
[model]
retries = 0
[model.prices."fake-model"]
input = 3.0
output = 10.0
[tenants.few]
quota = {{ cost_per_day = {LIMIT} }}
[tenants.dying]
quota = {{ cost_per_day = {HELD_ONCE} }}
{TENANTS}
"""
COUNTED: Final = {"prompt_tokens": 1_000, "completion_tokens": 100}
KEYS: Final = 12
KILLS: Final = 1


async def said(http: aiohttp.ClientSession, session_id: str) -> Answer:
    """A turn, if the budget lets it be."""
    return await ask(http, "POST", "/api/chat?wait=60", {"session_id": session_id, "message": "hello"})


async def spent(nodes: Nodes, tenant: str) -> float:
    """In dollars, as the ledger has it."""
    async with nodes.connected() as connection:
        found = await connection.fetchval(
            "SELECT coalesce(sum(cost), 0) FROM ledger_sums WHERE tenant = $1", tenant
        )
    return float(found) / 1e6


async def held(nodes: Nodes, tenant: str) -> list[float]:
    """What calls that are not settled were reserved with."""
    async with nodes.connected() as connection:
        rows = await connection.fetch(
            "SELECT cost FROM ledger_calls WHERE status IS NULL AND starts_with(owner, $1 || '/')", tenant
        )
    return [row["cost"] / 1e6 for row in rows]


async def all_at_once(nodes: Nodes, model: FakeModel) -> None:
    """Messages at every node at once, until none of them makes a call."""
    begun = len(model.requests)
    key = await nodes[0].mint("ann", tenant="few")
    async with contextlib.AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(nodes[index].caller(key)) for index in nodes.indexes]
        for number in range(MOST_ROUNDS):
            before = len(model.requests)
            await asyncio.gather(*(said(http, f"{number}-{at}") for at, http in enumerate(callers)))
            if len(model.requests) == before:
                break
    assert await spent(nodes, "few") <= LIMIT + COST
    assert len(model.requests) - begun == CALLS, "and all that the budget allows"
    assert await held(nodes, "few") == []


async def a_node_dies(nodes: Nodes, model: FakeModel) -> None:
    """What it held back for its call counts as used from then on, and not as held back, too."""
    key = await nodes[0].mint("bob", tenant="dying")
    model.behaviour = Behaviour(silent_after=0)
    before = len(model.requests)
    async with nodes[0].caller(key) as first, nodes[1].caller(key) as other:
        body = {"session_id": "cut", "message": "hello"}
        assert (await ask(first, "POST", "/api/chat", body)).status == 200

        async def is_asked() -> bool:
            return len(model.requests) > before

        await eventually(is_asked)
        (reserved,) = await held(nodes, "dying")
        assert reserved < HELD_ONCE < 2 * reserved
        await nodes.kill(0)
        model.behaviour = Behaviour(usage=COUNTED)

        async def is_settled() -> bool:
            return await held(nodes, "dying") == []

        await eventually(is_settled, seconds=30)
        assert await spent(nodes, "dying") == reserved
        answer = await said(other, "after")
        assert answer.status == 200, answer.body
        assert answer.body["messages"][-1]["content"] == "You said: hello"
        assert await spent(nodes, "dying") == round(reserved + COST, 6)


async def keys_come_to_all_of_them(nodes: Nodes) -> None:
    """While one of them dies, and comes back."""
    campaign = KeyCampaign(nodes, keys=KEYS, kills=KILLS, seconds=120 * crowding())
    await campaign.run()
    figures = campaign.figures
    assert not figures.faults, figures.table()
    assert (figures.keys, figures.kills) == (KEYS, KILLS), figures.table()


async def test_three_nodes_count_together_and_a_dead_one_holds_back_nothing(tmp_path: pathlib.Path) -> None:
    async with fake_model() as model:
        environ = {"AGENT_MODEL_URL": model.url, "AGENT_MODEL": "fake-model", "AGENT_MODEL_KEY": "sk-1"}
        async with running_nodes(tmp_path, 3, config=CONFIG, environ=environ) as nodes:
            model.behaviour = Behaviour(silent_after=0)
            assert await begun_at_once(nodes, "hello") == TEN
            model.behaviour = Behaviour(usage=COUNTED)
            await all_at_once(nodes, model)
            await keys_come_to_all_of_them(nodes)
            await a_node_dies(nodes, model)


def test_the_check_of_keys_finds_each_fault() -> None:
    def state(*times: str) -> dict[str, object]:
        return {"messages": [{"sender": "user", "content": "/echo a", "timestamp": at} for at in times]}

    def faults(answers: list[tuple[str, str]], **states: object) -> list[str]:
        figures = KeyFigures()
        judge(figures, [Sent("a", answers)], states)
        return [fault.partition(":")[0] for fault in figures.faults]

    assert faults([("s", "1"), ("s", "1")], s=state("1")) == []
    assert faults([("s", "1"), ("s", "1")], s=state()) == ["lost"]
    assert faults([("s", "1"), ("s", "2")], s=state("1", "2")) == ["doubled", "differing"]
    assert faults([("s", "1"), ("r", "1")], s=state("1"), r=state("1")) == ["doubled", "differing"]
