"""Quotas from the outside: who is refused, with which words, and that nobody else notices."""

from __future__ import annotations

import asyncio
import pathlib

from tests.gateways import WAIT_SECONDS, RunningGateway
from tests.inside import gateway_inside
from tests.shared import Answer, ask, eventually

KEYS = '[auth]\nmodes = ["keys"]\n'


async def chat(
    gateway: RunningGateway, key: str, session_id: str, message: str = "/echo x", *, wait: int = WAIT_SECONDS
) -> Answer:
    async with gateway.caller(key) as caller:
        body = {"session_id": session_id, "message": message}
        return await ask(caller, "POST", f"/api/chat?wait={wait}", body)


async def test_a_hundred_creations_at_once_against_a_quota_of_ten_give_ten(tmp_path: pathlib.Path) -> None:
    config = KEYS + "[tenants.acme.quota]\nsessions_stored = 10\n"
    async with gateway_inside(tmp_path, config=config) as gateway:
        keys = [await gateway.mint(f"k{number}", tenant="acme") for number in range(4)]
        callers = [gateway.caller(key) for key in keys]
        answers = await asyncio.gather(
            *(
                ask(callers[number % 4], "POST", "/api/sessions", {"session_id": f"s{number}"})
                for number in range(100)
            )
        )
        assert sorted(answer.status for answer in answers) == [201] * 10 + [429] * 90
        refused = next(answer for answer in answers if answer.status == 429)
        error = refused.body["error"]
        assert (error["code"], error["limit"]) == ("quota_exceeded", "tenant.sessions_stored")
        assert (error["used"], error["allowed"]) == (10, 10)
        assert int(refused.headers["Retry-After"]) > 0
        made = next(n for n, answer in enumerate(answers) if answer.status == 201)
        assert (await ask(callers[made % 4], "DELETE", f"/api/sessions/s{made}")).status == 200
        assert (await ask(callers[0], "POST", "/api/sessions", {"session_id": "one more"[:3]})).status == 201
        other = await gateway.mint("other")
        assert (await chat(gateway, other, "free")).status == 200
        for caller in callers:
            await caller.close()
    async with gateway_inside(tmp_path, config=config) as gateway, gateway.caller(keys[0]) as caller:
        assert (await ask(caller, "POST", "/api/sessions", {})).status == 429  # counted from the store


async def test_messages_and_tokens_of_a_day_survive_a_restart(tmp_path: pathlib.Path) -> None:
    config = KEYS + "[quotas]\nsoft_percent = 50\n[quotas.subject]\nmessages_per_day = 4\n"
    async with gateway_inside(tmp_path, config=config) as gateway:
        key = await gateway.mint("alice")
        states = [await chat(gateway, key, "a") for _ in range(3)]
        assert [answer.status for answer in states] == [200] * 3
        async with gateway.caller(key) as caller:
            export = (await ask(caller, "GET", "/api/sessions/a/export?format=jsonl")).body
        assert export.count("This account has used 2 of 4 messages a day.") == 1
    async with gateway_inside(tmp_path, config=config) as gateway:
        assert (await chat(gateway, key, "a")).status == 200
        refused = await chat(gateway, key, "a")
        assert (refused.status, refused.body["error"]["limit"]) == (429, "subject.messages_per_day")
        async with gateway.caller(key) as caller:
            state = (await ask(caller, "GET", "/api/state?session_id=a")).body
        assert len([m for m in state["messages"] if m["sender"] == "user"]) == 4
        assert not state["is_processing"]


async def test_live_sessions_of_a_tenant_are_held_and_given_back(tmp_path: pathlib.Path) -> None:
    config = KEYS + "[sessions]\npark_after_seconds = 0.4\n[tenants.acme.quota]\nsessions_live = 2\n"
    async with gateway_inside(tmp_path, config=config) as gateway:
        acme, other = await gateway.mint("a", tenant="acme"), await gateway.mint("b")
        assert [(await chat(gateway, acme, name)).status for name in ("one", "two")] == [200, 200]
        refused = await chat(gateway, acme, "three")
        assert (refused.status, refused.body["error"]["limit"]) == (429, "tenant.sessions_live")
        assert (await chat(gateway, other, "three")).status == 200

        async def is_let_in() -> bool:
            return bool((await chat(gateway, acme, "three")).status == 200)

        await eventually(is_let_in)


async def test_answers_at_once_are_held_while_others_go_on(tmp_path: pathlib.Path) -> None:
    config = KEYS + "[quotas.subject]\nconcurrent_turns = 1\n"
    async with gateway_inside(tmp_path, config=config) as gateway:
        alice, bob = await gateway.mint("alice"), await gateway.mint("bob")
        assert (await chat(gateway, alice, "long", "/count 1000 20", wait=0)).status == 200
        refused = await chat(gateway, alice, "second")
        assert (refused.status, refused.body["error"]["limit"]) == (429, "subject.concurrent_turns")
        assert (await chat(gateway, bob, "second")).status == 200
        async with gateway.caller(alice) as caller:
            await ask(caller, "POST", "/api/interrupt", {"session_id": "long"})
        assert (await chat(gateway, alice, "second")).status == 200


async def test_what_workers_use_is_counted_for_their_tenant(tmp_path: pathlib.Path) -> None:
    config = KEYS + "[sessions]\npark_after_seconds = 0.3\n[tenants.acme]\ntitle = 'Acme'\n"
    async with gateway_inside(tmp_path, config=config) as gateway:
        key = await gateway.mint("alice", tenant="acme")
        await chat(gateway, key, "a", "/count 50 1")

        async def is_counted() -> bool:
            async with gateway.operator() as operator:
                acme = next(tenant for tenant in await operator.tenants() if tenant.name == "acme")
            assert (acme.title, acme.messages, acme.sessions_stored) == ("Acme", 1, 1)
            return acme.sessions_live == 0 and acme.memory_gb_seconds > 0 and acme.stored_bytes > 100

        await eventually(is_counted)


async def test_a_tenants_burst_of_hundreds_does_not_hold_up_another(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, config=KEYS + "[tenants.greedy]\n[tenants.modest]\n") as gateway:
        greedy = gateway.caller(await gateway.mint("g", tenant="greedy"))
        modest = gateway.caller(await gateway.mint("m", tenant="modest"))
        async with greedy, modest:
            burst = [
                asyncio.create_task(
                    ask(
                        greedy,
                        "POST",
                        "/api/chat?wait=240",
                        {"session_id": f"g{n}", "message": "/echo x"},
                    )
                )
                for n in range(300)
            ]
            await asyncio.sleep(0)  # all of the burst is on its way, and none of it answered
            answer = await ask(
                modest, "POST", "/api/chat?wait=240", {"session_id": "m", "message": "/echo mine"}
            )
            still = sum(not task.done() for task in burst)
            assert answer.body["messages"][-1]["content"] == "mine"
            assert still > 50, "the burst was over, so nothing was shown"
            assert [answer.status for answer in await asyncio.gather(*burst)] == [200] * 300
            await asyncio.gather(*(ask(greedy, "DELETE", f"/api/sessions/g{n}") for n in range(300)))
