"""A real Chromium for the tests. It is never downloaded here: a headless shell of the system's, else the one
that `npm ci` put into tests/browser/node_modules (@sparticuz/chromium), else the system's browser. A shell
draws the same pages with a third of the processor time, as it keeps no windows. Without any of them the tests
fail in CI and are skipped elsewhere, saying so.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import shutil
import subprocess
import tarfile
from collections.abc import AsyncIterator, Sequence
from typing import Final

import pytest
from playwright.async_api import Browser, async_playwright

from tests.once import one_at_a_time
from tests.patience import crowding

FRONTEND: Final = pathlib.Path(__file__).parent.parent / "frontend"
PACKAGED: Final = pathlib.Path(__file__).parent / "browser"
CACHE: Final = FRONTEND.parent / ".cache" / "chromium"
SHELLS: Final = ("chromium-headless-shell", "chrome-headless-shell")
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_FROM_NPM: Final = (
    'import("@sparticuz/chromium").then(async (m) => console.log(await m.default.executablePath()))'
)

_UNPACK: Final = (
    "const fs = require('fs'), [from, to] = process.argv.slice(1);"
    "fs.writeFileSync(to, require('zlib').brotliDecompressSync(fs.readFileSync(from)))"
)


@functools.cache
def find_browser() -> str | None:
    """The path of a Chromium, or None."""
    if chosen := os.environ.get("CHROMIUM"):
        return chosen
    return _on_path(SHELLS) or _packaged() or _on_path(BROWSERS)


def _on_path(names: Sequence[str]) -> str | None:
    return next(filter(None, map(shutil.which, names)), None)


def _packaged() -> str | None:
    node = shutil.which("node")
    if node is None or not (PACKAGED / "node_modules" / "@sparticuz" / "chromium").is_dir():
        return None
    with one_at_a_time(CACHE / "unpacking.lock"):
        answer = subprocess.run(
            [node, "-e", _FROM_NPM], cwd=PACKAGED, capture_output=True, text=True, timeout=120 * crowding()
        )
    return answer.stdout.strip() or None


@functools.cache
def environment_of(browser_path: str) -> dict[str, str]:
    """What the browser needs to start: where the machine lacks its libraries (NSS and the like), those that
    @sparticuz/chromium brings along.
    """
    ldd = shutil.which("ldd") or "ldd"
    needed = subprocess.run(
        [ldd, browser_path], capture_output=True, text=True, timeout=60 * crowding()
    ).stdout
    packed = PACKAGED / "node_modules" / "@sparticuz" / "chromium" / "bin" / "al2023.tar.br"
    if "not found" not in needed or not packed.is_file():
        return dict(os.environ)
    with one_at_a_time(CACHE / "unpacking.lock"):
        if not (CACHE / "lib").is_dir():
            archive = CACHE / "libraries.tar"
            command = [shutil.which("node") or "node", "-e", _UNPACK, str(packed), str(archive)]
            subprocess.run(command, check=True, timeout=60 * crowding())
            with tarfile.open(archive) as tar:
                tar.extractall(CACHE, filter="data")
    return {**os.environ, "LD_LIBRARY_PATH": str(CACHE / "lib")}


def needed_browser() -> str:
    """Where Chromium is; a test of the page that has none, or no built page, fails in CI and is skipped
    elsewhere.
    """
    found = find_browser()
    missing = [
        what
        for what, is_there in {
            "a Chromium (apt install chromium, or `npm ci` in tests/browser/)": found is not None,
            "the built page (`npm ci && npm run build` in frontend/)": (
                FRONTEND / "dist" / "index.html"
            ).is_file(),
        }.items()
        if not is_there
    ]
    if missing:
        words = f"the page is NOT tested: missing {' and '.join(missing)}"
        if os.environ.get("CI"):
            pytest.fail(words)
        pytest.skip(words)
    return found or ""


@contextlib.asynccontextmanager
async def launched(*arguments: str) -> AsyncIterator[Browser]:
    """A running Chromium."""
    path = needed_browser()
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(
            executable_path=path, args=[*ARGUMENTS, *arguments], env=dict(environment_of(path))
        )
        try:
            yield running
        finally:
            await running.close()
