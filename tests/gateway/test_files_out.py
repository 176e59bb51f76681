"""Files out: what a session's working directory holds is read by its owner, and by nobody else."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pathlib
import socket
import threading
import zipfile
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote, quote_from_bytes

import aiohttp
import pytest
from yarl import URL

from gateway.api import file_watch
from gateway.events.lifecycle import CloseReason
from gateway.files import tree
from gateway.files.upload_names import PARTIAL_PREFIX
from tests.inside import GatewayInside
from tests.patience import soon
from tests.shared import SHARED, ask, eventually, forged, fresh_id, shared_gateway

pytestmark = SHARED

CONFIG = """
[auth]
modes = ["keys"]
[files]
archive_entries = 1_500
archive_bytes = 4_000_000
downloads_per_owner = 4
[tenants.acme]
[tenants.beta]
"""
BYTES: Final = "import os; b=bytes(range(256))*1000; open('out.bin','wb').write(b); os.mkdir('d')"
WRITES = {"turns": [[{"spawn": ["python3", "-c", BYTES]}, {"say": "done"}]], "repeat": True}
gateway = shared_gateway(CONFIG, agents={"writer": WRITES})


class Place:
    """A session with files, as its owner sees it."""

    def __init__(
        self, gateway: GatewayInside, http: aiohttp.ClientSession, session_id: str, owner: str
    ) -> None:
        self.gateway = gateway
        self.http = http
        self.session_id = session_id
        self.of = f"/api/sessions/{session_id}/files"
        session = gateway.inner.manager.get(owner, session_id)
        assert session is not None
        self.record = session.record
        workspaces = gateway.inner.services.workers.workspaces
        workspaces.make(self.record.key, self.record.uid)
        self.root = pathlib.Path(workspaces.work(self.record.key))

    def write(self, name: str | bytes, data: bytes = b"here") -> pathlib.Path:
        """A file of the session, which its own uid owns."""
        *folders, last = os.fsdecode(name).split("/")
        at = str(self.root)
        for folder in folders:
            at += f"/{folder}"
            with contextlib.suppress(FileExistsError):
                os.mkdir(at)
                self._give(at)
        path = pathlib.Path(at) / last
        path.write_bytes(data)
        self._give(str(path))
        return path

    def _give(self, path: str) -> None:
        if self.record.uid is not None:
            os.chown(path, self.record.uid, self.record.uid)

    async def entries(self, path: str = "", **query: Any) -> dict[str, Any]:
        """The entries of a folder, by name."""
        listing = await self.listing(path, **query)
        return {entry["name"]: entry for entry in listing["entries"]}

    async def listing(self, path: str = "", **query: Any) -> Any:
        more = "".join(f"&{name}={value}" for name, value in query.items())
        answer = await ask(self.http, "GET", url(f"{self.of}?path={path}{more}"))
        assert answer.status == 200, answer.body
        return answer.body

    async def content(self, path: str, **headers: str) -> tuple[int, bytes, Any]:
        """Status, bytes and headers."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.get(url(f"{self.of}/content?path={path}"), headers=named) as response:
            return response.status, await response.read(), response.headers

    async def code(self, what: str, path: str) -> tuple[int, str]:
        answer = await ask(self.http, "GET", url(f"{self.of}{what}?path={path}"))
        assert answer.status >= 400
        return answer.status, answer.code


def url(text: str) -> Any:
    """An address that the client sends as it is."""
    return URL(text, encoded=True)


@contextlib.asynccontextmanager
async def _place(gateway: GatewayInside, name: str = "ada") -> Any:
    key = await gateway.mint(fresh_id(name), tenant="acme")
    async with gateway.caller(key) as http:
        session_id = fresh_id("files")
        made = await ask(http, "POST", "/api/sessions", {"session_id": session_id, "agent": "writer"})
        assert made.status == 201
        owner = next(
            one.record.owner for one in gateway.inner.manager.sessions() if one.session_id == session_id
        )
        yield Place(gateway, http, session_id, owner)


