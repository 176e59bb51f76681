"""From the README alone: its section for other people, word for word, on fresh data behind Caddy."""

from __future__ import annotations

import asyncio
import os
import pathlib
import re
import signal
import sys

from gateway.config.file import load
from tests.deploy.tools import tool
from tests.docs.documents import blocks
from tests.docs.test_documents import PROLOGUE, free_port, with_ports
from tests.gateways import ROOT

SECONDS = 60


async def test_a_stranger_serves_two_tenants_behind_caddy_by_the_readme(tmp_path: pathlib.Path) -> None:
    section = re.findall(r"^## For other people\n.*?(?=^## )", (ROOT / "README.md").read_text(), re.M | re.S)
    (tmp_path / "section.md").write_text(section[0])
    here, ports = tmp_path / "here", dict[str, int]()
    here.mkdir()
    (here / "deploy").symlink_to(ROOT / "deploy")
    script = [PROLOGUE]
    for block in blocks(tmp_path / "section.md"):
        if block.language == "toml":
            (here / block.name).write_text(with_ports(block.text, ports))
            load(here / block.name, environ={})
        else:
            script.append(with_ports(block.text, ports))
    (tmp_path / "script").write_text("\n".join(script))
    tools = [str(pathlib.Path(path).parent) for path in (sys.executable, tool("caddy"))]
    process = await asyncio.create_subprocess_exec(
        *("bash", str(tmp_path / "script")),
        cwd=here,
        env={
            **os.environ,
            "PATH": os.pathsep.join([*tools, os.environ["PATH"]]),
            "HOME": str(tmp_path),
            "XDG_DATA_HOME": str(tmp_path / "home"),
            "HTTP_PORT": str(free_port()),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    text = said.decode()
    assert process.returncode == 0, text
    assert '"sender":"agent"' in text
    assert '{"sessions":[]}' in text, "the other tenant sees nothing of it"
    assert re.search(r"^acme +1? ", text, re.M), text
