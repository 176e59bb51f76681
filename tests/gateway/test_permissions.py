"""Permission rules of the operator and of a session: what they answer, what they leave to a person."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import pytest

from tests.gateways import RunningGateway
from tests.inside import gateway_inside
from tests.shared import SHARED, ask, fresh_id, shared_gateway
from tests.streams import open_stream, state_when

pytestmark = SHARED

OPTIONS: Final = [
    {"optionId": "ever", "name": "Always", "kind": "allow_always"},
    {"optionId": "yes", "name": "Yes", "kind": "allow_once"},
    {"optionId": "no", "name": "No", "kind": "reject_once"},
    {"optionId": "never", "name": "Never", "kind": "reject_always"},
]


def asks(options: Any = OPTIONS, **call: Any) -> dict[str, Any]:
    return {"ask": {"title": "", "toolCall": call, "options": options}}


def runs(command: Any, options: Any = OPTIONS) -> dict[str, Any]:
    call = {"title": "A title", "kind": "execute", "rawInput": {"command": command}}
    return asks(options, **call)


def scenario(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"about": "Permissions for rules.", "turns": [list(steps)], "repeat": True}


def announces(command: str, call_id: str = "real") -> dict[str, Any]:
    call = {"toolCallId": call_id, "title": "$ it", "kind": "execute", "status": "in_progress"}
    return {
        "update": {"sessionUpdate": "tool_call_update", **call, "rawInput": {"command": command}},
    }


CONFIRM: Final = {"toolCallId": "confirm-1", "title": "Confirm", "kind": "other", "status": "pending"}
"""A request that says nothing of what is asked about, under an id of its own."""
CONFIG: Final = """
[permissions]
allow = [{ command = "git status" }, { kind = "read" }]
ask = [{ command = "git status --long" }]
deny = [{ command = "rm" }, { path = "/**/.env" }]
[tenants.default.permissions]
allow = [{ kind = "edit", path = "src/**" }]
"""
KEYS: Final = '[auth]\nmodes = ["keys"]\n[limits]\nwrong_credentials_per_minute = 100_000\n'
MANY: Final = [{"optionId": f"o{number}", "name": "Yes", "kind": "allow_once"} for number in range(10_000)]
TWINS: Final = [
    {"optionId": "x", "name": "Yes", "kind": "allow_once"},
    {"optionId": "x", "kind": "reject_once"},
]

gateway = shared_gateway(
    CONFIG,
    agents={
        "git": scenario(runs("git status -s")),
        "long": scenario(runs("git status --long")),
        "hidden": scenario(runs("git status; rm -rf /")),
        "removes": scenario(runs("bash -c 'rm -rf /'")),
        "edits": scenario(asks(kind="edit", title="Edit", rawInput={"file_path": "src/a.py"})),
        "links": {
            "about": "A link that leads out of what a rule allows.",
            "turns": [
                [{"spawn": ["ln", "-s", "/etc", "src"]}],
                [asks(kind="edit", rawInput={"path": "src/a"})],
            ],
        },
        "elsewhere": scenario(announces("git status"), asks(**CONFIRM)),
        "removes_elsewhere": scenario(announces("rm -rf /"), asks(**CONFIRM)),
        "either": scenario(announces("git status"), announces("rm -rf /", "other"), asks(**CONFIRM)),
        "tests": scenario(runs("npm test")),
        "twice": scenario(runs("npm test"), runs("npm test")),
        "unsaid": scenario(asks(title="Delete everything?", kind="other")),
        "unsayable": scenario(runs("rm x", OPTIONS[:2])),
        "only_ever": scenario(runs("git status", [OPTIONS[0], OPTIONS[2]])),
        "modes": scenario(
            asks(
                [
                    {"optionId": "all", "name": "Yes, and edit without asking", "kind": "allow_always"},
                    {"optionId": "some", "name": "Yes", "kind": "allow_once"},
                ],
                title="Ready to code?",
                kind="switch_mode",
            )
        ),
        "many": scenario(runs("npm test", MANY), {"say": "on"}),
        "twins": scenario(runs("npm test", TWINS), {"say": "on"}),
        "long_diff": scenario(
            asks(
                title="Edit", kind="edit", content=[{"type": "diff", "path": "a", "newText": "x" * 9_000_000}]
            ),
            {"say": "on"},
        ),
        "huge_diff": scenario(
            asks(
                title="Edit",
                kind="edit",
                content=[{"type": "diff", "path": "a", "newText": "x" * 16 * 1024 * 1024}],
            ),
            {"say": "on"},
        ),
    },
)


async def begun(gateway: RunningGateway, agent: str) -> str:
    session_id = fresh_id(agent)
    await gateway.send(session_id, "go", agent=agent)
    return session_id


async def waiting(gateway: RunningGateway, agent: str, *, session_id: str = "") -> tuple[str, Any]:
    """A session whose agent waits for a person."""
    session_id = session_id or fresh_id(agent)
    await gateway.send(session_id, "go", agent=agent)
    state = await state_when(gateway.http, session_id, lambda s: s["pending_permission"] is not None)
    return session_id, state["pending_permission"]


async def answer(
    gateway: RunningGateway, session_id: str, pending: Any, option_id: str, status: int = 200
) -> Any:
    body = {"permission_id": pending["permission_id"], "option_id": option_id}
    return await gateway.post(f"/api/sessions/{session_id}/permission", body, status=status)


async def answered(gateway: RunningGateway, session_id: str) -> Any:
    async with open_stream(gateway.http, session_id, after=0) as stream:
        return (await stream.until_event("permission_answered")).data


async def done(gateway: RunningGateway, session_id: str) -> str:
    """What the agent said up to the end."""
    state = await state_when(gateway.http, session_id, lambda s: not s["is_processing"])
    return " ".join(message["content"] for message in state["messages"] if message["sender"] == "agent")


async def rules_of(gateway: RunningGateway, session_id: str) -> Any:
    return await gateway.get(f"/api/sessions/{session_id}/rules")


# -- the operator's rules ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("agent", "option", "rule"),
    [
        ("git", "yes", "permissions.allow.1"),
        ("edits", "yes", "tenants.default.permissions.allow.1"),
        ("hidden", "no", "permissions.deny.1"),
        ("removes", "no", "permissions.deny.1"),
    ],
)
async def test_a_rule_answers_and_the_answer_names_it(
    gateway: RunningGateway, agent: str, option: str, rule: str
) -> None:
    session_id = await begun(gateway, agent)
    assert await done(gateway, session_id) == f"chosen: {option}"
    event = await answered(gateway, session_id)
    assert (event["option_id"], event["rule"]["rule_id"]) == (option, rule)
    assert event["rule"]["rule"]["action"] == rule.split(".")[-2]


async def test_what_is_to_be_asked_about_waits_for_a_person_whose_answer_names_no_rule(
    gateway: RunningGateway,
) -> None:
    session_id, pending = await waiting(gateway, "long")
    assert "always" not in pending
    await answer(gateway, session_id, pending, "yes")
    assert await done(gateway, session_id) == "chosen: yes"
    assert "rule" not in await answered(gateway, session_id)


async def test_a_request_under_an_id_of_its_own_is_about_the_one_call_that_is_under_way(
    gateway: RunningGateway,
) -> None:
    session_id, pending = await waiting(gateway, "elsewhere")
    assert pending["tool_call_id"] == "real", "the card shows what would run, and a person allows it"
    assert "always" not in pending
    await answer(gateway, session_id, pending, "yes")
    denied = await answered(gateway, await begun(gateway, "removes_elsewhere"))
    assert (denied["option_id"], denied["rule"]["rule_id"]) == ("no", "permissions.deny.1")
    session_id, pending = await waiting(gateway, "either")
    assert pending["tool_call_id"] == "confirm-1", "which of two cannot be told"
    await answer(gateway, session_id, pending, "no")


async def test_a_no_that_the_agent_does_not_offer_cancels(gateway: RunningGateway) -> None:
    session_id = await begun(gateway, "unsayable")
    assert await done(gateway, session_id) == "chosen: cancelled"
    event = await answered(gateway, session_id)
    assert (event["outcome"], event["rule"]["rule_id"]) == ("cancelled", "permissions.deny.1")


async def test_a_rule_never_says_yes_for_always(gateway: RunningGateway) -> None:
    session_id, pending = await waiting(gateway, "only_ever")
    await answer(gateway, session_id, pending, "ever")
    assert await done(gateway, session_id) == "chosen: ever"


async def test_a_link_that_the_agent_made_is_asked_about(gateway: RunningGateway) -> None:
    session_id = await begun(gateway, "links")
    await done(gateway, session_id)
    while not any(path.is_symlink() for path in gateway.data_path.glob("sessions/*/work/src")):
        await asyncio.sleep(0.01)
    session_id, pending = await waiting(gateway, "links", session_id=session_id)
    assert "always" not in pending
    await answer(gateway, session_id, pending, "no")


# -- a session's own rules --------------------------------------------------------------------------------


async def test_always_is_a_rule_of_the_session_and_the_agent_is_told_once(gateway: RunningGateway) -> None:
    session_id, pending = await waiting(gateway, "twice")
    rule = {"action": "allow", "kind": "execute", "command": ["npm", "test"], "is_exact": True}
    assert pending["always"] == rule
    await answer(gateway, session_id, pending, "ever")
    assert await done(gateway, session_id) == "chosen: yes chosen: yes"
    state = await gateway.state(session_id)
    [made] = state["rules"]
    assert made["rule"] == rule
    async with open_stream(gateway.http, session_id, after=0) as stream:
        by_person = (await stream.until_event("permission_answered")).data
        added = (await stream.until_event("rule_added")).data
        by_rule = (await stream.until_event("permission_answered")).data
    assert (by_person["option_id"], by_rule["option_id"], by_rule["rule"]) == ("ever", "yes", made)
    assert added["rule_id"] == made["rule_id"] == f"r{added['seq']}"


async def test_a_rule_is_listed_and_revoked(gateway: RunningGateway) -> None:
    session_id, pending = await waiting(gateway, "tests")
    await answer(gateway, session_id, pending, "ever")
    await done(gateway, session_id)
    found = await rules_of(gateway, session_id)
    [made] = found["rules"]
    assert [rule["rule_id"] for rule in found["operator"]] == [
        *("permissions.deny.1", "permissions.deny.2", "permissions.ask.1"),
        *("permissions.allow.1", "permissions.allow.2", "tenants.default.permissions.allow.1"),
    ]
    url = f"/api/sessions/{session_id}/rules/{made['rule_id']}"
    revoked = await ask(gateway.http, "DELETE", url)
    assert (revoked.status, revoked.body) == (200, {"rule_id": made["rule_id"], "revoked": True})
    audited = [json.loads(line) for line in (gateway.data_path / "audit.jsonl").read_text().splitlines()]
    noted = [line for line in audited if line["action"] == "rule.revoked"]
    assert [(line["detail"], line["subject"]) for line in noted] == [(made["rule_id"], "local")]
    again = await ask(gateway.http, "DELETE", url)
    assert (again.status, again.code) == (404, "rule_not_found")
    operators = await ask(gateway.http, "DELETE", f"/api/sessions/{session_id}/rules/permissions.deny.1")
    assert operators.status == 404
    assert (await rules_of(gateway, session_id))["rules"] == []
    _, pending = await waiting(gateway, "tests", session_id=session_id)
    await answer(gateway, session_id, pending, "no")


async def test_never_is_a_rule_that_denies(gateway: RunningGateway) -> None:
    session_id, pending = await waiting(gateway, "twice")
    await answer(gateway, session_id, pending, "never")
    assert await done(gateway, session_id) == "chosen: no chosen: no"
    [made] = (await rules_of(gateway, session_id))["rules"]
    assert made["rule"]["action"] == "deny"


async def test_always_of_what_says_too_little_makes_no_rule(gateway: RunningGateway) -> None:
    session_id, pending = await waiting(gateway, "unsaid")
    assert "always" not in pending
    await answer(gateway, session_id, pending, "ever")
    assert await done(gateway, session_id) == "chosen: yes"
    assert (await rules_of(gateway, session_id))["rules"] == []


async def test_a_mode_is_chosen_as_it_is(gateway: RunningGateway) -> None:
    session_id, pending = await waiting(gateway, "modes")
    await answer(gateway, session_id, pending, "all")
    assert await done(gateway, session_id) == "chosen: all"


async def test_a_rule_outlives_its_gateway(tmp_path: Any) -> None:
    agents = {"tests": scenario(runs("npm test"))}
    async with gateway_inside(tmp_path, agents=agents) as first:
        session_id, pending = await waiting(first, "tests")
        await answer(first, session_id, pending, "ever")
        await done(first, session_id)
        before = await rules_of(first, session_id)
    async with gateway_inside(tmp_path, agents=agents) as second:
        assert await rules_of(second, session_id) == before
        await second.send(session_id, "go", agent="tests")
        assert await done(second, session_id) == "chosen: yes chosen: yes"


async def test_operators_read_the_rules_of_the_configuration(gateway: RunningGateway) -> None:
    found = await gateway.get("/api/admin/permissions")
    assert [rule["rule_id"] for rule in found["rules"]] == [
        *("permissions.deny.1", "permissions.deny.2", "permissions.ask.1"),
        *("permissions.allow.1", "permissions.allow.2", "tenants.default.permissions.allow.1"),
    ]


async def test_operators_of_a_tenant_read_no_other_tenants_rules(tmp_path: Any) -> None:
    tenants = "".join(
        f'[tenants.{name}.permissions]\ndeny = [{{ kind = "fetch" }}]\n' for name in ("acme", "beta")
    )
    async with gateway_inside(tmp_path, config=KEYS + tenants) as gateway:
        key = await gateway.mint("operator", tenant="acme", scopes=("operate",))
        async with gateway.caller(key) as operator:
            found = (await ask(operator, "GET", "/api/admin/permissions")).body["rules"]
    assert [rule["rule_id"] for rule in found] == ["tenants.acme.permissions.deny.1"]


# -- bad days ---------------------------------------------------------------------------------------------


async def test_of_two_answers_at_once_the_first_counts_and_the_other_is_told(gateway: RunningGateway) -> None:
    session_id, pending = await waiting(gateway, "tests")
    url = f"/api/sessions/{session_id}/permission"
    bodies = [
        {"permission_id": pending["permission_id"], "option_id": option} for option in ("yes", "no") * 4
    ]
    answers = await asyncio.gather(*(ask(gateway.http, "POST", url, body) for body in bodies))
    assert sorted(answer.status for answer in answers) == [200] + [409] * 7
    [won] = [body["option_id"] for body, answer in zip(bodies, answers, strict=True) if answer.status == 200]
    assert await done(gateway, session_id) == f"chosen: {won}"
    async with open_stream(gateway.http, session_id, after=0) as stream:
        seen = [await stream.until_event("permission_answered")]
        await stream.until_event("turn_ended")
    assert [event.data["option_id"] for event in seen] == [won]


@pytest.mark.parametrize(
    ("agent", "words"), [("many", "32 options"), ("twins", "same id"), ("long_diff", "long")]
)
async def test_a_request_that_cannot_be_shown_is_refused_and_the_user_reads_it(
    gateway: RunningGateway, agent: str, words: str
) -> None:
    session_id = await begun(gateway, agent)
    async with open_stream(gateway.http, session_id, after=0) as stream:
        notice = (await stream.until_event("notice")).data
    assert notice["code"] == "permission_refused"
    assert words in notice["text"]
    await state_when(gateway.http, session_id, lambda s: not s["is_processing"])


async def test_an_option_of_another_request_is_409(gateway: RunningGateway) -> None:
    session_id, pending = await waiting(gateway, "tests")
    other, others = await waiting(gateway, "tests")
    error = await answer(gateway, other, pending, "yes", 409)
    assert error["error"]["code"] == "permission_not_pending"
    error = await answer(gateway, session_id, pending, "gone", 409)
    assert (await gateway.state(session_id))["pending_permission"] == pending
    await answer(gateway, session_id, pending, "yes")
    await answer(gateway, other, others, "yes")


# -- who may approve --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("is_apart", "statuses"),
    [(False, {"chat": 200, "approve": 200, "read": 403}), (True, {"chat": 403, "approve": 200, "read": 403})],
)
async def test_chat_includes_approving_unless_it_is_set_apart(
    tmp_path: Any, *, is_apart: bool, statuses: dict[str, int]
) -> None:
    config = KEYS + f"[approvals]\nrequire_scope = {json.dumps(is_apart)}\n"
    async with gateway_inside(
        tmp_path, config=config, agents={"tests": scenario(runs("npm test"))}
    ) as gateway:
        keys = {scope: await gateway.mint("person", scopes=(scope,)) for scope in statuses}
        for scope, status in statuses.items():
            session_id = f"s-{scope}"
            body = {"session_id": session_id, "message": "go", "agent": "tests"}
            async with gateway.caller(keys["chat"]) as person:
                await ask(person, "POST", "/api/chat", body)
                state = await state_when(person, session_id, lambda s: s["pending_permission"] is not None)
                given = {"permission_id": state["pending_permission"]["permission_id"], "option_id": "yes"}
            async with gateway.caller(keys[scope]) as person:
                found = await ask(person, "POST", f"/api/sessions/{session_id}/permission", given)
                me = (await ask(person, "GET", "/api/me")).body
            assert found.status == status, scope
            assert me.get("may_approve") == ((status == 200) if is_apart else None)


async def test_a_diff_longer_than_a_line_may_be_ends_the_turn_in_words(gateway: RunningGateway) -> None:
    session_id = await begun(gateway, "huge_diff")
    state = await state_when(gateway.http, session_id, lambda s: not s["is_processing"])
    assert state["pending_permission"] is None
    assert "longer than 16777216 bytes" in state["messages"][-1]["content"]
