"""An application of somebody else: examples/notes, installed beside the gateway into an environment of its
own, does what docs/applications.md says.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import sqlite3
import sys
import sysconfig
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

import pytest

from tests import gateways
from tests.deploy.tools import run
from tests.docs.documents import blocks
from tests.gateways import ROOT, RunningGateway
from tests.streams import open_stream

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
DOCUMENT: Final = ROOT / "docs" / "applications.md"
BUILD_SECONDS: Final = 200
ALL: Final = ("shop", "shopping_assistant", "product_chat")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """`agent-gateway` of an environment with the gateway and the notes; what both need lies elsewhere."""
    directory = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", directory)
    python = directory / "bin" / "python"
    (place,) = (directory / "lib").glob("python*/site-packages")
    (place / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    build = ("--no-deps", "--no-build-isolation", "--no-index", "--no-compile", "--quiet")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "install")
    for project in (ROOT, ROOT / "examples" / "notes"):
        run("env", "AGENT_GATEWAY_SKIP_PAGE=1", *pip, *build, project, seconds=BUILD_SECONDS)
    where = "import gateway, agent_gateway_notes as notes; print(gateway.__file__, notes.__file__)"
    found = run(python, "-c", where, cwd=directory)
    assert found.count(str(place)) == 2, found
    return directory / "bin" / "agent-gateway"


@contextlib.asynccontextmanager
async def serving(
    program: pathlib.Path, directory: pathlib.Path, enabled: Iterable[str], *, also: str = ""
) -> AsyncIterator[RunningGateway]:
    """A gateway of that environment."""
    config, log = directory / "gateway.toml", directory / "gateway.log"
    config.write_text(f"[applications]\nenabled = {json.dumps(list(enabled))}\n{also}")
    with log.open("ab") as stream:
        process = await asyncio.create_subprocess_exec(
            *(program, "serve", "--port", "0", "--config", config, "--data-dir", directory / "data"),
            cwd=directory,
            stdout=asyncio.subprocess.PIPE,
            stderr=stream,
        )
    async with gateways.serving(process, log, directory / "data", start_seconds=60) as gateway:
        yield gateway


async def take(gateway: RunningGateway, text: str, session_id: str) -> Any:
    """What the tool says over MCP."""
    params = {"name": "take_note", "arguments": {"text": text}, "_meta": {"sessionId": session_id}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return (await gateway.post("/mcp", call))["result"]


def rows(directory: pathlib.Path) -> list[Any]:
    with contextlib.closing(sqlite3.connect(directory / "data" / "gateway.db")) as connection:
        return connection.execute("SELECT session_id, text FROM notes ORDER BY id").fetchall()


async def test_the_notes_do_what_they_say(program: pathlib.Path, tmp_path: pathlib.Path) -> None:
    async with serving(program, tmp_path, (*ALL, "notes"), also="[notes]\nmost = 3\n") as gateway:
        refused = {"text": "too soon"}
        assert (await gateway.post("/api/sessions/trip/notes", refused, status=404))["error"]
        await gateway.chat("trip", "/echo hello")
        note = await gateway.post("/api/sessions/trip/notes", {"text": "The train leaves at nine."})
        assert note["text"] == "The train leaves at nine."
        answer = await take(gateway, "Bring a coat.", "trip")
        assert (answer["isError"], answer["structuredContent"]) == (False, {"id": note["id"] + 1})
        found = (await gateway.get("/api/sessions/trip/notes"))["notes"]
        assert [one["text"] for one in found] == ["The train leaves at nine.", "Bring a coat."]
        assert (await gateway.get("/api/sessions/other/notes")) == {"notes": []}

        async with open_stream(gateway.http, "trip", after=0) as stream:
            heard = [(await stream.until_event("note_added")).data["note_id"] for _ in range(2)]
        assert heard == [note["id"], note["id"] + 1]

        await gateway.post("/api/sessions/trip/notes", {"text": "three"})
        full = await gateway.post("/api/sessions/trip/notes", {"text": "four"}, status=409)
        assert full["error"]["code"] == "too_many_notes"
        assert (await take(gateway, "four", "trip"))["isError"]

        told = (await gateway.get("/api/auth"))["applications"]
        assert {"name": "notes", "page": "notes/page.js"} in told
        async with gateway.http.get("/notes/page.js") as response:
            assert (response.status, response.content_type) == (200, "text/javascript")
        await gateway.delete("trip")
        assert rows(tmp_path) == []


async def test_switched_off_its_events_and_rows_stay_and_go_with_their_session(
    program: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    async with serving(program, tmp_path, (*ALL, "notes")) as gateway:
        for name in ("gone", "kept"):
            await gateway.chat(name, "/echo hello")
            await gateway.post(f"/api/sessions/{name}/notes", {"text": f"of {name}"})
    async with serving(program, tmp_path, ALL, also="[notes]\nmost = 3\n") as gateway:
        await gateway.post("/api/sessions/kept/notes", {"text": "no"}, status=404)
        async with open_stream(gateway.http, "kept", after=0) as stream:
            await stream.until_event("note_added")
        assert (await gateway.chat("kept", "/echo on"))["messages"][-1]["content"] == "on"
        await gateway.delete("gone")
    assert rows(tmp_path) == [("kept", "of kept")]


async def test_the_page_about_applications_is_true(program: pathlib.Path, tmp_path: pathlib.Path) -> None:
    [config] = [block.text for block in blocks(DOCUMENT) if block.name == "notes.toml"]
    also = config.partition("\n[notes]")[2]
    commands = [block.text for block in blocks(DOCUMENT) if block.language == "sh" and block.reason is None]
    async with serving(program, tmp_path, (*ALL, "notes"), also=f"[notes]{also}") as gateway:
        port = gateway.url.rpartition(":")[2]
        script = "set -euo pipefail\n" + "\n".join(commands).replace("8080", port)
        said = await asyncio.to_thread(run, "bash", "-c", script, cwd=tmp_path)
    assert "The train leaves at nine." in said
    assert said.count("Bring a coat.") == 1
    assert os.path.exists(tmp_path / "data" / "gateway.db")
