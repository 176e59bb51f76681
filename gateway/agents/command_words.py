"""A command line as words, read twice for permission rules. Pure.

`plain` is strict: the words of one simple command, or nothing if a shell could make anything else of it.
`runs` is generous: every list of words that a shell might run, inside quotes, substitutions and the words
that other programs are given. What a rule allows is read strictly, what it forbids generously.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

COMMAND_CHARACTERS: Final = 16_384
"""A longer command line is read by nobody before it is answered: no rule allows it."""
RUNS: Final = 256
"""So many lists of words are looked at; a command line with more is more than `runs` can tell."""
NESTED: Final = 6
"""Command lines inside the words of others are read so deep."""

_PLAIN_CHARACTER: Final = re.compile(r"[^\s;&|<>()$`{}*?\[\]~#!\\\"'^]")
"""Outside quotes: nothing that a shell expands, joins or redirects."""
_PLAIN_OR_SPACE: Final = re.compile(rf"(?:{_PLAIN_CHARACTER.pattern}| )*")
_PLAIN_QUOTED: Final = re.compile(r"[^$`\\!\"]")
"""Inside double quotes."""
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")

WRAPPERS: Final = frozenset(
    """
    . : ash bash bash-static builtin busybox chroot chrt command coproc csh dash dbus-run-session doas
    env eval exec fakeroot firejail fish flock gdb ionice ksh ksh93 ld.so ltrace mksh nice nohup nsenter
    numactl parallel pkexec proot rbash runuser script setarch setpriv setsid sg sh source ssh sshpass stdbuf
    strace su sudo sudoedit systemd-run taskset tcsh time timeout toybox trap unbuffer unshare watch
    winpty xargs xvfb-run yash zsh
    """.split()
)
"""Programs that run the words they are given: what they run is not told by how the line begins."""
_RUNNING_OPTIONS: Final = frozenset(("-exec", "-execdir", "-ok", "-okdir"))
"""Of `find`."""

_SEPARATORS: Final = frozenset(";&|<>(){}\n\r`")
_READ_AGAIN: Final = re.compile(r"[\s;&|<>(){}`$'\"\\]")
"""A word with one of these may be a command line itself."""
_IFS: Final = re.compile(r"\$\{IFS[^}]*\}|\$IFS\b")
_ANSI: Final = re.compile(
    r"\\(?:x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{1,4})|U([0-9a-fA-F]{1,8})|([0-7]{1,3})|(.))", re.DOTALL
)
_ANSI_LETTERS: Final = dict(zip("ntrabefv", "\n\t\r\a\b\x1b\f\v", strict=True))


# -- strict -----------------------------------------------------------------------------------------------


def plain(command: str | Sequence[str]) -> tuple[str, ...] | None:
    """The words of one simple command; None if a shell or a program might make something else of it."""
    words = _plain_words(command) if isinstance(command, str) else _plain_list(command)
    if not words or not words[0] or _ASSIGNMENT.match(words[0]) or words[0].startswith("-"):
        return None
    return None if is_wrapper(words) else words


def is_wrapper(words: Sequence[str]) -> bool:
    """Whether this command runs another one, which its own first words do not tell."""
    return program(words[0]) in WRAPPERS or not _RUNNING_OPTIONS.isdisjoint(words)


def program(word: str) -> str:
    """The name of a program, without where it lies."""
    return posixpath.basename(word) or word


def _plain_list(words: Sequence[str]) -> tuple[str, ...] | None:
    """Words that no shell needs to read; an agent may join them for one all the same."""
    text = " ".join(words)
    is_plain = len(text) <= COMMAND_CHARACTERS and _is_shown(text) and " " not in words[0] if words else False
    return tuple(words) if is_plain and all(map(_PLAIN_OR_SPACE.fullmatch, words)) else None


def _is_shown(text: str) -> bool:
    """Whether all of it is seen as it is: no control characters, nothing that turns the direction."""
    return text.isprintable()


def _plain_words(text: str) -> tuple[str, ...] | None:
    if len(text) > COMMAND_CHARACTERS or not _is_shown(text):
        return None
    words: list[str] = []
    word: str | None = None
    at = 0
    while at < len(text):
        character = text[at]
        if character == " ":
            if word is not None:
                words.append(word)
            word, at = None, at + 1
        elif character in "'\"":
            end = text.find(character, at + 1)
            inside = text[at + 1 : end]
            if end < 0 or (character == '"' and not all(map(_PLAIN_QUOTED.fullmatch, inside))):
                return None
            word, at = (word or "") + inside, end + 1
        elif _PLAIN_CHARACTER.fullmatch(character):
            word, at = (word or "") + character, at + 1
        else:
            return None
    return tuple(words if word is None else [*words, word])


# -- generous ---------------------------------------------------------------------------------------------


def runs(command: str | Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Every list of words that this command line, cut to `COMMAND_CHARACTERS`, might run; at most `RUNS`."""
    budget = _Budget()
    if isinstance(command, str):
        yield from _runs_of_text(command[:COMMAND_CHARACTERS], budget, NESTED)
    else:
        yield from _runs_of_words(list(_cut(command)), budget, NESTED)


