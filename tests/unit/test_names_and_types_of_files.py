"""What a file is called and what it is; multipart bodies however they are cut."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadFileName, BadRequest
from gateway.files import media, sniffing, upload_names
from gateway.http.multipart import Multipart, PartBegun, PartEnded, boundary_of
from gateway.models.dialects.parts import IMAGE_TOKENS, counted_bytes

BODY: Final = (
    b"before\r\n--X\r\nContent-Disposition: form-data; name=a\r\n\r\nvalue\r\n"
    b'--X  \r\ncontent-disposition: form-data; name="f"; filename="a \\"b\\".png"\r\n\r\n'
    b"\r\n--not\r\n--\r\n\r\n--X\r\nContent-Disposition: form-data; filename*=UTF-8''%D7%A9.txt\r\n"
    b"\r\n\r\n--X--\r\nafter"
)


def read(body: bytes, sizes: list[int]) -> list[tuple[str | None, bytes]]:
    """The parts of a body that comes in pieces of these sizes."""
    parser, found = Multipart(b"X"), list[tuple[str | None, bytes]]()
    at = 0
    for size in [*sizes, len(body)]:
        for part in parser.feed(body[at : at + size]):
            match part:
                case PartBegun(file_name=name):
                    found.append((name, b""))
                case bytes():
                    found[-1] = (found[-1][0], found[-1][1] + part)
                case PartEnded():
                    pass
        at += size
    assert parser.is_over
    return found


@given(st.lists(st.integers(1, 40), max_size=30))
def test_a_form_is_the_same_however_it_is_cut(sizes: list[int]) -> None:
    assert read(BODY, sizes) == [(None, b"value"), ('a "b".png', b"\r\n--not\r\n--\r\n"), ("ש.txt", b"")]


@pytest.mark.parametrize(
    "body", [b"x" * 20_000, b"--X\r\n" + b"h" * 20_000, b"--Xjunk\r\n", b"--X" + b" " * 20_000]
)
def test_a_form_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        list(Multipart(b"X").feed(body))


@pytest.mark.parametrize(
    "text", ["multipart/form-data", "multipart/form-data; boundary=", "x; boundary=" + "b" * 71]
)
def test_a_form_names_its_boundary(text: str) -> None:
    with pytest.raises(BadRequest):
        boundary_of(text)
    assert boundary_of('multipart/form-data; charset=x; boundary="a b"') == b"a b"


@given(st.text(max_size=300))
def test_every_wished_name_becomes_one_that_can_be_stored(wished: str) -> None:
    name = upload_names.stored_name(wished)
    assert upload_names.checked_path(f"uploads/{name}") == f"uploads/{name}"
    assert len(upload_names.numbered(name, 1000).encode()) <= upload_names.NAME_BYTES
    assert upload_names.stored_name(name) == name


@given(st.text(max_size=50))
def test_a_path_is_taken_as_it_is_or_refused(path: str) -> None:
    try:
        checked = upload_names.checked_path(path)
    except BadFileName:
        return
    assert [part for part in checked.split("/") if part in ("", ".", "..")] == []
    assert "\0" not in checked


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("a.png", b"\x89PNG\r\n\x1a\n", "image/png"),
        ("a.txt", b"\xff\xd8\xff\xe0", "image/jpeg"),
        ("a.jpg", b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        ("a.png", b"<svg xmlns=''>", media.BYTES),
        ("a.svg", b"<svg xmlns=''>", "image/svg+xml"),
        ("a.pdf", b"no pdf", media.BYTES),
        ("a.docx", b"PK\x03\x04", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("a.png", b"PK\x03\x04", "application/zip"),
        ("Makefile", b"all:\n", "text/plain"),
        ("a.py", b"print()", "text/x-python"),
        ("noname", b"\0\1", media.BYTES),
        ("empty", b"", media.BYTES),
    ],
)
def test_the_first_bytes_say_what_a_file_is_and_then_its_name(name: str, head: bytes, kind: str) -> None:
    assert sniffing.type_of(name, head) == kind
    assert sniffing.is_image(kind) == (kind in ("image/png", "image/jpeg", "image/webp"))


def test_an_image_does_not_count_by_its_bytes() -> None:
    words = b'{"text": "' + b"word " * 40_000 + b'"}'
    assert counted_bytes(words) == len(words)
    for start in (b"data:image/png;base64,iVBORw0KGgo", b"/9j/"):
        body = b'{"url": "' + start + b"A" * 1_000_000 + b'"}'
        assert counted_bytes(body) < IMAGE_TOKENS * 4 + 100
