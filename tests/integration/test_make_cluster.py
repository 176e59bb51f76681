"""`make cluster`: three gateways to look at, that are all gone after Ctrl-C."""

from __future__ import annotations

import asyncio
import pathlib
import re
import signal
import sys
from typing import Final

import aiohttp
import psutil

from tests.gateways import ROOT, is_running
from tests.patience import soon, within
from tests.postgres import needed
from tests.shared import free_port

START_SECONDS: Final = 60
STOP_SECONDS: Final = 30


async def test_the_page_is_there_without_one_of_them_and_nothing_stays(tmp_path: pathlib.Path) -> None:
    needed()
    port = free_port()
    with (tmp_path / "errors").open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.cluster", "--port", str(port), "--nodes", "2"),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    try:
        said = await soon(_until(process, "Ctrl-C"), START_SECONDS)
        assert f"http://127.0.0.1:{port}/" in said
        started = psutil.Process(process.pid).children(recursive=True)
        gateways = [int(pid) for pid in re.findall(r"process (\d+)", said)]
        assert len(gateways) == 2
        psutil.Process(gateways[0]).kill()
        async with within(START_SECONDS), aiohttp.ClientSession() as http:
            for name in ("a", "b", "c"):  # whichever is asked
                assert await _said(http, f"http://127.0.0.1:{port}/api/chat?wait=20", name) == "hello"
        process.send_signal(signal.SIGINT)
        assert await soon(process.wait(), STOP_SECONDS) == 0
        assert not [one for one in started if is_running(one)]
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await soon(process.wait(), STOP_SECONDS)
    assert not pathlib.Path(said.partition("logs: ")[2].partition("/node-")[0]).exists()


async def _until(process: asyncio.subprocess.Process, words: str) -> str:
    assert process.stdout is not None
    said = ""
    while words not in said:
        line = (await process.stdout.readline()).decode()
        assert line, said
        said += line
    return said


async def _said(http: aiohttp.ClientSession, url: str, session_id: str) -> str:
    """What the agent of a session answers; a connection to a gateway that has just ended is made again."""
    body = {"session_id": session_id, "message": "/echo hello"}
    while True:
        try:
            async with http.post(url, json=body, headers={"Idempotency-Key": session_id}) as answer:
                if answer.status == 200:
                    return str((await answer.json())["messages"][-1]["content"])
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.1)
