"""Every command and configuration of docs/shopping-assistant.md does what the page says."""

from __future__ import annotations

import asyncio
import pathlib
import re
import shutil
import sys
from typing import Final

import pytest

from gateway.config.file import load
from tests.gateways import ROOT, RunningGateway
from tests.shared import SHARED, shared_gateway

gateway = shared_gateway()
pytestmark = SHARED
PAGE: Final = (ROOT / "docs" / "shopping-assistant.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page's commands are NOT tested: no curl")
async def test_every_command_runs(gateway: RunningGateway) -> None:
    expected = ("quinoa", "data: [DONE]", '"quantity":2', "13 passed, 0 failed")
    for command, wanted in zip(blocks("sh"), expected, strict=True):
        line = command.replace("http://127.0.0.1:8080", gateway.url).replace("python ", f"{sys.executable} ")
        process = await asyncio.create_subprocess_shell(line, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0
        assert wanted in output.decode(), output.decode()


async def test_every_configuration_is_one(tmp_path: pathlib.Path) -> None:
    for number, block in enumerate(blocks("toml")):
        path = tmp_path / f"{number}.toml"
        path.write_text(block)
        load(path, environ={})


async def test_every_route_of_the_page_is_there() -> None:
    described = (ROOT / "gateway" / "apps" / "shopping_assistant" / "face.py").read_text()
    for route in re.findall(r"`(?:GET|POST|DELETE) (/[a-z/{}]+)", PAGE):
        assert route.replace("{id}", "{session_id}") in described, route
