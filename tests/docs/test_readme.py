"""From the README alone: its section for other people, word for word, on fresh data behind Caddy."""

from __future__ import annotations

import pathlib
import re

from gateway.config.file import load
from tests.deploy.tools import tool
from tests.docs.commands import ran, with_ports
from tests.docs.documents import blocks
from tests.gateways import ROOT
from tests.shared import free_port


async def test_a_stranger_serves_two_tenants_behind_caddy_by_the_readme(tmp_path: pathlib.Path) -> None:
    section = re.findall(r"^## For other people\n.*?(?=^## )", (ROOT / "README.md").read_text(), re.M | re.S)
    (tmp_path / "section.md").write_text(section[0])
    here, ports = tmp_path / "here", dict[str, int]()
    here.mkdir()
    (here / "deploy").symlink_to(ROOT / "deploy")
    script = []
    for block in blocks(tmp_path / "section.md"):
        text = with_ports(block.text, ports)
        if block.language == "toml":
            (here / block.name).write_text(text)
            load(here / block.name, environ={})
        else:
            script.append(text)
    text = await ran(
        "\n".join(script),
        here,
        tools=(pathlib.Path(tool("caddy")).parent,),
        HOME=str(tmp_path),
        XDG_DATA_HOME=str(tmp_path / "home"),
        HTTP_PORT=str(free_port()),
    )
    assert '"sender":"agent"' in text
    assert '{"sessions":[]}' in text, "the other tenant sees nothing of it"
    assert re.search(r"^acme +1? ", text, re.M), text