async def test_a_file_that_an_agent_wrote_is_downloaded_byte_for_byte(gateway: GatewayInside) -> None:
    """While its worker runs, when it is parked, and when the session is only in the store."""
    wanted = bytes(range(256)) * 1000
    async with _place(gateway) as place:
        said = {"session_id": place.session_id, "message": "go"}
        assert (await ask(place.http, "POST", "/api/chat?wait=240", said)).status == 200
        await eventually(lambda: _exists(place.root / "d"))
        assert list(await place.entries()) == ["d", "out.bin"]
        session = gateway.inner.manager.get(place.record.owner, place.session_id)
        assert session is not None
        assert session.is_live
        assert (await place.content("out.bin"))[:2] == (200, wanted)
        await session.park()
        assert (await place.content("out.bin"))[:2] == (200, wanted)
        await gateway.inner.manager.close_all(place.record.owner, CloseReason.IDLE)
        assert (await place.content("out.bin"))[:2] == (200, wanted)
        assert gateway.inner.manager.get(place.record.owner, place.session_id) is None


async def _exists(path: pathlib.Path) -> bool:
    return path.exists()


async def test_a_session_that_never_had_files_is_empty(gateway: GatewayInside) -> None:
    async with _place(gateway) as place:
        place.root.rmdir()
        assert await place.listing() == {"path": "", "entries": [], "cursor": None, "is_partial": False}
        assert await place.code("/content", "a") == (404, "file_not_found")
        assert await place.code("/stat", "") == (404, "file_not_found")


async def test_a_folder_is_listed_in_order_a_page_at_a_time(gateway: GatewayInside) -> None:
    async with _place(gateway) as place:
        for name in ("b.md", "a.txt", "z/inner/deep.py", "z/x.csv", "m/one"):
            place.write(name)
        listing = await place.listing()
        assert [entry["name"] for entry in listing["entries"]] == ["m", "z", "a.txt", "b.md"]
        folder, text = listing["entries"][1], listing["entries"][2]
        assert (folder["kind"], "inner" in folder) == ("folder", False)
        assert (text["kind"], text["size"], text["media_type"], text["preview"]) == (
            *("file", 4),
            *("text/plain", "text"),
        )
        names, cursor = [], ""
        while cursor is not None:
            page = await place.listing(limit=3, **({"cursor": cursor} if cursor else {}))
            names += [entry["name"] for entry in page["entries"]]
            cursor = page["cursor"]
        assert names == ["m", "z", "a.txt", "b.md"]
        deep = await place.entries(depth=3)
        inner = deep["z"]["inner"]
        assert [entry["path"] for entry in inner["entries"]] == ["z/inner", "z/x.csv"]
        assert inner["entries"][0]["inner"]["entries"][0]["path"] == "z/inner/deep.py"
        stat = (await ask(place.http, "GET", f"{place.of}/stat?path=z/x.csv")).body
        assert (stat["name"], stat["preview"], stat["size"]) == ("x.csv", "csv", 4)
        answer = await ask(place.http, "GET", f"{place.of}?cursor=x")
        assert (answer.status, answer.code) == (422, "invalid_field")


NAMES: Final = (
    *(b"a\nb.txt", b"bad\xff\xfe.txt", b"n" * 255, b"a%41+&=#?.txt", b' "quoted\\".txt', b"CON", b"-rf"),
    *(b"\xed\xa0\x80", "\u202egpj.exe".encode(), "\u05e9\u05dc\u05d5\u05dd.md".encode()),
)


async def test_every_name_comes_back_to_its_file(gateway: GatewayInside) -> None:
    async with _place(gateway) as place:
        for number, name in enumerate(NAMES):
            place.write(b"f/" + name, b"%d" % number)
        listing = await place.listing("f")
        assert len(listing["entries"]) == len(NAMES)
        paths = {entry["path"] for entry in listing["entries"]}
        assert paths == {"f/" + quote_from_bytes(name) for name in NAMES}
        for number, name in enumerate(NAMES):
            status, data, headers = await place.content("f/" + quote_from_bytes(name))
            assert (status, data) == (200, b"%d" % number), name
            said = headers["Content-Disposition"]
            assert said.startswith("attachment; filename=")
            assert said.isascii()
            assert said.isprintable()
        said = (await place.content("f/" + quote("\u05e9\u05dc\u05d5\u05dd.md")))[2]["Content-Disposition"]
        assert said.endswith("filename*=UTF-8''%D7%A9%D7%9C%D7%95%D7%9D.md")


