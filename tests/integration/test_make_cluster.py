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

from tests.gateways import ROOT, WAIT_SECONDS, is_running
from tests.patience import soon, within
from tests.postgres import needed
from tests.shared import free_port

START_SECONDS: Final = 60
STOP_SECONDS: Final = 30
TIMES: Final = 8
"""By chance all would come to one of two gateways once in a hundred times."""


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
        assert "Ctrl-C" in said, said + (tmp_path / "errors").read_text()
        assert f"http://127.0.0.1:{port}/" in said
        started = psutil.Process(process.pid).children(recursive=True)
        gateways = [int(pid) for pid in re.findall(r"process (\d+)", said)]
        assert len(gateways) == 2
        url = f"http://127.0.0.1:{port}/api/chat?wait={WAIT_SECONDS}"
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
            for number in range(TIMES):  # whichever is asked, a new one each time
                assert await _said(http, url, f"hello {number}") == (200, f"hello {number}")
            psutil.Process(gateways[0]).kill()
            async with within(START_SECONDS):
                while (await _said(http, url, "again"))[0] != 200:
                    await asyncio.sleep(0.1)
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
    while words not in said and (line := (await process.stdout.readline()).decode()):
        said += line
    return said


async def _said(http: aiohttp.ClientSession, url: str, word: str) -> tuple[int, str]:
    """Status and answer of the agent of one session; 0: the gateway has just ended."""
    body = {"session_id": "a", "message": f"/echo {word}"}
    try:
        async with http.post(url, json=body, headers={"Idempotency-Key": word}) as answer:
            told = await answer.json()
            return answer.status, str(told["messages"][-1]["content"]) if answer.status == 200 else ""
    except aiohttp.ClientError:
        return 0, ""
