"""What goes wrong with PostgreSQL, sorted and in words.

Guarantees: what an address or a driver's error says of passwords is never repeated.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import asyncpg
import msgspec

from gateway.errors import GatewayError, StoreDamaged, StoreFailed, StoreFull

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS: Final = 5
UNREADABLE: Final = (
    "The URL of the store cannot be read. It is postgresql://USER:PASSWORD@HOST/DATABASE, and what is"
    " special in a password is written as %XX."
)
"""The driver's own words may quote the password."""
NO_ROOT_CERTIFICATES: Final = (
    "There is no file of root certificates to know PostgreSQL by: name one in the URL of the store, with"
    " sslrootcert=FILE."
)
OF_THE_DRIVER: Final = (
    *(OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError),
)
"""What a driver's call may raise: the last of these, too, if no host of several is the one to write to."""
_FULL: Final = ("53100", "53200")
"""disk_full, out_of_memory."""
_DAMAGED: Final = ("XX001", "XX002")
_OF_WHAT_WAS_WRITTEN: Final = (*("0A", "21", "22", "23", "25P02", "2F", "38", "39", "42", "44", "54", "P0"),)
"""Classes of errors that say something of what was to be written; all others mean that nothing can be now."""
_FORBIDDEN: Final = "42501"
_READ_ONLY: Final = "25006"
"""A server that was replaced by another."""
_GONE: Final = ("08", "57P01", "57P02", "57P03", "57P05", "25P03", _READ_ONLY)
"""After these a connection is of no more use, and what it was asked last may have been done."""
_AGAIN: Final = ("40001", "40P01")
"""serialization_failure, deadlock_detected."""


_NO_ROOT: Final = "root certificate file"


class NodeLost(Exception):
    """This gateway may not write any more: its row is gone."""


class TailLost(Exception):
    """PostgreSQL lacks what this gateway has committed last; nothing was written."""


def _state(error: BaseException) -> str:
    return (error.sqlstate or "") if isinstance(error, asyncpg.PostgresError) else ""


def is_gone(error: BaseException) -> bool:
    """Whether the connection has ended, or must."""
    if isinstance(error, (OSError, asyncio.TimeoutError, asyncpg.InternalClientError)):
        return True
    if isinstance(error, asyncpg.InterfaceError):
        return "clos" in _first(error)  # else it says what cannot be sent
    return _state(error).startswith(_GONE)


def is_of_the_engine(error: BaseException) -> bool:
    """Whether nothing could be written now. Everything else is the fault of what was to be written."""
    if is_gone(error) or isinstance(error, (NodeLost, TailLost)):
        return True
    state = _state(error)
    return bool(state) and (state == _FORBIDDEN or not state.startswith(_OF_WHAT_WAS_WRITTEN))


def of_the_url(error: ValueError) -> Exception:
    """What a URL that cannot be used raises; without the driver's words, which may quote the password."""
    if isinstance(error, OSError):
        return error  # a certificate that is refused
    return StoreFailed(NO_ROOT_CERTIFICATES if _first(error).startswith(_NO_ROOT) else UNREADABLE)


def is_to_be_done_again(error: BaseException) -> bool:
    """Whether it was undone because of others."""
    return _state(error) in _AGAIN


def worded(error: Exception) -> GatewayError:
    """An error as one of ours, in words that say what to do; one of ours stays."""
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, msgspec.MsgspecError):
        return StoreFailed(f"A stored event is unreadable: {error}.")
    state = _state(error)
    if state in _FULL:
        return StoreFull(retry_after_seconds=RETRY_AFTER_SECONDS)
    if state in _DAMAGED:
        log.critical(
            "THE DATABASE IS DAMAGED (%s). Look at its disk, and restore the last backup.",
            error,
        )
        return StoreDamaged()
    if state == _READ_ONLY:
        words = "PostgreSQL takes no writes here: this server is a standby, or set to read only."
        return StoreFailed(words, retry_after_seconds=RETRY_AFTER_SECONDS)
    if is_gone(error):
        words = f"PostgreSQL does not answer ({state or type(error).__name__})."
        return StoreFailed(words, retry_after_seconds=RETRY_AFTER_SECONDS)
    if is_of_the_engine(error):
        words = f"PostgreSQL refused: {_first(error)}."
        return StoreFailed(words, retry_after_seconds=RETRY_AFTER_SECONDS)
    log.error("the store refused something: %s", _first(error), exc_info=error)
    return StoreFailed(f"This cannot be stored: {_first(error)}.")


def _first(error: BaseException) -> str:
    """What an error says, without a detail, which may quote what was to be written."""
    return str(error.args[0]) if error.args else type(error).__name__
