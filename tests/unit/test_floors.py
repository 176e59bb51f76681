"""Who may import whom (gateway/README.md, "Floors"): higher imports lower, never back up; one outside
library, one room.
"""

from __future__ import annotations

import ast
import functools
import pathlib
import sys
from typing import Final

import pytest

ROOT: Final = pathlib.Path(__file__).parent.parent.parent

FLOORS: Final[dict[str, int]] = {
    # 0: words, pure
    "errors": 0, "lifecycle": 0, "events": 0, "chat": 0, "posting": 0, "version": 0, "worker.acp": 0,
    "worker.foreign": 0, "worker.spec": 0,
    # 1: numbers and small machines
    "addresses": 1, "config": 1, "config_file": 1, "grants": 1, "limits": 1, "tenants": 1, "logs": 1,
    "updates": 1, "compaction": 1, "completion": 1, "conversation": 1, "answers": 1, "shop.words": 1,
    "metrics": 1, "tasks": 1, "trees": 1, "recent": 1, "audit": 1, "sights": 1, "tracing": 1, "tenures": 1,
    "terminal": 1, "long_updates": 1, "known_agents": 1, "egress.addresses": 1, "egress.mcp_wire": 1,
    # 2: contracts
    "stores.base": 2, "stores.credentials": 2, "stores.database": 2, "stores.shop": 2, "stores.products": 2,
    "agents": 2,
    "client": 2,
    # 3: what touches the world
    "agent_help": 3,
    "spawner": 3, "spool": 3, "memory": 3, "forks": 3, "watchdog": 3, "walls": 3, "agent": 3, "broker": 3,
    "sockdiag": 3, "holders": 3, "peer_identity": 3,
    "workspace": 3, "orphans": 3, "connections": 3, "lock": 3, "stores.memory": 3, "stores.sqlite": 3,
    "stores.writer": 3, "stores.file_watch": 3, "stores.sqlite_log": 3, "stores.sqlite_credentials": 3,
    "stores.sqlite_products": 3, "keyring": 3, "tickets": 3, "tokens": 3, "oidc": 3, "passes": 3,
    "cookies": 3,
    "quotas": 3, "starts": 3, "usage": 3, "stores.memory_shop": 3, "stores.sqlite_shop": 3,
    "shop.catalog": 3, "shop.insights": 3,
    "archive": 3, "backup": 3, "erasures": 3, "disk": 3, "systemd": 3,
    "egress.lookup": 3, "egress.caller": 3, "egress.mcp_client": 3,
    # 4: the heart
    "eventlog": 4, "turns": 4, "slots": 4, "peer": 4, "services": 4, "host": 4, "session": 4,
    "session_core": 4,
    "session_turns": 4, "session_verbs": 4,
    "manager": 4, "reaper": 4, "idempotency": 4, "census": 4, "readiness": 4, "shop.cart": 4,
    "shop.tools": 4, "products.catalogue": 4, "products.words": 4, "products.frames": 4,
    "products.notices": 4, "products.rates": 4, "products.floor": 4, "products.desk": 4,
    "toolbox": 4, "shop.retrieval": 4, "shop.assistant": 4,
    # 5: faces
    "auth": 5, "api.operation": 5, "api.reading": 5, "api.stream": 5, "api.chat": 5, "api.sessions": 5,
    "api.identity": 5, "api.credentials": 5, "api.shares": 5, "api.ops": 5, "api.admin": 5, "api.guard": 5,
    "api.page": 5, "api.slashes": 5,
    "api.mcp": 5, "api.mcp_conversation": 5, "api.mcp_server": 5, "refusals": 5, "cycle": 5,
    "protocol": 5, "sockets": 5, "api.products": 5, "api.product_sockets": 5, "api.detail": 5,
    "api.product_answers": 5, "api.product_reading": 5, "api.product_staff": 5, "api.product_stats": 5,
    "api.product_visitors": 5,
    "api.envelope": 5, "api.shopping": 5, "shop.asking": 5, "api.servers": 5,
    # 6: composition
    "door": 6, "app": 6, "server": 6, "commands": 6, "sizing": 6, "top": 6, "desktop": 6,
    "__main__": 6, "__init__": 6,
}  # fmt: skip

