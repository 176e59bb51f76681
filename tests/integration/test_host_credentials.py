"""A credential is added to requests of real programs, and to none but those that it is for."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pathlib
import shutil
import ssl
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec
import pytest
import uvloop

from gateway.egress import intercept, pace
from gateway.egress.authority import variables
from gateway.egress.door import DoorKeeper
from gateway.egress.lookup import Lookup
from gateway.principal import Account
from gateway.stores.secrets import SecretName
from tests.certificates import Authority
from tests.credential_host import ANN, HOST, TOKEN, Place, place
from tests.inside import gateway_inside
from tests.integration.test_worker_doors_clients import QUIET, Shelf, add_tarball, add_wheel, has_pip
from tests.patience import soon
from tests.shared import ask, eventually
from tests.walls import PYTHON, USERS, Inmate, User, yard

BEARER: Final = f"Bearer {TOKEN}"
OWN: Final = ("-H", "Authorization: Bearer the-workers-own")


def masked(text: str) -> str:
    return text.replace(TOKEN, "*" * len(TOKEN))


# -- real programs ----------------------------------------------------------------------------------------


async def test_curl_sends_the_credential_in_place_of_its_own_and_does_not_see_it(
    tmp_path: pathlib.Path,
) -> None:
    async with place(tmp_path) as here:
        answer = json.loads(await here.curl("/any/path?q=1", *OWN, "-H", "X-Kept: 1", "--compressed"))
        (seen,) = here.seen
        assert (seen.target, seen.headers["authorization"], seen.headers["x-kept"]) == (
            "/any/path?q=1",
            BEARER,
            "1",
        )
        assert seen.headers["host"] == f"{HOST}:{here.port}"
        assert answer["authorization"] == masked(BEARER)
        assert here.outcomes == ["sent"]
        assert here.dialled[0].addresses == ("127.0.0.1",)


async def test_python_and_node_send_it_too(tmp_path: pathlib.Path) -> None:
    python = textwrap.dedent("""
        import socket, sys, urllib.request
        real = socket.getaddrinfo
        socket.getaddrinfo = lambda host, *rest, **words: real("127.0.0.1", *rest, **words)
        request = urllib.request.Request(sys.argv[1], headers={"Authorization": "own"})
        print(urllib.request.urlopen(request).read().decode())
    """)
    node = textwrap.dedent("""
        const found = [{address: "127.0.0.1", family: 4}];
        require("dns").lookup = (host, options, done) =>
          options.all ? done(null, found) : done(null, "127.0.0.1", 4);
        fetch(process.argv[1], {headers: {authorization: "own"}})
          .then(answer => answer.text()).then(text => console.log(text));
    """)
    async with place(tmp_path) as here:
        for program in ((sys.executable, "-c", python), ("node", "-e", node)):
            answer = json.loads(await here.run(*program, f"{here.url}/path"))
            assert answer["authorization"] == masked(BEARER)
        assert [seen.headers["authorization"] for seen in here.seen] == [BEARER, BEARER]


def made_bare(path: pathlib.Path) -> None:
    """A repository that may be pushed to."""
    for words in (
        ["init", "-q", "--bare", str(path)],
        ["-C", str(path), "config", "http.receivepack", "true"],
    ):
        subprocess.run(["git", *words], check=True)  # noqa: S607


async def test_git_clones_and_pushes_without_knowing_a_password(tmp_path: pathlib.Path) -> None:
    made_bare(tmp_path / "git" / "acme.git")
    (tmp_path / "secret").write_text(f"x:{TOKEN}")
    settings: dict[str, Any] = {"scheme": "Basic", "command": ("cat", str(tmp_path / "secret"))}
    settings["paths"] = ("/git/acme.git/**",)
    async with place(tmp_path, **settings) as here:

        async def git(*words: str, ok: bool = True) -> str:
            resolve = f"http.curloptResolve={HOST}:{here.port}:127.0.0.1"
            who = ("-c", "user.name=a", "-c", "user.email=a@a", "-c", "safe.directory=*")
            return await here.run("git", "-c", resolve, *who, *words, cwd=tmp_path, ok=ok)

        await git("clone", "-q", f"{here.url}/git/acme.git", "work")
        (tmp_path / "work" / "large").write_bytes(os.urandom(3_000_000))
        await git("-C", "work", "add", ".")
        await git("-C", "work", "commit", "-qm", "large")
        await git("-C", "work", "push", "-q", "origin", "HEAD")
        await git("clone", "-q", f"{here.url}/git/acme.git", "again")
        assert (tmp_path / "again" / "large").stat().st_size == 3_000_000
        said = await git("clone", f"{here.url}/git/other.git", "other", ok=False)
        assert "The path is not allowed here: /git/acme.git/**" in said
        assert here.rules.refusals == [(HOST, here.port, "credential")]
    held = [
        path
        for path in (tmp_path / "work").rglob("*")
        if path.is_file() and TOKEN.encode() in path.read_bytes()
    ]
    assert held == []


# -- what is trusted --------------------------------------------------------------------------------------


async def test_openssl_refuses_a_leaf_for_another_host(tmp_path: pathlib.Path) -> None:
    async with place(tmp_path) as here:
        authority = here.interception.authority
        for host, is_good in (
            (HOST, True),
            ("evil.example.test", False),
            (f"evil{HOST}", False),
            ("example.test", False),
        ):
            (tmp_path / "leaf.pem").write_bytes(authority.leaf(host))
            checked = await here.run(
                "openssl", "verify", "-verify_hostname", host, "-CAfile", str(here.bundle),
                str(tmp_path / "leaf.pem"), ok=is_good,
            )  # fmt: skip
            assert is_good or "permitted subtree violation" in checked


async def test_a_host_without_a_credential_keeps_its_real_issuer(tmp_path: pathlib.Path) -> None:
    """The bundle goes on trusting whom the system trusts, and says nothing of the company's own host."""
    other = Authority(tmp_path, "other")
    server = await asyncio.start_server(
        lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=other.server("other.example.test")
    )
    async with place(tmp_path) as here, server:
        port = server.sockets[0].getsockname()[1]
        shown = await here.run(
            "openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "other.example.test",
            "-CAfile", str(here.bundle), "-verify_return_error", ok=False,
        )  # fmt: skip
        assert "other intermediate" in shown
        assert "agent-gateway" not in shown
        shown = await here.run(
            "openssl", "s_client", "-connect", f"127.0.0.1:{here.port}", "-servername", HOST,
            "-CAfile", str(here.bundle), "-verify_return_error", "-brief",
        )  # fmt: skip
        assert "Verification: OK" in shown
    certificates = here.bundle.read_text().count("BEGIN CERTIFICATE")
    assert certificates > 1
    assert here.bundle.stat().st_mode & 0o777 == 0o644
    assert "PRIVATE" not in here.bundle.read_text()


