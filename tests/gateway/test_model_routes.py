"""The model routes: workers call their providers through the gateway, with a token and without a key."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from gateway.egress.routes import RouteRequest
from gateway.errors import BudgetReached
from gateway.models.breaker import OPEN_SECONDS
from gateway.models.meter import CallUsage, ModelCall, Reservation
from gateway.models.tokens import ModelAccess
from gateway.principal import Account
from tests.fake_model import Behaviour, FakeModel, fake_model
from tests.inside import GatewayInside, gateway_inside
from tests.patience import within
from tests.shared import SHARED, crowding

pytestmark = SHARED
KEY = "sk-canary-0123456789abcdef"
BOUND_SECONDS = 10.0
CONFIG = """
[providers.openai]
dialect = ["chat", "responses"]
url = "{url}"
key = "{key}"
models = ["gpt-fake", "gpt-small-*"]
retries = 1
silence_timeout_seconds = 0.4
[providers.anthropic]
dialect = "messages"
url = "{base}"
key = "{key}"
models = ["claude-fake"]
retries = 1
silence_timeout_seconds = 0.4
[providers.gemini]
dialect = "gemini"
url = "{base}"
key = "{key}"
models = ["gemini-fake"]
retries = 1
silence_timeout_seconds = 0.4
[providers.open]
dialect = "chat"
url = "{base}"
key = "{key}"
provider_tools = ["web_search", "urls", "store"]
[providers.local]
dialect = "chat"
url = "{url}"
"""
HELLO = {"role": "user", "content": "hello there"}
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/llm/openai/v1/chat/completions", {"model": "gpt-fake", "messages": [HELLO]}),
    "responses": ("/llm/openai/v1/responses", {"model": "gpt-fake", "input": [HELLO]}),
    "messages": (
        "/llm/anthropic/v1/messages",
        {"model": "claude-fake", "max_tokens": 100, "messages": [HELLO]},
    ),
    "gemini": (
        "/llm/gemini/v1beta/models/gemini-fake:generateContent",
        {"contents": [{"role": "user", "parts": [{"text": "hello there"}]}]},
    ),
}
PROVIDERS = {"chat": "openai", "responses": "openai", "messages": "anthropic", "gemini": "gemini"}
KEY_HEADERS = {
    "chat": ("Authorization", f"Bearer {KEY}"),
    "responses": ("Authorization", f"Bearer {KEY}"),
    "messages": ("x-api-key", KEY),
    "gemini": ("x-goog-api-key", KEY),
}
DIALECTS = list(CALLS)


class Settled:
    """A meter that remembers, and refuses if it is told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[ModelCall, CallUsage, int, str]] = []
        self.reserved = 0
        self.refusal = ""
        self.changed = asyncio.Event()

    def reserve(self, call: ModelCall) -> Reservation:
        if self.refusal:
            raise BudgetReached(self.refusal)
        self.reserved += 1
        return _Reserved(self, call)


class _Reserved:
    def __init__(self, meter: Settled, call: ModelCall) -> None:
        self._meter = meter
        self._call = call

    async def kept(self) -> None:
        """At once."""

    def settle(
        self, usage: CallUsage, *, status: int, model: str = "", first_byte_milliseconds: int | None = None
    ) -> None:
        self._meter.calls.append((self._call, usage, status, model))
        self._meter.changed.set()


