"""Clients that others build on: the core of the page as a package, installed from its tarball into an empty
folder, and clients that generators make of the gateway's OpenAPI document. Each talks to a real gateway.
"""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import shutil
from typing import Final

import pytest

from tests.gateways import RunningGateway
from tests.patience import within
from tests.real_agents import TOOLS, AgentUnavailable, by_npm, by_pip, installed
from tests.shared import SHARED, shared_gateway

pytestmark = [SHARED, pytest.mark.slow, pytest.mark.timeout(300)]
gateway = shared_gateway()

ROOT: Final = pathlib.Path(__file__).parent.parent.parent
FRONTEND: Final = ROOT / "frontend"
TSC: Final = FRONTEND / "node_modules" / "typescript" / "bin" / "tsc"
GENERATORS: Final = TOOLS / "generators"
OPENAPI_TYPESCRIPT: Final = "openapi-typescript@7.13.0 typescript@5.9.3"
OPENAPI_PYTHON_CLIENT: Final = "openapi-python-client==0.29.1"
STRICT: Final = {
    "compilerOptions": {
        "strict": True,
        "exactOptionalPropertyTypes": True,
        "noUncheckedIndexedAccess": True,
        "module": "NodeNext",
        "moduleResolution": "NodeNext",
        "target": "ES2022",
        "lib": ["ES2022", "DOM"],
        "types": [],
        "noEmit": True,
    },
    "include": ["*.ts"],
}
TYPED: Final = """
import { Api, type Conversation, type MessageItem, type State } from "@agent-gateway/client";

export async function said(api: Api, conversation: Conversation): Promise<string> {
  const state: State = await api.state(conversation.sessionId);
  const items = conversation.chat.items.filter((item): item is MessageItem => item.kind === "message");
  return `${state.messages.length} ${items.at(-1)?.text ?? ""}`;
}
// @ts-expect-error a session's id is text
export const wrong = (api: Api) => api.state(1);
"""
GENERATED: Final = """
import sys
from generated import Client
from generated.api.default import chat, count_sessions, read_archive
from generated.models import ChatRequest, Counts

with Client(base_url=sys.argv[1], raise_on_unexpected_status=True) as client:
    told = chat.sync_detailed(client=client, body=ChatRequest(message="/echo hi", session_id="gen"), wait=30)
    assert told.status_code == 200, told
    counts = count_sessions.sync(client=client)
    assert isinstance(counts, Counts), counts
    zipped = read_archive.sync_detailed("gen", client=client)
    assert zipped.content[:2] == b"PK", zipped
    print(counts.active_sessions)
"""


async def ran(*command: str, cwd: pathlib.Path, **environ: str) -> str:
    """What a program prints; it has to succeed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={**os.environ, **environ},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with within(120):
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


def node() -> str:
    """Node. The test is skipped if there is none, or no TypeScript."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None or not TSC.is_file():
        pytest.skip("NOT TESTED: there is no Node, or `npm ci` was not run in frontend/")
    return found


async def test_the_core_is_installed_from_its_tarball_and_talks_to_a_gateway(
    gateway: RunningGateway, tmp_path: pathlib.Path
) -> None:
    program = node()
    tarball = (await ran("npm", "run", "--silent", "client", cwd=FRONTEND)).strip().splitlines()[-1]
    (tmp_path / "package.json").write_text('{"private": true, "type": "module"}')
    await ran("npm", "install", "--offline", "--no-audit", "--no-fund", tarball, cwd=tmp_path)
    package = tmp_path / "node_modules" / "@agent-gateway" / "client"
    shutil.copy(package / "example.mjs", tmp_path)
    said = await ran(program, "example.mjs", gateway.url, "/echo from Node", cwd=tmp_path)
    assert said == "from Node\n"
    code = [line for line in (package / "example.mjs").read_text().splitlines() if line.strip()]
    assert len(code) <= 22
    (tmp_path / "typed.ts").write_text(TYPED)
    (tmp_path / "tsconfig.json").write_text(json.dumps(STRICT))
    await ran(program, str(TSC), "-p", ".", cwd=tmp_path)
    names = {path.name for path in (package / "lib").iterdir()}
    assert {"index.js", "index.d.ts"} <= names
    assert not [name for name in names if name.endswith(".tsx") or "operations" in name]


async def test_openapi_typescript_makes_strict_types_of_the_document(
    gateway: RunningGateway, tmp_path: pathlib.Path
) -> None:
    program = node()
    try:
        folder = await asyncio.to_thread(
            installed, "openapi-typescript", OPENAPI_TYPESCRIPT, by_npm, below=GENERATORS
        )
    except AgentUnavailable as error:
        pytest.skip(f"NOT TESTED: {error}")
    cli = folder / "node_modules" / "openapi-typescript" / "bin" / "cli.js"
    said = await ran(program, str(cli), f"{gateway.url}/openapi.json", "-o", "api.ts", cwd=tmp_path)
    assert "warn" not in said.lower(), said
    (tmp_path / "use.ts").write_text(
        'import type { paths } from "./api.js";\n'
        'type Answer = paths["/api/chat"]["post"]["responses"]["200"]["content"]["application/json"];\n'
        "export const seq = (answer: Answer): string => answer.session_id;\n"
    )
    (tmp_path / "tsconfig.json").write_text(json.dumps(STRICT))
    await ran(program, str(TSC), "-p", ".", "--skipLibCheck", cwd=tmp_path)


async def test_openapi_python_client_makes_a_client_of_the_document_without_a_warning(
    gateway: RunningGateway, tmp_path: pathlib.Path
) -> None:
    def install(folder: pathlib.Path, pin: str) -> None:
        by_pip(("3.11", "3.12", "3.13"), folder, pin)

    try:
        folder = await asyncio.to_thread(
            installed, "openapi-python-client", OPENAPI_PYTHON_CLIENT, install, below=GENERATORS
        )
    except AgentUnavailable as error:
        pytest.skip(f"NOT TESTED: {error}")
    programs = folder / "bin"
    path = f"{programs}:{os.environ['PATH']}"
    words = (
        "generate",
        "--url",
        f"{gateway.url}/openapi.json",
        "--output-path",
        "generated",
        "--meta",
        "none",
    )
    client = str(programs / "openapi-python-client")
    said = await ran(client, *words, "--fail-on-warning", cwd=tmp_path, PATH=path)
    assert "warning" not in said.lower(), said
    (tmp_path / "use.py").write_text(GENERATED)
    counted = await ran(str(programs / "python"), "use.py", gateway.url, cwd=tmp_path)
    assert int(counted) >= 1
