"""Who may import what, beside the layers that `make check` checks (pyproject.toml, `tool.importlinter`): one
outside library, one package; nothing inside a function; the worker nothing of the gateway.
"""

from __future__ import annotations

import ast
import functools
import pathlib
import sys
from typing import Final

ROOT: Final = pathlib.Path(__file__).parent.parent.parent

HOMES: Final[dict[str, tuple[str, ...]]] = {
    "starlette": ("api.", "app", "apps.", "extension", "http.", "server."),
    "sse_starlette": (),
    "prometheus_client": ("telemetry.metrics",),
    "opentelemetry": ("telemetry.tracing",),
    "psutil": ("workers.memory", "workers.orphans"),
    "uvloop": ("cli.serve",),
    "httptools": ("egress.front", "egress.intercept", "egress.http_wire", "server.protocol"),
    "uvicorn": ("server.",),
    "websockets": ("server.websockets",),
    "aiohttp": (
        "auth.oidc",
        "cli.reach",
        "client",
        "egress.caller",
        "egress.interim",
        "egress.node_http",
        "egress.worker_connector",
        "egress.worker_http",
    ),
    "yarl": ("egress.",),
    "asyncpg": ("stores.postgresql.",),
    "obstore": ("files.contents_s3",),
    "argon2": ("apps.product_chat.staff",),
    "cryptography": ("auth.tokens", "egress.authority", "egress.vault"),
    "jwt": ("auth.tokens",),
    "itsdangerous": ("auth.tickets",),
    "sqlite3": (
        *("stores.sqlite.", "stores.database", "maintenance.backup", "maintenance.erasures"),
        *(
            "cli.doctor",
            "apps.product_chat.knowledge",
            "apps.product_chat.store_sqlite",
            "apps.shop.store_sqlite",
            "apps.shopping_assistant.retrieval",
        ),
    ),
    "mcp": ("api.mcp.server",),
    "mcp_types": ("api.mcp.server",),
}
"""Where an outside library may be imported: names below the package, or how they begin."""
ANYWHERE: Final = {"msgspec"}
HEAVY_IN_FUNCTIONS: Final = {"cli.reach", "cli.sessions", "telemetry.tracing"}
"""The command line imports the whole program only if no gateway runs, and an engine only to ask the
database itself; tracing is an extra.
"""
LOADED_LATER: Final = {"aiohttp", "argon2", "cryptography", "jwt", "yarl"}
"""Only what their modules do needs them, and they take a third of a start: `telemetry.heavy` brings them."""
LOADED_AT_ONCE: Final = {"cli.reach", "client", "egress.interim", "egress.worker_connector"}
"""The command line and its client, which need it at once, and modules that are loaded later themselves."""
SHARED_WITH_THE_WORKER: Final = ("worker.acp", "worker.foreign", "worker.spec")


@functools.cache
def modules() -> dict[str, pathlib.Path]:
    """Every module of the gateway by its name below the package; a package by its own name."""
    found = {}
    for path in sorted((ROOT / "gateway").rglob("*.py")):
        parts = path.relative_to(ROOT / "gateway").with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return found


@functools.cache
def parsed(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text())


def imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_an_outside_library_has_one_home() -> None:
    free = (sys.stdlib_module_names - HOMES.keys()) | {"gateway", "worker"} | ANYWHERE
    strays = [
        f"{name} must not import {top}"
        for name in modules()
        for top in {found.partition(".")[0] for found in imported(parsed(name))} - free
        if not name.startswith(HOMES.get(top, ()))
    ]
    assert not strays


def test_nothing_is_imported_inside_a_function() -> None:
    strays = [
        f"{name}.{node.name} imports"
        for name in sorted(set(modules()) - HEAVY_IN_FUNCTIONS)
        for node in ast.walk(parsed(name))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and imported(node)
    ]
    assert not strays


def test_what_takes_long_to_load_is_loaded_later() -> None:
    for name in set(modules()) - LOADED_AT_ONCE:
        at_once = [node for node in parsed(name).body if not isinstance(node, ast.If)]
        found = {top.partition(".")[0] for node in at_once for top in imported(node)}
        assert not found & LOADED_LATER, name


def test_the_worker_imports_nothing_of_the_gateway() -> None:
    for path in (ROOT / "worker").rglob("*.py"):
        found = [name for name in imported(ast.parse(path.read_text())) if name.startswith("gateway")]
        assert not found, path


def test_of_the_worker_the_gateway_imports_only_the_shared_words() -> None:
    for name in modules():
        ours = {found for found in imported(parsed(name)) if found.startswith("worker")}
        assert all(found.startswith(SHARED_WITH_THE_WORKER) or found == "worker" for found in ours), name


def test_every_module_and_every_package_says_what_it_is() -> None:
    for name in modules():
        assert ast.get_docstring(parsed(name)), name


def test_the_top_of_the_package_is_small() -> None:
    files = [path for path in (ROOT / "gateway").iterdir() if path.is_file()]
    assert len(files) <= 12, sorted(path.name for path in files)


def test_a_public_class_name_has_one_meaning() -> None:
    homes: dict[str, set[str]] = {}
    trees = {f"gateway.{name}": parsed(name) for name in modules()}
    trees |= {str(path): ast.parse(path.read_text()) for path in (ROOT / "worker").rglob("*.py")}
    for home, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, set()).add(home)
    assert not {name: sorted(where) for name, where in homes.items() if len(where) > 1}
