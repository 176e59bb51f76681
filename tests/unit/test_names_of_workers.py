"""The name server of a worker's own network, by packets; and what a TLS client names, by bytes."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import struct

import pytest

from gateway.egress.hello import HELLO_BYTES, NotTls, server_name
from gateway.egress.names import Names, NameServer, answer
from gateway.egress.pace import LoopShare
from tests.patience import soon


def question(*labels: bytes, kind: int = 1, of_class: int = 1, flags: int = 0x0100, count: int = 1) -> bytes:
    name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return struct.pack("!HHHHHH", 7, flags, count, 0, 0, 0) + name + struct.pack("!HH", kind, of_class)


def code(reply: bytes | None) -> int:
    assert reply is not None
    return reply[3] & 0xF


def address(reply: bytes | None) -> str:
    assert reply is not None
    assert reply[6:8] == b"\0\1", "no record"
    return ".".join(map(str, reply[-4:]))


def test_a_name_has_one_address_whatever_its_case() -> None:
    names = Names()
    first = address(answer(question(b"Files", b"invented", b"test"), names))
    assert first == address(answer(question(b"files", b"INVENTED", b"test"), names)) == "198.18.0.1"
    assert address(answer(question(b"other", b"test"), names)) == "198.18.0.2"
    assert names.name_of(first) == "files.invented.test"
    assert names.name_of("8.8.8.8") == ""


def test_this_machine_is_itself() -> None:
    assert address(answer(question(b"localhost"), Names())) == "127.0.0.1"
    assert address(answer(question(b"app", b"localhost"), Names())) == "127.0.0.1"


@pytest.mark.parametrize("kind", [2, 5, 6, 12, 15, 16, 28, 33, 65, 255])
def test_other_records_do_not_exist_and_carry_nothing(kind: int) -> None:
    reply = answer(question(b"secret-in-a-label", b"test", kind=kind), Names())
    assert (code(reply), reply and reply[6:8]) == (0, b"\0\0")


@pytest.mark.parametrize("label", [b"a b", b"-a", b"a\0b", b"a.b", b"\xc3\xa9", b"%00", b"a/b"])
def test_what_is_no_host_name_has_no_address(label: bytes) -> None:
    reply = answer(question(label, b"test"), Names())
    assert (code(reply), reply and reply[6:8]) == (0, b"\0\0")


def test_names_are_bounded_and_old_ones_stay() -> None:
    names = Names(limit=3)
    for number in range(3):
        assert code(answer(question(b"n%d" % number, b"test"), names)) == 0
    assert code(answer(question(b"n3", b"test"), names)) == 2
    assert address(answer(question(b"n0", b"test"), names)) == "198.18.0.1"


def test_what_is_no_question_is_not_answered_and_what_is_malformed_is_called_so() -> None:
    names = Names()
    assert answer(b"", names) is None
    assert answer(b"x" * 11, names) is None
    assert answer(question(b"a", flags=0x8100), names) is None, "an answer: two servers would talk for ever"
    assert code(answer(question(b"a", flags=0x2800), names)) == 4
    assert code(answer(question(b"a", count=2), names)) == 1
    pointer = struct.pack("!HHHHHH", 7, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1"
    assert code(answer(pointer, names)) == 1
    assert code(answer(question(*[b"x" * 63] * 4), names)) == 1, "longer than a name may be"
    assert code(answer(question(b"a")[:-1], names)) == 1


def test_no_packet_raises() -> None:
    chance, names, whole = random.Random(5), Names(), question(b"files", b"invented", b"test")
    for _ in range(5_000):
        packet = bytearray(chance.randbytes(chance.randrange(40)) if chance.random() < 0.5 else whole)
        for _ in range(chance.randrange(4)):
            if packet:
                packet[chance.randrange(len(packet))] = chance.randrange(256)
        reply = answer(bytes(packet[: chance.randrange(60)]), names)
        assert reply is None or len(reply) <= len(packet) + 16, "no amplifier"


@pytest.mark.parametrize("kept", [0, 2, 100])
async def test_who_asks_again_gets_the_same_answer_by_the_number_of_the_question(
    kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.egress.names._REPLIES", kept)
    full: list[str] = []
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker,
    ):
        door.bind(("127.0.0.1", 0))
        door.setblocking(False)
        asker.setblocking(False)
        asker.connect(door.getsockname())
        names = Names(limit=3)
        share = LoopShare()
        server = NameServer(door, names, share=share, on_full=lambda: full.append(names.refused))
        server.open()

        async def ask(packet: bytes, number: int) -> bytes:
            asker.send(struct.pack("!H", number) + packet[2:])
            return await soon(asyncio.get_running_loop().sock_recv(asker, 512), 10)

        for number in range(1, 4):
            for name in range(5):
                reply = await ask(question(b"n%d" % name, b"test"), number)
                assert reply[:2] == struct.pack("!H", number)
                assert (code(reply), address(reply) if name < 3 else "") == (
                    (0, f"198.18.0.{name + 1}") if name < 3 else (2, "")
                )
            assert code(await ask(question(b"n0", b"test", count=2), number)) == 1
            assert (await ask(question(b"n0", b"test", kind=28), number))[6:8] == b"\0\0"
        assert full == ["n3.test"]
        assert len(server._replies) == min(kept, 4)
        server.close()
        share.close()


# -- TLS --------------------------------------------------------------------------------------------------


def hello(host: str | None, **changes: object) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for name, value in changes.items():
        setattr(context, name, value)
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=host).do_handshake()
    return out.read()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_host_of_a_hello_is_read_once_it_is_whole(version: ssl.TLSVersion) -> None:
    data = hello("files.invented.test", maximum_version=version)
    assert [server_name(data[:size]) for size in range(len(data))] == [None] * len(data)
    assert server_name(data) == "files.invented.test"
    assert server_name(data + b"more") == "files.invented.test"
    assert server_name(hello(None, maximum_version=version)) == ""


def test_a_hello_in_many_records_is_one() -> None:
    data = hello("files.invented.test")
    body = data[5:]
    pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
    assert (
        server_name(b"".join(b"\x16\x03\x01\0" + bytes([len(p)]) + p for p in pieces))
        == "files.invented.test"
    )


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n", b"SSH-2.0-x", b"\0", b"\x16\x02", b"\x16\x03\x01\0\0", b"\x16\x03\x01\xff\xff"],
)
def test_what_is_no_tls_is_told_at_once(data: bytes) -> None:
    with pytest.raises(NotTls):
        server_name(data)


def test_no_bytes_raise_anything_else_and_none_are_waited_for_without_end() -> None:
    chance, whole = random.Random(7), hello("files.invented.test")
    for _ in range(3_000):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            found = server_name(bytes(data))
        except NotTls:
            continue
        assert found is None or found.isascii()
    with pytest.raises(NotTls):
        server_name(b"\x16\x03\x01\0\1\1" + b"\x16\x03\x01\0\1\xff" * HELLO_BYTES)