async def test_a_part_of_a_file_is_read(gateway: GatewayInside) -> None:
    async with _place(gateway) as place:
        data = os.urandom(700_000)
        place.write("x.bin", data)
        status, whole, headers = await place.content("x.bin")
        assert (status, whole, headers["Content-Length"]) == (200, data, "700000")
        tag = headers["ETag"]
        for wanted, sent in {
            "bytes=0-0": data[:1],
            "bytes=600000-": data[600_000:],
            "bytes=-5": data[-5:],
            "bytes=100-999999999": data[100:],
            "bytes=-800000": data,
        }.items():
            status, part, headers = await place.content("x.bin", Range=wanted)
            assert (status, part) == (206, sent), wanted
            assert headers["Content-Range"].endswith("/700000")
        for ignored in ("bytes=0-1,5-6", "bytes=9-1", "lines=1-2", "bytes=", "bytes=-"):
            assert (await place.content("x.bin", Range=ignored))[0] == 200
        for beyond in ("bytes=700000-", "bytes=-0"):
            status, _, headers = await place.content("x.bin", Range=beyond)
            assert (status, headers["Content-Range"]) == (416, "bytes */700000")
        assert (await place.content("x.bin", Range="bytes=0-1", If_Range=tag))[0] == 206
        assert (await place.content("x.bin", Range="bytes=0-1", If_Range='"other"'))[0] == 200
        status, body, headers = await place.content("x.bin", If_None_Match=f'"other", W/{tag}')
        assert (status, body, headers["ETag"]) == (304, b"", tag)
        async with place.http.head(f"{place.of}/content?path=x.bin") as head:
            assert (head.status, head.headers["Content-Length"], await head.read()) == (200, "700000", b"")
        place.write("x.bin", data[:-1])
        assert (await place.content("x.bin", If_None_Match=tag))[0] == 200


