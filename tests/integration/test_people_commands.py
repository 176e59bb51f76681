"""`agent-gateway people`, as a person types it; who is disabled stays so however the gateway ends."""

from __future__ import annotations

import pathlib
import re
import signal

from tests.gateways import running_gateway
from tests.inside import gateway_inside
from tests.integration.test_backup import back_up
from tests.integration.test_command_line import typed
from tests.integration.test_restored_erasures import restored
from tests.shared import ask
from tests.stored import IN_A_FILE

CONFIG = '[auth]\nmodes = ["keys"]\n[tenants.acme]\n'


def lines_of(text: str) -> dict[str, list[str]]:
    """Person → the columns of their line."""
    rows = [line.split() for line in text.splitlines()]
    return {row[0]: row[1:] for row in rows}


async def test_a_disabled_person_stays_so_after_a_kill_and_is_enabled_with_everything(
    tmp_path: pathlib.Path,
) -> None:
    data = ("--data-dir", str(tmp_path / "data"))
    async with running_gateway(tmp_path, config=CONFIG) as gateway:
        key, default = await gateway.mint("ann", tenant="acme"), await gateway.mint("ben")
        async with gateway.caller(key) as ann:
            said = {"session_id": "kept", "message": "/echo before"}
            assert (await ask(ann, "POST", "/api/chat?wait=240", said)).status == 200
            code, out, err = await typed("people", "disable", "acme/ann", *data)
            assert (code, err) == (0, "")
            assert out == "acme/ann: disabled; 1 stored sessions, 1 API keys\n"
            assert (await ask(ann, "GET", "/api/me")).code == "person_disabled"
        await gateway.stop(signal.SIGKILL)
    async with running_gateway(tmp_path, config=CONFIG) as gateway:
        async with gateway.caller(key) as ann, gateway.caller(default) as ben:
            assert (await ask(ann, "GET", "/api/me")).code == "person_disabled"
            assert (await ask(ben, "GET", "/api/me")).status == 200
            code, out, _ = await typed("people", "disable", "ben", *data)
            assert (code, out) == (0, "default/ben: disabled; 0 stored sessions, 1 API keys\n")
            assert (await ask(ben, "GET", "/api/me")).status == 403
            _, out, _ = await typed("people", "ls", *data)
            people = lines_of(out)
            assert people["acme/ann"][:4] == ["disabled", "0", "1", "1"]
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", people["acme/ann"][-2])
            assert people["default/ben"][:4] == ["disabled", "0", "0", "1"]
            _, out, _ = await typed("people", "ls", "--tenant", "acme", *data)
            assert list(lines_of(out)) == ["PERSON", "acme/ann"]
    settings = ("--config", str(tmp_path / "config.toml"), *data)
    code, out, _ = await typed("people", "enable", "acme/ann", *settings)  # no gateway runs
    assert (code, out) == (0, "acme/ann: enabled; 1 stored sessions, 1 API keys\n")
    async with gateway_inside(tmp_path, config=CONFIG) as gateway:
        async with gateway.caller(key) as ann:
            state = (await ask(ann, "GET", "/api/state?session_id=kept")).body
            assert [message["content"] for message in state["messages"]] == ["/echo before", "before"]


async def test_a_name_that_means_nobody_is_said(tmp_path: pathlib.Path) -> None:
    data = ("--data-dir", str(tmp_path / "data"))
    async with gateway_inside(tmp_path, config=CONFIG):
        code, out, err = await typed("people", "disable", "typo|x/y", *data)
        assert (code, out, err) == (1, "", "agent-gateway: There is no tenant 'typo|x' - at `$.tenant`.\n")
        code, out, err = await typed("people", "disable", "acme/typo", *data)
        assert (code, out) == (0, "acme/typo: disabled; 0 stored sessions, 0 API keys\n")
        assert err == "this gateway knows no session and no key of acme/typo: check the name\n"


@IN_A_FILE
async def test_a_restore_brings_nobody_back_who_was_disabled_since(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, config=CONFIG) as gateway:
        key = await gateway.mint("ann", tenant="acme")
        file = await back_up(tmp_path, "one.tar")
        async with gateway.operator() as operator:
            await operator.disable_person("acme", "ann")
    out, err = await restored(tmp_path, file, "--replace")
    assert "disabled again: 1 people" in out
    assert err == ""
    async with gateway_inside(tmp_path, config=CONFIG) as gateway, gateway.caller(key) as ann:
        assert (await ask(ann, "GET", "/api/me")).code == "person_disabled"
