"""The command blocks of the documents: ```sh is run, ```toml NAME becomes a file. A block that cannot be run
in a test begins with `# not run here: WHY`.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from tests.gateways import ROOT

DOCUMENTS: Final = [
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "deploy").glob("*.md")),
    ROOT / "CONTRIBUTING.md",
    ROOT / "tests" / "README.md",
    ROOT / "SECURITY.md",
]
MAPS: Final = [
    ROOT / name / "README.md" for name in ("gateway", "gateway/apps", "worker", "frontend", "benchmarks")
]
"""For who works on it: links and drawings are checked, commands are not run."""
_FENCE: Final = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_REASON: Final = re.compile(r"# not run here: (.+)\n")


class Block(Struct, frozen=True):
    """A fenced block; `reason` says why it is not run."""

    language: str
    name: str
    text: str
    line: int
    reason: str | None


def blocks(path: pathlib.Path) -> Iterator[Block]:
    """Every fenced block of a document, in order."""
    text = path.read_text()
    for match in _FENCE.finditer(text):
        reason = _REASON.match(match[3])
        line = text.count("\n", 0, match.start()) + 2
        yield Block(match[1], match[2] or "", match[3], line, reason[1] if reason else None)