async def test_what_leads_out_or_is_no_file_is_not_read(
    gateway: GatewayInside, tmp_path: pathlib.Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    async with _place(gateway) as place:
        place.write("ok/file")
        (place.root / "link").symlink_to(secret)
        (place.root / "out").symlink_to(tmp_path)
        (place.root / "dangling").symlink_to("nowhere")
        os.mkfifo(place.root / "fifo")
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as unix:
            at = os.open(place.root, os.O_RDONLY)
            unix.bind(f"/proc/self/fd/{at}/sock")
            os.close(at)
        special = ["fifo", "sock"]
        if os.geteuid() == 0:
            os.mknod(place.root / "null", 0o666 | 0o020000, os.makedev(1, 3))
            os.link(secret, place.root / "hard")
            special += ["null"]
        entries = await place.entries()
        assert {entries[name]["kind"] for name in special} == {"other"}
        assert {entries[name]["kind"] for name in ("link", "out", "dangling")} == {"link"}
        assert entries["link"]["size"] == 0
        for name in ("link", "out/secret", "dangling", *special):
            assert (await place.code("/content", name)) == (409, "file_not_readable"), name
        assert (await place.code("/content", "ok")) == (409, "file_not_readable")
        assert (await place.code("", "ok/file")) == (409, "file_not_readable")
        assert (await place.code("", "link")) == (409, "file_not_readable")
        assert (await place.code("", "out")) == (409, "file_not_readable")
        for name in ("../x", "ok/../../x", "/etc/passwd", "a%00b"):
            assert (await place.code("/content", name)) == (422, "invalid_field"), name
        for name in ("no", "ok/no", "x" * 300, "a/" * 3000):
            assert (await place.code("/content", name)) == (404, "file_not_found"), name
        if os.geteuid() == 0:
            assert (await place.code("/content", "hard")) == (409, "file_not_readable")
            archive = await _archive(place, "")
            assert "hard" not in archive.namelist()
            assert b"hard: permission denied" in archive.read("left-out.txt")


async def _archive(place: Place, path: str) -> zipfile.ZipFile:
    async with place.http.get(f"{place.of}/archive?path={path}") as response:
        assert response.status == 200
        return zipfile.ZipFile(io.BytesIO(await response.read()))


async def test_a_folder_is_downloaded_as_a_zip(gateway: GatewayInside) -> None:
    async with _place(gateway) as place:
        place.write("p/a.txt", b"a" * 1000)
        place.write("p/sub/\u05e9.bin", os.urandom(600_000))
        place.write(b"p/bad\xff", b"bad")
        place.write("p/..\\..\\evil:x", b"windows")
        place.write("p/left-out.txt", b"mine")
        (place.root / "p/a.txt").chmod(0o4755)
        (place.root / "p/link").symlink_to("/etc/passwd")
        os.mkfifo(place.root / "p/fifo")
        archive = await _archive(place, "p")
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == [
            *("..%5C..%5Cevil%3Ax", "_left-out.txt", "a.txt", "bad%FF", "left-out.txt"),
            *("sub/", "sub/\u05e9.bin"),
        ]
        assert archive.read("sub/\u05e9.bin") == (place.root / "p/sub/\u05e9.bin").read_bytes()
        said = archive.read("_left-out.txt").decode()
        assert "link: a link" in said
        assert "fifo: a device, a FIFO or a socket" in said
        assert archive.getinfo("a.txt").external_attr >> 16 == 0o100755
        place.write("big", b"x" * 4_000_001)
        assert await place.code("/archive", "") == (413, "archive_too_large")
        assert await place.code("/archive", "p/a.txt") == (409, "file_not_readable")
        assert await place.code("/archive", "no") == (404, "file_not_found")


async def test_a_file_that_grows_or_shrinks_meanwhile_ends(gateway: GatewayInside) -> None:
    """One that grows, at the promised length; one that shrinks breaks the connection, with no wait."""
    async with _place(gateway) as place:
        size = 24_000_000
        path = place.write("x", b"x" * size)
        async with place.http.get(f"{place.of}/content?path=x") as response:
            first = await response.content.readexactly(1000)
            with path.open("ab") as file:
                file.write(b"y" * 1_000_000)
            rest = await response.content.read()
        assert first + rest == b"x" * size
        async with place.http.get(f"{place.of}/content?path=x") as response:
            await response.content.readexactly(1000)
            os.truncate(path, 2000)
            with pytest.raises(aiohttp.ClientPayloadError):
                await soon(response.content.read(), 20)
        assert "Traceback" not in gateway.log()


async def test_a_zip_of_files_that_change_meanwhile_is_whole(gateway: GatewayInside) -> None:
    async with _place(gateway) as place:
        for number in range(8):
            place.write(f"p/{number}", os.urandom(400_000))
        with _in_thread(lambda turn: _rewrite(place.root / "p" / str(turn % 8), turn)):
            for _ in range(3):
                archive = await _archive(place, "p")
                assert archive.testzip() is None


def _rewrite(path: pathlib.Path, turn: int) -> None:
    if turn % 5 == 0:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(bytes([turn % 256]) * (400_000 if turn % 2 else 3000))


@contextlib.contextmanager
def _in_thread(act: Any) -> Iterator[None]:
    """Does something again and again beside the block."""
    is_over = threading.Event()

    def run() -> None:
        turn = 0
        while not is_over.is_set():
            with contextlib.suppress(OSError):
                act(turn)
            turn += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


async def test_a_folder_that_becomes_a_link_during_reads_leads_nowhere(
    gateway: GatewayInside, tmp_path: pathlib.Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    (outside / "file").write_text("SECRET")
    (outside / "file").chmod(0o644)
    tmp_path.chmod(0o755)
    async with _place(gateway) as place:
        place.write("d/file", b"mine")
        place.write("d/more", b"mine")
        at, aside, link = place.root / "d", place.root / "aside", place.root / "link"
        link.symlink_to(outside)

        def swap(_turn: int) -> None:
            at.rename(aside)
            link.rename(at)
            at.rename(link)
            aside.rename(at)

        seen: dict[str, int] = {}
        with _in_thread(swap):
            for turn in range(250):
                what = ("/content?path=d/file", "?path=d", "?depth=3", "/archive?path=")[turn % 4]
                async with place.http.get(place.of + what) as response:
                    body = await response.read()
                    assert b"SECRET" not in body
                    assert response.status in (200, 404, 409)
                    if what.startswith("/archive"):
                        with zipfile.ZipFile(io.BytesIO(body)) as archive:
                            assert all(archive.read(name) != b"SECRET" for name in archive.namelist())
                    seen[f"{what} {response.status}"] = seen.get(f"{what} {response.status}", 0) + 1
        assert seen["/content?path=d/file 200"] > 0


def _remove_deep(root: pathlib.Path) -> None:
    """Removes the chain of folders from its top: what removes directories of tests fails on a deep one."""
    while (root / "d/d").exists():
        (root / "d/d").rename(root / "next")
        (root / "d").rmdir()
        (root / "next").rename(root / "d")


async def test_a_deep_tree_and_a_large_folder_are_bounded(
    gateway: GatewayInside, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _place(gateway) as place:
        deep = "/".join(["d"] * 1100)
        place.write(f"{deep}/end", b"deep")
        assert list(await place.entries(deep)) == ["end"]
        assert (await place.content(f"{deep}/end"))[1] == b"deep"
        assert (await _archive(place, "")).read(f"{deep}/end") == b"deep"
        assert (await place.entries("", depth=5))["d"]["inner"]["path"] == "d"
        monkeypatch.setattr(tree, "SCANNED", 400)
        many = place.root / "many"
        many.mkdir()
        many.chmod(0o755)
        for number in range(500):
            (many / f"{number:05}").touch()
        listing = await place.listing("many", limit=10)
        assert listing["is_partial"]
        assert len(listing["entries"]) == 10
        assert await place.code("/archive", "") == (413, "archive_too_large")
        _remove_deep(place.root)


async def test_a_link_opens_one_file_for_minutes(gateway: GatewayInside) -> None:
    async with _place(gateway) as place, gateway.caller() as nobody:
        place.write("page.html", b"<script>1</script>")
        place.write("a.svg", b"<svg/>")

        async def link(path: str, kind: str) -> Any:
            answer = await ask(place.http, "POST", place.of + "/link", {"path": path, "kind": kind})
            assert answer.status == 201, answer.body
            return answer.body["url"]

        preview, download = await link("page.html", "preview"), await link("page.html", "download")
        async with nobody.get(preview) as response:
            assert await response.read() == b"<script>1</script>"
            assert response.headers["Content-Type"] == "text/html; charset=utf-8"
            assert response.headers["Content-Disposition"].startswith("inline")
            assert response.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
            assert response.headers["X-Content-Type-Options"] == "nosniff"
        svg, body = await link("a.svg", "preview"), {"Sec-Fetch-Dest": "image"}
        async with nobody.get(svg, headers=body) as response:
            assert response.headers["Content-Type"] == "image/svg+xml"
        async with nobody.get(svg) as response:
            assert response.headers["Content-Type"] == "application/octet-stream"
            assert response.headers["Content-Disposition"].startswith("attachment")
        async with nobody.get(download) as response:
            assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
            assert response.headers["Content-Disposition"].startswith("attachment")
        for wrong in (forged(preview), preview + "x", "/api/files/a.b"):
            assert (await ask(nobody, "GET", wrong)).status == 404
        assert (await ask(place.http, "POST", place.of + "/link", {"path": "no"})).code == "file_not_found"
        gateway.clock.advance(301)
        assert (await ask(nobody, "GET", preview)).code == "file_link_not_found"
        fresh = await link("page.html", "preview")
        await ask(place.http, "DELETE", f"/api/sessions/{place.session_id}")
        assert (await ask(nobody, "GET", fresh)).code == "file_link_not_found"
        again = {"session_id": place.session_id, "agent": "writer"}
        assert (await ask(place.http, "POST", "/api/sessions", again)).status == 201
        assert (await ask(nobody, "GET", fresh)).code == "file_link_not_found"


async def test_scripts_and_pages_have_no_type_of_their_own_in_a_download(gateway: GatewayInside) -> None:
    async with _place(gateway) as place:
        for name in ("a.js", "a.css", "a.html", "a.xml", "a.xhtml", "a.json", "a.mjs"):
            place.write(name)
            headers = (await place.content(name))[2]
            assert headers["Content-Type"] == "text/plain; charset=utf-8", name
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Content-Disposition"].startswith("attachment")
        place.write("a.svg")
        assert (await place.content("a.svg"))[2]["Content-Type"] == "application/octet-stream"
        place.write("a.png")
        assert (await place.content("a.png"))[2]["Content-Type"] == "image/png"


async def test_a_link_of_a_revoked_key_is_good_no_longer(gateway: GatewayInside) -> None:
    async with _place(gateway) as place, gateway.caller() as nobody:
        place.write("a")
        url = (await ask(place.http, "POST", place.of + "/link", {"path": "a"})).body["url"]
        assert (await ask(nobody, "GET", url)).status == 200
        async with gateway.operator() as operator:
            keys = await operator.keys()
            mine = next(key for key in keys if f"acme/{key.subject}" == place.record.owner)
            await operator.revoke_key(mine.id)
        assert (await ask(nobody, "GET", url)).code == "file_link_not_found"


async def test_others_and_links_for_reading_see_no_files(gateway: GatewayInside) -> None:
    async with _place(gateway) as place, _place(gateway, "eve") as other:
        place.write("a")
        foreign = URL(place.of)
        for what in ("", "/stat", "/content", "/archive", "/watch"):
            answer = await ask(other.http, "GET", f"{foreign}{what}?path=a")
            assert (answer.status, answer.code) == (404, "session_not_found")
        answer = await ask(other.http, "POST", f"{foreign}/link", {"path": "a"})
        assert (answer.status, answer.code) == (404, "session_not_found")
        share = await ask(place.http, "POST", f"/api/sessions/{place.session_id}/shares", {})
        async with gateway.caller() as nobody:
            shared = f"/api/shared/{share.body['token']}"
            assert (await ask(nobody, "GET", shared)).status == 200
            assert (await ask(nobody, "GET", f"{shared}/files")).status == 404


async def test_a_watch_names_what_changes(gateway: GatewayInside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_watch, "QUIET_SECONDS", 0.05)
    monkeypatch.setattr(file_watch, "TICK_SECONDS", 0.05)
    async with _place(gateway) as place:
        place.write("d/a")
        async with place.http.get(place.of + "/watch") as response:
            assert response.headers["Content-Type"].startswith("text/event-stream")
            frames = _frames(response)
            assert await anext(frames) == ("ready", {})
            place.write("d/b c")
            assert await anext(frames) == ("changed", {"paths": ["d/b%20c"]})
            (place.root / "d/a").unlink()
            assert await anext(frames) == ("changed", {"paths": ["d/a"]})
            for number in range(300):
                place.write(f"{PARTIAL_PREFIX}e/{number}")
            (place.root / f"{PARTIAL_PREFIX}e").rename(place.root / "e")  # all at once
            assert await anext(frames) == ("overflow", {})
            await ask(place.http, "DELETE", f"/api/sessions/{place.session_id}")
            names = [name async for name, _ in frames]
            assert names[-1] == "gone"
            assert set(names[:-1]) <= {"changed", "overflow"}, "a look may see how the 300 files go"


async def _frames(response: aiohttp.ClientResponse) -> Any:
    event = ""
    async for line in response.content:
        if line.startswith(b"event: "):
            event = line[7:].strip().decode()
        elif line.startswith(b"data: "):
            yield event, json.loads(line[6:])


async def test_a_download_of_a_deleted_session_ends(gateway: GatewayInside) -> None:
    async with _place(gateway) as place:
        place.write("x", b"x" * 24_000_000)
        async with place.http.get(f"{place.of}/content?path=x") as response:
            await response.content.readexactly(1000)
            await ask(place.http, "DELETE", f"/api/sessions/{place.session_id}")
            with pytest.raises(aiohttp.ClientPayloadError):
                await soon(response.content.read(), 20)
        assert (await place.code("/content", "x")) == (404, "session_not_found")


async def test_downloads_are_bounded_counted_and_audited(gateway: GatewayInside) -> None:
    async with _place(gateway) as place, contextlib.AsyncExitStack() as stack:
        place.write("secret plan.txt", b"x" * 24_000_000)
        path = f"{place.of}/content?path=secret%20plan.txt"
        for _ in range(4):
            response = await stack.enter_async_context(place.http.get(path))
            assert response.status == 200
        refused = await ask(place.http, "GET", path)
        assert (refused.status, refused.code, "Retry-After" in refused.headers) == (
            429,
            "too_many_downloads",
            True,
        )
        async with _place(gateway, "bob") as other:
            other.write("y")
            assert (await other.content("y"))[0] == 200
        stack.pop_all()

        async def is_free() -> bool:
            return (await ask(place.http, "HEAD", path)).status == 200

        await eventually(is_free)
        lines = (gateway.data_path / "audit.jsonl").read_text().splitlines()
        mine = [json.loads(line) for line in lines if place.record.key in line]
        mark = hashlib.sha256(b"secret%20plan.txt").hexdigest()[:16]
        assert [(line["action"], line["detail"]) for line in mine] == [("file.downloaded", mark)] * 4
        assert "secret plan" not in "".join(lines)
        metrics = gateway.inner.services.metrics
        assert metrics.file_downloads.labels("file")._value.get() >= 4
