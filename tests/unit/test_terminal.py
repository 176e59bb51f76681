"""What the command line makes of text that others wrote."""

from __future__ import annotations

import json
import logging

import pytest

from gateway.cli import reach
from gateway.client import Refused
from gateway.telemetry import terminal
from gateway.telemetry.logs import JsonFormatter, LineFormatter

HOSTILE = "a\x1b[31m\x9b\x07\r\n\t\u202e\u2028\u2066\ud800\x7fz"


def test_only_what_stands_there_is_printed() -> None:
    assert terminal.plain(HOSTILE) == "a [31m          z"
    assert terminal.plain("שלום, naïve 👩\u200d🚀") == "שלום, naïve 👩\u200d🚀"
    assert terminal.lines("a\tb\nc\rd") == "a\tb\nc d"


def test_json_keeps_its_values() -> None:
    text = json.dumps({"title": HOSTILE}, ensure_ascii=False)
    assert terminal.escaped(text).isprintable()
    assert json.loads(terminal.escaped(text)) == {"title": HOSTILE}
    assert terminal.escaped("\U000e0001") == "\\udb40\\udc01"


def test_a_refusal_is_one_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    async def refused() -> int:
        raise Refused(404, "not_found", HOSTILE)

    assert reach.spoken(refused()) == 1
    assert capsys.readouterr().err == f"agent-gateway: {terminal.plain(HOSTILE)}\n"


@pytest.mark.parametrize("formatter", [JsonFormatter(), LineFormatter("%(message)s")])
def test_a_line_of_the_log_drives_no_terminal(formatter: logging.Formatter) -> None:
    record = logging.LogRecord("n", logging.INFO, "f", 1, "said %s", ("a\x1b[31m\x9bz",), None)
    line = formatter.format(record)
    assert line.isprintable()
    assert "a" in line
    assert "z" in line
