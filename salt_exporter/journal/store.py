"""The loss journal's SQLite file: what its tables hold, how they are asked and written, and what is no such file.

Ids and functions come over the network and may be any text. They are stored as UTF-8 that also encodes lone
surrogates, given to SQLite as bytes and cast, because its Python module refuses such text.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import zlib
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import msgpack

from salt_exporter.errors import SourceError
from salt_exporter.journal.notes import InFlight, Loss

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from salt_exporter.journal.notes import Notes, Recovery

FILE: Final = "journal.sqlite"  # below the state directory
ASIDE: Final = ".aside"  # suffix of what stood in its place and could not be used
_APPLICATION: Final = 0x534C744A  # "SLtJ", in the header of the file
_VERSION: Final = 1  # of the tables below; a file of another one is put aside
_WAIT: Final = 5.0  # seconds for another process that holds the file
_WAL_LIMIT: Final = 4 << 20  # bytes that the write-ahead log keeps when it has been written back
PRUNED: Final = 1000  # rows deleted, and pages given back, at a time
_LONGEST_ID: Final = 512  # characters; what Salt accepts as an id or function is shorter
_LONGEST_TEXT: Final = 2000
_LARGEST_IDS: Final = 64 << 20  # bytes of one job's minion ids, uncompressed

# The indexes answer by time and cause, by minion, and by job without reading the rows.
_SCHEMA: Final = (
    """CREATE TABLE losses (
        id INTEGER PRIMARY KEY, jid TEXT NOT NULL, minion TEXT NOT NULL, function TEXT NOT NULL,
        cause TEXT NOT NULL, evidence TEXT NOT NULL, published REAL, closed REAL NOT NULL, recovered REAL
    )""",
    "CREATE INDEX losses_by_time ON losses (closed, cause)",
    "CREATE INDEX losses_by_minion ON losses (minion, closed)",
    "CREATE INDEX losses_by_jid ON losses (jid, minion)",
    # AUTOINCREMENT: a number is never given again, so that jobs of before the start are those up to one number.
    """CREATE TABLE in_flight (
        id INTEGER PRIMARY KEY AUTOINCREMENT, jid TEXT NOT NULL UNIQUE, function TEXT NOT NULL,
        published REAL, deadline REAL NOT NULL, expected BLOB NOT NULL, absent BLOB NOT NULL
    )""",
    "CREATE TABLE last_seen (minion TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID",
    "CREATE TABLE alive (id INTEGER PRIMARY KEY CHECK (id = 0), until REAL NOT NULL)",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_VERSION}",
)


class NoJournalError(Exception):
    """The file is something else, damaged, or of another version: it is to be put aside. The message says which."""


class Reader:
    """Questions to a journal. Not thread-safe."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.text_factory = _text

    @classmethod
    @contextmanager
    def of(cls, path: Path) -> Iterator[Reader]:
        """Open the journal that a daemon may be writing to. Raises SourceError if it cannot be read."""
        try:
            _require_readable(path)
            connection = _connect(path, "ro")
        except FileNotFoundError:
            raise SourceError(
                f"{path} does not exist: the daemon has another --state.directory, has never run, "
                "or could not write there and keeps its journal in memory (its log says why)"
            ) from None
        except OSError as error:
            raise SourceError(
                f"cannot read the loss journal {path} ({error.strerror}): run this as the user the exporter runs as"
            ) from error
        try:
            _require_ours(connection)
            yield cls(connection)
        except (sqlite3.Error, NoJournalError, UnicodeDecodeError) as error:
            raise SourceError(f"cannot read the loss journal {path}: {error}") from error
        finally:
            connection.close()

    def losses(
        self,
        *,
        since: float | None = None,
        minion: str | None = None,
        jid: str | None = None,
        cause: str | None = None,
        limit: int,
    ) -> list[Loss]:
        """Return at most `limit` losses closed since then, of that minion, job and cause, the newest first."""
        where, values = _where(since, minion, jid, cause)
        rows = self._connection.execute(
            "SELECT jid, minion, function, cause, evidence, published, closed, recovered"  # noqa: S608 - see _where
            f" FROM losses {where} ORDER BY closed DESC, id DESC LIMIT ?",
            (*values, limit),
        )
        return [Loss(*row) for row in rows]

    def counts(
        self,
        *,
        since: float | None = None,
        minion: str | None = None,
        jid: str | None = None,
        cause: str | None = None,
    ) -> dict[str, int]:
        """Return the number of such losses by cause, the most frequent first."""
        where, values = _where(since, minion, jid, cause)
        rows = self._connection.execute(
            f"SELECT cause, count(*) FROM losses {where} GROUP BY cause ORDER BY count(*) DESC, cause",  # noqa: S608
            values,
        )
        return dict(rows)

    def in_flight(self, up_to: int) -> list[InFlight]:
        """Return the jobs not closed yet with numbers up to `up_to`, the oldest first; what is damaged is left out."""
        rows = self._connection.execute(
            "SELECT jid, function, published, deadline, expected, absent FROM in_flight WHERE id <= ? ORDER BY id",
            (up_to,),
        )
        found = []
        for jid, function, published, deadline, expected, absent in rows:
            try:
                ids = _unpacked(expected), _unpacked(absent)
            except (ValueError, zlib.error):
                continue
            found.append(InFlight(jid, function, published, deadline, tuple(ids[0]), frozenset(ids[1])))
        return found

    def last_seen(self) -> dict[str, float]:
        """Return when each minion was last seen, Unix seconds."""
        return dict(self._connection.execute("SELECT minion, at FROM last_seen"))