async def test_python_that_is_strict_about_certificates_trusts_it(tmp_path: pathlib.Path) -> None:
    async with place(tmp_path) as here:
        context = ssl.create_default_context(cafile=str(here.bundle))
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        _, writer = await asyncio.open_connection("127.0.0.1", here.port, ssl=context, server_hostname=HOST)
        writer.close()
        await writer.wait_closed()


async def test_a_reload_keeps_what_runs_and_a_worker_trusts_its_own_hosts_only(
    tmp_path: pathlib.Path,
) -> None:
    async with place(tmp_path) as here:
        authority = here.interception.authority
        both = authority.bundle((HOST, "new.example.test"))
        assert both != here.bundle
        (tmp_path / "leaf.pem").write_bytes(authority.leaf("new.example.test"))
        for bundle, is_good in ((both, True), (here.bundle, False)):
            await here.run(
                "openssl", "verify", "-CAfile", str(bundle), str(tmp_path / "leaf.pem"), ok=is_good
            )


async def test_a_host_that_another_authority_vouches_for_is_not_sent_anything(tmp_path: pathlib.Path) -> None:
    async with place(tmp_path, certificate="another.example.test") as here:
        said = await here.curl("/", *OWN, "-w", "%{http_code}")
        assert f"The certificate of {HOST} is not trusted" in said
        assert said.endswith("502")
        assert here.seen == []
        assert here.outcomes == ["failed"]


