"""Every command of the documents runs as it stands there, in order, against a real gateway."""

from __future__ import annotations

import os
import pathlib
import re
import shutil

import pytest

from gateway.config.file import load
from tests.docs.commands import INSPECTOR, outputs, ran, written
from tests.docs.documents import DOCUMENTS, MAPS, Block, blocks
from tests.gateways import ROOT, running_gateway
from tests.picture import WIDTH
from tests.products.shop import config

RUN_ELSEWHERE = {"applications.md": "tests/deploy/test_notes.py"}
EXPECTED = {
    "mcp-shop.md": (
        *('"add_to_cart"', "33.00 ₪", "Total to pay: 33.00 ₪", "list_stores", "Found 2 products"),
        "as the model",
    ),
    "shopping-assistant.md": ("quinoa", "data: [DONE]", '"quantity":2', "13 passed, 0 failed"),
    "product-chat.md": (
        *("created successfully", "sent successfully", '"total_count"', "Chat session is active"),
    ),
}
"""What each command of a document says, among other things, for those whose answers are its point."""
CONFIGS = {"product-chat.md": config()}
"""What a document supposes the gateway to be told."""
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)")


def _name(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
async def test_every_command_of_a_document_runs(tmp_path: pathlib.Path, path: pathlib.Path) -> None:
    if path.name in RUN_ELSEWHERE:
        pytest.skip(f"is run by {RUN_ELSEWHERE[path.name]}")
    if not any(block.language == "sh" and block.reason is None for block in blocks(path)):
        pytest.skip("has no command that runs here")
    here, expected = tmp_path / "here", EXPECTED.get(path.name, ())
    here.mkdir()
    for name in ("tests", ".venv"):
        (here / name).symlink_to(ROOT / name)
    async with running_gateway(tmp_path, config=CONFIGS.get(path.name, "")) as gateway:
        script = written(path, here, {"8080": int(gateway.url.rpartition(":")[2])})
        _needs(script)
        said = outputs(await ran(script, here, AGENT_GATEWAY_DATA_DIR=f"{tmp_path}/data", HOME=str(tmp_path)))
    for answer, words in zip(said, expected, strict=bool(expected)):
        assert words in answer, answer


def _needs(script: str) -> None:
    """Skips what a machine has not the programs for; in CI it fails."""
    lacking = [] if shutil.which("curl") or "curl" not in script else ["curl"]
    if "npx" in script and not INSPECTOR.exists():
        lacking.append("`npm ci` in tests/mcp")
    if lacking:
        words = f"the commands are NOT tested: missing {' and '.join(lacking)}"
        pytest.fail(words) if os.environ.get("CI") else pytest.skip(words)


def test_what_is_not_run_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    kept_out = [(path, block) for path in DOCUMENTS for block in blocks(path) if block.reason]
    with capsys.disabled():
        for path, block in kept_out:
            print(f"\nnot run: {path.relative_to(ROOT)}:{block.line}: {block.reason}", end="")  # noqa: T201
    assert all(len(str(block.reason)) > 10 for _, block in kept_out)


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_every_configuration_of_a_document_has_no_mistake(tmp_path: pathlib.Path, path: pathlib.Path) -> None:
    for block in blocks(path):
        if block.language == "toml":
            _check(block, tmp_path / "config.toml")


def _check(block: Block, file: pathlib.Path) -> None:
    """Files that a configuration names need not be there."""
    file.write_text(re.sub(r"^(\w*_?file|env_files) = .*$", "", block.text, flags=re.MULTILINE))
    load(file, environ={})


@pytest.mark.parametrize("path", [*DOCUMENTS, *MAPS, ROOT / "README.md"], ids=_name)
def test_every_link_leads_somewhere(path: pathlib.Path) -> None:
    for target in LINK.findall(path.read_text()):
        assert (path.parent / target).exists(), f"{target} is not there"


def test_the_readmes_picture_is_wide_and_light() -> None:
    """`python -m tests.picture docs/page.png` takes it anew."""
    picture = (ROOT / "docs" / "page.png").read_bytes()
    assert int.from_bytes(picture[16:20], "big") == WIDTH
    assert len(picture) < 150_000
