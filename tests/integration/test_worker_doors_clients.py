"""Unedited programs behind a worker's doors, without a proxy variable: git, pip, npm, Node and Python fetch
from a listed host, and are refused another.

The listed host is a server that the test starts under an invented name, with an authority of its own: a
repository, a package index and a registry of one package each.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import AsyncIterator
from typing import Final

import pytest

from tests.certificates import Authority
from tests.doors import LISTED, OTHER, Rules, serve, spawn
from tests.walls import PYTHON, USERS, User, yard

SIX: Final = """
import sys, urllib.request as u, ssl
for scheme in ("http", "https"):
    for host in sys.argv[1:]:
        print(scheme, host, u.urlopen(f"{scheme}://{host}/plain", timeout=20).read().decode())
"""
"""What a program in a worker does that knows of IPv4 alone."""
WHEEL: Final = "invented-1.0-py3-none-any.whl"


class Shelf:
    """Files by path, over HTTPS."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.authority = Authority(directory)
        self.authority.root_file.chmod(0o644)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        """Paths, and the authorization that came with them."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Rules]:
        """Rules that list it at port 443 alone."""
        tls = self.authority.server(LISTED)
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=tls)
        rules = Rules()
        rules.allow(LISTED, 443, at=server.sockets[0].getsockname()[1])
        try:
            yield rules
        finally:
            server.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1].decode().partition("?")[0]
                shown = re.search(rb"(?i)\r\nauthorization: (.*?)\r\n", head)
                self.asked.append((path, shown[1].decode() if shown else ""))
                found = self.files.get(path)
                body = b"not here" if found is None else found
                kind = "application/json" if path.startswith("/npm/") and not path.endswith("gz") else ""
                kind = kind or ("text/html" if path.endswith("/") else "application/octet-stream")
                status = "200 OK" if found is not None else "404 Not Found"
                answer = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(answer.encode() + (b"" if head.startswith(b"HEAD") else body))
                await writer.drain()
        writer.close()


def add_repository(shelf: Shelf, place: pathlib.Path) -> None:
    """A repository of one file, in the form that needs no program at the server."""
    made, bare = place / "made", place / "bare.git"
    alone = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}

    def git(*arguments: str) -> None:
        subprocess.run([shutil.which("git") or "git", *arguments], check=True, capture_output=True, env=alone)

    git("init", "-q", str(made))
    (made / "file").write_text("from a repository\n")
    git("-C", str(made), "add", "file")
    who = ("-c", "user.name=Nobody", "-c", "user.email=nobody@invented.test")
    git("-C", str(made), *who, "commit", "-q", "-m", "Add a file")
    git("clone", "-q", "--bare", str(made), str(bare))
    git("-C", str(bare), "update-server-info")
    for path in bare.rglob("*"):
        if path.is_file():
            shelf.files[f"/code.git/{path.relative_to(bare)}"] = path.read_bytes()


def add_wheel(shelf: Shelf) -> None:
    """A package index of one wheel."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as wheel:
        about = "invented-1.0.dist-info"
        wheel.writestr("invented.py", "WORDS = 'from an index'\n")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: invented\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "invented.py,,\n")
    shelf.files[f"/pip/invented/{WHEEL}"] = buffer.getvalue()
    shelf.files["/pip/invented/"] = f'<!DOCTYPE html><a href="{WHEEL}">{WHEEL}</a>'.encode()


