"""Keys that people and tenants set for themselves: set, listed, removed, erased, never shown."""

from __future__ import annotations

import pathlib
from typing import Any, Final

import pytest

from tests.inside import GatewayInside, gateway_inside
from tests.integration.test_backup import back_up
from tests.integration.test_command_line import typed
from tests.shared import SHARED, ask, fresh_id, shared_gateway
from tests.stored import IN_A_FILE

pytestmark = SHARED

CANARY: Final = "canary-7c1e5a0b"
CONFIG: Final = """
[auth]
modes = ["keys", "anonymous"]
[credentials.git]
hosts = ["git.example.test"]
per = "person"
[credentials.jira]
hosts = ["jira.example.test"]
per = "tenant"
[credentials.shared]
hosts = ["shared.example.test"]
command = "true"
[tenants.acme]
[tenants.beta]
"""
gateway = shared_gateway(CONFIG)


async def person(gateway: GatewayInside, *, tenant: str = "acme", scopes: tuple[str, ...] = ("chat",)) -> str:
    return await gateway.mint(fresh_id("person"), tenant=tenant, scopes=scopes)


async def test_a_key_is_set_listed_and_removed_and_never_shown(gateway: GatewayInside) -> None:
    async with gateway.caller(await person(gateway)) as ann:
        before = (await ask(ann, "GET", "/api/me/keys")).body["keys"]
        assert [(key["name"], key["kind"], key["need"], key["state"]) for key in before] == [
            ("git", "credential", "required", "not_set")
        ]
        answer = await ask(ann, "PUT", "/api/me/keys/git", {"key": f" {CANARY}\n"})
        assert (answer.status, answer.body["state"]) == (200, "set")
        after = await ask(ann, "GET", "/api/me/keys")
        assert after.body["keys"][0]["set_at"].startswith("20")
        assert CANARY not in str(answer.body) + str(after.body)
        assert (await ask(ann, "DELETE", "/api/me/keys/git")).body["state"] == "not_set"
        assert (await ask(ann, "DELETE", "/api/me/keys/git")).status == 404
    found = [
        path
        for path in gateway.data_path.rglob("*")
        if path.is_file() and CANARY.encode() in path.read_bytes()
    ]
    assert found == []
    assert CANARY not in gateway.log()
    audit = (gateway.data_path / "audit.jsonl").read_text()
    assert '"own_key.set"' in audit
    assert '"own_key.removed"' in audit


@pytest.mark.parametrize(
    ("name", "body", "status", "words"),
    [
        ("git", {"key": ""}, 422, "DELETE"),
        ("git", {"key": "a\r\nX-Evil: 1"}, 422, "one line"),
        ("git", {"key": "x" * 4_097}, 422, "4096"),
        ("git", {"key": 7}, 422, "str"),
        ("git", {}, 422, "key"),
        ("jira", {"key": "x"}, 404, "there are: git"),
        ("shared", {"key": "x"}, 404, "there are: git"),
        ("x" * 500, {"key": "x"}, 404, "there are: git"),
    ],
)
async def test_what_cannot_be_a_key_is_refused_in_words(
    gateway: GatewayInside, name: str, body: Any, status: int, words: str
) -> None:
    async with gateway.caller(await person(gateway)) as ann:
        answer = await ask(ann, "PUT", f"/api/me/keys/{name}", body)
        assert answer.status == status, answer.body
        assert words in str(answer.body)
        assert "Evil" not in str(answer.body)


