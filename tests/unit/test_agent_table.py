"""The table of agents that were tried says what was tried: its form, and the versions that are pinned."""

from __future__ import annotations

import datetime
import json
import re
from typing import Final

from tests.agent_matrix import (
    BEGIN,
    BLIND,
    COLUMNS,
    DOCUMENT,
    END,
    HEADINGS,
    Row,
    blind,
    line_of,
    rewritten,
)
from tests.agent_trials import CASES, answers
from tests.real_agents import AGENTS, PINS

TEXT: Final = DOCUMENT.read_text()
TABLE: Final = TEXT.partition(BEGIN)[2].partition(END)[0]
ROWS: Final = [line for line in TABLE.splitlines() if line.startswith("| ")][1:]


def test_every_agent_has_a_row_with_the_pinned_version_and_a_reason_for_each_red_cell() -> None:
    assert set(AGENTS) == set(PINS) == {case.name for case in CASES}
    assert len(ROWS) == len(CASES)
    for case, row in zip(CASES, ROWS, strict=True):
        title, version, tried, *cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert (title, version) == (case.title, f"`{PINS[case.name]}`")
        assert datetime.date.fromisoformat(tried)
        assert len(cells) == len(COLUMNS) == len(HEADINGS)
        assert all(re.match(r"(yes|\*\*no\*\*): \S", cell) for cell in cells), row


def test_the_counts_below_the_table_are_those_of_its_rows() -> None:
    green = sum(row.count("| yes: ") for row in ROWS)
    assert f"{blind(ROWS)} Green: {green} of {len(CASES) * len(COLUMNS)}." in TABLE
    assert blind(ROWS) == f"Blind approvals: 0 of {len(CASES)}."


def test_a_row_is_replaced_and_the_others_stay() -> None:
    row = Row(CASES[0], dict.fromkeys(COLUMNS, (False, f"{BLIND}: a|b")))
    new = rewritten(TEXT, {CASES[0].title: line_of(row, "2026-01-31")})
    assert "a\\|b" in new
    assert f"Blind approvals: 1 of {len(CASES)}." in new
    assert all(old in new for old in ROWS[1:])
    assert ROWS[0] not in new
    assert rewritten(new, {CASES[0].title: ROWS[0]}) == TEXT


def test_what_an_agent_puts_behind_a_message_does_not_hide_the_call_in_it() -> None:
    said = {"role": "user", "content": "call bash " + json.dumps({"command": "ls"})}
    body = {
        "messages": [said, {"role": "user", "content": "<reminder>"}],
        "tools": [{"function": {"name": "bash"}}],
    }
    assert answers(body)["tool_calls"][0]["function"]["name"] == "bash"
    later = body | {
        "messages": [said, {"role": "assistant", "content": "x"}, {"role": "user", "content": "?"}]
    }
    assert answers(later)["content"] == "You said: ?"