class Caller:
    """A worker without a door, as far as the routes know it."""

    def __init__(self, gateway: GatewayInside, meter: Settled) -> None:
        self.gateway = gateway
        self.models = gateway.inner.services.workers.models
        self.meter = meter
        self.notices: list[tuple[str, str]] = []
        self.tokens: dict[str, str] = {}
        self.accesses: dict[str, ModelAccess] = {}

    def token(self, provider: str) -> str:
        if provider not in self.tokens:
            access = self.accesses[provider] = ModelAccess(
                account=lambda: Account("default/local", "session", agent="mine"),
                provider=provider,
                has_door=False,
                notice=lambda code, words: self.notices.append((code, words)),
            )
            self.tokens[provider] = self.models.tokens.issue(access)
        return self.tokens[provider]

    def headers(self, dialect: str, provider: str = "", **more: str) -> dict[str, str]:
        token = self.token(provider or PROVIDERS[dialect])
        name, value = {
            "messages": ("x-api-key", token),
            "gemini": ("x-goog-api-key", token),
        }.get(dialect, ("Authorization", f"Bearer {token}"))
        return {name: value, **more}

    async def call(
        self, dialect: str, *, provider: str = "", path: str = "", raw: bytes | None = None, **changes: Any
    ) -> tuple[int, Any, Mapping[str, str]]:
        known, body = CALLS[dialect]
        body = {name: value for name, value in {**body, **changes}.items() if value is not None}
        async with self.gateway.http.post(
            URL(self.gateway.url + (path or known), encoded=True),
            data=io.BytesIO(raw if raw is not None else json.dumps(body).encode()),
            headers=self.headers(dialect, provider),
        ) as answer:
            text = await answer.text()
        try:
            return answer.status, json.loads(text), answer.headers
        except ValueError:
            return answer.status, text, answer.headers

    def stream(self, dialect: str) -> Any:
        path, body = CALLS[dialect]
        if dialect == "gemini":
            path = path.replace(":generateContent", ":streamGenerateContent?alt=sse")
        else:
            body = {**body, "stream": True}
        url = URL(self.gateway.url + path, encoded=True)
        return self.gateway.http.post(url, json=body, headers=self.headers(dialect))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def endpoint() -> AsyncIterator[FakeModel]:
    async with fake_model() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(endpoint: FakeModel, tmp_path_factory: Any) -> AsyncIterator[GatewayInside]:
    config = CONFIG.format(url=endpoint.url, base=endpoint.url.removesuffix("/v1"), key=KEY)
    async with gateway_inside(tmp_path_factory.mktemp("gateway"), config=config) as running:
        yield running


@pytest.fixture
def model(endpoint: FakeModel, gateway: GatewayInside) -> FakeModel:
    """The endpoint, well again and with nothing asked so far."""
    endpoint.behaviour = Behaviour()
    for seen in (endpoint.requests, endpoint.strays):
        seen.clear()
    for event in (endpoint.disconnected, endpoint.received, endpoint.sent_token):
        event.clear()
    gateway.inner.services.workers.models.providers._breakers.clear()
    return endpoint


@pytest.fixture
def caller(gateway: GatewayInside, model: FakeModel) -> Iterator[Caller]:
    meter = Settled()
    providers = gateway.inner.services.workers.models.providers
    before, providers.meter = providers.meter, meter
    caller = Caller(gateway, meter)
    yield caller
    providers.meter = before
    for token in caller.tokens.values():
        caller.models.tokens.revoke(token)
    assert meter.reserved == len(meter.calls), "every call is settled once"


# -- an answer ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_call_goes_out_with_the_key_and_comes_back_without_it(
    dialect: str, model: FakeModel, caller: Caller
) -> None:
    status, answer, _ = await caller.call(dialect)
    assert status == 200
    assert "You said: hello there" in json.dumps(answer)
    (request,) = model.requests
    name, value = KEY_HEADERS[dialect]
    assert request.headers[name] == value
    assert request.headers["Accept-Encoding"] == "identity"
    sent = json.dumps(request.headers) + request.path
    assert all(token not in sent for token in caller.tokens.values())
    assert KEY not in json.dumps(answer)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_what_a_call_used_is_read_out_of_a_whole_answer_and_of_a_stream(
    dialect: str, model: FakeModel, caller: Caller
) -> None:
    await caller.call(dialect)
    async with caller.stream(dialect) as answer:
        text = await answer.text()
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert "hello" in text
    whole, stream = [(usage, status, name) for _, usage, status, name in caller.meter.calls]
    assert whole == stream
    usage, status, name = whole
    expected = {
        "chat": CallUsage(input=2, output=4),
        "responses": CallUsage(input=11, cache_read=3, output=7),
        "messages": CallUsage(input=11, cache_read=3, output=7),
        "gemini": CallUsage(input=11, output=7),
    }
    assert (usage, status) == (expected[dialect], 200)
    assert name in ("fake-model", "gpt-fake", "claude-fake", "gemini-fake")
    call = caller.meter.calls[0][0]
    assert (call.provider, call.dialect) == (PROVIDERS[dialect], dialect)
    assert (call.account.session_key, call.account.agent) == ("session", "mine")
    assert call.input_tokens > 0


