"""Which migrations a database has had, and applying the others.

What each package has had is noted in `package_migrations`; the core is one of them. An application's scripts
for PostgreSQL lie in the folder `postgresql` of its migrations.

A script whose first line begins with `-- additive` promises that programs that do not know it work beside
what it made: it adds tables, indexes, and columns with a default, and nobody waits long for its locks. That
is noted with it. So gateways of the version before live on beside the first of a new one, and may start
again.

Guarantees: all that is missing is applied in one transaction, under a lock, so that of several gateways that
start together one does it and the others find it done. A program uses no tables that a script changed which
it does not know, unless that was additive.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Sequence
from typing import Any, Final

from gateway.errors import StoreFailed
from gateway.stores.bulk import COPYING
from gateway.stores.migrations import Migrations, numbered

CORE: Final = Migrations("core", pathlib.Path(__file__).parent / "migrations")
FOLDER: Final = "postgresql"
"""Of an application's migrations: those for this engine."""
_LOCK: Final = 0x61677763
"""Of advisory locks: who holds it changes the tables."""
_NAME: Final = re.compile(r"\w+")
_NOTED: Final = (
    "CREATE TABLE IF NOT EXISTS package_migrations (package text NOT NULL, number int NOT NULL,"
    " PRIMARY KEY (package, number))"
)
_ADDITIVE: Final = "-- additive"
_CAN_SAY: Final = (
    "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('package_migrations')"
    " AND attname = 'is_additive')"
)
_LET_SAY: Final = "ALTER TABLE package_migrations ADD COLUMN is_additive boolean NOT NULL DEFAULT false"
_HAD: Final = "SELECT number, is_additive FROM package_migrations WHERE package = $1"


async def migrate(connection: Any, packages: Sequence[Migrations], *, is_copying: bool = False) -> None:
    """Applies what a database has not had. Raises StoreFailed if a newer program wrote it, if a package has
    nothing for PostgreSQL, or if a copy into it was cut short and it is not that which goes on.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        if not is_copying and await has_table(connection, COPYING):
            raise StoreFailed("A copy into this database was cut short: run agent-gateway store copy again.")
        await connection.execute(_NOTED)
        if not await connection.fetchval(_CAN_SAY):
            await connection.execute(_LET_SAY)
        for package, scripts in [
            _of(CORE, CORE.directory),
            *(_of(one, one.directory / FOLDER) for one in packages),
        ]:
            had = {row[0]: row[1] for row in await connection.fetch(_HAD, package)}
            await _apply(connection, package, scripts, had)


def named(packages: Sequence[Migrations]) -> str:
    """Which tables a program with these applications needs: `core 4, notes 2`. What is additive does not
    count: gateways of which this is the same may live beside each other.
    """
    folders = [(CORE.package, CORE.directory), *((one.package, one.directory / FOLDER) for one in packages)]
    found = ((name, numbered(folder) if folder.is_dir() else []) for name, folder in folders)
    needed = ((name, [each for each in scripts if not is_additive(each[1])]) for name, scripts in found)
    return ", ".join(f"{name} {scripts[-1][0]}" for name, scripts in needed if scripts)


def is_additive(script: str) -> bool:
    """Whether programs that do not know what it makes work beside it."""
    return script.startswith(_ADDITIVE)


def _of(package: Migrations, directory: pathlib.Path) -> tuple[str, list[tuple[int, str]]]:
    if not _NAME.fullmatch(package.package):
        raise ValueError(f"the name of a package is letters, digits and _: {package.package!r}")
    scripts = numbered(directory) if directory.is_dir() else []
    if numbered(package.directory) and not scripts:
        raise StoreFailed(
            f"The application {package.package} has no tables for PostgreSQL: leave it out of "
            "[applications] enabled, or keep the sessions in SQLite."
        )
    return package.package, scripts


async def _apply(connection: Any, package: str, scripts: list[tuple[int, str]], had: dict[int, bool]) -> None:
    """`had`: number → whether it is additive."""
    known = {number for number, _ in scripts}
    unknown = [number for number, is_harmless in had.items() if number not in known and not is_harmless]
    if unknown:
        raise StoreFailed(
            f"The tables of {package} in the database are of version {max(unknown)}, this program knows up "
            f"to {max(known, default=0)}: run the newer program, or restore a backup of before the upgrade."
        )
    for number, script in scripts:
        if number not in had:
            await connection.execute(script)
            await connection.execute(
                "INSERT INTO package_migrations (package, number, is_additive) VALUES ($1, $2, $3)",
                *(package, number, is_additive(script)),
            )


async def has_table(connection: Any, table: str) -> bool:
    """True if there is a table of this name."""
    return bool(await connection.fetchval("SELECT to_regclass(quote_ident($1)) IS NOT NULL", table))


async def is_current(connection: Any, packages: Sequence[Migrations]) -> bool:
    """True if a database has had everything, and of these packages nothing newer that is not additive."""
    if not await has_table(connection, "package_migrations"):
        return False
    folders = {CORE.package: CORE.directory, **{one.package: one.directory / FOLDER for one in packages}}
    known = {(name, number) for name, folder in folders.items() for number, _ in numbered(folder)}
    says = "is_additive" if await connection.fetchval(_CAN_SAY) else "false"
    query = f"SELECT package, number, {says} FROM package_migrations"  # noqa: S608 - literals
    had = {(row[0], row[1]): row[2] for row in await connection.fetch(query) if row[0] in folders}
    return known <= had.keys() and all(had[one] for one in had.keys() - known)
