"""The page's wire types are the gateway's: frontend/wire.py makes them from the Python ones."""

from __future__ import annotations

import enum
import pathlib
import re
import runpy
import subprocess
import sys
from typing import Any, Final, Literal

import pytest
from msgspec import UNSET, Raw, Struct, UnsetType

ROOT: Final = pathlib.Path(__file__).parent.parent.parent
SCRIPT: Final = ROOT / "frontend" / "wire.py"
WIRE: Final = runpy.run_path(str(SCRIPT))


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Part(Struct, frozen=True):
    """A part."""

    name: str


class Everything(Struct, frozen=True, tag="every"):
    """A Struct of
    every kind.
    """

    text: str
    number: float
    """In
    metres.
    """
    colour: Colour
    parts: tuple[Part, ...]
    level: Literal["b", "a"] = "a"
    names: list[str | None] = []
    by_name: dict[str, Part] = {}
    part: Part | None = None
    raw: Raw | UnsetType = UNSET
    others: Any = None


EVERYTHING: Final = """\
/** A part. */
export interface Part {
  name: string;
}

/** A Struct of every kind. */
export interface Everything {
  type: "every";
  text: string;
  /** In metres. */
  number: number;
  colour: "red" | "blue";
  parts: Part[];
  level: "a" | "b";
  names: (string | null)[];
  by_name: Record<string, Part>;
  part: Part | null;
  raw?: unknown;
  others: unknown;
}
"""


class Sparse(Struct, omit_defaults=True):
    """Leaves out what is as usual."""

    name: str
    size: int = 0


def test_the_files_are_what_the_python_types_say() -> None:
    differing: dict[str, str] = WIRE["differing"]()
    assert not differing, f"run `.venv/bin/python frontend/wire.py`: {', '.join(differing)}"


def test_every_kind_of_field_has_its_type() -> None:
    assert WIRE["_module"]([Everything]).removeprefix(WIRE["HEAD"] + "\n") == EVERYTHING


def test_a_default_that_is_left_out_is_optional() -> None:
    assert "  name: string;\n  size?: number;\n" in WIRE["_module"]([Sparse])


def test_one_name_has_one_meaning() -> None:
    other = type("Part", (Struct,), {"__annotations__": {"size": int}, "__module__": __name__})
    with pytest.raises(SystemExit, match="Part is the name of two Structs"):
        WIRE["_with_names"]([Part, other])


def test_a_type_that_has_no_counterpart_is_refused() -> None:
    with pytest.raises(SystemExit, match="no TypeScript"):
        WIRE["_type"](WIRE["shapes"].type_info(bytes))


def test_a_changed_file_is_noticed(tmp_path: pathlib.Path) -> None:
    """The check itself: with one field less in a copy it names the file, and then makes it right."""
    copy = tmp_path / "wire.py"
    copy.write_text(SCRIPT.read_text())
    for path, text in WIRE["files"]().items():
        (tmp_path / "src" / path).parent.mkdir(parents=True, exist_ok=True)
        changed = re.sub(r"  queued: number;\n", "", text) if path == "core/wire.ts" else text
        (tmp_path / "src" / path).write_text(changed)

    def run(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, str(copy), *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    status, said = run("--check")
    assert (status, said.count("\n")) == (1, 1)
    assert "core/wire.ts" in said
    assert run()[0] == 0
    assert run("--check") == (0, "")
