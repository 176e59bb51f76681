"""Every command of the documents runs as it stands there, in order, against a real gateway."""

from __future__ import annotations

import asyncio
import os
import pathlib
import re
import signal
import socket
import sys

import pytest

from gateway.config.file import load
from tests.docs.documents import DOCUMENTS, MAPS, Block, blocks
from tests.gateways import ROOT, running_gateway
from tests.picture import WIDTH

SECONDS = 60
RUN_ELSEWHERE = {
    "applications.md": "tests/deploy/test_notes.py",
    "mcp-shop.md": "tests/acceptance/test_mcp_docs.py",
}
PORT = re.compile(r"\b(localhost|127\.0\.0\.1):(8[04]\d\d)\b|--port (8[04]\d\d)\b")
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)")
PROLOGUE = "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n"
"""What a person types runs to its end; what it started in the background ends with it."""


def _name(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _written(path: pathlib.Path, directory: pathlib.Path, ports: dict[str, int]) -> str:
    """The document as one script; its configurations lie beside it."""
    script = [PROLOGUE]
    for block in blocks(path):
        if block.language == "toml" and block.name:
            (directory / block.name).write_text(with_ports(block.text, ports))
        elif block.language == "sh" and block.reason is None:
            script.append(f"echo '# line {block.line}'\n{with_ports(block.text, ports)}")
    return "\n".join(script)


def with_ports(text: str, ports: dict[str, int]) -> str:
    def free(match: re.Match[str]) -> str:
        named = match[2] or match[3]
        port = ports.setdefault(named, free_port())
        return match[0].replace(named, str(port))

    return PORT.sub(free, text)


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
async def test_every_command_of_a_document_runs(tmp_path: pathlib.Path, path: pathlib.Path) -> None:
    if path.name in RUN_ELSEWHERE:
        pytest.skip(f"is run by {RUN_ELSEWHERE[path.name]}")
    if not any(block.language == "sh" and block.reason is None for block in blocks(path)):
        pytest.skip("has no command that runs here")
    async with running_gateway(tmp_path) as gateway:
        ports = {"8080": int(gateway.url.rpartition(":")[2])}
        (tmp_path / "here").mkdir()
        (tmp_path / "here" / "tests").symlink_to(ROOT / "tests")
        (tmp_path / "script").write_text(_written(path, tmp_path / "here", ports))
        process = await asyncio.create_subprocess_exec(
            *("bash", str(tmp_path / "script")),
            cwd=tmp_path / "here",
            env={
                **os.environ,
                "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
                "AGENT_GATEWAY_DATA_DIR": str(tmp_path / "data"),
                "HOME": str(tmp_path),
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
        assert process.returncode == 0, said.decode()


def test_what_is_not_run_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    kept_out = [(path, block) for path in DOCUMENTS for block in blocks(path) if block.reason]
    with capsys.disabled():
        for path, block in kept_out:
            print(f"\nnot run: {path.relative_to(ROOT)}:{block.line}: {block.reason}", end="")  # noqa: T201
    assert all(len(str(block.reason)) > 10 for _, block in kept_out)


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_every_configuration_of_a_document_has_no_mistake(tmp_path: pathlib.Path, path: pathlib.Path) -> None:
    for block in blocks(path):
        if block.language == "toml":
            _check(block, tmp_path / "config.toml")


def _check(block: Block, file: pathlib.Path) -> None:
    """Files that a configuration names need not be there."""
    file.write_text(re.sub(r"^(\w*_?file|env_files) = .*$", "", block.text, flags=re.MULTILINE))
    load(file, environ={})


@pytest.mark.parametrize("path", [*DOCUMENTS, *MAPS, ROOT / "README.md"], ids=_name)
def test_every_link_leads_somewhere(path: pathlib.Path) -> None:
    for target in LINK.findall(path.read_text()):
        assert (path.parent / target).exists(), f"{target} is not there"


def test_the_readmes_picture_is_wide_and_light() -> None:
    """`python -m tests.picture docs/page.png` takes it anew."""
    picture = (ROOT / "docs" / "page.png").read_bytes()
    assert int.from_bytes(picture[16:20], "big") == WIDTH
    assert len(picture) < 150_000
