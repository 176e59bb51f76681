"""Files in: uploads, whole and in parts, and everything that goes wrong with them."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pathlib
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final
from urllib.parse import quote, urlsplit

import aiohttp
import pytest

from gateway.files.upload_names import PARTIAL_PREFIX
from tests.inside import GatewayInside, gateway_inside
from tests.shared import SHARED, Answer, eventually, fresh_id, shared_gateway

pytestmark = SHARED

CAP_SYS_ADMIN: Final = 21
MOUNT: Final = shutil.which("mount") or "mount"
UMOUNT: Final = shutil.which("umount") or "umount"
PNG: Final = b"\x89PNG\r\n\x1a\n" + b"\0" * 40
CONFIG: Final = """
[workers]
disk_bytes = 8_000_000
[files]
file_bytes = 3_000_000
request_bytes = 4_000_000
files_per_request = 3
upload_silence_seconds = {silence}
"""
gateway = shared_gateway(CONFIG.format(silence=120))


async def session(gateway: GatewayInside) -> str:
    """A new session, which has no directories."""
    session_id = fresh_id("files")
    await gateway.post("/api/sessions", {"session_id": session_id}, status=201)
    return session_id


def work(gateway: GatewayInside, session_id: str) -> pathlib.Path:
    """Its working directory."""
    found = gateway.inner.manager.get("default/local", session_id)
    assert found is not None
    return pathlib.Path(found.place.work)


def partials(folder: pathlib.Path) -> list[str]:
    return [path.name for path in folder.rglob(PARTIAL_PREFIX + "*")]


async def said(response: aiohttp.ClientResponse) -> Answer:
    return Answer(response.status, await response.json(), response.headers)


async def put(gateway: GatewayInside, session_id: str, path: str, data: Any, **headers: str) -> Answer:
    url = f"/api/sessions/{session_id}/files/content?path={quote(path, safe='')}"
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    body = io.BytesIO(data) if isinstance(data, bytes) else data
    async with gateway.http.put(url, data=body, headers=sent) as response:
        return await said(response)


async def form(gateway: GatewayInside, session_id: str, *files: tuple[str, bytes]) -> Answer:
    """Uploads files as a browser does: the name as it is, in UTF-8."""
    body = b""
    for name, data in files:
        raw = name.encode("utf-8", "surrogateescape").replace(b'"', b"%22")
        body += b'--X\r\nContent-Disposition: form-data; name="file"; filename="' + raw + b'"\r\n'
        body += b"Content-Type: image/png\r\n\r\n" + data + b"\r\n"
    return await raw_form(gateway, session_id, body + b"--X--\r\n")


async def raw_form(gateway: GatewayInside, session_id: str, body: bytes) -> Answer:
    headers = {"Content-Type": "multipart/form-data; boundary=X"}
    url = f"/api/sessions/{session_id}/uploads"
    async with gateway.http.post(url, data=io.BytesIO(body), headers=headers) as response:
        return await said(response)


async def arrived(gateway: GatewayInside, session_id: str, path: str, size: int) -> int:
    query = f"path={quote(path, safe='')}&size={size}"
    return int((await gateway.get(f"/api/sessions/{session_id}/uploads?{query}"))["received"])


async def test_a_file_is_stored_as_the_sessions_user_without_a_worker(gateway: GatewayInside) -> None:
    name = await session(gateway)
    before = len(gateway.workers())
    data = os.urandom(2_500_000)
    answer = await put(gateway, name, "src/deep/data.bin", data)
    assert answer.status == 200, answer.body
    assert answer.body["is_whole"]
    assert answer.body["size"] == len(data)
    file = work(gateway, name) / "src/deep/data.bin"
    assert file.read_bytes() == data
    assert file.stat().st_uid == work(gateway, name).stat().st_uid
    assert os.geteuid() != 0 or file.stat().st_uid != 0
    assert len(gateway.workers()) == before
    assert partials(work(gateway, name)) == []


async def test_a_file_replaces_another_whole_and_keeps_its_mode(gateway: GatewayInside) -> None:
    name = await session(gateway)
    first = await put(gateway, name, "run.sh", b"#!/bin/sh\necho one\n")
    file = work(gateway, name) / "run.sh"
    file.chmod(0o755)
    assert (await put(gateway, name, "run.sh", b"two", If_None_Match="*")).status == 412
    assert (await put(gateway, name, "run.sh", b"two", If_Match='"other"')).status == 412
    assert (await put(gateway, name, "none.sh", b"two", If_Match="*")).status == 412
    second = await put(gateway, name, "run.sh", b"two", If_Match=first.body["etag"])
    assert second.status == 200
    assert second.body["etag"] != first.body["etag"]
    assert file.read_bytes() == b"two"
    assert file.stat().st_mode & 0o777 == 0o755
    assert partials(work(gateway, name)) == []


async def test_an_upload_in_parts_goes_on_where_it_ended(gateway: GatewayInside) -> None:
    name = await session(gateway)
    data, path = os.urandom(300_000), "big.bin"
    half = await put(gateway, name, path, data[:100_000], Content_Range="bytes 0-99999/300000")
    assert (half.status, half.body["is_whole"], half.body["received"]) == (200, False, 100_000)
    assert not (work(gateway, name) / path).exists()
    assert await arrived(gateway, name, path, 300_000) == 100_000
    ahead = await put(gateway, name, path, data[200_000:], Content_Range="bytes 200000-299999/300000")
    assert (ahead.status, ahead.code) == (409, "upload_elsewhere")
    assert "100000 bytes" in ahead.body["error"]["message"]
    overlap = await put(gateway, name, path, data[50_000:200_000], Content_Range="bytes 50000-199999/300000")
    assert overlap.body["received"] == 200_000
    last = await put(gateway, name, path, data[200_000:], Content_Range="bytes 200000-299999/300000")
    assert last.body["is_whole"]
    assert (work(gateway, name) / path).read_bytes() == data
    assert partials(work(gateway, name)) == []


@pytest.mark.parametrize("text", ["bytes 5-2/10", "bytes 0-9/9", "bytes */10", "5-9/10", "bytes 0-2/*"])
async def test_a_range_that_is_none_is_refused(gateway: GatewayInside, text: str) -> None:
    name = await session(gateway)
    assert (await put(gateway, name, "a", b"123", Content_Range=text)).status == 400


async def test_a_body_that_is_not_as_long_as_its_range_says(gateway: GatewayInside) -> None:
    name = await session(gateway)
    longer = await put(gateway, name, "a", b"12345", Content_Range="bytes 0-2/10")
    assert longer.status == 400
    assert not (work(gateway, name) / "a").exists()
    shorter = await put(gateway, name, "b", b"12", Content_Range="bytes 0-9/10")
    assert (shorter.status, shorter.code) == (400, "upload_cut")
    assert await arrived(gateway, name, "b", 10) == 2


async def raw_put(gateway: GatewayInside, session_id: str, head: str, body: bytes) -> socket.socket:
    """A PUT whose body ends early."""
    url = urlsplit(gateway.url)
    sock = socket.create_connection((str(url.hostname), int(url.port or 0)))
    path = f"/api/sessions/{session_id}/files/content?path=cut.bin"
    sock.sendall(f"PUT {path} HTTP/1.1\r\nHost: {url.netloc}\r\n{head}\r\n\r\n".encode() + body)
    return sock


async def test_a_cut_upload_leaves_what_can_go_on_and_nothing_else(gateway: GatewayInside) -> None:
    name = await session(gateway)
    sock = await raw_put(gateway, name, "Content-Length: 500000", b"x" * 200_000)

    async def has_come() -> bool:
        return await arrived(gateway, name, "cut.bin", 500_000) > 0 or work(gateway, name).exists()

    await eventually(has_come)
    sock.close()

    async def is_kept() -> bool:
        return await arrived(gateway, name, "cut.bin", 500_000) == 200_000

    await eventually(is_kept)
    rest = await put(gateway, name, "cut.bin", b"y" * 300_000, Content_Range="bytes 200000-499999/500000")
    assert rest.body["is_whole"], rest.body
    assert (work(gateway, name) / "cut.bin").read_bytes() == b"x" * 200_000 + b"y" * 300_000
    assert partials(work(gateway, name)) == []
    sock = await raw_put(gateway, name, "Transfer-Encoding: chunked", b"5\r\nhello\r\n")
    sock.close()

    async def is_over() -> bool:
        uploads = gateway.inner.sessions.services.uploads
        return not uploads._requests and partials(work(gateway, name)) == []

    await eventually(is_over)


async def test_the_same_upload_twice_at_once_ends_as_one_file(gateway: GatewayInside) -> None:
    name = await session(gateway)
    data = os.urandom(400_000)
    arriving = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield data[:200_000]
        await arriving.wait()
        yield data[200_000:]

    whole = "bytes 0-399999/400000"
    first = asyncio.create_task(put(gateway, name, "twice.bin", slow(), Content_Range=whole))
    uploads = gateway.inner.sessions.services.uploads

    async def has_begun() -> bool:
        return bool(uploads._running)

    await eventually(has_begun)
    second = await put(gateway, name, "twice.bin", data, Content_Range=whole)
    assert second.body["is_whole"]
    arriving.set()
    assert ((await first).status, (await first).code) == (409, "upload_elsewhere")
    assert (work(gateway, name) / "twice.bin").read_bytes() == data
    assert partials(work(gateway, name)) == []


async def test_chunks_without_a_length_are_stored_up_to_the_limit(gateway: GatewayInside) -> None:
    name = await session(gateway)

    async def pieces(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"z" * 100_000

    assert (await put(gateway, name, "chunked", pieces(5))).body["size"] == 500_000
    refused = await put(gateway, name, "endless", pieces(35))
    assert (refused.status, refused.code) == (413, "file_too_large")
    assert "2.86 MB" in refused.body["error"]["message"]
    assert [path.name for path in work(gateway, name).iterdir()] == ["chunked"]


async def test_a_file_that_is_said_to_be_too_large_is_refused_before_it_comes(gateway: GatewayInside) -> None:
    name = await session(gateway)
    sock = await raw_put(gateway, name, "Content-Length: 3000001", b"")
    answer = await asyncio.to_thread(sock.recv, 4096)
    sock.close()
    assert b"413" in answer.split(b"\r\n")[0]
    assert not work(gateway, name).exists()


NAMES: Final = {
    "../x": "x",
    "..\\..\\x.txt": "x.txt",
    "/etc/passwd": "passwd",
    "a\x01b.txt": "a_b.txt",
    "CON": "_CON",
    "com1.txt": "_com1.txt",
    "n" * 300 + ".png": "n" * 196 + ".png",
    "ש" * 300 + ".pdf": "ש" * 98 + ".pdf",
    "caf\udce9.txt": "caf_.txt",
    "exe.\u202egpj.txt": "exe.gpj.txt",
    ".env": ".env",
    "..": "file",
    " spaced .txt ": "spaced .txt",
    "dots...": "dots",
    'what"is<this>?.md': "what_is_this__.md",
    PARTIAL_PREFIX + "1": "_" + PARTIAL_PREFIX + "1",
}


async def test_a_wished_name_becomes_one_that_can_be_stored(gateway: GatewayInside) -> None:
    name = await session(gateway)
    for wished, stored in NAMES.items():
        answer = await form(gateway, name, (wished, b"content"))
        assert answer.status == 201, (wished, answer.body)
        assert [file["path"] for file in answer.body["files"]] == [f"uploads/{stored}"], wished
    assert {path.name for path in (work(gateway, name) / "uploads").iterdir()} == set(NAMES.values())
    assert [path.name for path in work(gateway, name).iterdir()] == ["uploads"]


BAD_PATHS: Final = (
    *(
        "",
        "/",
        "a/",
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a\0b",
        "a\nb",
        "n" * 256,
        "\u202egpj.exe",
        " a",
        "a ",
    ),
    *("x/" * 2500, PARTIAL_PREFIX + "1", "caf\ufffd"),
)


async def test_a_path_that_leads_elsewhere_is_refused_in_words(gateway: GatewayInside) -> None:
    name = await session(gateway)
    for path in BAD_PATHS:
        answer = await put(gateway, name, path, b"x")
        assert (answer.status, answer.code) == (400, "bad_file_name"), path
        assert answer.body["error"]["message"].endswith((".", "whole."))
    url = f"/api/sessions/{name}/files/content?path=caf%E9"
    async with gateway.http.put(url, data=b"x") as response:
        assert response.status == 400
    assert not work(gateway, name).exists()


async def test_files_of_one_name_keep_apart_and_their_type_is_what_they_are(gateway: GatewayInside) -> None:
    name = await session(gateway)
    first = await form(
        gateway, name, ("image.png", PNG), ("image.png", b"MZ\x90 no picture"), ("a.md", b"# a")
    )
    second = await form(gateway, name, ("image.png", PNG + b"2"))
    files = first.body["files"] + second.body["files"]
    assert [(file["path"], file["media_type"]) for file in files] == [
        ("uploads/image.png", "image/png"),
        ("uploads/image (2).png", "application/vnd.microsoft.portable-executable"),
        ("uploads/a.md", "text/markdown"),
        ("uploads/image (3).png", "image/png"),
    ]
    assert (work(gateway, name) / "uploads/image.png").read_bytes() == PNG
    async with gateway.http.get(f"/api/sessions/{name}/uploads/image.png") as shown:
        assert (shown.status, shown.content_type, await shown.read()) == (200, "image/png", PNG)
        assert shown.headers["Content-Security-Policy"].startswith("sandbox")
        assert shown.headers["Content-Disposition"].startswith("inline")
    for other in ("image (2).png", "a.md"):
        async with gateway.http.get(f"/api/sessions/{name}/uploads/{quote(other)}") as saved:
            assert (saved.status, saved.content_type) == (200, "application/octet-stream")
            assert saved.headers["Content-Disposition"].startswith("attachment")
            assert saved.headers["X-Content-Type-Options"] == "nosniff"
    async with gateway.http.get(f"/api/sessions/{name}/uploads/none.png") as missing:
        assert missing.status == 404
    key = gateway.inner.manager.get("default/local", name)
    assert key is not None
    audit = (gateway.data_path / "audit.jsonl").read_text().splitlines()
    lines = [json.loads(line)["action"] for line in audit if key.record.key in line]
    served = ["file.previewed", "file.downloaded", "file.downloaded"]
    assert [action for action in lines if action in served] == served


async def test_a_form_is_stored_whole_or_not_at_all(gateway: GatewayInside) -> None:
    name = await session(gateway)
    part = b'--X\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n'
    cut = await raw_form(gateway, name, part + b"hello\r\n" + part + b"never ends")
    assert (cut.status, cut.code) == (400, "upload_cut")
    many = await form(gateway, name, *[("a", b"1")] * 4)
    assert (many.status, many.code) == (413, "body_too_large")
    large = await form(gateway, name, ("small", b"1"), ("large", b"2" * 3_000_001))
    assert (large.status, large.code) == (413, "file_too_large")
    for body in (b"", b"--X--\r\n", b"no boundary", part.replace(b'; filename="a"', b"") + b"x\r\n--X--\r\n"):
        assert (await raw_form(gateway, name, body)).status == 400
    async with gateway.http.post(f"/api/sessions/{name}/uploads", json={}) as response:
        assert response.status == 415
    empty = await form(gateway, name, ("empty.txt", b""))
    assert empty.body["files"][0]["size"] == 0
    assert [path.name for path in (work(gateway, name) / "uploads").iterdir()] == ["empty.txt"]


async def test_an_archive_is_stored_and_not_unpacked(gateway: GatewayInside) -> None:
    name = await session(gateway)
    bomb = b"PK\x03\x04" + b"\0" * 1000
    answer = await form(gateway, name, ("bomb.zip", bomb))
    assert answer.body["files"][0]["media_type"] == "application/zip"
    assert [path.name for path in (work(gateway, name) / "uploads").iterdir()] == ["bomb.zip"]


def _plant(kind: str, path: pathlib.Path, outside: pathlib.Path) -> None:
    match kind:
        case "link":
            path.symlink_to(outside)
        case "dangling":
            path.symlink_to(outside / "new")
        case "fifo":
            os.mkfifo(path)
        case "socket":
            folder = os.open(path.parent, os.O_PATH)
            with socket.socket(socket.AF_UNIX) as sock:  # whose name may not be as long as a path
                sock.bind(f"/proc/self/fd/{folder}/{path.name}")
            os.close(folder)
        case "folder":
            path.mkdir()


@pytest.fixture
def outside(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    secret = tmp_path / "outside"
    secret.mkdir()
    (secret / "secret").write_text("secret")
    yield secret
    assert [path.name for path in secret.iterdir()] == ["secret"]
    assert (secret / "secret").read_text() == "secret"


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "socket", "folder"])
async def test_what_the_agent_planted_is_neither_followed_nor_replaced(
    gateway: GatewayInside, outside: pathlib.Path, kind: str
) -> None:
    name = await session(gateway)
    await put(gateway, name, "first", b"1")
    here = work(gateway, name)
    _plant(kind, here / "target", outside)
    answer = await put(gateway, name, "target", b"2")
    assert (answer.status, answer.code) == (409, "file_in_the_way"), answer.body
    if kind == "link":
        assert (await put(gateway, name, "target/secret", b"2")).status == 409
    if kind != "folder":
        os.rename(here / "target", here / "uploads")
        answer = await form(gateway, name, ("a.png", PNG))
        assert (answer.status, answer.code) == (409, "file_in_the_way"), answer.body
        async with gateway.http.get(f"/api/sessions/{name}/uploads/secret") as response:
            assert response.status == 404
    assert partials(here) == []


async def test_a_beginning_that_is_no_file_any_more_is_begun_anew(
    gateway: GatewayInside, outside: pathlib.Path
) -> None:
    name = await session(gateway)
    await put(gateway, name, "a", b"12", Content_Range="bytes 0-1/4")
    here = work(gateway, name)
    (partial,) = partials(here)
    (here / partial).unlink()
    (here / partial).symlink_to(outside / "secret")
    answer = await put(gateway, name, "a", b"34", Content_Range="bytes 2-3/4")
    assert (answer.status, answer.code) == (409, "upload_elsewhere")
    answer = await put(gateway, name, "a", b"1234", Content_Range="bytes 0-3/4")
    assert answer.body["is_whole"]
    assert (here / "a").read_bytes() == b"1234"


async def test_a_foreign_or_unknown_session_takes_nothing(gateway: GatewayInside) -> None:
    for answer in (await put(gateway, "nobody", "a", b"1"), await form(gateway, "nobody", ("a", b"1"))):
        assert (answer.status, answer.code) == (404, "session_not_found")


async def test_a_slow_upload_holds_nothing_and_a_deleted_session_keeps_nothing(
    gateway: GatewayInside,
) -> None:
    name = await session(gateway)
    going = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x" * 1_500_000
        await going.wait()
        yield b"x" * 1_500_000

    upload = asyncio.create_task(put(gateway, name, "slow", slow()))

    async def has_begun() -> bool:
        return bool(partials(work(gateway, name)))

    await eventually(has_begun)
    here = work(gateway, name)
    assert (await gateway.chat(name, "/echo still here"))["messages"][-1]["content"] == "still here"
    assert (await put(gateway, name, "fast", b"1")).status == 200
    await gateway.delete(name)
    assert not here.parent.exists()
    going.set()
    assert ((await upload).status, (await upload).code) == (409, "session_ended")
    assert not here.parent.exists()


async def test_an_upload_of_which_nothing_more_comes_is_cut(tmp_path: pathlib.Path) -> None:
    async with gateway_inside(tmp_path, config=CONFIG.format(silence=1)) as gateway:
        name = await session(gateway)
        sock = await raw_put(gateway, name, "Content-Length: 500000", b"x" * 1000)
        answer = await asyncio.to_thread(sock.recv, 4096)
        sock.close()
        assert b"408" in answer.split(b"\r\n")[0]
        assert await arrived(gateway, name, "cut.bin", 500_000) == 1000


async def test_a_parked_and_a_reaped_session_take_files(gateway: GatewayInside) -> None:
    name = await session(gateway)
    await gateway.chat(name, "/echo a")
    found = gateway.inner.manager.get("default/local", name)
    assert found is not None
    assert await found.park()
    assert (await put(gateway, name, "parked", b"1")).status == 200
    here = work(gateway, name)
    gateway.clock.advance(gateway.inner.config.sessions.idle_timeout_seconds + 1)
    await gateway.inner.sessions.reaper.sweep()

    async def has_left() -> bool:
        return gateway.inner.manager.get("default/local", name) is None

    await eventually(has_left)
    assert (await put(gateway, name, "reaped", b"1")).status == 200
    assert {path.name for path in here.iterdir()} == {"parked", "reaped"}


def may_mount() -> bool:
    status = pathlib.Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> CAP_SYS_ADMIN & 1)


def mount(*argv: str) -> None:
    subprocess.run(argv, check=True)


async def test_a_disk_that_is_full_in_the_middle_keeps_nothing(gateway: GatewayInside) -> None:
    if not may_mount():
        pytest.skip("NOT TESTED: a full disk needs the right to mount (run as root)")
    name = await session(gateway)
    await put(gateway, name, "first", b"1")
    here = work(gateway, name)
    owner = here.stat()
    options = f"size=1m,mode=0700,uid={owner.st_uid},gid={owner.st_gid}"
    mount(MOUNT, "-t", "tmpfs", "-o", options, "tmpfs", str(here))
    try:
        answer = await put(gateway, name, "large", b"x" * 2_900_000)
        assert (answer.status, answer.code) == (507, "store_full")
        answer = await form(gateway, name, ("a", b"1"), ("b", b"x" * 1_500_000))
        assert (answer.status, answer.code) == (507, "store_full")
        assert [path.name for path in here.rglob("*")] == ["uploads"]
        assert (await put(gateway, name, "small", b"1")).status == 200
    finally:
        mount(UMOUNT, "--lazy", str(here))


async def test_a_session_stores_no_more_than_it_may(gateway: GatewayInside) -> None:
    name = await session(gateway)
    for number in range(2):
        assert (await put(gateway, name, f"{number}", b"x" * 2_900_000)).status == 200
    said = await put(gateway, name, "third", b"x" * 2_900_000)
    assert (said.status, said.code) == (507, "session_disk_full")

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(25):
            yield b"x" * 100_000

    unsaid = await put(gateway, name, "third", pieces())
    assert (unsaid.status, unsaid.code) == (507, "session_disk_full")
    assert {path.name for path in work(gateway, name).iterdir()} == {"0", "1"}