SAME_FLOOR: Final = {
    ("chat", "events"), ("events", "worker.acp"), ("chat", "lifecycle"), ("config_file", "addresses"),
    ("config_file", "egress.addresses"), ("config_file", "known_agents"), ("agent_help", "agent"),
    ("egress.caller", "egress.lookup"),
    ("egress.mcp_client", "egress.caller"),
    ("config_file", "config"), ("config_file", "tenants"),
    ("updates", "long_updates"), ("agent", "spool"),
    ("chat", "posting"), ("posting", "events"),
    ("stores.products", "stores.base"), ("stores.sqlite_products", "stores.sqlite"),
    ("products.desk", "manager"), ("products.desk", "products.catalogue"),
    ("products.desk", "products.frames"),
    ("products.desk", "products.notices"), ("products.desk", "products.rates"),
    ("products.desk", "services"),
    ("products.desk", "products.words"), ("products.desk", "session"), ("api.detail", "api.operation"),
    ("api.products", "api.detail"), ("api.products", "api.operation"), ("api.products", "api.reading"),
    ("api.product_sockets", "api.detail"),
    ("api.product_answers", "api.operation"),
    ("api.products", "api.product_visitors"), ("api.product_sockets", "api.product_visitors"),
    ("api.product_visitors", "api.product_reading"), ("api.product_visitors", "auth"),
    ("api.product_sockets", "api.operation"), ("api.product_sockets", "api.reading"),
    ("api.product_reading", "api.operation"), ("api.product_reading", "api.product_answers"),
    ("api.products", "api.product_answers"), ("api.products", "api.product_reading"),
    ("api.product_staff", "api.detail"), ("api.product_staff", "api.operation"),
    ("api.product_staff", "api.product_answers"), ("api.product_staff", "api.product_reading"),
    ("api.product_staff", "api.reading"), ("api.product_stats", "api.detail"),
    ("api.product_stats", "api.operation"), ("api.product_sockets", "api.product_reading"),
    ("api.product_reading", "auth"), ("api.product_staff", "auth"), ("api.product_stats", "auth"),
    ("api.product_sockets", "auth"),
    ("agent", "spawner"), ("backup", "stores.file_watch"), ("stores.sqlite", "stores.file_watch"),
    ("stores.sqlite", "stores.writer"), ("stores.sqlite", "stores.sqlite_log"),
    ("connections", "peer_identity"), ("peer_identity", "forks"), ("peer_identity", "holders"),
    ("peer_identity", "sockdiag"),
    ("stores.writer", "stores.sqlite_log"),
    ("archive", "tickets"), ("backup", "archive"), ("backup", "erasures"), ("backup", "lock"),
    ("backup", "tickets"), ("backup", "stores.sqlite"),
    ("stores.sqlite_credentials", "stores.sqlite"), ("oidc", "tokens"),
    ("metrics", "recent"), ("logs", "terminal"), ("audit", "limits"), ("audit", "logs"), ("audit", "tenants"),
    ("usage", "memory"),
    ("census", "manager"), ("census", "services"), ("census", "session"), ("readiness", "services"),
    ("api.admin", "api.operation"), ("api.admin", "api.reading"), ("api.admin", "auth"),
    ("forks", "memory"), ("forks", "orphans"), ("forks", "spawner"), ("watchdog", "forks"),
    ("watchdog", "memory"),
    ("walls", "forks"), ("walls", "spawner"), ("walls", "watchdog"), ("peer", "turns"),
    ("host", "peer"), ("host", "services"), ("services", "slots"), ("manager", "services"),
    ("reaper", "services"), ("manager", "eventlog"),
    ("manager", "session"), ("reaper", "manager"), ("reaper", "session"), ("idempotency", "session"),
    ("idempotency", "turns"), ("api.chat", "auth"), ("api.chat", "api.operation"),
    ("api.chat", "api.reading"), ("api.chat", "api.stream"), ("api.sessions", "auth"),
    ("api.sessions", "api.operation"), ("api.sessions", "api.reading"), ("api.ops", "api.operation"),
    ("api.stream", "api.operation"), ("api.identity", "auth"), ("api.identity", "api.operation"),
    ("api.identity", "api.reading"), ("api.credentials", "auth"), ("api.credentials", "api.operation"),
    ("api.credentials", "api.reading"), ("api.shares", "auth"), ("api.shares", "api.operation"),
    ("api.shares", "api.reading"), ("api.shares", "api.stream"),
    ("api.guard", "api.operation"), ("api.guard", "auth"), ("refusals", "api.operation"),
    ("cycle", "refusals"), ("protocol", "api.stream"), ("protocol", "cycle"), ("protocol", "refusals"),
    ("sockets", "refusals"), ("protocol", "sockets"), ("__main__", "top"),
    ("server", "app"), ("server", "door"), ("commands", "app"), ("commands", "server"),
    ("commands", "door"), ("__main__", "commands"), ("__main__", "app"), ("__main__", "server"),
    ("__init__", "app"), ("commands", "sizing"), ("sizing", "app"), ("sizing", "door"),
    ("sizing", "server"),
    ("services", "shop.cart"), ("shop.tools", "shop.cart"), ("api.mcp", "auth"), ("api.mcp", "api.operation"),
    ("api.mcp", "api.reading"), ("api.mcp", "api.mcp_conversation"),
    ("api.mcp_server", "api.mcp_conversation"),
    ("desktop", "app"), ("__main__", "desktop"),
    ("services", "shop.tools"), ("toolbox", "shop.tools"), ("peer", "toolbox"), ("host", "toolbox"),
    ("shop.assistant", "shop.retrieval"), ("api.envelope", "api.operation"), ("api.shopping", "auth"),
    ("api.shopping", "api.envelope"), ("api.shopping", "api.operation"), ("api.shopping", "api.reading"),
    ("api.shopping", "shop.asking"), ("api.chat", "api.servers"),
    ("session", "host"), ("session", "peer"), ("session", "turns"), ("session_core", "eventlog"),
    ("session_core", "host"), ("session_core", "peer"), ("session_core", "services"),
    ("session_core", "turns"), ("session_turns", "turns"), ("session_verbs", "peer"),
    ("session_verbs", "turns"),
    ("session", "session_turns"), ("session", "session_verbs"), ("session_turns", "session_core"),
    ("session_verbs", "session_turns"),
}  # fmt: skip

