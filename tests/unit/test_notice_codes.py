"""Every notice that the gateway can send has words in each language of the page.

The codes are read from the gateway's source: those that are given to `Notice`, and to what passes one on.
"""

from __future__ import annotations

import ast
import functools
import pathlib
import re
from collections.abc import Iterator
from typing import Final

import pytest

ROOT: Final = pathlib.Path(__file__).parents[2]
WORDS: Final = ROOT / "frontend" / "src" / "page" / "notice-words.ts"
CODE_AT: Final = {
    "Notice": 2,
    "self._notice": 0,
    "self._tell_once": 0,
    "access.notice": 0,
}
"""Who is given a code, and as which argument."""
CODE_AT_IN: Final = {("turns.py", "self._notice"): 1}
"""Where that is another one."""
OTHERWISE: Final = {
    "quota": "by its numbers",
    "error.code": "in the words of the error that held a message back",
}
"""How those are said that have no words of their own."""
KINDS: Final = {
    "queue_held": ("person", "budget"),
    "workspace": ("preparing", "ready", "stale"),
    "workspace_again": ("made", "later", "failed"),
}
"""Notices that have words for each kind only."""

_SAYS: Final = r"\b(Notice|_notice|_tell_once|access\.notice)\("


def codes_in(source: str, file: str, constants: dict[str, str]) -> Iterator[str]:
    """Every code that a file sends; raises KeyError at one that cannot be read."""
    tree = ast.parse(source)
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        given = {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}
        for call in ast.walk(function):
            if not isinstance(call, ast.Call):
                continue
            name = ast.unparse(call.func).removeprefix("ev.")
            at = CODE_AT_IN.get((file, name), CODE_AT.get(name))
            if at is None or len(call.args) <= at:
                continue
            code = call.args[at]
            if isinstance(code, ast.Constant):
                yield str(code.value)
            elif isinstance(code, ast.Name) and code.id in given and code.id == "code":
                continue  # it passes one on
            elif (said := ast.unparse(code)) in OTHERWISE:
                yield said
            else:
                yield constants[said]


@functools.cache
def sent() -> set[str]:
    """The codes of all notices."""
    sources = {path: path.read_text() for path in sorted((ROOT / "gateway").rglob("*.py"))}
    constants = {
        name: value
        for source in sources.values()
        for name, value in re.findall(r'^([A-Z_]+): Final = "([a-z_]+)"$', source, re.MULTILINE)
    }
    saying = {path: source for path, source in sources.items() if re.search(_SAYS, source)}
    return {code for path, source in saying.items() for code in codes_in(source, path.name, constants)}


def worded(source: str) -> dict[str, set[str]]:
    """By language, for which codes there are words."""
    tables = re.findall(r"^const (en|he)\b[^=]*= \{\n(.*?)^\};", source, re.MULTILINE | re.DOTALL)
    return {language: set(re.findall(r"^  (\w+): ", rows, re.MULTILINE)) for language, rows in tables}


def without_words(codes: set[str], source: str) -> list[str]:
    """What is not said in each language."""
    wanted = {
        f"{code}_{kind}" if kind else code
        for code in codes - OTHERWISE.keys()
        for kind in KINDS.get(code, ("",))
    }
    return sorted(f"{key} ({language})" for language, keys in worded(source).items() for key in wanted - keys)


def test_every_notice_has_words_in_each_language() -> None:
    codes = sent()
    assert {"files_brought", "snapshots", "queue_held", "workspace", "provider_unavailable", "quota"} <= codes
    source = WORDS.read_text()
    assert set(worded(source)) == {"en", "he"}
    assert not without_words(codes, source)


@pytest.mark.parametrize("code", ["files_brought", "workspace_stale"])
def test_a_code_without_words_is_found(code: str) -> None:
    source = re.sub(rf"^  {code}: .*\n", "", WORDS.read_text(), count=1, flags=re.MULTILINE)
    assert without_words(sent(), source) == [f"{code} (en)"]


def test_a_new_code_is_found_and_one_that_cannot_be_read_too() -> None:
    new = 'def say(self):\n    self._log.append(ev.Notice("n1", "info", "brand_new", "…"))\n'
    assert list(codes_in(new, "new.py", {})) == ["brand_new"]
    with pytest.raises(KeyError):
        list(codes_in(new.replace('"brand_new"', "self._code"), "new.py", {}))
