"""Backup, restore and rebuild of a state directory, for the command line."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from training_cluster import __version__
from training_cluster.adapters.local_engine.attempt_files import AttemptFiles
from training_cluster.daemon.choices import choose_trainer
from training_cluster.domain.errors import Conflict, NotFound, StoreCorrupt
from training_cluster.domain.event import EventType
from training_cluster.ports import Exit, Sighting
from training_cluster.services.rebuilding import Directories, Findings
from training_cluster.settings import Settings
from training_cluster.state_lock import sole_owner
from training_cluster.store import backup as copies
from training_cluster.store import reconcile
from training_cluster.store.database import translate
from training_cluster.store.integrity import quick_check
from training_cluster.store.salvage import TableTold, new_database, salvage

DATABASE, MANIFEST, SECRETS = "queue.db", "manifest.json", "secrets"
_FORMAT = 1
_JOBS = "SELECT count(*), coalesce(max(number), 0) FROM jobs"
# events and deliveries of a lost database may have been told under their numbers
_GAP = 1_000_000

Say = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild found: rows by table, what the directories added, where the old file is."""

    tables: dict[str, TableTold]
    directories: Findings
    dropped_rows: int
    aside: Path | None


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did."""

    manifest: dict[str, Any]
    directories: Findings
    aside: Path | None


def back_up(settings: Settings, target: Path, *, with_secrets: bool, say: Say) -> Path:
    """Copy the database into a new folder, beside a running daemon or without one.

    A `target` that is a folder gets a new one in it. Raises Conflict, NotFound, StoreCorrupt."""
    source = settings.state_dir / DATABASE
    if not source.is_file():
        raise NotFound(f"there is no database in {settings.state_dir}")
    folder = _new_name(target)
    partial = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        copy = partial / DATABASE
        copies.copy_database(source, copy, lambda done, total: say("pages", done, total))
        os.chmod(copy, 0o600)
        secrets = _copy_secrets(settings.state_dir / SECRETS, partial) if with_secrets else None
        manifest = _manifest(settings, copy, secrets)
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        copies.sync(partial / MANIFEST)
        os.rename(partial, folder)
        copies.sync(folder.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return folder


def _new_name(target: Path) -> Path:
    if target.is_dir():
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        target = target / f"training-cluster-{stamp}"
    if target.exists() or target.is_symlink():
        raise Conflict(f"{target} exists", hint="name a new folder, or one to make it in")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _copy_secrets(source: Path, partial: Path) -> int:
    target = partial / SECRETS
    target.mkdir(mode=0o700)
    count = 0
    for path in sorted(source.glob("*.json")) if source.is_dir() else ():
        if path.is_file() and not path.is_symlink():
            shutil.copyfile(path, target / path.name)
            os.chmod(target / path.name, 0o600)
            copies.sync(target / path.name)
            count += 1
    copies.sync(target)
    return count


def _manifest(settings: Settings, copy: Path, secrets: int | None) -> dict[str, Any]:
    with closing(sqlite3.connect(copy)) as connection:
        jobs, highest = connection.execute(_JOBS).fetchone()
    return {
        "format": _FORMAT,
        "made_at": time.time(),
        "version": __version__,
        "state_dir": str(settings.state_dir),
        "jobs": jobs,
        "highest_number": highest,
        "secrets": secrets,
        "sha256": copies.sha256(copy),
    }


def restore(settings: Settings, source: Path, *, force: bool, say: Say) -> Restored:
    """Go back to a backup. Attempts that were launched since are known by their directories and
    not launched again. Raises Conflict, StateDirectoryInUse, NotFound, StoreCorrupt."""
    manifest = _checked(source)
    state, now = settings.state_dir, time.time()
    with _alone(state):
        path, new = state / DATABASE, state / f"{DATABASE}.restoring"
        if path.exists() and not force:
            raise Conflict(
                f"there is a database in {state}",
                hint="--force moves it aside and goes back to the backup",
            )
        copies.remove_database(new)
        shutil.copyfile(source / DATABASE, new)
        os.chmod(new, 0o600)
        sequences = _sequences(path)
        with closing(new_database(new)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            found = _directories(settings, now, quiet=True).read_into(
                connection, lambda done, total: say("directories", done, total)
            )
            _settle(connection, now, EventType.STORE_RESTORED, found, sequences)
            connection.execute("COMMIT")
            _close(connection, new)
        aside = _replace(path, new, f"{DATABASE}.replaced-{_stamp(now)}")
        _restore_secrets(source / SECRETS, state / SECRETS)
    return Restored(manifest, found, aside)


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    """No daemon meanwhile; SQLite's errors as ours; what root has made is the directory's owner's
    afterwards, or the daemon could not use it."""
    with sole_owner(state):
        try:
            yield
        except sqlite3.Error as error:
            raise translate(error) from error
        finally:
            if os.geteuid() == 0:
                _give_to_owner(state)


def _give_to_owner(state: Path) -> None:
    owner = state.stat()
    for path in (*state.glob("queue.db*"), *state.glob("daemon.*"), *state.glob("secrets*/*")):
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _checked(source: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((source / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        raise NotFound(f"{source} is no backup: it has no {MANIFEST} that can be read") from error
    database = source / DATABASE
    if not database.is_file() or copies.sha256(database) != manifest.get("sha256"):
        raise StoreCorrupt(f"{database} is not what the backup's manifest says: take another one")
    return manifest


def _restore_secrets(source: Path, target: Path) -> None:
    if not source.is_dir():
        return
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = target.parent.stat()
    if os.geteuid() == 0:
        os.chown(target, owner.st_uid, owner.st_gid)
    for path in source.glob("*.json"):
        shutil.copyfile(path, target / path.name)
        os.chmod(target / path.name, 0o600)
        copies.sync(target / path.name)


def rebuild(settings: Settings, *, force: bool, say: Say) -> Rebuilt:
    """Make the database again of what can be read of it and of the job directories; the damaged
    one is kept aside. Raises StateDirectoryInUse, and Conflict when it is whole."""
    state, now = settings.state_dir, time.time()
    with _alone(state):
        path, new = state / DATABASE, state / f"{DATABASE}.rebuilding"
        if not force and path.exists() and not _problems(path):
            raise Conflict(f"{path} is whole: there is nothing to rebuild", hint="--force does it")
        copies.remove_database(new)
        with closing(new_database(new)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            say("rows", 0, 0)
            tables = salvage(path, connection, state) if path.exists() else {}
            found = _directories(settings, now, quiet=False).read_into(
                connection, lambda done, total: say("directories", done, total)
            )
            dropped = _settle(connection, now, EventType.STORE_REBUILT, found, _sequences(path))
            connection.execute("COMMIT")
            _close(connection, new)
        aside = _replace(path, new, f"{DATABASE}.damaged-{_stamp(now)}")
    return Rebuilt(tables, found, dropped, aside)


def _problems(path: Path) -> list[str]:
    try:
        with closing(_read_only(path)) as connection:
            return quick_check(connection)
    except sqlite3.Error as error:
        return [str(error)]


def _read_only(path: Path) -> sqlite3.Connection:
    """Another would play the log into the damaged file when it is closed."""
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)


def _sequences(path: Path) -> dict[str, int]:
    """The highest numbers a database has given out, as far as it can still say so."""
    try:
        with closing(_read_only(path)) as connection:
            return dict(connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
    except sqlite3.Error:
        return {}


def _directories(settings: Settings, now: float, *, quiet: bool) -> Directories:
    trainer = choose_trainer(settings)
    return Directories(settings.state_dir / "jobs", trainer, _look, now, quiet=quiet)


def _look(directory: Path) -> tuple[Sighting, Exit | None]:
    files = AttemptFiles(directory)
    sighting = files.look()
    return sighting, files.read_exit() if sighting is Sighting.EXITED else None


def _settle(
    connection: sqlite3.Connection,
    now: float,
    kind: EventType,
    found: Findings,
    sequences: dict[str, int],
) -> int:
    for table in ("events", "deliveries", "metric_lines"):
        highest = max(reconcile.sequence(connection, table) + _GAP, sequences.get(table, 0))
        reconcile.raise_sequence(connection, table, highest)
    for table in ("jobs", "models"):
        reconcile.raise_sequence(connection, table, sequences.get(table, 0))
    counts = {name: value for name, value in asdict(found).items() if isinstance(value, int)}
    return reconcile.settle(connection, now, kind, counts)


def _close(connection: sqlite3.Connection, path: Path) -> None:
    copies.require_whole(connection, path)
    connection.execute("PRAGMA journal_mode = DELETE")


def _replace(path: Path, new: Path, name: str) -> Path | None:
    aside = path.with_name(name) if path.exists() else None
    if aside is not None:
        copies.set_aside(path, aside)
    copies.put_in_place(new, path)
    return aside


def _stamp(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