def _cut(words: Iterable[str]) -> Iterator[str]:
    """As many words as a line may have characters, with a space before each."""
    left = COMMAND_CHARACTERS
    for word in words:
        if left <= 0:
            return
        yield word[:left]
        left -= len(word) + 1


class _Budget:
    """How many more lists are read."""

    def __init__(self) -> None:
        self.left = RUNS

    def take(self) -> bool:
        self.left -= 1
        return self.left >= 0


def _runs_of_text(text: str, budget: _Budget, depth: int) -> Iterator[tuple[str, ...]]:
    for words in _segments(_IFS.sub(" ", text.replace("\\\n", "").replace("\\\r\n", ""))):
        yield from _runs_of_words(words, budget, depth)


def _runs_of_words(words: list[str], budget: _Budget, depth: int) -> Iterator[tuple[str, ...]]:
    if not words or not budget.take():
        return
    yield tuple(words)
    if depth == 0:
        return
    for word in words:
        inner = word.partition("=")[2] if "=" in word else word  # PAGER=rm, --to-command=rm
        if _READ_AGAIN.search(inner):
            yield from _runs_of_text(inner, budget, depth - 1)
        elif inner and inner != word:
            yield from _runs_of_words([inner], budget, 0)


def _segments(text: str) -> Iterator[list[str]]:
    """The words between operators, quotes taken away; what a substitution holds is a segment of its own."""
    words: list[str] = []
    word: str | None = None
    at = 0
    while at < len(text):
        character = text[at]
        if character in _SEPARATORS or (character == "$" and text[at + 1 : at + 2] in ("(", "{")):
            if word is not None:
                words.append(word)
            if words:
                yield words
            words, word = [], None
            at += 1 if character in _SEPARATORS else 2
        elif character.isspace():
            if word is not None:
                words.append(word)
            word, at = None, at + 1
        else:
            piece, at = _piece(text, at)
            word = (word or "") + piece
    if word is not None:
        words.append(word)
    if words:
        yield words


def _piece(text: str, at: int) -> tuple[str, int]:
    """One character or one quoted part, as a shell would hand it on, and where it ends."""
    character = text[at]
    if character == "\\":
        return text[at + 1 : at + 2], at + 2
    if text.startswith("$'", at):
        end = _closing(text, at + 2, "'")
        return _ANSI.sub(_decoded, text[at + 2 : end]), end + 1
    if text.startswith('$"', at):
        at, character = at + 1, '"'
    if character == "'":
        end = text.find("'", at + 1)
        end = len(text) if end < 0 else end
        return text[at + 1 : end], end + 1
    if character == '"':
        end = _closing(text, at + 1, '"')
        return re.sub(r'\\(["\\$`])', r"\1", text[at + 1 : end]), end + 1
    return character, at + 1


def _closing(text: str, at: int, quote: str) -> int:
    """Where a quoted part ends in which a backslash keeps the next character."""
    while at < len(text) and text[at] != quote:
        at += 2 if text[at] == "\\" else 1
    return min(at, len(text))


def _decoded(match: re.Match[str]) -> str:
    by_hex = match[1] or match[2] or match[3]
    if by_hex or match[4]:
        number = int(by_hex, 16) if by_hex else int(match[4], 8) & 0xFF
        return chr(number) if number <= 0x10FFFF else ""
    return _ANSI_LETTERS.get(match[5], match[5])