class Store(Reader):
    """A journal that is written: a file, or memory. Not thread-safe, but may go from thread to thread."""

    def __init__(self, path: Path | None) -> None:
        """Open or make the journal `path`, None for one in memory.

        Raises NoJournalError for what must be put aside first, OSError or sqlite3.Error where nothing can be written.
        """
        self.path = path
        if path is not None:
            self._inode = _make_private(path)
        super().__init__(_connect(path, "rw"))
        try:
            self._prepare()
            self.rows: int = self._number("SELECT count(*) FROM losses")
            self.before: int = self._number("SELECT coalesce(max(id), 0) FROM in_flight")  # of earlier starts
            alive = self._connection.execute("SELECT until FROM alive").fetchone()
            self.alive_until: float | None = alive[0] if alive else None  # of earlier starts
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file. What has been written stays."""
        self._connection.close()

    @property
    def in_place(self) -> bool:
        """Whether the file is still the one at its path: tidy people and programs delete what they do not know."""
        if self.path is None:
            return True
        try:
            return self.path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def write(self, notes: Notes, now: float) -> None:
        """Write all notes or nothing, and that somebody was there at `now`. Raises sqlite3.Error."""
        with self._transaction():
            for kind, items in groupby(notes.losses, type):
                (self._record if kind is Loss else self._recover)(items)  # type: ignore[arg-type] # one type each
            self._connection.executemany(
                "DELETE FROM in_flight WHERE jid = CAST(? AS TEXT)",
                ((_id(jid),) for jid in notes.jobs),
            )
            self._connection.executemany(
                "INSERT INTO in_flight (jid, function, published, deadline, expected, absent)"
                " VALUES (CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, ?, ?)",
                (_job_row(job) for job in notes.jobs.values() if job),
            )
            self._connection.executemany(
                "DELETE FROM last_seen WHERE minion = CAST(? AS TEXT)",
                ((_id(minion),) for minion in notes.forgotten),
            )
            self._connection.executemany(
                "INSERT INTO last_seen VALUES (CAST(? AS TEXT), ?)"
                " ON CONFLICT DO UPDATE SET at = excluded.at WHERE excluded.at > at",
                ((_id(minion), at) for minion, at in notes.seen.items()),
            )
            self._connection.execute("INSERT OR REPLACE INTO alive VALUES (0, ?)", (now,))
        self.rows += sum(type(item) is Loss for item in notes.losses)

    def prune(self, oldest: float, max_rows: int) -> bool:
        """Delete some of the losses closed before `oldest` or beyond `max_rows`; tell whether there are more."""
        with self._transaction():
            excess = min(PRUNED, max(0, self.rows - max_rows))
            gone = self._connection.execute(
                "DELETE FROM losses WHERE id IN (SELECT id FROM losses ORDER BY closed, id LIMIT ?)", (excess,)
            ).rowcount
            gone += self._connection.execute(
                "DELETE FROM losses WHERE id IN (SELECT id FROM losses WHERE closed < ? ORDER BY closed LIMIT ?)",
                (oldest, PRUNED - excess),
            ).rowcount
        self.rows -= gone
        if gone:
            # A step frees one page, and `execute` makes only one.
            self._connection.executescript(f"PRAGMA incremental_vacuum({PRUNED})")
        return gone == PRUNED

    def _record(self, losses: Iterable[Loss]) -> None:
        self._connection.executemany(
            "INSERT INTO losses (jid, minion, function, cause, evidence, published, closed, recovered) VALUES ("
            "CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, ?)",
            (
                (
                    *(_id(text) for text in (loss.jid, loss.minion, loss.function, loss.cause)),
                    _encoded(loss.evidence[:_LONGEST_TEXT]),
                    *(loss.published, loss.closed, loss.recovered),
                )
                for loss in losses
            ),
        )

    def _recover(self, recoveries: Iterable[Recovery]) -> None:
        self._connection.executemany(
            "UPDATE losses SET recovered = ?"
            " WHERE jid = CAST(? AS TEXT) AND minion = CAST(? AS TEXT) AND recovered IS NULL",
            ((item.when, _id(item.jid), _id(item.minion)) for item in recoveries),
        )

    def _prepare(self) -> None:
        # The order matters: the first must come before there is anything in the file.
        self._connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")  # a crash of the host may take the last seconds
        self._connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
        if self._number("PRAGMA application_id") == 0 and self._number("SELECT count(*) FROM sqlite_master") == 0:
            with self._transaction():
                for statement in _SCHEMA:
                    self._connection.execute(statement)
        _require_ours(self._connection)

    def _number(self, question: str) -> int:
        number: int = self._connection.execute(question).fetchone()[0]
        return number

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # SQLite ends some by itself when the disk is full
                self._connection.execute("ROLLBACK")
            raise


def put_aside(path: Path) -> Path:
    """Rename what stands in the journal's place, in the place of what was put aside before; return its name."""
    aside = path.with_name(path.name + ASIDE)
    for suffix in ("", "-wal", "-shm"):
        aside.with_name(aside.name + suffix).unlink(missing_ok=True)
    path.replace(aside)
    for suffix in ("-wal", "-shm"):  # without them the copy lacks what was written last
        log = path.with_name(path.name + suffix)
        if log.exists():
            log.replace(aside.with_name(aside.name + suffix))
    return aside


