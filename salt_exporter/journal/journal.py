"""The loss journal, written by a thread of its own.

Losses with cause and evidence, jobs in flight, when each minion was last seen, and until when somebody listened, in
an SQLite file (see store.py). Where that cannot be written the journal is kept in memory, and says so once.

Who tells the journal something never waits for the disk: it is noted, and written within a second. While the disk
takes nothing, notes are kept up to a bound, beyond which last-seen times are dropped first and losses last.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Final, TypeVar

from salt_exporter.errors import SourceError
from salt_exporter.journal.notes import Notes, Recovery
from salt_exporter.journal.store import FILE, PRUNED, NoJournalError, Reader, Store, is_damage, put_aside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from salt_exporter.journal.notes import InFlight, Loss

_GATHER: Final = 0.5  # seconds in which what is told is gathered for one transaction
_HEARTBEAT: Final = 5.0  # seconds between transactions while nothing is told
_FIRST_PAUSE: Final = 1.0  # seconds until the next attempt when the file cannot be written; it doubles
_LONGEST_PAUSE: Final = 30.0
_MAX_NOTES: Final = 100_000
_MAX_ROWS_IN_MEMORY: Final = 10_000
_PRUNE_STEPS: Final = 10  # at a time, and as many as it takes for what was just written

_Answer = TypeVar("_Answer")
_log = logging.getLogger(__name__)


class Journal:
    """The journal of one exporter. Thread-safe: what is told returns at once, questions wait for the disk."""

    def __init__(self, folder: Path, *, max_age: float, max_rows: int, clock: Callable[[], float] = time.time) -> None:
        """Open the journal in the state directory and start writing.

        `max_age` (seconds) and `max_rows` bound the losses that are kept; `clock` gives Unix seconds.
        """
        self.errors = 0  # transactions that failed, and notes that were dropped
        self._max_age = max_age
        self._max_rows = max_rows
        self._clock = clock
        self._path = folder / FILE
        self._claimed = -1  # the state directory, locked
        self._storing = threading.Lock()  # of the store
        self._store = self._first_store()
        self.alive_until = self._store.alive_until  # of the run before this one; None: there was none that is known
        self._failing = False  # the last transaction went wrong
        self._damaged = False  # a question has met what no journal holds
        lock = threading.Lock()  # of all that follows
        self._work = threading.Condition(lock)  # the writer waits for it
        self._done = threading.Condition(lock)  # and is waited for
        self._notes = Notes()
        self._told = self._written = 0  # how often something was told, and of these, what the writer is done with
        self._hurry = self._stop = False
        self._writer = threading.Thread(target=self._write_all, name="journal", daemon=True)
        self._writer.start()

    # --- telling: returns at once ---

    def record(self, losses: Iterable[Loss]) -> None:
        """Note missing responses."""
        found = list(losses)
        self._tell(lambda notes: notes.losses.extend(found))

    def recovered(self, jid: str, minion: str, when: float) -> None:
        """Note that a response that was called missing has come at `when`, Unix seconds."""
        self._tell(lambda notes: notes.losses.append(Recovery(jid, minion, when)))

    def opened(self, job: InFlight) -> None:
        """Note a job in flight, in the place of what was noted for its jid before."""
        self._tell(lambda notes: notes.put_job(job.jid, job))

    def closed(self, jid: str) -> None:
        """Note that a job is not in flight any more."""
        self._tell(lambda notes: notes.put_job(jid, None))

    def seen(self, times: Mapping[str, float]) -> None:
        """Note when minions were last seen, Unix seconds; a time before the known one changes nothing."""
        found = dict(times)
        self._tell(lambda notes: notes.see(found))

    def forget(self, minions: Iterable[str]) -> None:
        """Drop the last-seen times of minions, whose key is gone."""
        found = set(minions)
        self._tell(lambda notes: notes.forget(found))

    def flush(self, timeout: float) -> bool:
        """Write what has been told so far; tell whether that was done within `timeout` seconds."""
        with self._done:
            target = self._told
            if self._written < target:
                self._hurry = True
                self._work.notify()
            return self._done.wait_for(lambda: self._written >= target, timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Write the rest and end, within `timeout` seconds; what is told from now on is dropped."""
        with self._work:
            self._stop = True
            self._work.notify()
        self._writer.join(timeout)

    # --- asking: what has been written ---

    @property
    def persistent(self) -> bool:
        """Whether what is told outlives this process: it goes to a file, and the last transaction went well."""
        return self._store.path is not None and not self._failing

    @property
    def rows(self) -> int:
        """The number of losses in the journal."""
        return self._store.rows

    def losses(
        self,
        *,
        since: float | None = None,
        minion: str | None = None,
        jid: str | None = None,
        cause: str | None = None,
        limit: int = 1000,
    ) -> list[Loss]:
        """Return at most `limit` losses closed since then, of that minion, job and cause, the newest first.

        Raises SourceError.
        """
        return self._ask(lambda store: store.losses(since=since, minion=minion, jid=jid, cause=cause, limit=limit))

    def counts(
        self,
        *,
        since: float | None = None,
        minion: str | None = None,
        jid: str | None = None,
        cause: str | None = None,
    ) -> dict[str, int]:
        """Return the number of such losses by cause, the most frequent first. Raises SourceError."""
        return self._ask(lambda store: store.counts(since=since, minion=minion, jid=jid, cause=cause))

    def in_flight(self) -> list[InFlight]:
        """Return the jobs in flight when the exporter last ended, less those closed since. Raises SourceError."""
        return self._ask(lambda store: store.in_flight(self._store.before))

    def last_seen(self) -> dict[str, float]:
        """Return when each minion was last seen, Unix seconds. Raises SourceError."""
        return self._ask(lambda store: store.last_seen())

    def _ask(self, question: Callable[[Reader], _Answer]) -> _Answer:
        """Ask over a connection of our own, which no writing holds up. Memory has but one."""
        store = self._store
        if store.path is None:
            with self._storing:
                try:
                    return question(store)
                except sqlite3.Error as error:
                    raise SourceError(f"the loss journal cannot be asked: {error}") from error
        try:
            with Reader.of(store.path) as reader:
                return question(reader)
        except SourceError as error:
            self._damaged |= is_damage(error.__cause__)  # the writer puts it aside
            raise

    # --- the writer ---

    def _tell(self, note: Callable[[Notes], None]) -> None:
        with self._work:
            if self._stop:
                self.errors += 1
                return
            idle = not self._notes
            note(self._notes)
            self.errors += self._notes.shed(_MAX_NOTES)
            self._told += 1
            if idle:
                self._work.notify()

    def _write_all(self) -> None:
        last, more_to_prune = False, True
        while not last:
            notes, told, last = self._taken(0.0 if more_to_prune else _HEARTBEAT)
            self._write(notes)
            with self._done:
                self._written = told
                self._done.notify_all()
            more_to_prune = self._prune(len(notes.losses))
        with self._storing:
            self._store.close()
        if self._claimed >= 0:
            os.close(self._claimed)

    def _taken(self, timeout: float) -> tuple[Notes, int, bool]:
        """Wait for notes until the time is up; return them, how much was told by then, and whether that was all."""
        with self._work:
            if self._work.wait_for(lambda: self._notes or self._hurry or self._stop, timeout):
                self._work.wait_for(lambda: self._hurry or self._stop, _GATHER)
            notes, self._notes = self._notes, Notes()
            self._hurry = False
            return notes, self._told, self._stop

    def _write(self, notes: Notes) -> None:
        """Write the notes, however often that must be tried; only when we are to end are they given up."""
        pause = _FIRST_PAUSE
        replaced = False
        while True:
            try:
                with self._storing:
                    self._restore()
                    self._store.write(notes, self._clock())
            except Exception as error:  # noqa: BLE001 - whatever it is, later notes are to be written
                self._count_errors(1)
                if isinstance(error, (OSError, sqlite3.OperationalError)):  # a full disk, one that is read-only…
                    self._say_failing(error)
                    if self._sleep(pause):
                        pause = min(2 * pause, _LONGEST_PAUSE)
                        continue
                elif is_damage(error) and not replaced:
                    self._damaged = replaced = True
                    continue
                self._count_errors(len(notes))
                _log.error("dropped %d notes for the loss journal: %r", len(notes), error)
                return
            if self._failing:
                self._failing = False
                _log.warning("the loss journal %s can be written again", self._path)
            return

    def _prune(self, written: int) -> bool:
        """Delete losses that are too old or too many, for a while but more than just came; tell if some are left."""
        oldest = self._clock() - self._max_age
        try:
            for _ in range(_PRUNE_STEPS + written // PRUNED):
                with self._storing:
                    max_rows = self._max_rows if self._store.path else min(self._max_rows, _MAX_ROWS_IN_MEMORY)
                    if not self._store.prune(oldest, max_rows):
                        return False
        except (OSError, sqlite3.Error) as error:  # the next transaction meets it too, and says so
            self._count_errors(1)
            self._damaged |= is_damage(error)
            return False
        return True

    def _sleep(self, seconds: float) -> bool:
        """Wait for the next attempt; tell whether there is to be one."""
        with self._work:
            self._work.wait_for(lambda: self._hurry or self._stop, seconds)
            self._hurry = False
            return not self._stop

    def _say_failing(self, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            _log.warning("cannot write the loss journal %s (%s): what comes is kept in memory", self._path, error)

    def _count_errors(self, number: int) -> None:
        with self._work:
            self.errors += number

    # --- the file ---

    def _first_store(self) -> Store:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._claimed = _claim(self._path.parent)
        except OSError as error:
            return self._in_memory(error)
        return self._open()

    def _open(self, damage: str = "") -> Store:
        """Return the journal's file, a new one in the place of one that cannot be used; else one in memory."""
        try:
            if damage:
                self._put_aside(damage)
            try:
                return Store(self._path)
            except Exception as error:
                if not is_damage(error):
                    raise
                self._put_aside(str(error))
                return Store(self._path)
        except (OSError, sqlite3.Error, NoJournalError) as error:
            return self._in_memory(error)

    def _restore(self) -> None:
        """Begin a new file where the old one is damaged, or is not there any more."""
        if self._damaged:
            self._damaged = False
            self._store.close()
            self._store = self._open("damaged")
        elif not self._store.in_place:
            _log.warning("the loss journal %s was removed: a new one is begun", self._path)
            self._store.close()
            self._store = self._open()

    def _put_aside(self, reason: str) -> None:
        aside = put_aside(self._path)
        _log.warning("%s is no loss journal of this version (%s): renamed to %s", self._path, reason, aside.name)

    def _in_memory(self, error: Exception) -> Store:
        _log.warning("the loss journal %s cannot be used (%s): it is kept in memory only", self._path, error)
        return Store(None)


def _claim(folder: Path) -> int:
    """Lock the state directory against other exporters and return it, open; raise OSError if one has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise OSError("another salt-exporter uses it: give each a --state.directory of its own") from None
    except OSError as error:  # some network file systems have no such locks
        _log.debug("cannot lock %s: %s", folder, error)
    return descriptor
