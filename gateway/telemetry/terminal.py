"""What the command line prints. Titles, names and error texts come from others: printed as they are, they
could move the cursor, change colours or the window's title, or turn the direction of what follows.

Every line that a command prints goes through here: the linter allows `print` nowhere else.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

_JOINERS: Final = "\u200c\u200d"
"""Formatting that words and emoji are made with, and that moves nothing."""
_OPEN: Final = "\x1b[?1049h\x1b[?25l"
"""The terminal's second screen, without a cursor (xterm's control sequences)."""
_CLOSE: Final = "\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_REST_OF_LINE: Final = "\x1b[K"
_REST_OF_SCREEN: Final = "\x1b[J"


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


class ReaderGone(Exception):
    """Standard output has no reader any more: the command has nothing left to do."""


def open_streams() -> None:
    """Makes the standard streams usable, whatever the program was started with.

    A descriptor of 0 to 2 that is closed becomes /dev/null: otherwise the next file or socket gets its
    number, and libuv aborts when it closes one of these. A character that an encoding lacks is printed as an
    escape.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number: this one
            os.set_inheritable(number, True)
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Raises ReaderGone instead of BrokenPipeError for what is printed inside."""
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGone from error


def flush() -> None:
    """Hands over what was printed on standard output. Raises ReaderGone, OSError."""
    with printing():
        sys.stdout.flush()


def forsake() -> None:
    """Lets nothing more be written to a standard output that failed, not even as the interpreter ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def say(line: str, *, at_once: bool = False) -> None:
    """Prints a line on standard output; `at_once` if another process waits for it. Raises ReaderGone."""
    with printing():
        print(plain(line), flush=at_once)


def say_json(json: str) -> None:
    """Prints JSON on standard output, in ASCII if its encoding lacks a character. Raises ReaderGone."""
    text = escaped(json)
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        text = "".join(letter if letter.isascii() else _escape(letter) for letter in text)
    with printing():
        print(text)


def say_raw(chunk: bytes) -> None:
    """Writes bytes to standard output as they are: for a file or another program. Raises ReaderGone."""
    with printing():
        sys.stdout.buffer.write(chunk)


def say_part(text: str) -> None:
    """Prints a part of a text of several lines on standard output. Raises ReaderGone."""
    with printing():
        sys.stdout.write(lines(text))


def columns() -> int:
    """How many letters a line of the terminal holds; 80 if there is none."""
    return shutil.get_terminal_size().columns


def marked(text: str) -> str:
    """Bold and green, for a screen that is coloured."""
    return f"\x1b[1;32m{text}\x1b[0m"


class Screen(NamedTuple):
    """The whole terminal, or a file that is given one picture after the other."""

    is_terminal: bool
    is_coloured: bool

    def show(self, picture: Sequence[str]) -> None:
        """Shows lines over those before, without flicker, as many as there is room for. Raises ReaderGone."""
        shown = picture[: shutil.get_terminal_size().lines] if self.is_terminal else picture
        end = _REST_OF_LINE if self.is_terminal else ""
        text = "\n".join(line + end for line in shown)
        _write(f"{_HOME}{text}{_REST_OF_SCREEN}" if self.is_terminal else f"{text}\n")


@contextlib.contextmanager
def screen() -> Iterator[Screen]:
    """The terminal is this program's while the block runs. No colours if NO_COLOR says so."""
    if not sys.stdout.isatty():
        yield Screen(is_terminal=False, is_coloured=False)
        return
    _write(_OPEN)
    try:
        yield Screen(is_terminal=True, is_coloured=not os.environ.get("NO_COLOR"))
    finally:
        _write(_CLOSE)


def _write(text: str) -> None:
    with printing():
        sys.stdout.write(text)
        sys.stdout.flush()


def complain(line: str) -> None:
    """Prints a line on standard error."""
    print(plain(line), file=sys.stderr)
