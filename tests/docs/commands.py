"""The commands of documents, run as they are written: one way for all of them.

Every command block of a document is run in order by one shell, as a person types them; what each of them said
is told apart by a line before it. Addresses are those of the test's gateway, other ports are free ones.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import re
import signal
import sys
from typing import Final

from tests.docs.documents import blocks
from tests.gateways import ROOT
from tests.patience import soon
from tests.shared import free_port

SECONDS: Final = 60
PORT: Final = re.compile(r"\b(localhost|127\.0\.0\.1):(8[04]\d\d)\b|--port (8[04]\d\d)\b")
PROLOGUE: Final = "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n"
"""What a person types runs to its end; what it started in the background ends with it."""
CLIENTS: Final = ROOT / "tests" / "mcp" / "node_modules"
INSPECTOR: Final = CLIENTS / ".bin" / "mcp-inspector"
_INSTALLED: Final = {"npx @modelcontextprotocol/inspector": str(INSPECTOR)}
"""What a command would fetch, and where the tests have it."""
_MARK: Final = "# line "


def with_ports(text: str, ports: dict[str, int]) -> str:
    """The text with ports that are free; those that are given, by their names."""

    def free(match: re.Match[str]) -> str:
        named = match[2] or match[3]
        port = ports.setdefault(named, free_port())
        return match[0].replace(named, str(port))

    return PORT.sub(free, text)


def written(path: pathlib.Path, directory: pathlib.Path, ports: dict[str, int]) -> str:
    """The commands of a document as one script; its configurations lie in the directory."""
    script = []
    for block in blocks(path):
        text = with_ports(block.text, ports)
        if block.language == "toml" and block.name:
            (directory / block.name).write_text(text)
        elif block.language == "sh" and block.reason is None:
            script.append(f"printf '\\n{_MARK}{block.line}\\n'\n{text}")
    return "\n".join(script)


def outputs(said: str) -> list[str]:
    """What each command of a document said."""
    return re.split(rf"^{_MARK}\d+\n", said, flags=re.MULTILINE)[1:]


async def ran(
    script: str, directory: pathlib.Path, *, tools: tuple[pathlib.Path, ...] = (), **environ: str
) -> str:
    """What a script says, which must succeed; it runs in `directory`, with `tools` before others."""
    for command, program in _INSTALLED.items():
        script = script.replace(command, program)
    file = directory.with_suffix(".script")
    file.write_text(PROLOGUE + script)
    places = [*map(str, tools), str(pathlib.Path(sys.executable).parent), str(CLIENTS / "node" / "bin")]
    process = await asyncio.create_subprocess_exec(
        *("bash", str(file)),
        cwd=directory,
        env={**os.environ, "PATH": os.pathsep.join([*places, os.environ["PATH"]]), **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        said, _ = await soon(process.communicate(), SECONDS)
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    assert process.returncode == 0, said.decode()
    return said.decode()
