"""Usage, redaction, the breaker and placeholders without a socket."""

from __future__ import annotations

import pathlib
from typing import Any

import msgspec
import pytest

from gateway.config.file import ConfigError, load
from gateway.models.breaker import FAILURES, OPEN_SECONDS, WINDOW_SECONDS, Breaker
from gateway.models.dialects import TONGUES
from gateway.models.dialects.contract import AskedCall, CallRules
from gateway.models.dialects.usage import LINE_BYTES
from gateway.models.meter import CallUsage, Dialect
from gateway.models.opening import Models, Placeholders
from gateway.models.providers import GONE, UNSEEN_TOKENS_A_SECOND, Metering
from gateway.models.redaction import Redactor
from gateway.models.tokens import ModelAccess, ModelTokens
from gateway.principal import Account
from tests import gemini_dialect, messages_dialect, responses_dialect

ASKED = AskedCall(operation="generate", path="", input_tokens=25)
REPLY = {"role": "assistant", "content": "one two three שלום"}
STREAMS: dict[Dialect, bytes] = {
    "responses": b"".join(responses_dialect.events_of(REPLY, (11, 7), "m")),
    "messages": b"".join(messages_dialect.events_of(REPLY, (11, 7), "m")),
    "gemini": b"".join(gemini_dialect.events_of(REPLY, (11, 7))),
}
USED: dict[Dialect, CallUsage] = {
    "responses": CallUsage(input=11, cache_read=3, output=7),
    "messages": CallUsage(input=11, cache_read=3, output=7),
    "gemini": CallUsage(input=11, output=7),
}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100_000])
@pytest.mark.parametrize("dialect", list(STREAMS))
def test_usage_is_the_same_whatever_the_pieces(dialect: Dialect, size: int) -> None:
    reader = TONGUES[dialect].usage(ASKED)
    stream = STREAMS[dialect]
    for at in range(0, len(stream), size):
        reader.feed(stream[at : at + size])
    assert reader.usage(is_whole=True) == USED[dialect]


@pytest.mark.parametrize("dialect", list(STREAMS))
def test_of_a_stream_that_is_cut_anywhere_something_is_known(dialect: Dialect) -> None:
    stream = STREAMS[dialect]
    for end in range(0, len(stream), 37):
        reader = TONGUES[dialect].usage(ASKED)
        reader.feed(stream[:end])
        usage = reader.usage(is_whole=False)
        assert usage == USED[dialect] or (usage.is_estimated and usage.input in (11, 25))
        assert usage.output <= 10


@pytest.mark.parametrize("dialect", list(TONGUES))
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b'{"usage": 7, "usageMetadata": []}',
        b'data: {"usage": "x", "usageMetadata": 1}\n\n',
        b'data: {"usage": {"prompt_tokens": -5, "input_tokens": 1e99}}\n\n',
        b"[" * 5000,
        b"data: " + b"[" * 5000 + b'"usage" "usageMetadata"\n\n',
        b'data: {"usage"' + b" " * LINE_BYTES + b"\n\n",
        b"\xff\xfe\x00",
        b"<html>",
    ],
)
def test_nothing_that_a_provider_says_of_usage_raises(dialect: Dialect, body: bytes) -> None:
    reader = TONGUES[dialect].usage(ASKED)
    reader.feed(body)
    assert reader.usage(is_whole=True).total >= 0


def test_events_that_tell_nothing_of_usage_hide_none_that_do() -> None:
    reader = TONGUES["chat"].usage(ASKED)
    reader.feed(b'data: {"model":"m-1","choices":[{"delta":{"content":"abcd"}}],"usage":null}\n\n' * 3)
    assert reader.model == "m-1"
    reader.feed(b'data: {"choices":[{"usage":null}],"usage":{"prompt_tokens":11,"completion_tokens":7}}\n\n')
    reader.feed(b'data: {"choices":[],"usage":null}\n\n')
    assert reader.usage(is_whole=True) == CallUsage(input=11, output=7)