async def test_a_chat_stream_says_what_it_used_although_nobody_asked(
    model: FakeModel, caller: Caller
) -> None:
    model.behaviour = Behaviour(refuses_stream_options=True)
    async with caller.stream("chat") as answer:
        assert "hello" in await answer.text()
    assert ["stream_options" in request.body for request in model.requests] == [True, False]
    assert caller.meter.calls[0][1].is_estimated
    caller.models.providers._providers["openai"].asks_usage = True


async def test_a_long_conversation_goes_out_whole(model: FakeModel, caller: Caller) -> None:
    text = "word " * 1_000_000
    status, answer, _ = await caller.call("chat", messages=[{"role": "user", "content": text}])
    assert (status, len(model.requests[0].raw) > len(text)) == (200, True), answer


# -- who may call -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_without_a_good_token_nothing_is_called(
    dialect: str, model: FakeModel, caller: Caller, gateway: GatewayInside
) -> None:
    path, body = CALLS[dialect]
    ended = caller.models.tokens.issue(caller_access(PROVIDERS[dialect]))
    caller.models.tokens.revoke(ended)
    at_a_door = caller.models.tokens.issue(caller_access(PROVIDERS[dialect], has_door=True))
    for token in ("", "agl_guess", KEY, ended, at_a_door):
        for headers in (
            {"Authorization": f"Bearer {token}"},
            {"x-api-key": token},
            {"x-goog-api-key": token},
        ):
            async with gateway.http.post(path, json=body, headers=headers) as answer:
                assert answer.status == 401
                assert "token" in await answer.text()
    caller.models.tokens.revoke(at_a_door)
    assert model.requests == []


def caller_access(provider: str, *, has_door: bool = False) -> ModelAccess:
    return ModelAccess(account=lambda: Account("o", "k"), provider=provider, has_door=has_door)


class Answer:
    """What a door writes."""

    def __init__(self) -> None:
        self.status = 0
        self.body = b""

    def start(self, status: int, headers: Sequence[tuple[str, str]] = ()) -> None:
        self.status = status

    async def write(self, data: bytes) -> None:
        self.body += data


async def test_at_a_door_only_the_token_of_its_worker_is_good(model: FakeModel, caller: Caller) -> None:
    path, body = CALLS["chat"]
    mine, other = caller_access("openai", has_door=True), caller_access("openai", has_door=True)
    tokens = [caller.models.tokens.issue(one) for one in (mine, other)]
    tokens += [caller.token("openai"), ""]
    door = caller.models.routes.at_door(mine)
    found = []
    for token in tokens:
        answer = Answer()
        headers = (("authorization", f"Bearer {token}"),)
        raw = json.dumps(body).encode()
        await door(RouteRequest(method="POST", target=path, headers=headers, body=raw), answer)
        found.append(answer.status)
    assert found == [200, 401, 401, 401]
    assert len(model.requests) == 1
    for token in tokens[:2]:
        caller.models.tokens.revoke(token)


async def test_a_token_in_the_query_is_taken_and_goes_no_further(
    model: FakeModel, caller: Caller, gateway: GatewayInside
) -> None:
    path, body = CALLS["gemini"]
    token = caller.token("gemini")
    async with gateway.http.post(f"{path}?key={token}&alt=sse&x=1", json=body) as answer:
        assert answer.status == 200
    assert model.requests[0].path == "/v1beta/models/gemini-fake:generateContent?alt=sse"
    assert token not in gateway.log()


async def test_a_caller_behind_a_proxy_is_no_process_of_this_machine(
    model: FakeModel, caller: Caller, gateway: GatewayInside
) -> None:
    path, body = CALLS["chat"]
    headers = caller.headers("chat", **{"X-Forwarded-For": "192.0.2.7"})
    async with gateway.http.post(path, json=body, headers=headers) as answer:
        assert answer.status == 404
    assert model.requests == []