async def test_a_tenants_key_is_its_administrators(gateway: GatewayInside) -> None:
    path = "/api/admin/tenants/acme/keys"
    async with (
        gateway.caller(await person(gateway, scopes=("admin",))) as admin,
        gateway.caller(await person(gateway, tenant="beta", scopes=("admin",))) as other,
        gateway.caller(await person(gateway)) as ann,
    ):
        assert (await ask(admin, "PUT", f"{path}/jira", {"key": "t"})).body["state"] == "set"
        assert (await ask(other, "PUT", f"{path}/jira", {"key": "x"})).status == 403
        assert (await ask(other, "GET", path)).status == 403
        assert (await ask(ann, "PUT", f"{path}/jira", {"key": "x"})).status == 403
        assert (await ask(admin, "PUT", f"{path}/git", {"key": "x"})).status == 404
        listed = (await ask(admin, "GET", path)).body["keys"]
        assert [(key["name"], key["state"]) for key in listed] == [("jira", "set")]
        assert (await ask(admin, "DELETE", f"{path}/jira")).status == 200
    async with gateway.caller(await person(gateway, tenant="default", scopes=("admin",))) as operator:
        assert (
            await ask(operator, "PUT", "/api/admin/tenants/nowhere/keys/jira", {"key": "x"})
        ).status == 422
        assert (await ask(operator, "PUT", "/api/admin/tenants/beta/keys/jira", {"key": "x"})).status == 200


async def test_a_visitor_keeps_no_key(gateway: GatewayInside) -> None:
    async with gateway.caller(Origin=gateway.url) as visitor:
        await ask(visitor, "GET", "/api/me")
        answer = await ask(visitor, "PUT", "/api/me/keys/git", {"key": "x"})
        assert (answer.status, "Sign in" in str(answer.body)) == (403, True)
        assert (await ask(visitor, "GET", "/api/me/keys")).status == 200


@IN_A_FILE
async def test_erasing_a_person_erases_their_keys_and_a_restore_brings_none_back(
    tmp_path: pathlib.Path,
) -> None:
    async with gateway_inside(tmp_path, config=CONFIG) as gateway:
        keys = {name: await gateway.mint(name, tenant="acme") for name in ("ann", "bob", "cy")}
        for key in keys.values():
            async with gateway.caller(key) as caller:
                await ask(caller, "PUT", "/api/me/keys/git", {"key": CANARY})
        file = await back_up(tmp_path, "one.tar")
        assert CANARY.encode() not in file.read_bytes()
        code, out, err = await typed(
            "sessions", "rm", "--all", "--owner", "acme/ann", "--data-dir", str(tmp_path / "data")
        )
        assert (code, err) == (0, "")
        assert "1 keys of their own erased" in out
        async with gateway.caller(keys["bob"]) as bob:
            await ask(bob, "DELETE", "/api/me/keys/git")
    code, out, err = await typed("restore", str(file), "--replace", "--data-dir", str(tmp_path / "data"))
    assert code == 0, err
    assert "2 keys and credentials of people and tenants" in out
    async with gateway_inside(tmp_path, config=CONFIG) as gateway:
        owners = {name.owner for name in gateway.inner.auth.vault._secrets}
        assert owners == {"acme/cy"}
        async with gateway.caller(keys["cy"]) as cy:
            assert (await ask(cy, "GET", "/api/me/keys")).body["keys"][0]["state"] == "set"


async def test_a_secret_is_exchanged_by_a_restart_and_a_lost_one_asks_again(tmp_path: pathlib.Path) -> None:
    secrets = [tmp_path / name for name in ("one", "two", "three")]
    for number, path in enumerate(secrets):
        path.write_bytes(str(number).encode() * 32)

    def config(current: int, *old: int) -> str:
        files = ", ".join(f'"{secrets[one]}"' for one in old)
        settings = f'[auth]\nsecret_file = "{secrets[current]}"\nold_secret_files = [{files}]'
        return CONFIG.replace("[auth]", settings)

    states = []
    for number, text in enumerate((config(0), config(1, 0), config(1), config(2), config(2, 1))):
        async with (
            gateway_inside(tmp_path, config=text) as gateway,
            gateway.operator(owner="acme/ann") as client,
        ):
            if number == 0:
                key = await gateway.mint("ann", tenant="acme")
                async with gateway.caller(key) as ann:
                    await ask(ann, "PUT", "/api/me/keys/git", {"key": CANARY})
            async with gateway.caller(key) as ann:
                states.append((await ask(ann, "GET", "/api/me/keys")).body["keys"][0]["state"])
            assert await client.sessions() == []
    assert states == ["set", "set", "set", "lost", "set"]
