"""What the chat page costs a browser with long answers and histories, beside a minimal page of assistant-ui.

    python -m benchmarks.page [--messages 10000] [--slower 4] [--without-peer]

Both pages get the same texts in one run, in one Chromium: what they download, the main thread's processor
time and the longest task for 3,000 deltas, opening 10,000 messages (time and processor time until the last
can be read, longest task, elements, memory), and an answer of 5 MB; ours also finding words in the 10,000
and going to their beginning. Ours is served by a real gateway. The other page is built on first use, from
the versions in benchmarks/assistant_ui/package.json, below .cache/; it is no part of the product. A page
that does not show the words within PATIENCE_MS is left, and the row says so; what it did until then counts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import json
import math
import pathlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from typing import Any, Final

import uvicorn
from msgspec import Struct
from playwright.async_api import Browser
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from benchmarks.gateway import row
from benchmarks.page_figures import (
    PATIENCE_MS,
    Opened,
    Streamed,
    at_beginning,
    found,
    key_to_paint,
    longest,
    opened,
    streamed,
    window,
)
from tests.chromium import FRONTEND, launched
from tests.gateways import ROOT, running_gateway
from tests.streams import state_when

PEER: Final = pathlib.Path(__file__).parent / "assistant_ui"
BUILT: Final = ROOT / ".cache" / "assistant_ui"
DELTAS: Final = 3_000
PACE_MILLISECONDS: Final = 1
MEGABYTES: Final = 5


def paragraph(number: int) -> str:
    """A few lines of Markdown, no two the same."""
    title = f"Message number {number}.\n\n"
    if number % 5:
        words = f"Some words with *emphasis* and a [link](https://example.com/{number}). "
        return title + words + "More of them follow. " * (number % 9)
    text = f"with **bold {number}**, `code_{number}` and a list\n\n- one\n- two {'x ' * (number % 60)}\n\n"
    code = f"```python\nprint({number})\n```\n\n"
    return title + text + code + f"| a | b |\n|---|---|\n| {number} | {number * 2} |\n"


def long_text() -> str:
    """An answer of a few megabytes."""
    parts: list[str] = []
    size = 0
    while size < MEGABYTES * 1_000_000:
        parts.append(f"## Part {len(parts)}\n\n{paragraph(len(parts))}\n\n")
        size += len(parts[-1])
    return "".join(parts) + "The very last words."


def deltas() -> list[str]:
    """An answer in small pieces."""
    text = "\n\n".join(paragraph(number) for number in range(400))
    size = len(text) // DELTAS + 1
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    return [*pieces, "\n\nThe very last words."]


def packed(names: list[pathlib.Path]) -> float:
    """Kilobytes of files on the wire."""
    return sum(len(gzip.compress(path.read_bytes(), 9)) for path in names) / 1000


# -- the two pages ----------------------------------------------------------------------------------------


class Figures(Struct):
    """Of one page."""

    bundle: float
    streamed: Streamed
    history: Opened
    key_ms: float
    empty_key_ms: float
    answer: Opened
    find_ms: float = math.nan
    """The longest task while words are found; only of ours, as the next."""
    beginning_ms: float = math.nan


async def ours(browser: Browser, count: int, slower: int, directory: pathlib.Path) -> Figures:
    """The chat page, served by a gateway."""
    said = [
        {"update": {"sessionUpdate": "agent_message_chunk", "messageId": f"m{number}",
                    "content": {"type": "text", "text": paragraph(number)}}}
        for number in range(count)
    ]  # fmt: skip
    text = long_text()
    whole = [text[at : at + 50_000] for at in range(0, len(text), 50_000)]
    agents: dict[str, Any] = {
        "history": {"turns": [said]},
        "deltas": {"turns": [[{"say": {"chunks": deltas(), "delay_ms": PACE_MILLISECONDS}}]]},
        "answer": {"turns": [[{"say": {"chunks": whole}}]]},
    }
    async with running_gateway(directory, agents=agents) as gateway:
        for name in ("history", "answer"):
            await gateway.send(name, "go on", agent=name)
            await state_when(gateway.http, name, lambda state: not state["is_processing"])
        async with window(browser) as page:
            history = await opened(
                browser, page, f"{gateway.url}/#s=history", f"Message number {count - 1}.", slower
            )
            key_ms = await key_to_paint(page, slower)
            find_ms = await longest(browser, page, slower, lambda: found(page, f"number {count // 100}."))
        async with window(browser) as page:
            await opened(browser, page, f"{gateway.url}/#s=history", f"Message number {count - 1}.", slower)
            beginning_ms = await longest(browser, page, slower, lambda: at_beginning(page))
        async with window(browser) as page:
            await page.goto(f"{gateway.url}/#s=empty")
            empty_key_ms = await key_to_paint(page, slower)
        async with window(browser) as page:
            answer = await opened(browser, page, f"{gateway.url}/#s=answer", "The very last words.", slower)
        await gateway.post("/api/sessions", {"session_id": "deltas", "agent": "deltas"}, status=201)
        async with window(browser) as page:
            await page.goto(f"{gateway.url}/#s=deltas")
            stream = await streamed(browser, page, "The very last words.")
    size = await asyncio.to_thread(own_bundle)
    return Figures(size, stream, history, key_ms, empty_key_ms, answer, find_ms, beginning_ms)


def own_bundle() -> float:
    """Kilobytes of a first visit to a conversation with an answer in it."""
    script = "import('./test/size.mjs').then((m) => console.log(m.sizes().conversation))"
    node = shutil.which("node") or "node"
    done = subprocess.run([node, "-e", script], cwd=FRONTEND, capture_output=True, text=True, check=True)
    return float(done.stdout)


def built_peer() -> pathlib.Path:
    """The other page, built if it is not yet, or if its files here changed."""
    same = all(
        (BUILT / path.name).is_file() and (BUILT / path.name).read_bytes() == path.read_bytes()
        for path in PEER.iterdir()
    )
    if not same or not (BUILT / "dist" / "index.html").is_file():
        BUILT.mkdir(parents=True, exist_ok=True)
        for path in PEER.iterdir():
            shutil.copy(path, BUILT / path.name)
        npm = shutil.which("npm") or "npm"
        subprocess.run([npm, "install", "--no-audit", "--no-fund", "--silent"], cwd=BUILT, check=True)
        # Its directives for servers make a thousand warnings.
        build = [npm, "exec", "--", "vite", "build", "--logLevel", "error"]
        subprocess.run(build, cwd=BUILT, check=True)
    return BUILT / "dist"


def peer_app(dist: pathlib.Path, history: list[str]) -> Starlette:
    """What serves the other page: its files, a history, and the same deltas at the same pace."""
    messages = [{"id": f"m{place}", "role": "assistant", "text": text} for place, text in enumerate(history)]

    async def show(request: Request) -> Response:
        return Response(json.dumps(messages), media_type="application/json")

    async def grow(request: Request) -> Response:
        async def events() -> AsyncIterator[bytes]:
            for text in [*deltas(), None]:
                yield f"data: {json.dumps(text)}\n\n".encode()
                await asyncio.sleep(PACE_MILLISECONDS / 1000)

        return StreamingResponse(events(), media_type="text/event-stream")

    files = StaticFiles(directory=dist, html=True)
    return Starlette(routes=[Route("/history.json", show), Route("/deltas", grow), Mount("/", files)])


@contextlib.asynccontextmanager
async def served(application: Starlette) -> AsyncIterator[str]:
    """Serves it on a free port of this machine."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(application, log_level="warning", lifespan="off"))
        task = asyncio.create_task(server.serve([listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


async def peer(browser: Browser, count: int, slower: int) -> Figures:
    """The minimal page of assistant-ui."""
    dist = await asyncio.to_thread(built_peer)
    numbers = [paragraph(number) for number in range(count)]
    async with served(peer_app(dist, numbers)) as url, window(browser) as page:
        history = await opened(browser, page, url, f"Message number {count - 1}.", slower)
        key_ms = await key_to_paint(page, slower)
    async with served(peer_app(dist, [])) as url:
        async with window(browser) as page:
            await page.goto(url)
            empty_key_ms = await key_to_paint(page, slower)
        async with window(browser) as page:
            await page.goto(url)
            stream = await streamed(browser, page, "The very last words.")
    async with served(peer_app(dist, [long_text()])) as url, window(browser) as page:
        answer = await opened(browser, page, url, "The very last words.", slower)
    files = [path for path in dist.rglob("*") if path.suffix in (".js", ".css", ".html")]
    return Figures(packed(files), stream, history, key_ms, empty_key_ms, answer)


# -- the table --------------------------------------------------------------------------------------------


def cells(figures: Figures) -> dict[str, float]:
    """The rows."""
    one = figures
    return {
        "bundle, kB gz": one.bundle,
        "3,000 deltas: main thread, ms": one.streamed.thread_ms,
        "3,000 deltas: longest task, ms": one.streamed.longest_ms,
        "history: until its last words can be read, ms": one.history.ready_ms,
        "history: main thread until then, ms": one.history.ready_thread_ms,
        "history: main thread, and two seconds more, ms": one.history.thread_ms,
        "history: longest task, ms": one.history.longest_ms,
        "history: elements": one.history.elements,
        "history: memory, MB": one.history.megabytes,
        "history: longest task while words are found, ms": one.find_ms,
        "history: longest task on the way to the beginning, ms": one.beginning_ms,
        "history: key to paint, median ms": one.key_ms,
        "history: key to paint / that of an empty page": one.key_ms / one.empty_key_ms,
        "5 MB answer: until its last words can be read, ms": one.answer.ready_ms,
        "5 MB answer: main thread until then, ms": one.answer.ready_thread_ms,
        "5 MB answer: main thread, and two seconds more, ms": one.answer.thread_ms,
        "5 MB answer: longest task, ms": one.answer.longest_ms,
        "5 MB answer: elements": one.answer.elements,
        "5 MB answer: memory, MB": one.answer.megabytes,
    }


async def run(arguments: argparse.Namespace) -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory() as name:
        async with launched("--enable-precise-memory-info") as browser:
            mine = cells(await ours(browser, arguments.messages, arguments.slower, pathlib.Path(name)))
            row(f"CPU {arguments.slower} × slower, {arguments.messages} messages", "this page")
            for what, figure in mine.items():
                row(what, told(figure))
            if arguments.without_peer:
                return
            theirs = cells(await peer(browser, arguments.messages, arguments.slower))
    row("", f"{'this page':>10}{'assist.-ui':>11}", "times as much")
    for what, figure in mine.items():
        ratio = theirs[what] / figure if figure else math.nan
        row(
            what,
            f"{told(figure):>10}{told(theirs[what]):>11}",
            f"{ratio:.1f}" if math.isfinite(ratio) else "",
        )


def told(figure: float) -> str:
    """A figure, or that it was too long or is not there."""
    if math.isnan(figure):
        return ""
    return f"{figure:.1f}" if math.isfinite(figure) else f"> {PATIENCE_MS}"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--slower", type=int, default=4, help="how much slower the CPU is made")
    parser.add_argument("--without-peer", action="store_true", help="only this page")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