# -- where it may call --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/llm/openai/../../admin",
        "/llm/openai/v1/../../admin",
        "/llm/openai/v1/%2e%2e/%2e%2e/admin",
        "/llm/openai/v1/chat/completions/../../../admin",
        "/llm/openai//v1/chat/completions",
        "/llm/openai/v1//chat/completions",
        "/llm/openai/v1/chat%2fcompletions",
        "/llm/openai/v1/chat/./completions",
        "/llm/openai/v1/chat/completions/",
        "/llm/openai/v1/files",
        "/llm/openai/v1/batches",
        "/llm/openai/v1/embeddings",
        "/llm/openai/v1/responses/resp_1",
        "/llm/openai/chat/completions",
        "/llm/openai/",
        "/llm/openai",
        "/llm/nobody/v1/chat/completions",
        "/llm/anthropic/v1/chat/completions",
        "/llm/gemini/v1beta/models/x:batchGenerateContent",
        "/llm/openai/v1/chat/completions;x",
        "/llm/openai/v1/chat/completions%00",
        "/llm/openai/v1/models/..",
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_no_other_address_of_a_provider_is_reached(
    method: str, path: str, model: FakeModel, caller: Caller, gateway: GatewayInside
) -> None:
    body = json.dumps(CALLS["chat"][1]).encode()
    for provider in ("openai", "open"):
        headers = caller.headers("chat", provider)
        url = URL(gateway.url + path, encoded=True)
        async with gateway.http.request(method, url, data=body, headers=headers) as answer:
            assert answer.status in (401, 404), await answer.text()
    assert (model.requests, model.strays) == ([], [])


async def test_models_are_listed_from_the_configuration(model: FakeModel, caller: Caller) -> None:
    listed = {}
    for dialect, path in (
        ("responses", "/llm/openai/v1/models"),
        ("messages", "/llm/anthropic/v1/models"),
        ("gemini", "/llm/gemini/v1beta/models"),
    ):
        headers = caller.headers(dialect)
        async with caller.gateway.http.get(path, headers=headers) as answer:
            assert answer.status == 200
            listed[dialect] = await answer.json()
        async with caller.gateway.http.get(f"{path}/nothing", headers=headers) as answer:
            assert answer.status == 404
    assert [row["id"] for row in listed["responses"]["data"]] == ["gpt-fake"]
    assert [row["id"] for row in listed["messages"]["data"]] == ["claude-fake"]
    assert [row["name"] for row in listed["gemini"]["models"]] == ["models/gemini-fake"]
    headers = caller.headers("chat", "open")
    async with caller.gateway.http.get("/llm/openai/v1/models", headers=headers) as answer:
        assert "fake-model" in await answer.text(), "with no list of its own it is the provider's"
    assert caller.meter.calls == [], "it costs nothing"


async def test_a_websocket_is_refused_so_that_its_client_uses_plain_http(
    model: FakeModel, caller: Caller
) -> None:
    headers = caller.headers(
        "responses", Connection="Upgrade", Upgrade="websocket", **{"Sec-WebSocket-Version": "13"}
    )
    async with caller.gateway.http.get("/llm/openai/v1/responses", headers=headers) as answer:
        assert answer.status == 426


# -- which model --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_model_that_is_not_listed_is_not_found(
    dialect: str, model: FakeModel, caller: Caller
) -> None:
    path = CALLS[dialect][0].replace("gemini-fake", "gemini-dear")
    changes: dict[str, Any] = {} if dialect == "gemini" else {"model": "dear-model"}
    status, answer, headers = await caller.call(dialect, path=path, **changes)
    assert status == 404
    assert "model_not_found" in json.dumps(answer)
    assert headers["X-Should-Retry"] == "false"
    assert model.requests == []


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b'{"model":"gpt-fake","messages":[],"model":"dear-model"}', 404),
        (b'{"model":"dear-model","messages":[],"model":"gpt-fake"}', 200),
        (b'{"model":"gpt-fake","messages":[],"\\u006dodel":"dear-model"}', 404),
        (b'{"model":"gpt-fake","messages":[],"Model":"dear-model"}', 200),
        (b'{"messages":[]}', 200),
        (b'{"messages":[],"model":["gpt-fake"]}', 404),
        (b'{"messages":[],"model":"../gpt"}', 404),
        (b"[]", 400),
        (b"", 400),
        (b"{", 400),
        (b"[" * 100_000, 400),
        (b'{"model":"gpt-fake","messages":' + b"[" * 5_000 + b"]" * 5_000 + b"}", 400),
        (b'{"model":"gpt-fake","messages":[' + b"[]," * 1_000_000 + b"[]]}", 413),
    ],
)
async def test_the_model_that_is_checked_is_the_one_that_is_sent(
    raw: bytes, status: int, model: FakeModel, caller: Caller
) -> None:
    found, answer, _ = await caller.call("chat", raw=raw)
    assert found == status, answer
    assert len(model.requests) == (status == 200)
    for request in model.requests:
        assert request.raw.lower().count(b'model"') == 1
        assert request.body["model"] == "gpt-fake"


