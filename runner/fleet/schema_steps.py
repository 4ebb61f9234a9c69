"""The schema of the fleet's database: brought up to date beside workers that run, and checked.

Owns which version a runner works with. A step waits for no lock that others would queue behind for
long: one that isn't had soon is let go, and the step tried again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from runner.errors import UsageError
from runner.fleet.connection import VERSIONS, SqlConnection, TablesLockedError, migrations

TRIES = 40
"""How often a step is tried whose tables others hold: with the pauses, some four minutes."""

PAUSE = 3.0
"""Seconds between two tries, in which those who have queued behind it go on."""


class FleetSchema:
    """The base of the database: everything else takes its tables for granted."""

    def __init__(self, connection: SqlConnection) -> None:
        self._sql = connection

    def migrate(
        self,
        told: Callable[[str], None] = lambda text: None,
        pause: Callable[[float], None] = time.sleep,
    ) -> list[str]:
        """Bring the schema up to date; the names of the steps that were missing.

        Safe beside workers of the version before, and beside another migration. Raises UsageError
        for a schema that a newer runner has made, TablesLockedError when others keep its tables.
        """
        for left in reversed(range(TRIES)):
            try:
                return self._migrate_once()
            except TablesLockedError as error:
                if not left:
                    raise
                if left == TRIES - 1:
                    told(f"tried again until its tables are free: {error}")
                pause(PAUSE)
        raise AssertionError("unreachable")

    def _migrate_once(self) -> list[str]:
        steps = migrations(self._sql.dialect)
        with self._sql.transaction():
            self._sql.lock_schema()
            self._sql.script(VERSIONS[self._sql.dialect])
            there = {row[0] for row in self._sql.query("SELECT version FROM schema_migrations")}
            self._refuse_newer(max(there, default=0))
            missing = [step for step in steps if step[0] not in there]
            for number, name, text in missing:
                self._sql.script(text)
                self._sql.change(
                    "INSERT INTO schema_migrations VALUES (:number, :name, {now})",
                    {"number": number, "name": name},
                )
        return [name for _, name, _ in missing]

    def check_schema(self) -> None:
        """Raise UsageError where the schema is missing, or another than this runner works with.

        The embedded one is simply made, and brought up to date.
        """
        there, steps = self._versions(), migrations(self._sql.dialect)
        version, newest = max(there, default=0), steps[-1][0]
        self._refuse_newer(version)
        if there >= {number for number, _, _ in steps}:
            return
        if self._sql.dialect == "sqlite":
            self.migrate()
            return
        what = "has no tables of the fleet" if not version else f"has schema {version}"
        if version == newest:
            what += ", without a step before it"
        raise UsageError(
            f"{self._sql.describe()} {what}, and this runner needs {newest}: `runner-fleet migrate`"
        )

    def _refuse_newer(self, version: int) -> None:
        newest = migrations(self._sql.dialect)[-1][0]
        if version > newest:
            raise UsageError(
                f"{self._sql.describe()} has schema {version}, which a newer runner has made; this"
                f" one knows {newest}: update it (workers that run already go on)"
            )

    def _versions(self) -> set[int]:
        """The steps that were made."""
        there = (
            "SELECT count(*) FROM sqlite_master WHERE name = 'schema_migrations'"
            if self._sql.dialect == "sqlite"
            else "SELECT CASE WHEN to_regclass('schema_migrations') IS NULL THEN 0 ELSE 1 END"
        )
        if not self._sql.query(there)[0][0]:
            return set()
        return {int(row[0]) for row in self._sql.query("SELECT version FROM schema_migrations")}
