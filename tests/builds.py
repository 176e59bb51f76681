"""A real build by an agent that nobody here wrote: `make campaign NAME=builds`, or `python -m tests.builds`.

opencode, on a fake model that calls its `bash`, installs a repository of `PACKAGES` packages with their
dependencies by `npm ci` and builds each with TypeScript and Vite, and installs and runs a few large packages
of Python's. Behind the walls that there are, with the limits `coding`; then once more with `chat`, whose
words about the limit are printed. Needs the registries and some minutes; `--seconds` bounds each build.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pathlib
import sys
import tempfile
import time
from typing import Any, Final

from gateway.workers import watchdog
from tests.fake_model import fake_model
from tests.gateways import RunningGateway, running_gateway
from tests.real_agents import opencode
from tests.streams import open_stream, state_when

PACKAGES: Final = 8
DEPENDENCIES: Final = {
    "react": "19.2.0", "react-dom": "19.2.0", "lodash-es": "4.17.21", "date-fns": "4.1.0", "zod": "4.1.12",
}  # fmt: skip
TOOLS: Final = {
    "typescript": "5.9.3", "vite": "7.1.12", "@vitejs/plugin-react": "5.1.0", "@types/react": "19.2.2",
    "@types/react-dom": "19.2.2", "@types/lodash-es": "4.17.12", "eslint": "9.38.0", "jest": "30.2.0",
    "webpack": "5.102.1", "webpack-cli": "6.0.1", "prettier": "3.6.2", "storybook": "9.1.15",
}  # fmt: skip
SOURCE: Final = """import { debounce, groupBy } from "lodash-es";
import { format } from "date-fns";
import { createElement } from "react";
import { z } from "zod";
export const shape = z.object({ name: z.string(), at: z.date() });
export const view = (rows: z.infer<typeof shape>[]) =>
  Object.entries(groupBy(rows, (row) => format(row.at, "yyyy"))).map(([year, all]) =>
    createElement("p", { key: year }, year, all.length));
export const later = debounce(view, 10);
"""
PYTHON: Final = (
    "python3 -m venv v && v/bin/pip install -q numpy==2.3.4 pandas==2.3.3 flask==3.1.2 sqlalchemy==2.0.44 && "
    "v/bin/python -c 'import pandas, flask, sqlalchemy; print(pandas.DataFrame({\"a\": [1]}).a.sum())'"
)
NODE: Final = (
    "npm install --package-lock-only --no-audit --no-fund && npm ci --no-audit --no-fund && "
    "npm run build --workspaces && ls packages/*/dist/index.js | wc -l"
)
PASSED: Final = ("npm_config_registry", "PIP_INDEX_URL", "PIP_CERT", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE")
"""How this machine reaches its registries, if it says so."""
BUILT: Final = "built-it-all"


def repository(folder: pathlib.Path) -> None:
    """Writes the repository."""

    def write(path: str, content: object) -> None:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content, indent=1))

    write("package.json", {"name": "repository", "private": True, "workspaces": ["packages/*"],
                           "devDependencies": TOOLS})  # fmt: skip
    for number in range(PACKAGES):
        at, name = f"packages/part-{number}", f"@repository/part-{number}"
        others = {f"@repository/part-{number - 1}": "1.0.0"} if number else {}
        write(f"{at}/package.json", {
            "name": name, "version": "1.0.0", "type": "module", "dependencies": DEPENDENCIES | others,
            "scripts": {"build": "tsc -p . && vite build"},
        })  # fmt: skip
        write(f"{at}/tsconfig.json", {"compilerOptions": {
            "strict": True, "noEmit": True, "module": "esnext", "moduleResolution": "bundler",
            "target": "es2022", "jsx": "react-jsx", "skipLibCheck": True}, "include": ["src"]})  # fmt: skip
        library = {"entry": "src/index.ts", "formats": ["es"], "fileName": "index"}
        write(f"{at}/vite.config.js", f"export default {{build: {{lib: {json.dumps(library)}}}}};\n")
        write(f"{at}/src/index.ts", SOURCE)


def give(folder: pathlib.Path, owner: int) -> None:
    """Makes a user the owner of a tree."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner, owner, follow_symlinks=False)


async def allow_all(gateway: RunningGateway, session_id: str) -> None:
    """Answers every request for permission with yes."""
    async with open_stream(gateway.http, session_id) as stream:
        while True:
            asked = (await stream.until_event("permission_asked", seconds=3600)).data
            option = next(each["option_id"] for each in asked["options"] if each["kind"] == "allow_once")
            body = {"permission_id": asked["permission_id"], "option_id": option}
            await gateway.post(f"/api/sessions/{session_id}/permission", body)


async def build(gateway: RunningGateway, agent: str, command: str, *, seconds: int) -> str:
    """Has an agent run a command in a copy of the repository; what the last turn says."""
    session_id = f"build-{agent}-{time.time_ns()}"
    await gateway.post("/api/sessions", {"agent": agent, "session_id": session_id}, status=201)
    await gateway.chat(session_id, "hello", wait=60)
    work = max((gateway.data_path / "sessions").glob("*/work"), key=lambda path: path.stat().st_ctime_ns)
    await asyncio.to_thread(repository, work)
    if os.geteuid() == 0:
        give(work, work.stat().st_uid)
    call = {"command": f"{command} && echo {BUILT}", "timeout": seconds * 1000, "description": "build"}
    allowing, began = asyncio.create_task(allow_all(gateway, session_id)), time.monotonic()
    try:
        await gateway.send(session_id, f"call bash {json.dumps(call)}")
        state = await state_when(gateway.http, session_id, is_over, seconds=seconds)
    finally:
        allowing.cancel()
        await asyncio.wait([allowing])
    measured = await asyncio.to_thread(watchdog.measure, str(work), str(work.parent / "home"), files=0)
    said = str(state["messages"][-1]["content"])
    print(  # noqa: T201
        f"{agent}: {'built' if BUILT in said else 'NOT built'} in {time.monotonic() - began:.0f} s, "
        f"{measured.files:,} files, {measured.allocated_bytes / 1e6:,.0f} MB on the disk\n"
        f"  {said[-300:].strip()}",
        flush=True,
    )
    await gateway.delete(session_id)
    return said


def is_over(state: dict[str, Any]) -> bool:
    """Whether the build's turn has ended."""
    last = state["messages"][-1]
    return len(state["messages"]) > 3 and last["sender"] == "agent" and not last["is_streaming"]


async def main(seconds: int) -> int:
    """Builds, and says what came of it; 1 if a build under `coding` failed."""
    async with fake_model() as model:
        launch = await asyncio.to_thread(opencode, model.url)
        env = "".join(f"{key} = {json.dumps(value)}\n" for key, value in launch.env.items())
        tables = "".join(
            f'[agents.{name}]\ncommand = {json.dumps(launch.command)}\nlimits_preset = "{name}"\n'
            f'network = "shared"\nreadable = {json.dumps([str(path) for path in launch.readable])}\n'
            f"pass_env = {json.dumps(PASSED)}\n[agents.{name}.env]\n{env}"
            for name in ("coding", "chat")
        )
        with tempfile.TemporaryDirectory() as folder:
            async with running_gateway(pathlib.Path(folder), config=tables) as gateway:
                failed = 0
                for command in (NODE, PYTHON):
                    failed += BUILT not in await build(gateway, "coding", command, seconds=seconds)
                await build(gateway, "chat", NODE, seconds=seconds)
    return int(failed > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=900, help="for one build at most")
    sys.exit(asyncio.run(main(parser.parse_args().seconds)))
