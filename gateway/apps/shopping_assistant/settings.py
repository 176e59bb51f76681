"""The settings of the mirror in Redis or Valkey: `[redis]`."""

from __future__ import annotations

from typing import Final, Literal

from gateway.config.tables import AtStart, Config, Table

SCHEMES: Final = ("redis://", "rediss://", "unix://", "valkey://", "valkeys://")
MirrorNames = Literal["none", "seed", "owned"]


class RedisConfig(Table, frozen=True, kw_only=True):
    """Redis or Valkey: shows what the shopping assistant remembers, and is never asked for it."""

    url: AtStart[str] = ""
    """`redis://USER:PASSWORD@HOST:PORT/DATABASE`, `rediss://…` with TLS, or `unix:///SOCKET`; `valkey://` and
    `valkeys://` are the same.
    """
    url_file: AtStart[str] = ""
    """A file that holds the URL, instead of `url`: its password is then in no configuration."""
    mirror: AtStart[MirrorNames] = "none"
    """What the keys are called: `seed`: `session:ID:info`, and of two owners with one id the first alone has
    them; `owned`: `session:OWNER:ID:info` with a hash of the owner. `none`: nothing is mirrored.
    """


def mistakes(config: Config) -> list[str]:
    """A mirror without a server, or an address that cannot be one. A URL is never said: it has a password."""
    redis = config.of(RedisConfig)
    if redis.url and not redis.url.startswith(SCHEMES):
        return [f"redis.url: begins with {', '.join(SCHEMES[:-1])} or {SCHEMES[-1]}"]
    if redis.mirror != "none" and not redis.url:
        return ["redis.mirror: needs redis.url, or redis.url_file"]
    return []
