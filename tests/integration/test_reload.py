"""The configuration: checked, shown without secrets, reloaded while streams go on; secrets stay where they
belong.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal

import psutil

from tests.gateways import RunningGateway, running_gateway
from tests.integration.test_command_line import typed
from tests.shared import ask, eventually
from tests.streams import open_stream

CONFIG = """
[auth]
modes = ["keys"]
[server]
log_format = "json"
[egress]
hosts = []
[tenants.acme]
[tenants.beta]
"""


def rewrite(gateway: RunningGateway, text: str) -> None:
    path = gateway.data_path.parent / "config.toml"
    path.write_text(text)


async def reloaded(gateway: RunningGateway, text: str, *, word: str = "reloaded") -> None:
    before = gateway.log().count(word)
    rewrite(gateway, text)
    gateway.process.send_signal(signal.SIGHUP)

    async def is_done() -> bool:
        return gateway.log().count(word) > before

    await eventually(is_done)


async def test_a_reload_takes_over_tenants_quotas_and_agents_and_ends_no_stream(
    tmp_path: pathlib.Path,
) -> None:
    async with running_gateway(tmp_path, config=CONFIG) as gateway:
        acme, beta = await gateway.mint("a", tenant="acme"), await gateway.mint("b", tenant="beta")
        async with gateway.caller(acme) as a, gateway.caller(beta) as b:
            for caller in (a, b):
                await ask(caller, "POST", "/api/chat?wait=240", {"session_id": "s", "message": "/echo one"})
            async with open_stream(a, "s") as stream:
                await stream.until_event("turn_ended")
                more = (
                    CONFIG + "[tenants.acme.quota]\nmessages_per_day = 2\n[agents.second]\ncommand = 'true'\n"
                )
                more = more.replace("[tenants.beta]", "[tenants.beta]\nis_disabled = true")
                await reloaded(gateway, more)
                await ask(a, "POST", "/api/chat?wait=240", {"session_id": "s", "message": "/echo two"})
                await stream.until_event("turn_ended")
                assert stream.text == "onetwo"
            refused = await ask(a, "POST", "/api/chat", {"session_id": "s", "message": "/echo three"})
            assert refused.body["error"]["limit"] == "tenant.messages_per_day"
            agents = (await ask(a, "GET", "/api/agents")).body["agents"]
            assert {agent["name"] for agent in agents} == {"built-in", "second"}
            assert (await ask(b, "GET", "/api/sessions")).code == "tenant_disabled"
            await reloaded(gateway, CONFIG)
            assert (
                await ask(a, "POST", "/api/chat?wait=240", {"session_id": "s", "message": "/echo 3"})
            ).status == 200
            state = (await ask(b, "GET", "/api/state?session_id=s")).body
            assert [message["content"] for message in state["messages"]] == ["/echo one", "one"]


async def test_an_agent_that_is_offered_no_longer_still_serves_its_sessions(tmp_path: pathlib.Path) -> None:
    command = "[agents.mine]\n"
    async with running_gateway(tmp_path, agents={"mine": "echo"}) as gateway:
        with_agent = (tmp_path / "config.toml").read_text()
        said = {"session_id": "s", "message": "hi", "agent": "mine"}
        first = await gateway.post("/api/chat?wait=240", said)
        assert command in with_agent
        await reloaded(gateway, "")
        again = await gateway.post("/api/chat?wait=240", {"session_id": "s", "message": "hi"})
        assert len(again["messages"]) == 2 * len(first["messages"])
        refused = await gateway.post("/api/chat", said | {"session_id": "new"}, status=422)
        assert refused["error"]["code"] == "unknown_agent"


async def test_a_broken_file_changes_nothing_and_every_mistake_is_said(tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path, config=CONFIG) as gateway:
        key = await gateway.mint("a", tenant="acme")
        await reloaded(gateway, CONFIG + "[limits]\nmax_sessions = 'x'\nnonsense = 1\n", word="nonsense")
        assert "limits.max_sessions" in gateway.log()
        async with gateway.caller(key) as caller:
            assert (await ask(caller, "GET", "/api/sessions")).status == 200


async def test_what_wants_a_restart_is_named(tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path, config=CONFIG) as gateway:
        rewrite(
            gateway,
            CONFIG.replace("[server]", "[server]\nmax_connections = 5") + "[quotas]\nsoft_percent = 1\n",
        )
        data, file = str(gateway.data_path), str(tmp_path / "config.toml")
        code, out, _ = await typed("config", "reload", "--data-dir", data, "--config", file)
        assert (code, out) == (0, "changed: quotas.soft_percent\nafter a restart: server.max_connections\n")


async def test_ten_mistakes_are_ten_lines_on_the_command_line(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        """
colour = "red"
[server]
port = "eighty"
hots = "x"
[auth]
modes = ["open", "keys", "jwt"]
[jwt]
algorithms = ["none"]
[oidc]
scopes = ["root"]
[tenants.acme]
agents = ["nobody"]
[tenants.acme.quota]
messages_per_day = -1
[tenants.BAD]
"""
    )
    code, _, err = await typed("config", "check", "--config", str(file))
    assert code == 2
    named = [line.removeprefix("agent-gateway: ").partition(":")[0] for line in err.splitlines()]
    assert {"colour", "server.port", "server.hots", "tenants.BAD"} == set(named)
    file.write_text(file.read_text().replace('colour = "red"', "").replace("[tenants.BAD]", ""))
    file.write_text(file.read_text().replace('port = "eighty"', "").replace('hots = "x"', ""))
    code, _, err = await typed("config", "check", "--config", str(file))
    named = [line.removeprefix("agent-gateway: ").partition(":")[0] for line in err.splitlines()]
    assert set(named) == {
        *("auth.modes", "jwt.issuer", "jwt.audience", "jwt.jwks_file", "jwt.algorithms", "oidc.scopes"),
        *("tenants.acme.agents", "tenants.acme.quota.messages_per_day"),
    }


async def test_the_configuration_is_shown_without_its_secrets(tmp_path: pathlib.Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("sk-file-canary\n")
    file = tmp_path / "config.toml"
    file.write_text(
        f'[model]\nurl = "http://127.0.0.1:9/v1"\nname = "m"\nkey_file = "{secret}"\n'
        '[agents.a]\ncommand = "true"\nenv = {TOKEN = "env-canary"}\n'
    )
    code, out, _ = await typed(
        "config", "show", "--config", str(file), environ={"AGENT_GATEWAY_SERVER_PORT": "1"}
    )
    assert code == 0
    assert "canary" not in out
    assert 'model.key = "…"' in out
    assert 'agents.a.env.TOKEN = "…"' in out
    assert "server.port = 1" in out
    assert "sessions.retention_days = 30" in out


async def test_secrets_are_in_no_log_process_list_answer_or_worker(tmp_path: pathlib.Path) -> None:
    files = {}
    for name in ("model", "agent", "cookie"):
        files[name] = tmp_path / name
        files[name].write_text(f"{name}-canary-" + "x" * 40)
    config = f"""
