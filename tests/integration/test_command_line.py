"""The command line, as a person types it: serve, sessions, doctor."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import re
import signal
import sys
import tempfile

import pytest

from gateway.stores.sqlite.schema import newest
from tests.clones import cloned
from tests.gateways import ROOT, running_gateway
from tests.inside import gateway_inside
from tests.patience import soon, within
from tests.shared import ask, eventually
from tests.streams import state_when

BUSY_SECONDS = 60
"""A command on a busy machine: an interpreter with everything it imports may take ten seconds to start."""


async def typed(*words: str, environ: dict[str, str] | None = None) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of `agent-gateway WORDS`."""
    own = {**os.environ, **(environ or {})}
    with tempfile.TemporaryFile() as errors:
        clone = None if environ else await cloned(words, environ=own, cwd=ROOT, stderr=errors)
        process = clone or await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", *words),
            cwd=ROOT,
            env=own,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
        assert process.stdout is not None
        async with within(BUSY_SECONDS):
            out, code = await process.stdout.read(), await process.wait()
        errors.seek(0)
        return code, out.decode(), errors.read().decode()


async def test_sessions_are_listed_shown_exported_and_erased_while_the_gateway_runs(
    tmp_path: pathlib.Path,
) -> None:
    data = str(tmp_path / "data")
    async with gateway_inside(tmp_path) as gateway:
        await gateway.chat("alice", "/echo one two")
        await gateway.chat("bob", "/echo three")
        code, out, _ = await typed("sessions", "ls", "--data-dir", data)
        assert code == 0
        assert "alice" in out
        assert "bob" in out
        _, out, _ = await typed("sessions", "show", "alice", "--data-dir", data)
        assert "messages        2" in out
        _, out, _ = await typed("sessions", "export", "alice", "--data-dir", data)
        events = [json.loads(line) for line in out.splitlines()]
        assert events[0]["type"] == "session_created"
        assert "one two" in "".join(event.get("text", "") for event in events)
        code, out, _ = await typed("sessions", "rm", "alice", "--data-dir", data)
        assert (code, out) == (0, "alice: erased; 1 processes ended, 0 left\n")
        assert [found["session_id"] for found in (await gateway.get("/api/sessions"))["sessions"]] == ["bob"]


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202etxt.exe\r\u2028 end"


async def typed_at_a_terminal(*words: str) -> str:
    """What a terminal shows of `agent-gateway WORDS`."""
    near, far = os.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *words), cwd=ROOT, stdout=far, stderr=far
    )
    os.close(far)
    parts = []
    with contextlib.suppress(OSError):  # EIO: the far end is closed
        while part := await asyncio.to_thread(os.read, near, 65536):
            parts.append(part)
    os.close(near)
    await process.wait()
    return b"".join(parts).decode()


async def test_what_others_wrote_cannot_drive_the_terminal(tmp_path: pathlib.Path) -> None:
    data = ("--data-dir", str(tmp_path / "data"))
    async with gateway_inside(tmp_path) as gateway:
        await gateway.chat("alice", f"/echo {HOSTILE}")
        answer = await ask(gateway.http, "PATCH", "/api/sessions/alice", {"title": HOSTILE})
        assert answer.status == 200
        for words in (
            ("sessions", "ls"),
            ("sessions", "show", "alice"),
            ("sessions", "export", "alice"),
            ("sessions", "export", "alice", "--format", "markdown"),
            ("keys", "ls"),
            ("keys", "revoke", f"no{HOSTILE}"),
            ("keys", "create", "x", "--tenant", f"no{HOSTILE}"),
            ("tenants", "ls"),
        ):
            shown = await typed_at_a_terminal(*words, *data)
            assert len(shown) > 20
            letters = {letter for letter in shown if not letter.isprintable()}
            assert letters <= {"\r", "\n"}, (words, letters)
            assert "\r" not in shown.replace("\r\n", ""), words
        _, out, _ = await typed("sessions", "export", "alice", *data)
        titles = [json.loads(line).get("title") or "" for line in out.split("\n") if line]
        assert [title for title in titles if HOSTILE[:12] in title], "to a program it goes as it is"
        _, out, _ = await typed("top", "--json", *data)
        assert json.loads(out)["sessions"]["total"] == 1


