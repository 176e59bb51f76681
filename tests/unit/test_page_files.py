"""The files of the page: compressed for those who take that, cached by what they are, closed to guesses."""

from __future__ import annotations

import asyncio
import gzip
import pathlib
from typing import Any, Final

import pytest
from starlette.applications import Starlette

from gateway.api import page
from gateway.apps.product_chat.faces import WIDGET_HEADERS

SCRIPT: Final = b"let a = 1;\n" * 500


class Got:
    """An answer: status, headers, body."""

    def __init__(self, messages: list[Any]) -> None:
        self.status = int(messages[0]["status"])
        self.headers = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
        self.body = b"".join(message.get("body", b"") for message in messages[1:])


@pytest.fixture
def site(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Starlette:
    """An app of nothing but a page, of which some files are compressed."""
    (tmp_path / "assets").mkdir()
    pages = ("index.html", "pdf.html", "diagram.html")
    for name in (*pages, "widget.js", "assets/index-abc.js", "assets/small.js"):
        (tmp_path / name).write_bytes(SCRIPT)
        if name != "assets/small.js":
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(SCRIPT))
            (tmp_path / f"{name}.br").write_bytes(b"not really brotli")
    monkeypatch.setattr(page, "PLACES", (tmp_path,))
    return Starlette(routes=page.routes({}, {"widget.js": WIDGET_HEADERS}))


async def get(site: Starlette, path: str, **headers: str) -> Got:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "method": "GET",
        "path": path,
        "root_path": "",
        "query_string": b"",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    messages: list[Any] = []

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        messages.append(message)

    await site(scope, receive, send)
    return Got(messages)


@pytest.mark.parametrize("path", ["/", "/widget.js", "/assets/index-abc.js"])
@pytest.mark.parametrize(
    ("takes", "coding"),
    [
        ("gzip, deflate, br", "br"),
        ("gzip", "gzip"),
        ("br;q=0, gzip;q=0.5", "gzip"),
        ("*", "br"),
        ("identity", None),
        ("", None),
        ("gzip;q=0.000", None),
    ],
)
async def test_a_file_is_sent_as_small_as_is_taken(
    site: Starlette, path: str, takes: str, coding: str | None
) -> None:
    got = await get(site, path, accept_encoding=takes)
    assert (got.status, got.headers.get("content-encoding")) == (200, coding)
    assert got.headers["vary"] == "Accept-Encoding"
    assert got.headers["content-type"].split(";")[0] == ("text/html" if path == "/" else "text/javascript")
    assert int(got.headers["content-length"]) == len(got.body)
    assert got.body == {"br": b"not really brotli", "gzip": gzip.compress(SCRIPT), None: SCRIPT}[coding] or (
        coding == "gzip" and gzip.decompress(got.body) == SCRIPT
    )


@pytest.mark.parametrize("path", ["/", "/widget.js", "/assets/index-abc.js"])
async def test_what_a_client_has_is_not_sent_again_in_the_same_coding(site: Starlette, path: str) -> None:
    first = await get(site, path, accept_encoding="gzip")
    plain = await get(site, path)
    assert first.headers["etag"] != plain.headers["etag"]
    again = await get(site, path, accept_encoding="gzip", if_none_match=first.headers["etag"])
    assert (again.status, again.body, again.headers["vary"]) == (304, b"", "Accept-Encoding")
    for name in ("content-security-policy", "x-frame-options", "cache-control"):
        assert again.headers[name] == first.headers[name]
    other = await get(site, path, accept_encoding="gzip", if_none_match=plain.headers["etag"])
    assert other.status == 200


async def test_a_file_that_was_not_compressed_is_sent_as_it_is(site: Starlette) -> None:
    got = await get(site, "/assets/small.js", accept_encoding="br, gzip")
    assert (got.status, got.body, got.headers.get("content-encoding")) == (200, SCRIPT, None)


async def test_a_large_file_that_is_kept_compressed_alone_is_sent_to_everybody(
    site: Starlette, tmp_path: pathlib.Path
) -> None:
    for end in ("", ".br"):
        (tmp_path / f"pdf.html{end}").unlink()
    got = await get(site, "/pdf.html", accept_encoding="br, gzip")
    assert (got.status, gzip.decompress(got.body), got.headers["content-encoding"]) == (200, SCRIPT, "gzip")
    plain = await get(site, "/pdf.html")
    assert (plain.status, plain.body, plain.headers.get("content-encoding")) == (200, SCRIPT, None)
    assert plain.headers["content-security-policy"] == got.headers["content-security-policy"]
    (tmp_path / "pdf.html.gz").unlink()
    assert (await get(site, "/pdf.html")).status == 404


@pytest.mark.parametrize("accepted", ["gzip", "br, gzip", "identity"])
async def test_so_is_a_large_one_whose_name_carries_its_hash(
    site: Starlette, tmp_path: pathlib.Path, accepted: str
) -> None:
    for end in ("", ".br"):
        (tmp_path / f"assets/index-abc.js{end}").unlink()
    got = await get(site, "/assets/index-abc.js", accept_encoding=accepted)
    is_packed = "gzip" in accepted
    assert (got.status, gzip.decompress(got.body) if is_packed else got.body) == (200, SCRIPT)
    assert got.headers.get("content-encoding") == ("gzip" if is_packed else None)
    assert "immutable" in got.headers["cache-control"]
    (tmp_path / "assets/index-abc.js.gz").unlink()
    assert (await get(site, "/assets/index-abc.js", accept_encoding=accepted)).status == 404


@pytest.mark.parametrize("path", ["/assets/\0", "/assets/" + "a" * 5_000, "/assets/", "/assets/\udcff"])
async def test_what_is_no_name_of_a_file_is_not_found(site: Starlette, path: str) -> None:
    assert (await get(site, path)).status == 404


@pytest.mark.parametrize("path", ["/widget.js.br", "/assets/index-abc.js.gz", "/assets/../index.html.gz"])
async def test_a_compressed_file_has_no_address_of_its_own(site: Starlette, path: str) -> None:
    assert (await get(site, path)).status == 404


@pytest.mark.parametrize("path", ["/pdf.html", "/diagram.html"])
async def test_what_draws_in_a_frame_has_no_origin_and_loads_nothing(site: Starlette, path: str) -> None:
    frame = (await get(site, path)).headers
    policy = [one.split() for one in frame["content-security-policy"].split(";")]
    assert policy[:2] == [["sandbox", "allow-scripts"], ["default-src", "'none'"]]
    assert ["frame-ancestors", "'self'"] in policy
    assert not [one for rule in policy for one in rule if "unsafe-eval" in one or "http" in one or "*" in one]
    assert "x-frame-options" not in frame
    assert "sandbox" not in (await get(site, "/")).headers["content-security-policy"]
