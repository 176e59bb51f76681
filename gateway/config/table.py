"""What every table of the configuration is made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, TypeVar

from msgspec import Meta, Struct

if TYPE_CHECKING:
    from gateway.config.tables import Config

T = TypeVar("T")
AtStart = Annotated[T, Meta(extra={"is_reloaded": False})]
"""A setting, or a table of them, that a running gateway does not take over: it waits for a restart."""


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the TOML file. A field says with `AtStart` that a reload does not apply it."""

    names_are_free: ClassVar[bool] = False
    """True if tables of this kind have names that others choose: not short words in lower case."""

    def contradictions(self, config: Config) -> Iterator[str]:
        """Values of the right type that still cannot be, as `setting: words`, inside the whole `config`."""
        yield from ()