def is_damage(error: BaseException | None) -> bool:
    """Tell whether an error says that the file itself is bad; a full or read-only disk is another matter."""
    return isinstance(error, (NoJournalError, UnicodeDecodeError)) or type(error) is sqlite3.DatabaseError


def _connect(path: Path | None, mode: str) -> sqlite3.Connection:
    # The URI keeps SQLite from making a file, and from taking a part of a name for an option.
    name = ":memory:" if path is None else f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(name, uri=path is not None, timeout=_WAIT, isolation_level=None, check_same_thread=False)


def _require_readable(path: Path) -> None:
    """Raise OSError unless the file can be read: SQLite does not say why it cannot.

    Without opening it: closing it again would give up the locks that this process may hold through SQLite.
    """
    path.stat()
    if not os.access(path, os.R_OK, effective_ids=True):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _make_private(path: Path) -> int:
    """Make sure of a regular file at `path` that only we may read; return its inode."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        # Not opened later than this: closing it would give up SQLite's own locks.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return path.lstat().st_ino
    if not stat.S_ISREG(status.st_mode):
        raise NoJournalError("not a regular file")
    if stat.S_IMODE(status.st_mode) != 0o600:
        path.chmod(0o600)
    return status.st_ino


def _require_ours(connection: sqlite3.Connection) -> None:
    """Raise NoJournalError unless this is a journal of our version."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
        raise NoJournalError("a database of something else")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != _VERSION:
        raise NoJournalError(f"its version is {version}, of another salt-exporter, and not {_VERSION}")


def _where(since: float | None, minion: str | None, jid: str | None, cause: str | None) -> tuple[str, list[Any]]:
    """Return a condition, in which nothing but our own words stands, and the values for its question marks."""
    conditions: list[str] = []
    values: list[Any] = []
    if since is not None:
        conditions.append("closed >= ?")
        values.append(since)
    for column, text in (("minion", minion), ("jid", jid), ("cause", cause)):
        if text is not None:
            conditions.append(f"{column} = CAST(? AS TEXT)")
            values.append(_id(text))
    return ("WHERE " + " AND ".join(conditions) if conditions else ""), values


def _job_row(job: InFlight) -> tuple[Any, ...]:
    return _id(job.jid), _id(job.function), job.published, job.deadline, _packed(job.expected), _packed(job.absent)


def _packed(ids: Iterable[str]) -> bytes:
    return zlib.compress(msgpack.packb(list(ids), unicode_errors="surrogatepass"), 1)


def _unpacked(data: bytes) -> list[str]:
    """Return what was packed. Raises ValueError or zlib.error."""
    found = msgpack.unpackb(zlib.decompressobj().decompress(data, _LARGEST_IDS), unicode_errors="surrogatepass")
    if not isinstance(found, list):
        raise ValueError("no list of ids")  # noqa: TRY004 - bad data, not a bad argument
    return found


def _id(text: str) -> bytes:
    return _encoded(text[:_LONGEST_ID])


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