async def test_sessions_are_read_and_erased_when_no_gateway_runs(tmp_path: pathlib.Path) -> None:
    data = str(tmp_path / "data")
    async with gateway_inside(tmp_path) as gateway:
        await gateway.chat("alice", "/echo CANARY-one")
        await gateway.chat("bob", "/echo three")
    _, out, _ = await typed("sessions", "export", "alice", "--format", "markdown", "--data-dir", data)
    assert out.count("CANARY-one") >= 2
    code, out, _ = await typed("sessions", "rm", "--all", "--data-dir", data)
    assert (code, len(out.splitlines())) == (0, 2)
    _, out, _ = await typed("sessions", "ls", "--data-dir", data)
    assert len(out.splitlines()) == 1
    left = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert not [path for path in left if b"CANARY-one" in path.read_bytes()]
    assert not list((tmp_path / "data" / "sessions").iterdir())


ASKING = (
    ("sessions", "ls"),
    ("sessions", "rm", "--all"),
    ("keys", "create", "ann"),
    ("keys", "ls"),
    ("people", "ls"),
    ("people", "disable", "ann"),
    ("tenants", "ls"),
    ("config", "reload"),
    ("backup", "kept.tar"),
    ("drain",),
    ("top", "--once"),
)
"""Commands about a gateway that is there."""


async def test_where_no_gateway_is_nothing_is_made(tmp_path: pathlib.Path) -> None:
    data = tmp_path / "typo"
    told = await asyncio.gather(*(typed(*words, "--data-dir", str(data)) for words in ASKING))
    for words, (code, out, err) in zip(ASKING, told, strict=True):
        assert (code, out) == (1, ""), (words, out, err)
        assert err.startswith("agent-gateway: "), words
        assert str(data) in err, words
        assert len(err.splitlines()) == 1, (words, err)
    code, _, _ = await typed("doctor", "--data-dir", str(data))
    assert not list(tmp_path.iterdir()), "looking must not make anything"
    environ = {"AGENT_GATEWAY_STORE": "memory://"}
    code, out, err = await typed("keys", "create", "ann", "--data-dir", str(data), environ=environ)
    assert (code, out, "in memory" in err) == (1, "", True)
    assert not list(tmp_path.iterdir())


async def test_a_key_made_while_no_gateway_runs_opens_the_next(tmp_path: pathlib.Path) -> None:
    data, config = ("--data-dir", str(tmp_path / "data")), '[auth]\nmodes = ["keys"]\n'
    async with gateway_inside(tmp_path, config=config):
        _, _, err = await typed("keys", "create", "ann", *data)
        assert "no gateway runs" not in err
    code, key, err = await typed("keys", "create", "ben", *data)
    assert (code, "no gateway runs on" in err) == (0, True)
    async with (
        gateway_inside(tmp_path, config=config) as gateway,
        gateway.caller(key.strip()) as caller,
    ):
        assert (await ask(caller, "GET", "/api/sessions")).status == 200


async def test_a_file_of_names_gets_a_key_for_each_or_none(tmp_path: pathlib.Path) -> None:
    names, data = tmp_path / "names.txt", ("--data-dir", str(tmp_path / "data"))
    people = [f"person {number}" for number in range(49)] + ["שלום"]
    async with gateway_inside(tmp_path, config='[auth]\nmodes = ["keys"]\n') as gateway:
        names.write_text("ann\n~ben\nann\n" + "x" * 101 + "\n", "utf-8")
        code, out, err = await typed("keys", "create", "--file", str(names), *data)
        told = [re.sub(r"^.*names\.txt: ", "", line) for line in err.splitlines()]
        assert (code, out, len(told)) == (1, "", 4)
        assert (told[0][:7], told[1], told[2][:7]) == (
            "line 2:",
            "line 3: ann is in line 1 already",
            "line 4:",
        )
        names.write_text("\r\n".join(people) + "\r\n", "utf-8-sig")
        code, out, err = await typed("keys", "create", "--file", str(names), "--tenant", "none", *data)
        assert (code, out, "no tenant" in err) == (1, "", True)
        async with gateway.operator() as operator:
            assert await operator.keys() == []
        code, out, _ = await typed("keys", "create", "--file", str(names), *data)
        rows = [line.split("\t") for line in out.splitlines()]
        assert (code, [name for name, _ in rows]) == (0, people)
        async with gateway.caller(rows[-1][1]) as caller:
            assert (await ask(caller, "GET", "/api/sessions")).status == 200
        names.write_text("new\nperson 7\n")
        code, out, err = await typed("keys", "create", "--file", str(names), *data)
        assert (code, out, "line 2: person 7 has a key already" in err) == (1, "", True)
    for words in ((), ("ann", "--file", "f"), ("--file", "f", "--subject", "s")):
        assert (await typed("keys", "create", *words, *data))[0] == 2