# -- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "path", "words"),
    [
        (("-X", "DELETE"), "/acme/x", "The method DELETE is not allowed here: GET, POST."),
        (("-X", "TRACE"), "/acme/x", "The method TRACE is not allowed here"),
        ((), "/other", "The path is not allowed here: /acme/**."),
        ((), "/acme/../other", "may be read in two ways"),
        ((), "/acme/%2e%2e/other", "may be read in two ways"),
        ((), "//acme/x", "may be read in two ways"),
        (("-d", "x" * 100_000), "/other", "The path is not allowed here"),
        (("-T", __file__), "/other", "The method PUT is not allowed here"),
    ],
)
async def test_methods_and_paths_that_are_not_listed_get_403_in_words(
    tmp_path: pathlib.Path, arguments: tuple[str, ...], path: str, words: str
) -> None:
    async with place(tmp_path, methods=("GET", "POST"), paths=("/acme/**",)) as here:
        said = await here.curl(path, *arguments, "-w", "%{http_code}")
        assert words in said
        assert said.endswith("403")
        assert here.seen == []
        assert here.rules.refusals == [(HOST, here.port, "credential")]
        assert here.outcomes == ["refused"]
        assert "acme/x" in (await here.curl("/acme/x", "-w", "%{url}"))


GET: Final = f"GET /a HTTP/1.1\r\nHost: {HOST}\r\n"


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("GET /a HTTP/1.1\r\nHost: evil.test\r\n\r\n", 421),
        (f"GET /a HTTP/1.1\r\nHost: {HOST}\r\nHost: evil.test\r\n\r\n", 421),
        ("GET /a HTTP/1.1\r\n\r\n", 421),
        (f"GET https://{HOST}/a HTTP/1.1\r\nHost: {HOST}\r\n\r\n", 403),
        (f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n\r\n", 403),
        (f"GET /a HTTP/1.0\r\nHost: {HOST}\r\n\r\n", 505),
        (f"{GET}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 400),
        (f"{GET}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        (f"{GET}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (f"{GET}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        (f"{GET}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        (f"{GET}A: b\r\n c\r\n\r\n", 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        ("\x16\x03\x01 not HTTP\r\n\r\n", 400),
        (f"{GET}A: {'x' * 70_000}\r\n\r\n", 431),
        (GET + "".join(f"A{number}: b\r\n" for number in range(300)) + "\r\n", 431),
        (f"GET /{'x' * 70_000} HTTP/1.1\r\nHost: {HOST}\r\n\r\n", 431),
    ],
)
async def test_a_request_that_could_be_read_in_two_ways_is_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, request_text: str, status: int
) -> None:
    monkeypatch.setattr(intercept, "CLOSE_SECONDS", 0.2)
    async with place(tmp_path) as here:
        behind = f"{GET}X-Second: 1\r\n\r\n"
        answer = await here.raw((request_text + behind).encode("latin-1"))
        assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer[:200]
        assert answer.count(b"\r\nConnection: close\r\n") == 1
        assert here.seen == []


@pytest.mark.parametrize("begun", ["GET /", f"{GET}A: ", f"{GET}Transfer-Encoding: chunked\r\n\r\n5;"])
async def test_a_line_without_an_end_is_cut_before_it_fills_the_memory(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, begun: str
) -> None:
    monkeypatch.setattr(intercept, "CLOSE_SECONDS", 0.2)
    async with place(tmp_path) as here:
        answer = await here.raw(begun.encode() + b"x" * 8_000_000, pieces=20)
        assert answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 4")) or answer == b""
        await soon(asyncio.gather(*here.serving), 20)


async def test_requests_that_come_together_are_answered_one_after_the_other(tmp_path: pathlib.Path) -> None:
    async with place(tmp_path) as here:
        post = f"POST /p HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 3\r\n\r\nabc"
        pieces_of_body = "3\r\nabc\r\n1\r\nd\r\n0\r\nA: b\r\n\r\n"
        chunked = f"PUT /c HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n{pieces_of_body}"
        head = f"HEAD /h HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
        last = f"{GET}Connection: close\r\n\r\n"
        for pieces in (1, 40):
            here.seen.clear()
            answer = await here.raw((f"{GET}\r\n" + post + chunked + head + last).encode(), pieces=pieces)
            assert answer.count(b"HTTP/1.1 200 ") == 5
            assert [(seen.method, seen.size) for seen in here.seen] == [
                *(("GET", 0), ("POST", 3), ("PUT", 4), ("HEAD", 0), ("GET", 0)),
            ]
            assert all(seen.headers["authorization"] == BEARER for seen in here.seen)
        dialled = len(here.dialled)
        assert dialled < 10, "GETs use a connection again"


async def test_a_redirect_and_cookies_come_back_and_the_credential_does_not(tmp_path: pathlib.Path) -> None:
    async with place(tmp_path) as here:
        said = await here.curl("/cookie", "-i")
        assert said.startswith("HTTP/1.1 302")
        assert "Location: https://elsewhere.test/" in said
        assert "Set-Cookie: a=b" in said
        assert "Alt-Svc" not in said
        assert f"X-Quoted: token {masked(TOKEN)}" in said
        assert await here.curl("/stream") == masked(TOKEN) + " end"
        assert len(here.seen) == 2


# -- where the value comes from ---------------------------------------------------------------------------


async def test_a_new_value_in_the_file_holds_for_the_next_request(tmp_path: pathlib.Path) -> None:
    async with place(tmp_path, header="X-Api-Key", scheme="raw") as here:
        await here.curl("/a", *OWN)
        (tmp_path / "value").write_text("another-value-0123")
        await here.curl("/a", "-H", "X_API_KEY: own")
        assert [seen.headers["x-api-key"] for seen in here.seen] == [TOKEN, "another-value-0123"]
        assert here.seen[0].headers["authorization"] == "Bearer the-workers-own"
        (tmp_path / "value").unlink()
        said = await here.curl("/a", "-w", "%{http_code}")
        assert "cannot read the credential forge" in said
        assert said.endswith("403")


async def test_a_command_is_asked_once_and_again_if_the_host_refuses_its_value(
    tmp_path: pathlib.Path,
) -> None:
    log = tmp_path / "asked"
    command = f"sh -c 'echo x >> {log}; echo value-of-a-command'"
    async with place(tmp_path, command=command) as here:
        await asyncio.gather(*(here.curl("/a") for _ in range(3)))
        assert log.read_text() == "x\n"
        assert here.seen[0].headers["authorization"] == "Bearer value-of-a-command"
        await here.curl("/denied")
        await here.curl("/a")
        assert log.read_text() == "x\nx\n"


@pytest.mark.parametrize(
    "command", ["sh -c 'echo secret; exit 3'", "/nowhere/command", "true", "printf 'a\\nb'"]
)
async def test_a_command_that_fails_is_said_without_what_it_printed(
    tmp_path: pathlib.Path, command: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with place(tmp_path, command=command) as here:
        said = await here.curl("/a", "-w", "%{http_code}")
        assert "its log says why" in said
        assert said.endswith("403")
        assert "secret" not in said + caplog.text
        assert "credentials.forge" in caplog.text


async def test_a_persons_value_is_theirs_alone(tmp_path: pathlib.Path) -> None:
    async with place(tmp_path, per="person") as here:
        said = await here.curl("/a")
        assert "PUT /api/me/keys/forge" in said
        await here.vault.set(SecretName("credential", "acme/eve", "forge"), "eves-own-value-1")
        assert "PUT /api/me/keys/forge" in await here.curl("/a")
        await here.vault.set(SecretName("credential", "acme/ann", "forge"), "anns-own-value-1")
        await here.curl("/a")
        assert [seen.headers["authorization"] for seen in here.seen] == ["Bearer anns-own-value-1"]


async def test_a_tenants_value_is_its_own(tmp_path: pathlib.Path) -> None:
    async with place(tmp_path, per="tenant", account=Account("beta/ann", "s", agent="coder")) as here:
        await here.vault.set(SecretName("credential", "acme", "forge"), "of-acme-0123456")
        assert "PUT /api/admin/tenants/beta/keys/forge" in await here.curl("/a")
        await here.vault.set(SecretName("credential", "beta", "forge"), "of-beta-0123456")
        await here.curl("/a")
        assert [seen.headers["authorization"] for seen in here.seen] == ["Bearer of-beta-0123456"]


async def test_a_credential_that_a_reload_takes_away_ends_at_the_next_request(tmp_path: pathlib.Path) -> None:
    async with place(tmp_path) as here:
        context = ssl.create_default_context(cafile=str(here.bundle))
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", here.port, ssl=context, server_hostname=HOST
        )
        request = f"GET /a HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
        writer.write(request)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        here.configs.append(msgspec.structs.replace(here.configs[0], agents={}))
        writer.write(request)
        assert b"is not for this session any more" in await reader.read(-1)
        writer.close()
        assert len(here.seen) == 1


async def test_a_companys_certificates_that_are_gone_are_said(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with place(tmp_path) as here:
        (tmp_path / "company-root.pem").unlink()
        assert "its log says why" in await here.curl("/a")
        assert "credentials.forge.ca_file" in caplog.text
        assert here.dialled == []


# -- bodies, and bad days ---------------------------------------------------------------------------------


async def test_large_bodies_pass_both_ways_and_are_counted(tmp_path: pathlib.Path) -> None:
    size = 20 * 1024 * 1024
    (tmp_path / "large").write_bytes(b"x" * size)
    async with place(tmp_path) as here:
        await here.curl("/up", "-T", str(tmp_path / "large"))
        await here.curl("/up", "-T", str(tmp_path / "large"), "-H", "Transfer-Encoding: chunked")
        assert [seen.size for seen in here.seen] == [size, size]
        await here.curl(f"/large?size={size}", "-o", str(tmp_path / "down"))
        assert (tmp_path / "down").stat().st_size == size
        assert here.rules.sent > 2 * size
        assert here.rules.received > size


async def test_a_session_that_has_used_up_its_bytes_is_cut(tmp_path: pathlib.Path) -> None:
    async with place(tmp_path) as here:
        here.rules.limit = 1_000_000
        await here.curl("/large?size=20971520", "-o", "/dev/null", ok=False)
        assert here.rules.received < 2_000_000
        await soon(asyncio.gather(*here.serving), 20)


async def test_the_host_hears_at_once_that_the_worker_is_gone(tmp_path: pathlib.Path) -> None:
    gone, begun = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        begun.set()
        assert await reader.read(1) == b""
        gone.set()
        writer.close()

    async with place(tmp_path, serve) as here:
        context = ssl.create_default_context(cafile=str(here.bundle))
        _, writer = await asyncio.open_connection("127.0.0.1", here.port, ssl=context, server_hostname=HOST)
        writer.write(f"{GET}\r\n".encode())
        await soon(begun.wait(), 10)
        writer.transport.abort()
        await soon(gone.wait(), 10)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "closed the connection without an answer"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "502"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "not supported here"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n" * 3, "502"),
        (b"nonsense\r\n\r\n", "is not HTTP as it should be"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 200_000 + b"\r\n\r\n", "is not HTTP as it should be"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, "early answers without end"),
    ],
)
async def test_a_host_that_answers_oddly_is_502_in_words(
    tmp_path: pathlib.Path, answer: bytes, words: str
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await asyncio.sleep(0)
        writer.close()

    async with place(tmp_path, serve) as here:
        said = await here.curl("/a", "-w", "%{http_code}")
        assert words in said
        assert said.endswith("502")
        assert here.outcomes == ["failed"]


async def test_an_answer_that_is_cut_is_not_taken_for_whole(tmp_path: pathlib.Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
        writer.close()

    async with place(tmp_path, serve) as here:
        assert "curl: (" in await here.curl("/a", ok=False)


async def test_early_answers_pass_by_and_one_without_an_end_is_given_one(tmp_path: pathlib.Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nuntil the end")
        writer.close()

    async with place(tmp_path, serve) as here:
        assert await here.curl("/a") == "until the end"


async def test_a_connection_that_the_host_closed_meanwhile_is_made_anew(tmp_path: pathlib.Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with place(tmp_path, serve) as here:
        answer = await here.raw(f"{GET}\r\n{GET}Connection: close\r\n\r\n".encode())
        assert answer.count(b"HTTP/1.1 200 OK") == 2
        assert len(here.dialled) == 2


async def test_a_host_that_refuses_before_the_body_is_there_is_heard(tmp_path: pathlib.Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 9\r\nConnection: close\r\n\r\ntoo large")
        await writer.drain()
        while await reader.read(65_536):
            pass
        writer.close()

    (tmp_path / "large").write_bytes(b"x" * 5_000_000)
    async with place(tmp_path, serve) as here:
        said = await here.curl("/up", "-T", str(tmp_path / "large"), "-i")
        assert "413 Too Large" in said
        assert "too large" in said


async def test_a_program_that_does_not_trust_the_authority_sends_nothing(tmp_path: pathlib.Path) -> None:
    async with place(tmp_path) as here:
        assert "certificate" in await here.curl(
            "/a", "--cacert", "/etc/ssl/certs/ca-certificates.crt", ok=False
        )
        assert here.seen == []


# -- in the product ---------------------------------------------------------------------------------------

SCRIPT: Final = """
cd $HOME
curl -sS -m 20 https://{host}/a -H 'Authorization: own' > curl 2>&1
{python} -c "import urllib.request as u; print(u.urlopen('https://{host}/b').read().decode())" > python 2>&1
curl -sS -m 20 -X DELETE https://{host}/c > refused 2>&1
(echo x >> $SSL_CERT_FILE) 2> written
env > environ
mv written done
"""


TOOLS: Final = """
cd $HOME
git clone -q https://{host}/git/acme.git work 2>&1 && echo cloned
cd work && echo x > file && git add file && git -c user.name=a -c user.email=a@a commit -qm x
git push -q origin HEAD 2>&1 && echo pushed
curl -sS https://{host}/curl
node -e 'fetch("https://{host}/node").then(answer => answer.text()).then(text => console.log(text))'
{python} -c "import urllib.request as u; print(u.urlopen('https://{host}/python').read().decode())"
"""


@pytest.mark.parametrize("user", USERS)
async def test_git_curl_node_and_python_in_a_worker_know_no_credential(user: User) -> None:
    with tempfile.TemporaryDirectory(prefix="credential-") as name:
        directory = pathlib.Path(name)
        directory.chmod(0o755)
        made_bare(directory / "git" / "acme.git")
        (directory / "secret").write_text(f"x:{TOKEN}")
        command = ("cat", str(directory / "secret"))
        async with (
            place(directory, scheme="Basic", command=command) as here,
            yard("strict", user=user) as walls,
        ):
            request = walls.request("/bin/sh", "-c", TOOLS.format(host=HOST, python=PYTHON), network="broker")
            sandbox = request.sandbox
            request = msgspec.structs.replace(
                request,
                env=request.env | variables(here.bundle),
                sandbox=msgspec.structs.replace(sandbox, readable=(*sandbox.readable, str(here.bundle))),
            )
            async with Inmate(await walls.spawner.spawn(request)) as inmate:
                assert inmate.worker.doors is not None
                keeper = DoorKeeper(interceptors=here.interception.of)
                keeper.open(inmate.worker.doors, ANN, here.rules)
                said = await inmate.read_all() + inmate.worker.stderr_tail()
        pair = base64.b64encode(f"x:{TOKEN}".encode()).decode()
        assert "cloned" in said, said
        assert "pushed" in said, said
        pages = [seen for seen in here.seen if not seen.target.startswith("/git/")]
        assert [seen.target for seen in pages] == ["/curl", "/node", "/python"], said
        assert all(seen.headers["authorization"] == f"Basic {pair}" for seen in here.seen)
        assert TOKEN not in said
        assert pair not in said


INSTALLS: Final = {
    "pip": f"{PYTHON} -m pip install {QUIET['pip']} --index-url https://{HOST}/pip/ invented"
    f" && PYTHONPATH=here {PYTHON} -c 'import invented; print(invented.WORDS)'",
    "npm": f"npm install {QUIET['npm']} --registry=https://{HOST}/npm/ invented"
    " && node -p \"require('invented')\"",
}


@pytest.mark.parametrize("program", INSTALLS)
async def test_pip_and_npm_in_a_worker_install_from_a_host_with_a_credential(program: str) -> None:
    """With none of their own settings for certificates, and no password in any of them."""
    if shutil.which("npm") is None:
        pytest.skip("NOT TESTED: npm is not installed")
    if program == "pip" and not has_pip():
        pytest.skip(f"NOT TESTED: {PYTHON} has no pip")
    with tempfile.TemporaryDirectory(prefix="credential-") as name:
        directory = pathlib.Path(name)
        directory.chmod(0o755)
        shelf = Shelf(directory)
        add_wheel(shelf)
        add_tarball(shelf, host=HOST)
        script = (
            f"exec 2>&1; cd $HOME; {INSTALLS[program]}; echo ended $?; cat ~/.npmrc ~/.config/pip/pip.conf"
        )
        async with place(directory, serve=shelf.serve) as here, yard("strict") as walls:
            request = walls.request("/bin/sh", "-c", script, network="broker")
            readable = (*request.sandbox.readable, str(here.bundle))
            request = msgspec.structs.replace(
                request,
                env=request.env | variables(here.bundle),
                sandbox=msgspec.structs.replace(request.sandbox, readable=readable),
            )
            async with Inmate(await walls.spawner.spawn(request)) as inmate:
                assert inmate.worker.doors is not None
                DoorKeeper(interceptors=here.interception.of).open(inmate.worker.doors, ANN, here.rules)
                said = await inmate.read_all()
    assert f"{'from an index' if program == 'pip' else 'from a registry'}\nended 0" in said, said
    assert len(shelf.asked) >= 2, "the index and the package"
    assert {shown for _, shown in shelf.asked} == {BEARER}
    assert TOKEN not in said


async def test_a_worker_is_served_at_its_share_of_the_loops_time(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if each request cost 20 ms: of a second, a fifth is the worker's, and a quarter of a second is a
    burst.
    """
    monkeypatch.setattr(pace, "REQUEST_SECONDS", 0.02)
    async with place(tmp_path) as here:
        began = time.monotonic()
        await here.curl("/last", *(f"{here.url}/{number}" for number in range(19)))
        passed = time.monotonic() - began
        assert len(here.seen) == 20
    assert 20 * 0.02 <= pace.BURST_SECONDS + passed * pace.SHARE


async def test_a_worker_uses_a_credential_that_it_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="credential-") as name:
        directory = pathlib.Path(name)
        directory.chmod(0o755)
        async with place(directory) as here:
            await _check_worker(directory, here, monkeypatch)


async def _check_worker(directory: pathlib.Path, here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    script = SCRIPT.format(host=HOST, python=PYTHON)
    scenario = {"turns": [[{"spawn": ["/bin/sh", "-c", script]}, {"say": "begun"}]]}
    config = f"""
    [workers]
    network = "broker"
    sandbox = "strict"
    [egress]
    hosts = ["{HOST}"]
    private_hosts = ["{HOST}"]
    [credentials.forge]
    hosts = ["{HOST}"]
    methods = ["GET"]
    value_file = "{directory / "value"}"
    ca_file = "{directory / "company-root.pem"}"
    [tenants.default]
    credentials = ["forge"]
    """
    async with gateway_inside(directory, config=config, agents={"fetches": scenario}) as gateway:
        services = gateway.inner.services
        monkeypatch.setattr(services.egress.addresses, "_lookup", Lookup(lambda _host, _port: ["127.0.0.1"]))
        services.workers.interception.dial = here.interception.dial
        await gateway.post("/api/sessions", {"session_id": "a", "agent": "fetches"}, status=201)
        await gateway.send("a", "go")
        homes = gateway.data_path / "sessions"

        async def is_done() -> bool:
            return any(homes.glob("*/home/done"))

        await eventually(is_done, seconds=40)
        (home,) = homes.glob("*/home")
        said = {path.name: path.read_text() for path in home.iterdir() if path.is_file()}
        assert json.loads(said["curl"])["authorization"] == masked(BEARER)
        assert json.loads(said["python"])["authorization"] == masked(BEARER)
        assert "The method DELETE is not allowed here: GET." in said["refused"]
        assert "Read-only" in said["done"] or "denied" in said["done"] or "Permission" in said["done"]
        assert [seen.headers["authorization"] for seen in here.seen] == [BEARER, BEARER]
        environ = dict(line.split("=", 1) for line in said["environ"].splitlines() if "=" in line)
        assert environ["NODE_EXTRA_CA_CERTS"] == environ["SSL_CERT_FILE"]
        held = [path for path in home.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
        assert held == []
        assert TOKEN not in said["environ"] + gateway.log() + str(await gateway.state("a"))
        (denied,) = (await gateway.state("a"))["egress"]["denied"]
        assert (denied["host"], denied["why"]) == (HOST, "credential")
        (session,) = gateway.inner.manager.sessions()
        new = '[credentials.new]\nhosts = ["new.example.test"]\ncommand = "true"\n'
        (directory / "config.toml").write_text(
            new + (directory / "config.toml").read_text().replace('["forge"]', '["forge", "new"]')
        )
        assert "credentials.new.hosts" in gateway.inner.reload().changed
        assert session._credential_of(HOST, 443) == "forge"
        assert session._credential_of("new.example.test", 443) == "", (
            "its agent does not trust the gateway for it"
        )
        scraped = await ask(gateway.http, "GET", "/metrics")
        for outcome, count in (("sent", 2), ("refused", 1)):
            line = (
                f'agent_gateway_credential_requests_total{{credential="forge",outcome="{outcome}"}} {count}'
            )
            assert line in scraped.body


# -- the product's loop -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scenario",
    [
        test_curl_sends_the_credential_in_place_of_its_own_and_does_not_see_it,
        test_requests_that_come_together_are_answered_one_after_the_other,
        test_large_bodies_pass_both_ways_and_are_counted,
        test_the_host_hears_at_once_that_the_worker_is_gone,
        test_a_host_that_refuses_before_the_body_is_there_is_heard,
        test_a_session_that_has_used_up_its_bytes_is_cut,
        test_a_program_that_does_not_trust_the_authority_sends_nothing,
    ],
)
def test_the_same_on_the_loop_of_the_product(
    tmp_path: pathlib.Path, scenario: Callable[[pathlib.Path], Coroutine[Any, Any, None]]
) -> None:
    uvloop.run(scenario(tmp_path))
