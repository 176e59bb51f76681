"""Whose key a model call is made with: the provider records what came."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from tests.fake_model import FakeModel, fake_model
from tests.inside import GatewayInside, gateway_inside
from tests.shared import ask

CONFIG: Final = """
[auth]
modes = ["keys"]
[providers.default]
dialect = "chat"
url = "{url}"
key = "of-the-gateway"
models = ["fake-model"]
own_keys = "{policy}"
[tenants.acme]
[tenants.acme.keys]
default = "{file}"
[tenants.beta]
"""
PATH: Final = "/api/me/keys/default"


@contextlib.asynccontextmanager
async def world(directory: pathlib.Path, policy: str) -> AsyncIterator[tuple[GatewayInside, FakeModel]]:
    (directory / "acme").write_text("of-acmes-file\n")
    async with fake_model() as model:
        config = CONFIG.format(url=model.url, policy=policy, file=directory / "acme")
        async with gateway_inside(directory, config=config) as gateway:
            yield gateway, model


async def key_used(gateway: GatewayInside, model: FakeModel, key: str) -> str:
    """With which key a call of this person came to the provider; else what the person reads."""
    model.requests.clear()
    async with gateway.caller(key) as caller:
        answer = await ask(caller, "POST", "/api/chat?wait=240", {"session_id": "s", "message": "hello"})
    if not model.requests:
        return str(answer.body["messages"][-1]) + str(answer.body)
    [request] = model.requests
    return request.headers["Authorization"].removeprefix("Bearer ")


async def put(gateway: GatewayInside, key: str, path: str, value: str) -> Any:
    async with gateway.caller(key) as caller:
        answer = await ask(caller, "PUT", path, {"key": value})
    assert answer.status == 200, answer.body
    return answer.body


async def test_a_key_is_used_for_its_owners_calls_and_no_others(tmp_path: pathlib.Path) -> None:
    async with world(tmp_path, "allowed") as (gateway, model):
        ann, bob = [await gateway.mint(name, tenant="acme") for name in ("ann", "bob")]
        eve = await gateway.mint("ann", tenant="beta")
        admin = await gateway.mint("boss", tenant="acme", scopes=("admin", "chat"))
        await put(gateway, ann, PATH, "of-ann")
        used = [await key_used(gateway, model, key) for key in (ann, bob, eve)]
        assert used == ["of-ann", "of-acmes-file", "of-the-gateway"]
        await put(gateway, admin, "/api/admin/tenants/acme/keys/default", "of-acme")
        used = [await key_used(gateway, model, key) for key in (ann, bob, eve)]
        assert used == ["of-ann", "of-acme", "of-the-gateway"]
        async with gateway.caller(ann) as caller:
            assert (await ask(caller, "DELETE", PATH)).status == 200
        assert await key_used(gateway, model, ann) == "of-acme"
        async with gateway.caller(admin) as caller:
            assert (await ask(caller, "DELETE", "/api/admin/tenants/acme/keys/default")).status == 200
        (tmp_path / "acme").write_text("of-another-file")
        gateway.inner.reload()
        assert await key_used(gateway, model, ann) == "of-another-file", "a reload is enough"
        for value in ("of-ann", "of-acme", "of-another-file"):
            assert value not in gateway.log()


@pytest.mark.parametrize("policy", ["no", "required"])
async def test_a_provider_takes_no_own_keys_or_needs_one(tmp_path: pathlib.Path, policy: str) -> None:
    async with world(tmp_path, policy) as (gateway, model):
        eve = await gateway.mint("eve", tenant="beta")
        if policy == "no":
            async with gateway.caller(eve) as caller:
                assert (await ask(caller, "PUT", PATH, {"key": "mine"})).status == 404
            assert await key_used(gateway, model, eve) == "of-the-gateway"
            return
        said = await key_used(gateway, model, eve)
        assert "needs a key of your own" in said
        assert "of-the-gateway" not in said
        await put(gateway, eve, PATH, "of-eve")
        assert await key_used(gateway, model, eve) == "of-eve"