# -- what goes along ----------------------------------------------------------------------------------------


async def test_of_the_callers_headers_only_those_that_are_allowed_go_out(
    model: FakeModel, caller: Caller
) -> None:
    bad = {
        **{"X-Forwarded-Host": "a", "OpenAI-Organization": "o", "OpenAI-Project": "p", "Cookie": "c=1"},
        **{"x-goog-user-project": "g", "Forwarded": "for=1.2.3.4", "Via": "x", "X-Anything": "y"},
        **{"anthropic-version": "2023-06-01", "User-Agent": "an agent"},
        "anthropic-beta": "prompt-caching-2024-07-31,mcp-client-2025-04-04,code-execution-2025-05-22",
    }
    bad.pop("Forwarded")  # which names a proxy, and is refused before
    bad.pop("X-Forwarded-Host")
    for dialect in DIALECTS:
        path, body = CALLS[dialect]
        headers = caller.headers(dialect, **bad)
        async with caller.gateway.http.post(path, json=body, headers=headers) as answer:
            assert answer.status == 200
    for request in model.requests:
        names = {name.lower() for name in request.headers}
        assert names <= {
            *("host", "accept", "accept-encoding", "user-agent", "content-type", "content-length"),
            *("authorization", "x-api-key", "x-goog-api-key", "anthropic-version", "anthropic-beta"),
        }
        assert request.headers["User-Agent"] == "agent-gateway"
    (anthropic,) = [request for request in model.requests if request.path == "/v1/messages"]
    assert anthropic.headers["anthropic-beta"] == "prompt-caching-2024-07-31"


SEARCHES: list[tuple[str, dict[str, Any]]] = [
    ("chat", {"web_search_options": {}, "n": 1}),
    ("chat", {"web_search_options": {"user_location": None}}),
    ("chat", {"plugins": [{"id": "web"}]}),
    ("responses", {"tools": [{"type": "web_search"}, {"type": "function", "name": "f"}]}),
    ("responses", {"tools": [{"type": "code_interpreter"}, {"type": "function", "name": "f"}]}),
    (
        "responses",
        {"tools": [{"type": "mcp", "server_url": "https://x"}, {"type": "function", "name": "f"}]},
    ),
    ("responses", {"tools": [{"type": "brand_new"}, {"type": "function", "name": "f"}]}),
    (
        "responses",
        {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "web_search"}]}, {"name": "f"}]},
    ),
    ("messages", {"tools": [{"type": "web_search_20250305", "name": "web_search"}, {"name": "f"}]}),
    ("messages", {"tools": [{"type": "web_fetch_20250910", "name": "web_fetch"}, {"name": "f"}]}),
    ("messages", {"mcp_servers": [{"type": "url", "url": "https://x"}]}),
    ("messages", {"container": {"skills": []}, "tools": [{"name": "f"}]}),
    ("gemini", {"tools": [{"googleSearch": {}, "functionDeclarations": [{"name": "f"}]}]}),
    ("gemini", {"tools": [{"google_search": {}}, {"function_declarations": [{"name": "f"}]}]}),
    ("gemini", {"tools": [{"urlContext": {}}, {"functionDeclarations": [{"name": "f"}]}]}),
]


@pytest.mark.parametrize(("dialect", "changes"), SEARCHES)
async def test_what_the_provider_would_do_by_itself_is_taken_out(
    dialect: str, changes: dict[str, Any], model: FakeModel, caller: Caller
) -> None:
    status, answer, _ = await caller.call(dialect, **changes)
    assert status == 200, answer
    sent = model.requests[0].raw.decode()
    for word in ("search", "interpreter", "server", "brand_new", "fetch", "plugins", "container", "urlC"):
        assert word not in sent
    assert ("tools" not in changes) or '"f"' in sent


