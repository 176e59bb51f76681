"""The OpenAPI document: valid 3.1 in its structure, with every route in it, and its types tell the truth."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest_asyncio
from msgspec import UNSET
from starlette.routing import Route

from gateway.app import Gateway
from gateway.config.tables import Config
from gateway.events.fold import State
from tests.gateways import RunningGateway
from tests.shared import SHARED, fresh_id, shared_gateway

pytestmark = SHARED
gateway = shared_gateway()

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
OPERATIONAL = {"/health", "/health/live", "/health/ready", "/livez", "/readyz", "/metrics"}
NOT_DESCRIBED = {"/", "/openapi.json"}
"""The page, and the document itself."""


@pytest_asyncio.fixture(loop_scope="module")
async def document(gateway: RunningGateway) -> Any:
    return await gateway.get("/openapi.json")


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def references(value: Any) -> Iterator[str]:
    """Every `$ref` anywhere below."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for part in value.values():
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def resolved(document: Any, schema: Any) -> Any:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


async def test_the_document_has_the_structure_of_openapi_3_1(document: Any) -> None:
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert set(document) >= {"openapi", "info", "paths"}
    assert document["info"]["title"]
    assert document["info"]["version"]
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    for path, method, operation in operations(document):
        assert path.startswith("/")
        assert method in METHODS
        assert operation["responses"], path
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5]\d\d|default", status)
            assert response["description"], (path, status)
            assert all("schema" in media for media in response.get("content", {}).values())
        assert "requestBody" not in operation or all(
            body["schema"] for body in operation["requestBody"]["content"].values()
        )


async def test_every_parameter_is_whole_and_every_path_parameter_is_described(document: Any) -> None:
    for path, _, operation in operations(document):
        parameters = operation.get("parameters", [])
        keys = [(parameter["name"], parameter["in"]) for parameter in parameters]
        assert len(keys) == len(set(keys)), path
        for parameter in parameters:
            assert parameter["in"] in ("query", "header", "path", "cookie")
            assert parameter["schema"]
            assert parameter["in"] != "path" or parameter["required"] is True
        in_path = {name for name, place in keys if place == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path))


async def test_every_reference_leads_somewhere(document: Any) -> None:
    schemas = document["components"]["schemas"]
    found = set(references(document))
    assert found
    for reference in found:
        prefix, _, name = reference.rpartition("/")
        assert prefix == "#/components/schemas"
        assert name in schemas


async def test_every_route_of_the_gateway_is_described_and_nothing_else(document: Any, tmp_path: Any) -> None:
    app = Gateway(Config(data_dir=str(tmp_path))).app
    routes = {
        (route.path, method.lower())
        for route in app.routes
        if isinstance(route, Route) and (route.path.startswith("/api") or route.path in OPERATIONAL)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert routes == {(path, method) for path, method, _ in operations(document)}
    others = {route.path for route in app.routes if isinstance(route, Route)} - {path for path, _ in routes}
    assert others >= NOT_DESCRIBED


async def test_state_is_as_described_with_every_field_required(
    gateway: RunningGateway, document: Any
) -> None:
    answer = document["paths"]["/api/chat"]["post"]["responses"]["200"]["content"]["application/json"]
    schema = resolved(document, answer["schema"]["anyOf"][0])
    for state in (await gateway.chat(fresh_id(), "/echo hi"), await gateway.state(fresh_id())):
        optional = {one.name for one in msgspec.structs.fields(State) if one.default is UNSET}
        assert set(schema["required"]) == set(schema["properties"]) - optional == set(state)
    message = resolved(document, schema["properties"]["messages"]["items"])
    assert set(message["required"]) == {"sender", "content", "timestamp", "is_streaming"}
    error = document["paths"]["/api/chat"]["post"]["responses"]["422"]["content"]["application/json"]
    refusal = await gateway.post("/api/chat", {}, status=422)
    assert set(resolved(document, error["schema"])["properties"]) == set(refusal)


async def test_every_described_operation_answers_with_a_described_status(
    gateway: RunningGateway, document: Any
) -> None:
    for path, method, operation in operations(document):
        if path in ("/api/chat/stream", "/api/admin/drain"):  # one never ends, the other ends the gateway
            continue
        url = re.sub(r"{\w+}", "nobody", path)
        async with gateway.http.request(method, url, json={}) as response:
            described = set(operation["responses"])
            assert str(response.status) in described, (method, path, response.status)


def body_of(document: Any, method: str, path: str) -> dict[str, Any]:
    operation = document["paths"][path][method]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    properties: dict[str, Any] = resolved(document, schema)["properties"]
    return properties


async def test_the_document_promises_what_the_handlers_demand(document: Any) -> None:
    chat = body_of(document, "post", "/api/chat")
    assert (chat["message"]["minLength"], chat["message"]["pattern"]) == (1, r"\S")
    assert "pattern" in next(part for part in chat["session_id"]["anyOf"] if part["type"] == "string")
    query = body_of(document, "post", "/api/v1/shopping/query")
    assert query["q"]["minLength"] == 1
    assert query["sessionId"]["pattern"].startswith("^[A-Za-z0-9_:-]")
    queue = body_of(document, "post", "/api/sessions/{session_id}/queue")
    assert queue["action"]["enum"] == ["send", "drop"]
    hours = body_of(document, "post", "/api/sessions/{session_id}/shares")["hours"]["anyOf"][0]
    assert (hours["exclusiveMinimum"], hours["maximum"]) == (0, 24 * 365)
    assert body_of(document, "post", "/api/admin/keys/{key_id}/rotate")["overlap_hours"]["minimum"] == 0
    line = body_of(document, "post", "/api/products/{product_id}/chat/sessions/{session_id}/messages")
    assert (line["message_text"]["minLength"], line["message_text"]["maxLength"]) == (1, 2000)
    checkout = document["paths"]["/api/v1/shopping/session/{session_id}/cart/checkout"]["post"]
    assert "409" in checkout["responses"]
