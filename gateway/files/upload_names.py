"""The names of uploaded files. Pure.

A path that a program names is taken as it is, or refused with the reason: nobody is served by a file at
another place than they asked for. The name that a browser sends with a form is only a wish, and is made one
that every system can store and that shows what it is.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from gateway.errors import BadFileName

UPLOADS: Final = "uploads"
"""The folder, below the working directory, of what people upload without saying where to."""
PARTIAL_PREFIX: Final = ".upload-"
"""Begins the name of every file that has not arrived whole."""
NAME_BYTES: Final = 255
"""What Linux stores of one name."""
WISHED_BYTES: Final = 200
"""A wished name is cut to so much, so that there is room for a number."""
PATH_BYTES: Final = 4000
_BIDI: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks that make a name look like another one: `gpj.exe` shown as `exe.jpg`."""
_DEVICES: Final = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])(\..*)?", re.IGNORECASE)
"""Names that Windows takes for devices, with any ending."""
_NOT_IN_NAMES: Final = re.compile(r'[<>:"|?*\\/]')


def is_unfinished(name: str) -> bool:
    """Whether a file of this name is the beginning of an upload: nobody is shown it."""
    return name.startswith(PARTIAL_PREFIX)


def checked_path(path: str) -> str:
    """A path beneath the working directory, without `.` and doubled slashes. Raises BadFileName."""
    if not path or path.endswith("/"):
        raise BadFileName("Name the file: path=FOLDER/NAME, relative to the working directory.")
    if path.startswith("/"):
        raise BadFileName("The path is relative to the working directory, so it does not begin with a slash.")
    if len(path.encode("utf-8", "surrogatepass")) > PATH_BYTES:
        raise BadFileName(f"The path is longer than {PATH_BYTES} bytes.")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    for part in parts:
        _check_part(part)
    if not parts:
        raise BadFileName("Name the file: path=FOLDER/NAME, relative to the working directory.")
    return "/".join(parts)


def _check_part(part: str) -> None:
    if part == "..":
        raise BadFileName("The path leads out of the working directory.")
    if len(part.encode("utf-8", "surrogatepass")) > NAME_BYTES:
        raise BadFileName(f"A name in the path is longer than {NAME_BYTES} bytes.")
    if any(_is_control(letter) for letter in part):
        raise BadFileName("The path contains a control character.")
    if any(letter in _BIDI for letter in part):
        raise BadFileName("The path contains a mark that changes the direction of text.")
    if "\ufffd" in part or any("\ud800" <= letter <= "\udfff" for letter in part):
        raise BadFileName("The path is not valid UTF-8.")
    if part != part.strip():
        raise BadFileName("A name in the path begins or ends with a space.")
    if part.startswith(PARTIAL_PREFIX):
        raise BadFileName(f"Names that begin with {PARTIAL_PREFIX} are those of uploads that are not whole.")


def stored_name(wished: str, *, ending: str = "") -> str:
    """A name for a file whose sender calls it `wished`; `ending` is that of its type, if there is no name."""
    name = unicodedata.normalize("NFC", re.split(r"[/\\]", wished)[-1])
    letters = ("_" if _is_odd(letter) else letter for letter in name if letter not in _BIDI)
    name = _NOT_IN_NAMES.sub("_", "".join(letters)).strip().rstrip(". ")
    if not name.strip("._ "):
        name = f"file{ending}"
    if _DEVICES.fullmatch(name) or name.startswith(PARTIAL_PREFIX):
        name = f"_{name}"
    return _cut(name, WISHED_BYTES)


def uploaded_path(wished: str) -> str:
    """Where a file goes of which only the name is known."""
    return f"{UPLOADS}/{stored_name(wished)}"


def numbered(name: str, number: int) -> str:
    """The name of the so-manieth file of one name: `name.png`, `name (2).png`."""
    if number < 2:
        return name
    stem, ending = _split(name)
    return f"{stem} ({number}){ending}"


def _cut(name: str, most: int) -> str:
    """A name of at most so many bytes, with its ending."""
    if len(name.encode()) <= most:
        return name
    stem, ending = _split(name)
    room = most - len(ending.encode())
    return stem.encode()[:room].decode("utf-8", "ignore").rstrip() + ending


def _split(name: str) -> tuple[str, str]:
    """The stem and the ending of a name; an ending is short."""
    stem, dot, ending = name.rpartition(".")
    if not stem.strip(".") or len(ending.encode()) > 16:
        return name, ""
    return stem, dot + ending


def _is_control(letter: str) -> bool:
    return unicodedata.category(letter) == "Cc"


def _is_odd(letter: str) -> bool:
    return _is_control(letter) or letter == "\ufffd" or "\ud800" <= letter <= "\udfff"