[auth]
modes = ["keys", "anonymous"]
secret_file = "{files["cookie"]}"
[server]
log_level = "debug"
[model]
url = "http://127.0.0.1:9/v1"
name = "m"
key_file = "{files["model"]}"
retries = 0
[agents.other]
command = "true"
env_files = {{TOKEN = "{files["agent"]}"}}
"""
    async with running_gateway(tmp_path, config=config) as gateway:
        key = await gateway.mint("alice")
        secrets = ["-canary-", key[-30:], (gateway.data_path / "operator.key").read_text()]
        async with gateway.caller(key) as caller:
            said = {"session_id": "s", "message": "hello"}
            seen = [str(await ask(caller, "POST", "/api/chat?wait=240", said))]
            seen += [
                str(await ask(caller, "GET", path)) for path in ("/api/me", "/api/sessions", "/api/auth")
            ]
            wrong = {"Authorization": f"Bearer {key}x"}
            seen.append(str(await ask(gateway.http, "GET", "/api/me", headers=wrong)))
            workers = gateway.workers()
            assert workers
            for process in [
                psutil.Process(gateway.pid),
                *psutil.Process(gateway.pid).children(recursive=True),
            ]:
                seen.append(" ".join(process.cmdline()))
            for worker in workers:
                seen.append(await asyncio.to_thread(_memory, worker.pid))
        seen.append(gateway.log())
        for text in seen:
            for secret in secrets:
                assert secret not in text
        stored = (gateway.data_path / "gateway.db").read_bytes() + _bytes(
            gateway.data_path / "gateway.db-wal"
        )
        assert key[-30:].encode() not in stored


def _bytes(path: pathlib.Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _memory(pid: int) -> str:
    """Everything that a process has in memory, and its environment."""
    found = [pathlib.Path(f"/proc/{pid}/environ").read_bytes()]
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            if rights.startswith("r") and "[v" not in line:
                start, stop = (int(part, 16) for part in span.split("-"))
                memory.seek(start)
                try:
                    found.append(memory.read(stop - start))
                except OSError:
                    continue
    return b"".join(found).decode("latin-1")


def test_the_memory_of_a_process_is_really_searched() -> None:
    needle = "needle-" + "in-haystack"
    assert needle in _memory(os.getpid())