@pytest.mark.parametrize(
    ("dialect", "changes"),
    [
        ("responses", {"tools": [{"type": "web_search"}]}),
        ("responses", {"background": True}),
        ("responses", {"previous_response_id": "resp_of_somebody"}),
        ("responses", {"conversation": "conv_1"}),
        ("messages", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
        ("gemini", {"tools": [{"codeExecution": {}}]}),
        ("gemini", {"cachedContent": "cachedContents/1"}),
        (
            "chat",
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y"}}]}
                ]
            },
        ),
        (
            "responses",
            {
                "input": [
                    {"role": "user", "content": [{"type": "input_image", "image_url": "HTTPS://x/?secret"}]}
                ]
            },
        ),
        (
            "messages",
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image", "source": {"type": "url", "url": "http://x"}}],
                    }
                ]
            },
        ),
        ("gemini", {"contents": [{"parts": [{"fileData": {"fileUri": "https://x/y"}}]}]}),
        (
            "messages",
            {
                "messages": [
                    {"content": [{"type": "tool_result", "content": [{"source": {"url": "http://x"}}]}]}
                ]
            },
        ),
        ("responses", {"input": ["text", {"type": "x_call_output", "output": [{"file_url": "//x/y"}]}]}),
    ],
)
async def test_what_means_nothing_without_it_is_refused_in_words(
    dialect: str, changes: dict[str, Any], model: FakeModel, caller: Caller
) -> None:
    status, answer, _ = await caller.call(dialect, **changes)
    assert (status, model.requests) == (400, [])
    assert "provider_tools" in json.dumps(answer)


async def test_nothing_is_stored_at_the_provider_and_data_pictures_pass(
    model: FakeModel, caller: Caller
) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    words = {"type": "text", "text": 'an "image_url" of https://example.org'}
    status, answer, _ = await caller.call("chat", messages=[{"role": "user", "content": [picture, words]}])
    assert status == 200, answer
    await caller.call("responses")
    await caller.call("responses", store=True)
    assert [request.body.get("store") for request in model.requests] == [None, False, False]
    used = {"type": "tool_use", "id": "1", "name": "look", "input": {"image_url": "https://example.org"}}
    status, answer, _ = await caller.call("messages", messages=[{"role": "user", "content": [used, words]}])
    assert status == 200, answer


async def test_an_address_whose_name_is_escaped_is_found(model: FakeModel, caller: Caller) -> None:
    part = rb'{"type":"image_url","image\u005furl":{"\u0075rl":"\u0068ttps:\/\/x"}}'
    raw = b'{"model":"gpt-fake","messages":[{"role":"user","content":[' + part + b"]}]}"
    status, answer, _ = await caller.call("chat", raw=raw)
    assert (status, model.requests) == (400, []), answer


async def test_what_is_named_in_provider_tools_goes_out(model: FakeModel, caller: Caller) -> None:
    link = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    status, _, _ = await caller.call(
        "chat",
        provider="open",
        model="anything",
        web_search_options={"x": 1},
        messages=[{"role": "user", "content": [link]}],
    )
    assert status == 200
    assert model.requests[0].body["web_search_options"] == {"x": 1}


