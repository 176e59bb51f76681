"""What the command line makes of standard streams that are closed, that nobody reads, that lack letters."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import sys

from tests.gateways import ROOT
from tests.inside import gateway_inside
from tests.integration.test_command_line import typed
from tests.patience import soon
from tests.shared import ask

GATEWAY = (sys.executable, "-m", "gateway")


async def test_it_serves_without_standard_streams(tmp_path: pathlib.Path) -> None:
    words = ("serve", "--port", "0", "--data-dir", str(tmp_path / "data"))
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", 'exec "$@" <&- 2>&-', "sh", *GATEWAY, *words),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert b"http://" in await soon(process.stdout.readline(), 60)
    process.terminate()
    assert await soon(process.wait(), 60) == 0


async def test_every_listing_can_be_printed_in_ascii(tmp_path: pathlib.Path) -> None:
    data, file = str(tmp_path / "data"), str(tmp_path / "config.toml")
    config = '[tenants.acme]\ntitle = "שלום 👩"\n'
    async with gateway_inside(tmp_path, config=config) as gateway:
        await gateway.chat("naive", "/echo x")
        assert (await ask(gateway.http, "PATCH", "/api/sessions/naive", {"title": "né 👩"})).status == 200
        lists = (
            *(("sessions", "ls"), ("sessions", "show", "naive"), ("tenants", "ls"), ("keys", "ls")),
            *(("top", "--once"), ("top", "--json"), ("config", "show")),
        )
        environ = {"PYTHONIOENCODING": "ascii", "OPENAI_API_KEY": "k"}
        told = await asyncio.gather(
            *(typed(*words, "--data-dir", data, "--config", file, environ=environ) for words in lists)
        )
    for words, (code, out, err) in zip(lists, told, strict=True):
        assert (code, err) == (0, ""), words
        assert out.isascii(), words
    assert json.loads(told[lists.index(("top", "--json"))][1])["sessions"]["total"] == 1


async def test_a_reader_that_has_left_ends_it_quietly() -> None:
    near, far = os.pipe()
    os.close(near)
    process = await asyncio.create_subprocess_exec(
        *(*GATEWAY, "config", "show"), cwd=ROOT, stdout=far, stderr=asyncio.subprocess.PIPE
    )
    os.close(far)
    _, err = await soon(process.communicate(), 60)
    assert (process.returncode, err) == (141, b"")


async def test_a_full_disk_behind_standard_output_is_said_in_one_line() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    process = await asyncio.create_subprocess_exec(
        *(*GATEWAY, "config", "show"), cwd=ROOT, stdout=full, stderr=asyncio.subprocess.PIPE
    )
    os.close(full)
    _, err = await soon(process.communicate(), 60)
    assert (process.returncode, err) == (1, b"agent-gateway: [Errno 28] No space left on device\n")


async def test_files_that_are_not_there_are_named(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path):
        pass
    data, gone = ("--data-dir", str(tmp_path / "data")), str(tmp_path / "gone" / "kept.tar")
    _, _, err = await typed("backup", gone, *data)
    assert (
        err == f"agent-gateway: There is no directory {tmp_path / 'gone'}: make it, or name another place.\n"
    )
    for words in (("restore", gone, "--data-dir", str(tmp_path / "other")), ("restore", "--check", gone)):
        code, _, err = await typed(*words)
        assert (code, err) == (1, f"agent-gateway: There is no file {gone}.\n")
    assert not (tmp_path / "other").exists()