def test_a_long_string_is_read_in_time_that_grows_with_its_length() -> None:
    reader = TONGUES["chat"].usage(ASKED)
    reader.feed(b'data: {"content": "' + b"\\" * 1_000_001 + b"\n")
    reader.feed(b'data: {"content": "' + b'"content": "' * 100_000 + b"\n")
    assert reader.usage(is_whole=False).is_estimated


@pytest.mark.parametrize(
    ("status", "told", "limit", "output"),
    [
        (GONE, b"", 0, 10 * UNSEEN_TOKENS_A_SECOND),
        (GONE, b"", 50, 50),
        (GONE, b'data: {"choices":[{"delta":{"content":"' + b"x" * 4_000 + b'"}}]}\n\n', 5_000, 1_000),
        (GONE, b'data: {"usage":{"prompt_tokens":11,"completion_tokens":7}}\n\n', 50, 7),
        (0, b"", 50, 0),
    ],
)
def test_of_a_call_that_is_given_up_the_time_counts_that_it_took(
    status: int, told: bytes, limit: int, output: int
) -> None:
    now, settled = 5.0, []
    asked = msgspec.structs.replace(ASKED, max_output_tokens=limit)
    metering = Metering(asked, TONGUES["chat"], lambda usage, *_: settled.append(usage.output), lambda: now)
    metering.sent()
    metering.reader.feed(told)
    now += 10
    metering.status = status
    metering.settle()
    assert settled == [output]


@pytest.mark.parametrize(
    ("dialect", "path", "members"),
    [
        ("chat", "/v1/chat/completions", {"service_tier": "priority"}),
        ("chat", "/v1/chat/completions", {"service_tier": ["fast"]}),
        ("responses", "/v1/responses", {"service_tier": "FAST"}),
        ("messages", "/v1/messages", {"speed": "fast"}),
        ("gemini", "/v1beta/models/m:generateContent", {"serviceTier": "priority"}),
    ],
)
def test_what_costs_more_than_its_model_is_taken_out(
    dialect: Dialect, path: str, members: dict[str, Any]
) -> None:
    def asked(tools: frozenset[str], **changed: Any) -> AskedCall:
        rules = CallRules(has_model=lambda _name: True, tools=tools)
        return TONGUES[dialect].read(path, {}, msgspec.json.encode({"model": "m"} | changed), rules)

    (name,) = members
    plain = asked(frozenset(), **members)
    assert (name in (plain.fields or {}), plain.dropped) == (False, ("priority",))
    assert name in (asked(frozenset({"priority"}), **members).fields or {})
    usual = asked(frozenset(), **{name: "flex"})
    assert (name in (usual.fields or {}), usual.dropped) == (True, ())
    other_case = asked(frozenset(), **{name.upper(): "priority"})
    assert name.upper() not in (other_case.fields or {})


def test_other_models_and_several_answers_are_held_to_what_may_be_used() -> None:
    rules = CallRules(has_model=lambda name: name.startswith("cheap"))
    body = {"model": "cheap-1", "models": ["cheap-2", "dear", 7], "n": 3, "max_tokens": 100}
    asked = TONGUES["chat"].read("/v1/chat/completions", {}, msgspec.json.encode(body), rules)
    assert asked.max_output_tokens == 300
    assert asked.fields is not None
    assert msgspec.json.decode(asked.fields["models"]) == ["cheap-2"]
    body = {"generationConfig": {"candidateCount": 3, "maxOutputTokens": 100}}
    asked = TONGUES["gemini"].read(
        "/v1beta/models/cheap:generateContent", {}, msgspec.json.encode(body), rules
    )
    assert asked.max_output_tokens == 300


KEY = "sk-canary-0123456789"


@pytest.mark.parametrize("size", [1, 2, 5, 8, 9, 1000])
def test_a_key_is_taken_out_whatever_the_pieces(size: int) -> None:
    text = f"a sk-ca {KEY}! {KEY[:8]} {KEY}{KEY} sk-canarysk-cana sk-c"
    redactor, out = Redactor(KEY), b""
    data = text.encode()
    for at in range(0, len(data), size):
        out += redactor.feed(data[at : at + size])
    out += redactor.end()
    assert out.decode() == "a sk-ca …! … … … sk-c"
    assert Redactor(KEY).whole(data).decode() == out.decode()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 9, 1000])
