"""Which requests a credential is for, which headers go on, and the credential in what comes back."""

from __future__ import annotations

import random

import pytest

from gateway.egress.request_rules import Mask, answered, is_for, passed_on, refusal

PATHS = ("/acme/**", "/repos/acme/*", "/api/*/issues", "/@acme%2f*", "/exact")


def is_allowed(target: str, *, method: str = "GET", methods: tuple[str, ...] = ("GET", "POST")) -> bool:
    return refusal(method, target, methods=methods, paths=PATHS) is None


@pytest.mark.parametrize(
    "target",
    [
        *("/acme", "/acme/", "/acme/a", "/acme/a/b.git/info/refs?service=git-upload-pack", "/acme/a%20b"),
        *("/repos/acme/x", "/repos/acme/x?next=/other/../x", "/api/7/issues", "/@acme%2fpkg", "/@acme%2Fpkg"),
        *("/exact", "/acme/.git", "/acme/...", "/acme/a..b", "/acme/a;v=1"),
        *("/acme/caf%C3%A9", "/acme/100%25", "/acme/a%2525"),
    ],
)
def test_a_listed_path_is_allowed(target: str) -> None:
    assert is_allowed(target)


@pytest.mark.parametrize(
    "target",
    [
        *("/", "/other", "/acmeother", "/acme2/x", "/repos/acme", "/repos/acme/x/y", "/api/7/8/issues"),
        *("/acme/../other", "/acme/..", "/acme/./x", "/acme//x", "//acme/x", "/acme/%2e%2e/other"),
        *("/acme/%2E./x", "/acme/.%2e/x", "/acme/..%2fother", "/acme/%2f../x", "/acme/..%5cother"),
        *("/acme/..\\other", "/acme\\..\\x", "/acme/%5c..", "/acme/..;/other", "/acme/..;a=b/other"),
        *("/acme/%00", "/acme/%0d%0aX", "/acme/%zz", "/acme/%2", "/acme/%", "/acme/;/x"),
        *("/api/7%2f8/issues", "/acme%2fx", "/%61cme/x", "/@acme/pkg", "/@acme%252fpkg"),
        *("*", "", "http://git.test/acme/x", "acme/x", "/acme/x#y", "/acme/é", "/acme/a b", "/acme/\x00"),
        *(
            "/exact/x",
            "/acme/%c0%ae%c0%ae/other",
            "/acme/%ff",
            "/acme/%252e%252e/other",
            "/api/7%252f8/issues",
        ),
        "/acme/..%255cother",
    ],
)
def test_every_other_path_is_refused(target: str) -> None:
    assert not is_allowed(target)


def test_methods_are_limited_and_trace_is_never_sent() -> None:
    assert not is_allowed("/acme/x", method="DELETE")
    assert not is_allowed("/acme/x", method="get")
    assert is_allowed("/acme/x", method="DELETE", methods=())
    assert not is_allowed("/acme/x", method="TRACE", methods=())
    assert refusal("GET", "/any/path", methods=(), paths=()) is None
    assert refusal("GET", "/any/../path", methods=(), paths=()) is not None


def test_the_workers_own_header_of_that_name_is_left_out_however_it_is_spelled() -> None:
    headers = [
        *((b"AUTHORIZATION", b"Bearer own"), (b"authorization", b"x"), (b"X-Kept", b"1"), (b"Cookie", b"c")),
        *((b"Connection", b"X-Named, close"), (b"X-Named", b"n"), (b"Transfer-Encoding", b"chunked")),
        *((b"Host", b"git.test"), (b"X-HTTP-Method-Override", b"DELETE"), (b"X_Original_URL", b"/admin")),
        *((b"Accept-Encoding", b"gzip"), (b"X-Forwarded-Host", b"evil.test"), (b"Forwarded", b"host=evil")),
    ]
    assert list(passed_on(headers, "Authorization")) == [(b"X-Kept", b"1"), (b"Cookie", b"c")]
    assert list(passed_on([(b"X_Api_Key", b"own"), (b"Authorization", b"a")], "X-Api-Key")) == [
        (b"Authorization", b"a")
    ]


def test_cookies_come_back_and_no_other_way_is_offered() -> None:
    headers = [
        (b"Set-Cookie", b"a=b"),
        (b"Alt-Svc", b'h3=":443"'),
        (b"Connection", b"close"),
        (b"Location", b"/x"),
    ]
    assert list(answered(headers)) == [(b"Set-Cookie", b"a=b"), (b"Location", b"/x")]


@pytest.mark.parametrize(
    ("given", "is_same"),
    [
        ([b"git.test"], True),
        ([b"GIT.test:443"], True),
        ([b"git.test."], True),
        ([], False),
        ([b""], False),
        ([b"git.test", b"git.test"], False),
        ([b"git.test:444"], False),
        ([b"evil.test"], False),
        ([b"git.test@evil.test"], False),
        ([b"git.test:443:443"], False),
        ([b"git.test evil"], False),
    ],
)
def test_the_host_header_is_the_host(given: list[bytes], is_same: bool) -> None:
    assert is_for(given, "git.test", 443) is is_same


@pytest.mark.parametrize(
    "spelled",
    [
        b"ab+cd/ef&gh==",
        b"ab+cd\\/ef&gh==",
        b"ab\\u002Bcd/ef\\u0026gh==",
        b"ab+cd/ef\\u0026gh==",
        b"ab%2Bcd%2Fef%26gh%3D%3D",
    ],
)
def test_the_credential_is_masked_however_a_host_spells_it(spelled: bytes) -> None:
    mask = Mask([b"ab+cd/ef&gh=="])
    said = b"".join(mask.feed(bytes([one])) for one in b'{"sent": "' + spelled + b'"}') + mask.end()
    assert said == b'{"sent": "' + b"*" * len(spelled) + b'"}'


def test_the_credential_is_masked_wherever_the_pieces_are_cut() -> None:
    needles = (b"ghp_secret-token", b"Z2hwX3NlY3JldC10b2tlbg==")
    text = b"a ghp_ ghp_secret-token b Z2hwX3NlY3JldC10b2tlbg==ghp_secret-tokenghp_secret-toke"
    expected = text
    for needle in needles:
        expected = expected.replace(needle, b"*" * len(needle))
    chosen = random.Random(7)
    for _ in range(500):
        mask, out, at = Mask(needles), b"", 0
        while at < len(text):
            size = chosen.randint(1, 9)
            out += mask.feed(text[at : at + size])
            at += size
        assert out + mask.end() == expected
    assert len(expected) == len(text)


def test_nothing_is_held_back_that_cannot_be_the_credential() -> None:
    mask = Mask((b"ghp_secret",))
    assert mask.feed(b"data: 1\n\n") == b"data: 1\n\n"
    assert mask.feed(b"ends in ghp_sec") == b"ends in "
    assert mask.feed(b"ond") == b"ghp_second"
    assert Mask(()).feed(b"x") == b"x"