async def test_a_session_that_is_not_there_is_said_in_one_line(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path):
        pass
    code, _, err = await typed("sessions", "show", "nobody", "--data-dir", str(tmp_path / "data"))
    assert (code, err) == (1, "agent-gateway: There is no such session.\n")


async def test_erasing_wants_a_name(tmp_path: pathlib.Path) -> None:
    code, _, err = await typed("sessions", "rm", "--data-dir", str(tmp_path))
    assert code == 2
    assert "--all" in err


async def test_a_second_gateway_on_the_same_data_says_who_holds_it(tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        code, out, err = await typed("serve", "--port", "0", "--data-dir", str(tmp_path / "data"))
        assert (code, out) == (1, "")
        assert f"in use by process {gateway.pid} at {gateway.url}" in err
        await gateway.chat("a", "/echo still here")


async def test_the_doctor_finds_what_is_wrong(tmp_path: pathlib.Path) -> None:
    (tmp_path / "config.toml").write_text('[agents.gone]\ncommand = "no-such-agent --acp"\n')
    words = ("doctor", "--data-dir", str(tmp_path / "data"), "--config", str(tmp_path / "config.toml"))
    code, out, _ = await typed(*words)
    assert code == 1
    assert "FAIL  agent gone: no-such-agent is not installed" in out
    assert out.count("FAIL") == 1
    assert re.search(r"ok    agent built-in: \S+, network none\n", out)
    assert not (tmp_path / "data").exists(), "looking must not make anything"


async def test_the_doctor_is_content(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path) as gateway:
        code, out, _ = await typed("doctor", "--data-dir", str(tmp_path / "data"))
        assert code == 0, out
        assert gateway.url in out
        assert f"schema {newest()}," in out
        assert "ok    walls: " in out


@pytest.mark.parametrize("words", [("serve", "--agent", "x"), ("serve", "--config", "/nowhere.toml")])
async def test_mistakes_are_named_without_a_traceback(words: tuple[str, ...]) -> None:
    code, _, err = await typed(*words)
    assert code == 2
    assert err.startswith("agent-gateway: ")
    assert "Traceback" not in err


async def test_a_taken_port_is_said_in_one_line(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path) as gateway:
        port = gateway.url.rpartition(":")[2]
        code, _, err = await typed("serve", "--port", port, "--data-dir", str(tmp_path / "other"))
        assert code == 1
        assert "cannot listen" in err
        assert "--port" in err


async def test_a_session_is_purged_when_its_retention_is_over(tmp_path: pathlib.Path) -> None:
    config = "[sessions]\nidle_timeout_seconds = 0.2\nsweep_interval_seconds = 0.1\n"
    async with gateway_inside(tmp_path, config=config) as gateway:
        body = {"session_id": "short", "retention_days": 0.000_01}
        await gateway.post("/api/sessions", body, status=201)
        await gateway.chat("short", "/echo soon gone")
        await gateway.chat("long", "/echo stays")

        async def is_purged() -> bool:
            return (await gateway.get("/api/state", session_id="short"))["ended"] is not None

        await eventually(is_purged)
        state = await gateway.get("/api/state", session_id="short")
        assert (state["ended"]["reason"], state["messages"]) == ("purged", [])
        assert len((await gateway.get("/api/state", session_id="long"))["messages"]) == 2


async def test_ctrl_c_ends_with_zero(tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        await gateway.chat("a", "/echo x")
        assert await gateway.stop(signal.SIGINT) == 0


async def test_top_shows_the_gateway_once_live_and_for_programs(tmp_path: pathlib.Path) -> None:
    data = ("--data-dir", str(tmp_path / "data"))
    code, _, err = await typed("top", "--once", *data)
    assert (code, "no gateway runs" in err) == (1, True)
    async with running_gateway(tmp_path) as gateway:
        for name in ("canary-a", "canary-b", "canary-c"):
            await gateway.chat(name, "/echo canary words")
        wide = {"COLUMNS": "160"}
        code, out, err = await typed("top", "--once", "--rows", "2", *data, environ=wide)
        assert code == 0, err
        rows = (await gateway.get("/api/admin/sessions"))["sessions"]
        assert "sessions 3 (idle 3)" in out
        assert "workers 3/1000" in out
        assert [row["key"] in out for row in rows] == [True, True, False]
        assert "… 1 more" in out
        assert "canary" not in out
        code, out, _ = await typed("top", "--json", *data)
        seen = json.loads(out)
        assert (code, seen["overview"]["workers"], seen["sessions"]["total"]) == (0, 3, 3)
        live = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "top", *data),
            cwd=ROOT,
            env={**os.environ, **wide, "TERM": "xterm", "FORCE_COLOR": "1"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert live.stdout is not None
        await soon(live.stdout.readuntil(b"MESSAGES"), BUSY_SECONDS)
        await gateway.chat("canary-d", "/echo more")
        await soon(live.stdout.readuntil(b"sessions 4"), BUSY_SECONDS)
        live.send_signal(signal.SIGINT)
        _, err_bytes = await soon(live.communicate(), BUSY_SECONDS)
        assert (live.returncode, err_bytes) == (0, b"")


async def test_somebody_is_exported_and_erased_by_name(tmp_path: pathlib.Path) -> None:
    data = str(tmp_path / "data")
    file = str(tmp_path / "config.toml")
    config = '[auth]\nmodes = ["keys"]\n[tenants.acme]\n'
    async with gateway_inside(tmp_path, config=config) as gateway:
        for name in ("ann", "bob"):
            async with gateway.caller(await gateway.mint(name, tenant="acme")) as caller:
                for session_id in ("one", "two"):
                    body = {"session_id": session_id, "message": f"/echo canary-{name}-{session_id}"}
                    await ask(caller, "POST", "/api/chat?wait=240", body)
        here = ("--data-dir", data, "--config", file)
        code, out, err = await typed("sessions", "ls", *here)
        assert (code, len(out.splitlines()), "--all" in err) == (0, 1, True)
        for words in (("--all",), ("--tenant", "acme")):
            code, out, _ = await typed("sessions", "ls", *words, *here)
            owners = sorted(line.split()[0] for line in out.splitlines()[1:])
            assert (code, owners) == (0, ["acme/ann"] * 2 + ["acme/bob"] * 2)
        _, out, _ = await typed("sessions", "ls", "--tenant", "default", *here)
        assert len(out.splitlines()) == 1
        async with gateway.caller(await gateway.mint("root", scopes=("admin",))) as admin:
            assert (await ask(admin, "GET", "/api/admin/owned-sessions")).status == 403
        of_ann = ("--owner", "acme/ann", "--data-dir", data, "--config", file)
        _, out, _ = await typed("sessions", "export", "--all", *of_ann)
        assert "canary-ann-one" in out
        assert "canary-ann-two" in out
        assert "bob" not in out
        code, out, _ = await typed("sessions", "rm", "--all", *of_ann)
        assert (code, out.count("erased")) == (0, 2)
        _, out, _ = await typed("sessions", "ls", *of_ann)
        assert "one" not in out
        _, out, _ = await typed("sessions", "ls", "--owner", "acme/bob", "--data-dir", data, "--config", file)
        assert out.count("built-in") == 2
    stored = b"".join(path.read_bytes() for path in (tmp_path / "data").glob("gateway.db*"))
    assert b"canary-bob-one" in stored
    assert b"canary-ann" not in stored


async def test_a_tenants_sessions_are_kept_as_long_as_it_says(tmp_path: pathlib.Path) -> None:
    config = """
[auth]
modes = ["keys"]
[sessions]
idle_timeout_seconds = 0.2
sweep_interval_seconds = 0.2
park_after_seconds = 0.1
retention_days = 30
[tenants.brief]
retention_days = 0.000001
[tenants.lasting]
"""
    async with gateway_inside(tmp_path, config=config) as gateway:
        callers = {
            name: gateway.caller(await gateway.mint(name, tenant=name)) for name in ("brief", "lasting")
        }
        for caller in callers.values():
            await ask(caller, "POST", "/api/chat?wait=240", {"session_id": "s", "message": "/echo x"})

        async def is_purged() -> bool:
            return not (await ask(callers["brief"], "GET", "/api/sessions")).body["sessions"]

        await eventually(is_purged)
        assert len((await ask(callers["lasting"], "GET", "/api/sessions")).body["sessions"]) == 1
        for caller in callers.values():
            await caller.close()


ANSWERING = """#!/bin/sh
answer() { printf '{"jsonrpc": "2.0", "id": %s}\\n' "$1"; }
while read -r line; do
  case "$line" in
    *'"initialize"'*) answer '0, "result": {"protocolVersion": 1}' ;;
    *'"session/new"'*)
      if [ -n "$ANTHROPIC_API_KEY" ] && [ -n "$OF_MY_OWN" ]; then answer '1, "result": {"sessionId": "s"}'
      else answer '1, "error": {"code": -32000, "message": "Authentication required"}'; fi ;;
    *'"session/prompt"'*) answer '2, "result": {"stopReason": "end_turn"}' ;;
  esac
done
"""


def fake_claude(directory: pathlib.Path) -> dict[str, str]:
    """The environment with a `claude-agent-acp` that wants two variables."""
    program = directory / "bin" / "claude-agent-acp"
    program.parent.mkdir()
    program.write_text(ANSWERING)
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}", "OF_MY_OWN": "x", "ANTHROPIC_API_KEY": ""}


@pytest.mark.parametrize("agent", ["claude", "claude=claude-agent-acp"])
async def test_the_first_agent_of_the_command_line_is_the_default_with_its_variables(
    tmp_path: pathlib.Path, agent: str
) -> None:
    environ = fake_claude(tmp_path) | {"ANTHROPIC_API_KEY": "k"}
    words = ("--agent", agent, "--agent", "foo=nosuch acp", "--agent-env", "OF_MY_OWN")
    async with running_gateway(tmp_path, *words, environ=environ) as gateway:
        listed = (await gateway.get("/api/agents"))["agents"]
        assert [found["name"] for found in listed if found["is_default"]] == ["claude"]
        assert {found["name"]: found["title"] for found in listed}["claude"] == "Claude"
        state = await gateway.chat("a", "go")
        assert [message["sender"] for message in state["messages"]] == ["user"], (
            "it started, and said nothing"
        )
        assert "agents.foo: The program nosuch is not found on the gateway's PATH" in gateway.log()
        await gateway.send("b", "go", agent="foo")
        state = await state_when(gateway.http, "b", lambda s: bool(s["messages"]) and not s["is_processing"])
        assert "The program nosuch is not found" in state["messages"][-1]["content"]


async def test_an_agent_of_the_command_line_without_its_key_says_what_to_set(tmp_path: pathlib.Path) -> None:
    async with running_gateway(tmp_path, "--agent", "claude", environ=fake_claude(tmp_path)) as gateway:
        said = (await gateway.chat("a", "go"))["messages"][-1]["content"]
    assert "Set ANTHROPIC_API_KEY" in said
    assert "`--agent-env ANTHROPIC_API_KEY`" in said


async def test_config_check_names_programs_that_are_not_found(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "agents.toml"
    file.write_text('[agents.foo]\ncommand = "nosuch acp"\n[agents.sh]\ncommand = "sh -c x"\n')
    code, out, err = await typed("config", "check", "--config", str(file))
    said = "the configuration has no mistakes; programs that are not found here: 1; warnings: 2\n"
    assert (code, out) == (0, said)
    about, *networks = err.splitlines(keepends=True)
    assert [line.split(" is behind")[0] for line in networks] == [
        f"agent-gateway: warning: agent {name}" for name in ("foo", "sh")
    ]
    assert about == (
        "agent-gateway: agents.foo: The program nosuch is not found on the gateway's PATH. "
        "Install it, or give its full path.\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--agent", "nobody"), "'nobody' is not known; name a command, or one of claude, codex"),
        (("--agent", "x=y 'z"), "agents.x.command: No closing quotation"),
        (("--agent-env", "PATH"), "--agent-env: is for agents that --agent names"),
        (("--agent", "claude", "--agent-env", "NO_SUCH_ONE"), "--agent-env NO_SUCH_ONE: is not set"),
    ],
)
async def test_mistakes_about_agents_are_named(words: tuple[str, ...], said: str) -> None:
    code, _, err = await typed("serve", *words)
    assert code == 2
    assert said in err
