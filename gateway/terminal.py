"""What the command line prints. Titles, names and error texts come from others: printed as they are, they
could move the cursor, change colours or the window's title, or turn the direction of what follows.

Every line that a command prints goes through here: the linter allows `print` nowhere else.
"""

from __future__ import annotations

import sys
from typing import Final

_JOINERS: Final = "\u200c\u200d"
"""Formatting that words and emoji are made with, and that moves nothing."""


def plain(text: str) -> str:
    """The text with a space for every character that could do more than stand there."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in _JOINERS else " " for letter in text)


def escaped(json: str) -> str:
    """JSON for programs: the same values, with such characters escaped as JSON escapes them."""
    if json.isprintable():
        return json
    return "".join(letter if letter.isprintable() else _escape(letter) for letter in json)


def _escape(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[index : index + 2].hex()}" for index in range(0, len(units), 2))


def lines(text: str) -> str:
    """A text of several lines, each of them plain; tabs stay."""
    return "\n".join("\t".join(plain(part) for part in line.split("\t")) for line in text.split("\n"))


def say(line: str, *, at_once: bool = False) -> None:
    """Prints a line on standard output; `at_once` if another process waits for it."""
    print(plain(line), flush=at_once)


def say_json(json: str) -> None:
    """Prints JSON on standard output."""
    print(escaped(json))


def complain(line: str) -> None:
    """Prints a line on standard error."""
    print(plain(line), file=sys.stderr)