# -- bad days -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("behaviour", "status", "tries"),
    [
        (Behaviour(status=503, fail_times=1), 200, 2),
        (Behaviour(status=503), 503, 2),
        (Behaviour(status=529), 529, 2),
        (Behaviour(status=429), 429, 2),
        (Behaviour(status=429, headers={"Retry-After": "0"}, fail_times=1), 200, 2),
        (Behaviour(status=429, headers={"Retry-After": "3600"}), 429, 1),
        (Behaviour(status=400), 400, 1),
        (Behaviour(status=401), 502, 1),
        (Behaviour(status=403), 502, 1),
        (Behaviour(status=302, headers={"Location": "http://127.0.0.1:9/"}), 502, 1),
        (Behaviour(cut_after=0), 502, 2),
        (Behaviour(silent_after=0), 502, 2),
    ],
)
async def test_each_failure_before_the_first_byte(
    dialect: str,
    behaviour: Behaviour,
    status: int,
    tries: int,
    model: FakeModel,
    caller: Caller,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(caller.models.providers, "sleep", no_sleep)
    model.behaviour = behaviour
    found, answer, headers = await caller.call(dialect)
    assert (found, len(model.requests)) == (status, tries), answer
    if behaviour.headers.get("Retry-After") == "3600":
        assert headers["Retry-After"] == "3600"
    if status == 502:
        assert "cannot be used for the moment" in json.dumps(answer)
        assert [code for code, _ in caller.notices] == ["provider_unavailable"]
    assert "Location" not in headers
    _, usage, settled, _ = caller.meter.calls[0]
    assert usage.total == 0 or status == 200 or usage.is_estimated
    assert settled in (behaviour.status, 200, 0)


async def no_sleep(_seconds: float) -> None:
    return None


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_answer_that_breaks_off_says_so_and_counts_as_estimated(
    dialect: str, model: FakeModel, caller: Caller
) -> None:
    model.behaviour = Behaviour(cut_after=3)
    async with caller.stream(dialect) as answer:
        text = await answer.text()
    assert answer.status == 200
    assert "The provider's answer broke off" in text
    _, usage, _, _ = caller.meter.calls[0]
    assert usage.is_estimated
    assert usage.input > 0
    assert len(model.requests) == 1


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("silent_after", [0, 2])
async def test_a_caller_that_leaves_ends_the_call_to_the_provider(
    dialect: str, silent_after: int, model: FakeModel, caller: Caller
) -> None:
    model.behaviour = Behaviour(silent_after=silent_after)
    task = asyncio.create_task(take(caller, dialect))
    loop = asyncio.get_running_loop()
    async with within(BOUND_SECONDS):
        await (model.received if silent_after == 0 else model.sent_token).wait()
        task.cancel()
        began = loop.time()
        await asyncio.wait([task])
        await model.disconnected.wait()
        assert loop.time() - began < 0.4 * crowding(), "before the provider's silence would have ended it"
        await caller.meter.changed.wait()
    _, usage, status, _ = caller.meter.calls[0]
    assert status == 499
    assert usage.is_estimated
    assert usage.input > 0


async def take(caller: Caller, dialect: str) -> None:
    async with caller.stream(dialect) as answer:
        await answer.read()


async def test_the_end_of_a_worker_ends_its_calls(model: FakeModel, caller: Caller) -> None:
    model.behaviour = Behaviour(silent_after=2)
    async with within(BOUND_SECONDS):
        async with caller.stream("chat") as answer:
            assert await answer.content.readany()
            caller.models.tokens.revoke(caller.tokens.pop("openai"))
            await model.disconnected.wait()
            with pytest.raises(aiohttp.ClientError):
                await answer.read()
        model.behaviour = Behaviour(silent_after=0)
        model.received.clear()
        task = asyncio.create_task(caller.call("chat"))
        await model.received.wait()
        caller.models.tokens.revoke(caller.tokens.pop("openai"))
        status, said, _ = await task
        assert (status, "ended with its turn" in json.dumps(said)) == (503, True)


async def test_what_outlives_its_turn_is_cut(
    model: FakeModel, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.models.tokens.CUT_SECONDS", 0.05)
    model.behaviour = Behaviour(seconds_a_token=0.3)
    task = asyncio.create_task(take(caller, "messages"))
    async with within(BOUND_SECONDS):
        await model.sent_token.wait()
        caller.accesses["anthropic"].cut_soon()
        await model.disconnected.wait()
        with pytest.raises(aiohttp.ClientError):
            await task


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_key_that_the_provider_quotes_is_taken_out_of_errors_and_answers(
    dialect: str, model: FakeModel, caller: Caller, gateway: GatewayInside
) -> None:
    quoted = {"message": f"no such model for {KEY}, see {KEY[:13]}"}
    model.behaviour = Behaviour(
        status=400, error=quoted, headers={"x-request-id": f"r-{KEY}", "Set-Cookie": "a=b"}
    )
    status, answer, headers = await caller.call(dialect)
    assert status == 400
    assert "no such model for …, see …" in json.dumps(answer, ensure_ascii=False)
    assert KEY[:9] not in str(headers)
    assert "Set-Cookie" not in headers
    whole = b'data: {"text": "' + KEY.encode() + b'"}\n\n'
    for size in (1, 5, 1000):
        pieces = tuple(whole[at : at + size] for at in range(0, len(whole), size))
        model.behaviour = Behaviour(raw=pieces, headers={"Set-Cookie": "a=b"})
        async with caller.stream(dialect) as answer:
            assert await answer.text() == 'data: {"text": "…"}\n\n'
            assert "Set-Cookie" not in answer.headers
    assert KEY not in gateway.log()


async def test_an_answer_that_is_compressed_although_it_was_asked_not_to_be_is_none(
    model: FakeModel, caller: Caller
) -> None:
    model.behaviour = Behaviour(
        raw=(gzip.compress(b"data: {}\n\n" * 1000),), headers={"Content-Encoding": "gzip"}
    )
    status, answer, _ = await caller.call("chat", stream=True)
    assert (status, "compressed" in json.dumps(answer)) == (502, True)


# -- breaker and fallback -----------------------------------------------------------------------------------


async def test_a_provider_that_fails_again_and_again_is_left_alone_for_a_while(
    model: FakeModel, caller: Caller, gateway: GatewayInside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller.models.providers, "sleep", no_sleep)
    model.behaviour = Behaviour(status=500)
    for _ in range(3):
        await caller.call("messages")
    assert len(model.requests) == 5
    status, answer, headers = await caller.call("messages")
    assert (status, len(model.requests)) == (502, 5)
    assert "it has a problem (500)" in json.dumps(answer)
    assert 0 < int(headers["Retry-After"]) <= OPEN_SECONDS
    async with gateway.http.get("/metrics") as scraped:
        assert 'agent_gateway_model_breaker_open{provider="anthropic"} 1.0' in await scraped.text()
    gateway.clock.advance(OPEN_SECONDS)
    await caller.call("messages")
    assert len(model.requests) == 6, "one call tries again, and only one"
    gateway.clock.advance(OPEN_SECONDS)
    model.behaviour = Behaviour()
    assert (await caller.call("messages"))[0] == 200
    assert (await caller.call("messages"))[0] == 200


async def test_a_refused_key_opens_at_once_and_a_refused_model_for_itself_alone(
    model: FakeModel, caller: Caller, gateway: GatewayInside
) -> None:
    model.behaviour = Behaviour(status=403, fail_times=1)
    assert (await caller.call("chat", model="gpt-small-1"))[0] == 502
    assert (await caller.call("chat", model="gpt-small-1"))[0] == 502
    assert (await caller.call("chat"))[0] == 200
    assert len(model.requests) == 2
    model.behaviour = Behaviour(status=401, fail_times=1)
    assert (await caller.call("messages"))[0] == 502
    assert (await caller.call("messages"))[0] == 502
    assert len(model.requests) == 3
    assert "does not accept the key (401)" in gateway.log()


async def test_the_budget_is_refused_as_each_agent_understands_best(model: FakeModel, caller: Caller) -> None:
    caller.meter.refusal = "Your budget of the day is spent; ask the owner to raise it."
    found = {}
    for dialect in DIALECTS:
        status, answer, headers = await caller.call(dialect)
        found[dialect] = status
        assert caller.meter.refusal in json.dumps(answer)
        assert headers["X-Should-Retry"] == "false"
    assert found == {"chat": 402, "responses": 400, "messages": 402, "gemini": 402}
    assert model.requests == []


async def test_a_fallback_is_called_before_the_first_byte_only(tmp_path: Any) -> None:
    async with fake_model() as first, fake_model() as second:
        config = f"""
[providers.one]
url = "{first.url}"
key = "{KEY}"
retries = 0
fallback = "two"
[providers.two]
url = "{second.url}"
key = "sk-other-key-of-its-own"
models = ["gpt-fake"]
"""
        async with gateway_inside(tmp_path, config=config) as gateway:
            meter = Settled()
            caller = Caller(gateway, meter)
            caller.models.providers.meter = meter
            for behaviour in (Behaviour(status=500), Behaviour(cut_after=0), Behaviour(status=401)):
                first.behaviour = behaviour
                status, answer, _ = await caller.call("chat", provider="one")
                assert (status, "You said" in json.dumps(answer)) == (200, True)
            assert (len(first.requests), len(second.requests)) == (3, 3)
            assert KEY not in json.dumps([request.headers for request in second.requests])
            assert [call.provider for call, *_ in meter.calls] == ["one", "two"] * 3
            gateway.clock.advance(OPEN_SECONDS)
            first.behaviour = Behaviour(status=500)
            assert (await caller.call("chat", provider="one", model="other"))[0] == 500
            gateway.clock.advance(OPEN_SECONDS)
            first.behaviour = Behaviour(status=400)
            assert (await caller.call("chat", provider="one"))[0] == 400
            assert len(second.requests) == 3
