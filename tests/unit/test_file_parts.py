"""Ranges, types, names, the pages that are shown, and looks at a tree: what files out is made of."""

from __future__ import annotations

import pytest

from gateway.files import media, names, ranges, watching
from gateway.files.bandwidth import Bandwidth
from gateway.files.defuse import Defuser
from gateway.files.ranges import ByteSpan
from gateway.files.watching import Look

PAGE = b"<p>a</p><LiNk rel=preconnect href=x><iframe SrcDoc='&lt;link&gt;'></iframe><p>linked srcdo</p>"


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_a_page_has_no_links_whatever_its_pieces(size: int) -> None:
    defuser = Defuser()
    sent = b"".join(defuser.feed(PAGE[at : at + size]) for at in range(0, len(PAGE), size)) + defuser.last()
    assert sent == PAGE.replace(b"<LiNk", b"<xiNk").replace(b"<iframe SrcDoc", b"<xframe xrcDoc")


@pytest.mark.parametrize("coding", ["utf-16-le", "utf-16-be"])
def test_a_page_in_another_encoding_has_none_either(coding: str) -> None:
    defuser = Defuser()
    sent = defuser.feed(PAGE.decode().encode(coding)) + defuser.last()
    assert "<link" not in sent.decode(coding).lower()
    assert "<iframe" not in sent.decode(coding).lower()
    assert "srcdoc" not in sent.decode(coding).lower()


def test_ranges() -> None:
    def wanted(header: str, size: int = 10) -> ByteSpan | None:
        return ranges.wanted(header, size=size, if_range=None, etag="x")

    assert wanted("bytes=2-4") == ByteSpan(2, 5)
    assert wanted("bytes=-3") == ByteSpan(7, 10)
    assert wanted("bytes=5-") == ByteSpan(5, 10)
    assert wanted("bytes=0-1,3-4") is None
    assert wanted("bytes=4-2") is None
    for beyond in ("bytes=10-", "bytes=-0"):
        with pytest.raises(LookupError):
            wanted(beyond)
    with pytest.raises(LookupError):
        wanted("bytes=0-", size=0)


def test_a_name_never_breaks_its_header() -> None:
    for name in ("a\r\nSet-Cookie: x", '"; filename="b', "\u202egpj.exe", "\udcff", "", "\0"):
        said = names.disposition(name)
        assert said.isascii()
        assert said.isprintable()
        assert said.count('"') == 2


def test_nothing_that_runs_has_its_own_type() -> None:
    for name in ("a.js", "a.mjs", "a.css", "a.html", "a.xhtml", "a.xml", "a.svg", "a.xsl", "A.JS", "a.htm"):
        assert media.harmless_type(name) in (media.PLAIN, media.BYTES), name
    for name in ("a.js", "a.css", "a.xhtml", "a.xml"):
        assert media.shown_type(name) in (media.PLAIN, media.BYTES), name
    assert media.preview("Makefile") == "text"
    assert media.preview(".gitignore") == "text"
    assert media.preview("a.tar.gz") == "none"


def test_what_changed_between_two_looks() -> None:
    before = Look({"a": (1, 1, 1), "b": (1, 1, 2), "d": (0, 0, 3), "d/x": (1, 1, 4)}, False)
    after = Look({"a": (2, 1, 1), "d": (0, 0, 3), "c d": (1, 1, 5)}, False)
    change = watching.compared(before, after)
    assert change is not None
    assert change.paths == ["a", "b", "c%20d", "d/x"]
    many = Look({str(number): (1, 1, number) for number in range(300)}, False)
    assert watching.compared(before, many) is None


def test_bandwidth_is_shared_by_the_downloads_of_one_owner() -> None:
    now = [100.0]
    bandwidth = Bandwidth(lambda: 1000, monotonic=lambda: now[0])
    assert bandwidth.wait_seconds("a", 1000) == 0
    assert bandwidth.wait_seconds("a", 1000) == pytest.approx(1)
    assert bandwidth.wait_seconds("b", 1000) == 0
    now[0] += 5
    assert bandwidth.wait_seconds("a", 1000) == 0
    assert Bandwidth(lambda: 0, monotonic=lambda: 0.0).wait_seconds("a", 10**12) == 0
