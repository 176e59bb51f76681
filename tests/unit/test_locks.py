"""The lock files hold what pyproject.toml asks for, name no registry, and have a hash for every file."""

from __future__ import annotations

import importlib
import json
import pathlib
import re
import runpy
from typing import Any, Final

import pytest
from cyclonedx.schema import SchemaVersion
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT: Final = pathlib.Path(__file__).parent.parent.parent
LOCKING: Final = runpy.run_path(str(ROOT / "deploy" / "lock.py"))
BILLING: Final = runpy.run_path(str(ROOT / "deploy" / "sbom.py"))
LOCKS: Final[dict[str, str]] = LOCKING["LOCKS"]
NPM_LOCKS: Final = [
    *ROOT.glob("frontend/package-lock.json"),
    *sorted(ROOT.glob("tests/*/package-lock.json")),
]
SUBCLASSED: Final = ("uvicorn", "sse-starlette", "websockets", "mcp")
"""Libraries of which we use more than they promise to keep."""


def pins(text: str) -> dict[str, Version]:
    """Name → the one version that a lock file allows."""
    found = re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==([\w.]+)", text, flags=re.M)
    return {canonicalize_name(name): Version(version) for name, version in found}


def entries(text: str) -> list[str]:
    """Each requirement with its continuation lines."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return re.findall(r"^\S.*(?:\n +.*)*", "\n".join(lines), flags=re.M)


@pytest.fixture(params=LOCKS)
def kind(request: pytest.FixtureRequest) -> str:
    """One of the lock files."""
    return str(request.param)


def test_a_lock_holds_what_is_asked_for(kind: str) -> None:
    held = pins((ROOT / LOCKS[kind]).read_text())
    for line in LOCKING["wanted"]()[kind]:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        assert name in held, f"{LOCKS[kind]} lacks {name}: run `make lock`"
        assert requirement.specifier.contains(held[name]), (
            f"{LOCKS[kind]} has {name} {held[name]}, pyproject.toml asks for {requirement}: run `make lock`"
        )


def test_every_entry_has_hashes_and_nothing_says_where_it_comes_from(kind: str) -> None:
    text = (ROOT / LOCKS[kind]).read_text()
    for entry in entries(text):
        assert re.search(r" --hash=sha256:[0-9a-f]{64}( |$)", entry, flags=re.M), entry[:80]
    assert not re.search(r"://|^--|file:|index|\.org|\.com|\.io", text, flags=re.M)


def test_all_locks_hold_the_same_versions() -> None:
    dev = pins((ROOT / LOCKS["dev"]).read_text())
    for other in ("run", "build"):
        held = pins((ROOT / LOCKS[other]).read_text())
        assert {name: dev.get(name) for name in held} == held


def test_a_changed_pyproject_is_noticed(tmp_path: pathlib.Path) -> None:
    """The check itself: with another bound it fails."""
    text = (ROOT / "pyproject.toml").read_text()
    assert '"msgspec>=' in text
    (tmp_path / "frontend").mkdir()
    (tmp_path / "frontend" / "hatch_build.py").write_text((ROOT / "frontend" / "hatch_build.py").read_text())
    (tmp_path / "pyproject.toml").write_text(re.sub(r'"msgspec>=[\d.]+"', '"msgspec>=999"', text))
    asked = {Requirement(line).name: Requirement(line) for line in LOCKING["wanted"](tmp_path)["run"]}
    held = pins((ROOT / LOCKS["run"]).read_text())
    assert not asked["msgspec"].specifier.contains(held["msgspec"])


@pytest.mark.parametrize("name", SUBCLASSED)
def test_a_library_whose_inner_parts_are_used_has_an_upper_bound(name: str) -> None:
    asked = {canonicalize_name(Requirement(line).name): line for line in LOCKING["wanted"]()["run"]}
    assert "<" in asked[canonicalize_name(name)]


@pytest.mark.parametrize("lock", NPM_LOCKS)
def test_npm_locks_have_hashes_and_name_no_registry(lock: pathlib.Path) -> None:
    packages: dict[str, Any] = json.loads(lock.read_text())["packages"]
    for place, entry in packages.items():
        assert "resolved" not in entry, place
        assert not place or entry.get("integrity", "").startswith("sha512-"), place


def test_only_what_a_browser_is_given_is_a_dependency_of_the_page() -> None:
    """Vite and the tests' tools are not."""
    package = json.loads((ROOT / "frontend" / "package.json").read_text())
    sources = [path.read_text() for path in (ROOT / "frontend" / "src").rglob("*.ts*")]
    imported = set(re.findall(r'(?:from|import\()\s*"([^."][^"]*)"', "\n".join(sources)))
    names = {"/".join(one.split("/")[: 2 if one.startswith("@") else 1]) for one in imported}
    assert set(package["dependencies"]) == names


def test_the_bill_of_materials_is_cyclonedx_and_names_what_runs() -> None:
    bill: dict[str, Any] = BILLING["bill"]()
    validation = importlib.import_module("cyclonedx.validation.json")  # seconds, for this test alone
    trouble = validation.JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill))
    assert trouble is None, trouble
    parts = {part["name"] for part in bill["components"]}
    assert {"starlette", "uvicorn", "msgspec", "preact", "highlight.js"} <= parts
    assert not parts & {"pytest", "vite", "vitest", "hatchling", "ruff"}
    assert BILLING["bill"]() == bill
    assert all(part.get("licenses") for part in bill["components"])