@pytest.mark.parametrize(
    ("key", "quoted"),
    [
        ("key-id-0123:secret|half!", "key-id-0123:secret|half!"),
        ("abcdefgh/ijk+lmn==", r"abcdefgh\/ijk\u002Blmn=="),
        ("abcdefgh+/+/", r"abcdefgh\u002b\/\u002b\/"),
    ],
)
def test_a_key_of_any_signs_is_taken_out_as_json_spells_it(key: str, quoted: str, size: int) -> None:
    data = f'{{"error": "The key \\"{quoted}\\" is wrong, {quoted}\\nSee"}}'.encode()
    redactor, out = Redactor(key), b""
    for at in range(0, len(data), size):
        out += redactor.feed(data[at : at + size])
    out += redactor.end()
    assert out.decode() == '{"error": "The key \\"…\\" is wrong, …\\nSee"}'
    assert Redactor(key).whole(data) == out


def test_a_short_key_is_a_word() -> None:
    assert Redactor("none").whole(b"none of these") == b"none of these"


def test_a_breaker_opens_after_failures_in_a_row_and_lets_one_call_try() -> None:
    now = 0.0
    breaker = Breaker(lambda: now)
    for _ in range(FAILURES - 1):
        assert breaker.admits()
        breaker.failed("down")
    breaker.succeeded()
    for number in range(FAILURES):
        assert breaker.admits()
        assert breaker.failed("down") is (number == FAILURES - 1)
    assert (breaker.admits(), breaker.why) == (False, "down")
    now += OPEN_SECONDS
    assert [breaker.admits(), breaker.admits()] == [True, False]
    breaker.failed("down")
    assert not breaker.admits()
    now += OPEN_SECONDS
    assert breaker.admits()
    breaker.abandoned()
    assert breaker.admits()
    assert breaker.succeeded()
    assert breaker.admits()
    assert breaker.admits()
    for _ in range(FAILURES):
        breaker.failed("down now and then")
        now += WINDOW_SECONDS / 2
    assert breaker.admits(), "they were too far apart"
    assert breaker.failed("refused", at_once=True)
    assert not breaker.admits()


def access(*, has_door: bool = False) -> ModelAccess:
    return ModelAccess(account=lambda: Account("o", "k"), provider="p", has_door=has_door)


def test_a_token_is_random_known_by_its_hash_alone_and_ends_with_its_worker() -> None:
    tokens = ModelTokens()
    mine = access()
    one, other = tokens.issue(mine), tokens.issue(access())
    assert one != other
    assert len(one) >= 43
    assert tokens.find(one) is mine
    assert one not in str(vars(tokens))
    tokens.revoke(one)
    assert tokens.find(one) is None
    assert tokens.find(other) is not None
    assert tokens.find("") is tokens.find("agl_\udcff") is None


def test_placeholders_are_filled_and_what_names_a_model_is_left_out_if_none_is_named() -> None:
    text = 'a = "{base}/x {token}"\nb = "{model}"\nc = "{other}"\n'
    cases: list[tuple[list[str], int]] = [([], 2), (["big-1", "big-mini", "wild-*"], 3)]
    for models, lines in cases:
        config = load(None, environ={}, overrides={"providers.p": {"url": "http://h", "models": models}})
        parts = Models(config)
        filled = Placeholders(access(), parts, own_url="http://127.0.0.1:8080")
        assert filled.text(text).count("\n") == lines
        assert filled.text(text).startswith(f'a = "http://127.0.0.1:8080/llm/x {filled.token}"\n')
        env = filled.env({"S": "{small_model}", "M": "{model}", "P": "plain {json}"})
        expected = {"S": "big-mini", "M": "big-1"} if lines == 3 else {}
        assert env == expected | {"P": "plain {json}"}
        inside = Placeholders(access(has_door=True), parts, own_url="http://127.0.0.1:8080")
        assert inside.text("{base}") == "http://127.0.0.1:3128/llm"