ROOMS: Final[dict[str, tuple[str, ...]]] = {
    "starlette": ("api.", "auth", "app", "desktop", "door", "server"),
    "sse_starlette": ("api.stream", "server"),
    "prometheus_client": ("metrics",),
    "rich": ("top",),
    "opentelemetry": ("tracing",),
    "psutil": ("memory", "orphans"),
    "uvloop": ("__main__",),
    "httptools": ("protocol",),
    "uvicorn": ("server", "protocol", "cycle", "sockets"),
    "websockets": ("sockets",),
    "aiohttp": ("broker", "client", "commands", "egress.caller", "oidc"),
    "yarl": ("broker", "egress.caller", "egress.mcp_client"),
    "argon2": ("api.product_staff",),
    "jwt": ("tokens",),
    "itsdangerous": ("tickets",),
    "sqlite3": (
        *("backup", "stores.sqlite", "stores.sqlite_log", "stores.database", "stores.writer", "commands"),
        *("erasures", "shop.retrieval", "stores.file_watch"),
    ),
    "mcp": ("api.mcp_server",),
    "mcp_types": ("api.mcp_server",),
}
ANYWHERE: Final = {"msgspec"}
HEAVY_IN_FUNCTIONS: Final = {"__main__", "tracing"}
"""The command line imports inside functions, so that `--help` is quick; tracing, because it is an extra."""


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Every module of the gateway by its name below the package."""
    found = {}
    for path in sorted((ROOT / "gateway").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT / "gateway").with_suffix("").parts)
        if not name.endswith(".__init__"):
            found[name] = ast.parse(path.read_text())
    return found


def imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def inner(name: str) -> str | None:
    """The module of ours that an imported name means."""
    short = name.removeprefix("gateway.") if name.startswith("gateway.") else name
    return short if short in FLOORS and (name != short or name.startswith("worker")) else None


@pytest.mark.parametrize("name", modules())
def test_every_module_imports_only_what_lies_below_it(name: str) -> None:
    assert name in FLOORS, f"give gateway/{name} a floor"
    for target in filter(None, map(inner, imported(modules()[name]))):
        is_below = FLOORS[target] < FLOORS[name]
        assert is_below or (name, target) in SAME_FLOOR or target == name, f"{name} must not import {target}"


@pytest.mark.parametrize("name", modules())
def test_an_outside_library_lives_in_one_room(name: str) -> None:
    for top in {found.partition(".")[0] for found in imported(modules()[name])}:
        if (top in sys.stdlib_module_names and top not in ROOMS) or top in {"gateway", "worker"} | ANYWHERE:
            continue
        assert name.startswith(ROOMS.get(top, ())), f"{name} must not import {top}"


@pytest.mark.parametrize("name", sorted(set(modules()) - HEAVY_IN_FUNCTIONS))
def test_nothing_is_imported_inside_a_function(name: str) -> None:
    for node in ast.walk(modules()[name]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert not imported(node), f"{name}.{node.name} imports"


def test_the_worker_imports_nothing_of_the_gateway() -> None:
    for path in (ROOT / "worker").rglob("*.py"):
        assert not [name for name in imported(ast.parse(path.read_text())) if name.startswith("gateway")], (
            path
        )


def test_of_the_worker_the_gateway_imports_only_its_words() -> None:
    words = ("worker.acp", "worker.foreign", "worker.spec")
    for name, tree in modules().items():
        ours = {found for found in imported(tree) if found.startswith("worker")}
        assert all(found.startswith(words) or found == "worker" for found in ours), name


def test_every_module_says_what_it_is() -> None:
    for name, tree in modules().items():
        assert ast.get_docstring(tree), name