def add_tarball(shelf: Shelf, *, host: str = LISTED) -> None:
    """A registry of one package."""
    about = {"name": "invented", "version": "1.0.0", "main": "index.js"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for name, text in (
            ("package.json", json.dumps(about)),
            ("index.js", "module.exports = 'from a registry'"),
        ):
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(text)
            packed.addfile(member, io.BytesIO(text.encode()))
    data = buffer.getvalue()
    digest = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    where = {"tarball": f"https://{host}/npm/invented.tar.gz", "integrity": digest}
    shelf.files["/npm/invented.tar.gz"] = data
    shelf.files["/npm/invented"] = json.dumps(
        {
            "name": "invented",
            "dist-tags": {"latest": "1.0.0"},
            "versions": {"1.0.0": about | {"dist": where}},
        }
    ).encode()


async def test_a_host_that_has_no_ipv4_address_is_reached_by_programs_that_have_no_ipv6() -> None:
    """A worker's own network has no IPv6 at all; the gateway dials what it has looked up."""
    with tempfile.TemporaryDirectory(prefix="shelf-") as name:
        place = pathlib.Path(name)
        place.chmod(0o755)
        shelf = Shelf(place)
        shelf.files["/plain"] = b"from six"
        try:
            plain = await asyncio.start_server(shelf.serve, "::1", 0)
            secret = await asyncio.start_server(shelf.serve, "::1", 0, ssl=shelf.authority.server(LISTED))
        except OSError as error:
            pytest.skip(f"NOT TESTED: this machine has no IPv6: {error}")
        rules = Rules()
        for port, server in ((80, plain), (443, secret)):
            at = server.sockets[0].getsockname()[1]
            rules.allow(LISTED, port, at=at, addresses=("::1",))
        root = shelf.authority.root_file
        script = f"SSL_CERT_FILE={root} {PYTHON} -c '{SIX}' {LISTED} 2>&1"
        async with plain, secret, yard("strict") as here:
            async with await spawn(here, "/bin/sh", "-c", script, readable=(str(root),)) as inmate:
                serve(inmate, rules)
                said = await inmate.read_all()
    assert said.splitlines() == [f"{scheme} {LISTED} from six" for scheme in ("http", "https")], said


SCRIPTS: Final = {
    "git": "GIT_SSL_CAINFO=$ROOT git clone -q https://$HOST/code.git code && cat code/file",
    "python": 'SSL_CERT_FILE=$ROOT $PYTHON -c "$PROGRAM"',
    "pip": "$PYTHON -m pip install $QUIET --cert $ROOT --index-url https://$HOST/pip/ invented && $IMPORT",
    "npm": "npm install $QUIET --cafile=$ROOT --registry=https://$HOST/npm/ invented && $IMPORT",
    "node": 'NODE_EXTRA_CA_CERTS=$ROOT node -e "$PROGRAM"',
}
WORDS: Final = {
    "git": "from a repository",
    "python": "from a server",
    "pip": "from an index",
    "npm": "from a registry",
    "node": "from a server",
}
"""What a script says at its end."""
IMPORTS: Final = {
    "pip": "PYTHONPATH=here $PYTHON -c 'import invented; print(invented.WORDS)'",
    "npm": "node -p \"require('invented')\"",
}
PROGRAMS: Final = {
    "python": "import os, urllib.request as u; print(u.urlopen('https://$HOST/plain').read().decode())",
    "node": "fetch('https://$HOST/plain').then(r => r.text()).then(console.log)",
}
QUIET: Final = {
    "pip": "-q --no-cache-dir --disable-pip-version-check --retries 0 --target here",
    "npm": "--no-audit --no-fund --loglevel=error --fetch-retries=0",
}
NEEDS: Final = {"git": "git", "python": PYTHON, "pip": PYTHON, "npm": "npm", "node": "node"}


def filled(program: str, *, root: str) -> str:
    script = SCRIPTS[program]
    places = {"$IMPORT": IMPORTS, "$PROGRAM": PROGRAMS, "$QUIET": QUIET}
    for place, texts in places.items():
        script = script.replace(place, texts.get(program, ""))
    return script.replace("$PYTHON", PYTHON).replace("$ROOT", root)


def has_pip() -> bool:
    return subprocess.run([PYTHON, "-m", "pip", "-V"], capture_output=True).returncode == 0


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("program", NEEDS)
async def test_a_program_reaches_a_listed_host_and_is_told_of_another(program: str, user: User) -> None:
    if shutil.which(NEEDS[program]) is None:
        pytest.skip(f"NOT TESTED: {NEEDS[program]} is not installed")
    if program == "pip" and not has_pip():
        pytest.skip(f"NOT TESTED: {PYTHON} has no pip")
    with tempfile.TemporaryDirectory(prefix="shelf-") as name:
        place = pathlib.Path(name)
        place.chmod(0o755)
        shelf = Shelf(place)
        shelf.files["/plain"] = b"from a server"
        if program == "git":
            add_repository(shelf, place)
        add_wheel(shelf)
        add_tarball(shelf)
        script = filled(program, root=str(shelf.authority.root_file))
        begun = f"exec 2>&1; HOST={LISTED}; {script} || exit 9"
        both = f"{begun}; cd $HOME; HOST={OTHER}; {script}; echo ended $?"
        async with shelf.running() as rules, yard("strict", user=user) as here:
            readable = (str(shelf.authority.root_file),)
            async with await spawn(here, "/bin/sh", "-c", both, readable=readable) as inmate:
                serve(inmate, rules)
                said = await inmate.read_all()
    second = said.partition(WORDS[program])[2]
    assert second, said
    assert "ended 0" not in second
    assert set(rules.refused) == {(OTHER, 443, "unlisted")}