PROVIDER = {"url": "https://api.example", "models": ["m"]}


@pytest.mark.parametrize(
    ("settings", "mistake"),
    [
        ({"providers.p": {**PROVIDER, "url": "api.example"}}, "providers.p.url: write the base"),
        (
            {"providers.p": {**PROVIDER, "url": "https://k:s@h/"}},
            "providers.p.url: write the key into a file",
        ),
        ({"providers.p": {**PROVIDER, "dialect": "ftp"}}, "providers.p.dialect: "),
        ({"providers.p": {**PROVIDER, "dialect": []}}, "providers.p.dialect: name one"),
        ({"providers.p": {**PROVIDER, "fallback": "q"}}, "providers.p.fallback: there is no provider 'q'"),
        ({"providers.p": {**PROVIDER, "fallback": "p"}}, "providers.p.fallback: is this provider itself"),
        (
            {"providers.p": {**PROVIDER, "provider_tools": ["x"]}},
            "providers.p.provider_tools: 'x' is not known",
        ),
        (
            {"providers.p": {**PROVIDER, "key_file": "/nowhere"}},
            "providers.p.key_file: /nowhere: No such file",
        ),
        ({"providers.p": {**PROVIDER, "prices": {"M/x:1": {"input": "a"}}}}, "providers.p.prices.M/x:1"),
        ({"providers.default": PROVIDER, "model.url": "http://h/v1"}, "providers.default: is [model]"),
        ({"agents.a": {"command": "x", "provider": "p"}}, "agents.a.provider: there is no provider 'p'"),
        (
            {"providers.p": PROVIDER, "agents.a": {"command": "x", "provider": "p", "network": "none"}},
            "agents.a.provider: is reached over the network",
        ),
        (
            {"providers.p": PROVIDER, "agents.a": {"preset": "claude", "provider": "p"}},
            "agents.a.provider: Claude speaks messages, and p does not",
        ),
        (
            {"providers.p": {"url": "http://h"}, "agents.a": {"preset": "opencode", "provider": "p"}},
            "agents.a.provider: name a model in providers.p.models",
        ),
        (
            {"agents.a": {"command": "x", "home_files": {"../x": "y"}}},
            "agents.a.home_files: '../x' is no path inside HOME",
        ),
        (
            {"agents.a": {"command": "x", "home_files": {"x": "{token}"}}},
            "agents.a.home_files: {base} and {token} need a provider",
        ),
    ],
)
def test_what_cannot_be_is_said(settings: dict[str, object], mistake: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, environ={}, overrides=settings)
    assert [line for line in caught.value.mistakes if line.startswith(mistake)], caught.value.mistakes


def test_the_default_provider_is_the_model_of_the_built_in_agent_and_the_other_way_round(
    tmp_path: pathlib.Path,
) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[providers.default]\nurl = "https://h.example"\nmodels = ["a", "b", "c-*"]\nkey = "k"\n')
    config = load(file, environ={"OPENAI_API_KEY": "another"})
    assert (config.model.url, config.model.models) == ("https://h.example/v1", ("a", "b"))
    assert config.model.key == "k"
    config = load(None, environ={}, overrides={"model.url": "http://h/v1", "model.name": "m"})
    assert config.every_provider["default"].models == ("m",)
    assert config.every_provider["default"].url == "http://h/v1"


def test_an_agent_with_a_provider_gets_no_key_of_the_gateways_environment() -> None:
    provider = {"url": "https://h", "dialect": "messages"}
    agent = {"preset": "claude", "provider": "p", "env": {"ANTHROPIC_MODEL": "mine"}}
    config = load(None, environ={}, overrides={"providers.p": provider, "agents.a": agent})
    found = config.agents["a"]
    assert found.pass_env == ()
    assert found.env["ANTHROPIC_AUTH_TOKEN"] == "{token}"
    assert found.env["ANTHROPIC_MODEL"] == "mine"
