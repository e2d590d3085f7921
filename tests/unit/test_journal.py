"""The loss journal: what is told outlives restarts, kill -9, full disks and foreign files, and nobody waits for it."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salt_exporter.errors import SourceError
from salt_exporter.journal import InFlight, Journal, Loss, journal, plain, reader
from salt_exporter.journal.notes import Notes, Recovery
from salt_exporter.journal.store import Store
from tests.unit.tools import public_folder, unprivileged, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import TypeAlias

    Start: TypeAlias = Callable[..., Journal]

LOSS = Loss("20261123100000000000", "web1", "test.ping", "not_connected", "It was not there.", 1000.0, 1060.0)
JOB = InFlight("20261123100000000001", "state.apply", 1000.5, 1100.0, ("web1", "web2"), frozenset({"web2"}))


def loss(number: int, **fields: Any) -> Loss:  # noqa: ANN401 - of any field
    """Return a loss of its own minion, closed `number` seconds after the first."""
    values = plain(LOSS) | {"minion": f"web{number}", "closed": 1060.0 + number} | fields
    return Loss(**values)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a state directory that is not there yet."""
    return tmp_path / "lib" / "state"


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Return a starter of journals in the folder; they are closed when the test is done."""
    started: list[Journal] = []

    def starter(**options: Any) -> Journal:  # noqa: ANN401 - of any option
        options = {"max_age": 1e12, "max_rows": 1_000_000} | options
        started.append(Journal(options.pop("folder", folder), **options))
        return started[-1]

    yield starter
    for one in started:
        one.close()
        assert not one._writer.is_alive()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was said as a warning or worse."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# --- what is told is known after a restart ---


def test_everything_is_known_after_a_restart(start: Start) -> None:
    """Losses, jobs in flight, last-seen times and until when the exporter ran are there when it starts again."""
    first = start(clock=lambda: 5000.0)
    first.record([LOSS, loss(2, published=None)])
    first.opened(JOB)
    first.seen({"web1": 1001.5, "web2": 1002.5})
    first.close()
    second = start()

    assert [loss(2, published=None), LOSS] == second.losses()
    assert [JOB] == second.in_flight()
    assert {"web1": 1001.5, "web2": 1002.5} == second.last_seen()
    assert (None, 5000.0) == (first.alive_until, second.alive_until)
    assert (2, 0, True) == (second.rows, second.errors, second.persistent)


def test_time_of_the_last_moment_is_kept_without_an_end(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing is told, the file says every few seconds that somebody is there."""
    monkeypatch.setattr(journal, "_HEARTBEAT", 0.01)
    now = [100.0]
    one = start(clock=lambda: now[0])

    def alive_until() -> object:
        with closing(sqlite3.connect(one._path)) as connection:
            return connection.execute("SELECT until FROM alive").fetchone()

    wait_until(lambda: alive_until() == (100.0,))
    now[0] = 200.0
    wait_until(lambda: alive_until() == (200.0,))


def test_what_is_told_is_written_by_itself(start: Start, folder: Path) -> None:
    """Nobody needs to flush: another reader sees a loss soon."""
    one = start()
    assert one.flush(5)
    one.record([LOSS])

    def written() -> bool:
        with reader(folder) as other:
            return other.losses(limit=1) == [LOSS]

    wait_until(written)


def test_telling_does_not_wait_for_the_disk(start: Start) -> None:
    """While the disk takes its time, whoever tells something goes on; flush says that it is not written yet."""
    one = start()
    assert one.flush(5)
    with one._storing:
        one.record([LOSS])
        one.opened(JOB)
        one.closed("other")
        one.recovered(LOSS.jid, LOSS.minion, 1.0)
        one.seen({"web1": 1.0})
        one.forget(["web2"])
        assert not one.flush(0.05)

    assert one.flush(5)
    assert 1 == len(one.losses())


def test_several_threads_may_tell_and_ask(start: Start) -> None:
    """Nothing is lost or told twice when many tell and ask at the same time."""
    one = start()

    def work(thread: int) -> None:
        for number in range(50):
            one.record([loss(1000 * thread + number)])
            one.seen({f"web{thread}": float(number)})
            if number % 10 == 0:
                one.losses()
                one.flush(5)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one.flush(5)

    assert {f"web{1000 * thread + number}" for thread in range(4) for number in range(50)} == {
        found.minion for found in one.losses()
    }
    assert (200, 200, 0) == (one.rows, len(one.losses()), one.errors)
    assert {f"web{thread}": 49.0 for thread in range(4)} == one.last_seen()


def test_end_writes_the_rest_and_takes_no_more(start: Start) -> None:
    """What was told before the end is written; what is told later is counted as dropped."""
    one = start()
    one.record([LOSS])
    one.close()
    one.record([loss(2)])

    assert [LOSS] == one.losses()
    assert 1 == one.errors


# --- kill -9 ---

_VICTIM = """
import sys
from pathlib import Path
from salt_exporter.journal import InFlight, Journal, Loss
journal = Journal(Path(sys.argv[1]), max_age=1e12, max_rows=10**6)
first = int(sys.argv[2])
for number in range(first, first + 10**6, 50):
    jids = range(number, number + 50)
    journal.record(Loss(str(jid), "web1", "test.ping", "unknown", "x" * 200, 1.0, float(jid)) for jid in jids)
    journal.opened(InFlight(str(number), "test.ping", 1.0, 2.0, ("web1",) * 1000, frozenset()))
    if number % 100:
        journal.closed(str(number - 50))
    journal.seen({f"web{n}": float(number) for n in range(500)})
    if journal.flush(10) and journal.persistent:
        print(number + 50, flush=True)
"""


def test_kill_loses_nothing_that_was_flushed(folder: Path) -> None:
    """Killed at any moment, again and again, the file is whole and holds everything that flush has promised."""
    promised = 0
    for round_ in range(8):
        victim = subprocess.Popen(
            [sys.executable, "-c", _VICTIM, str(folder), str(promised)], stdout=subprocess.PIPE, text=True
        )
        assert victim.stdout is not None
        promised = int(victim.stdout.readline())
        time.sleep(0.013 * round_)
        victim.send_signal(signal.SIGKILL)
        lines = victim.communicate()[0].split()  # what it said in the meantime is promised, too
        promised = int(lines[-1]) if lines else promised
        with reader(folder) as found:
            numbers = sorted(int(item.jid) for item in found.losses(limit=10**6))
            assert [] == found._connection.execute("PRAGMA integrity_check").fetchall()[1:]
        assert set(range(promised)) <= set(numbers)
        assert not (folder / "journal.sqlite.aside").exists()
        promised = numbers[-1] + 1  # a transaction that nobody was told of may be there as well
        assert len(numbers) == promised


def test_kill_before_the_first_table_is_no_damage(start: Start, folder: Path) -> None:
    """A file that was made and not filled any more is a new journal."""
    folder.mkdir(parents=True)
    (folder / "journal.sqlite").touch()
    one = start()
    one.record([LOSS])

    assert one.flush(5)
    assert one.persistent
    assert ["journal.sqlite"] == [path.name for path in folder.iterdir() if "-" not in path.name]


# --- what is asked ---


def test_losses_are_found_newest_first(start: Start) -> None:
    """By time, minion, job and cause, alone and together, up to the limit."""
    one = start()
    one.record(
        loss(number, minion=f"web{number % 2}", jid=f"j{number % 3}", cause=("a", "b")[number > 6])
        for number in (3, 1, 2, 9, 7, 8, 4, 5, 6, 0)
    )
    assert one.flush(5)

    def numbers(**which: Any) -> list[int]:  # noqa: ANN401 - of any question
        return [int(found.closed) - 1060 for found in one.losses(**which)]

    assert [9, 8, 7, 6, 5, 4, 3, 2, 1, 0] == numbers()
    assert [9, 8, 7] == numbers(limit=3)
    assert [9, 8] == numbers(since=1068.0)
    assert [8, 6, 4, 2, 0] == numbers(minion="web0")
    assert [7, 4, 1] == numbers(jid="j1")
    assert [9, 8, 7] == numbers(cause="b")
    assert [6, 0] == numbers(minion="web0", jid="j0")
    assert [] == numbers(minion="web3")
    assert {"a": 7, "b": 3} == one.counts()
    assert {"b": 3, "a": 1} == one.counts(since=1066.0)
    assert {"a": 4, "b": 1} == one.counts(minion="web0")
    assert {"b": 3} == one.counts(cause="b")


def test_recovery_marks_the_losses_told_before(start: Start) -> None:
    """A late response marks the losses of its minion and job that were told by then, and keeps the first time."""
    one = start()
    one.recovered(LOSS.jid, "web1", 1.0)
    one.record([LOSS, loss(2), loss(1, jid="other")])
    one.recovered(LOSS.jid, "web1", 1100.0)
    assert one.flush(5)
    one.recovered(LOSS.jid, "web1", 1200.0)
    one.recovered("nothing", "nobody", 1200.0)
    one.record([loss(1, closed=2000.0)])
    assert one.flush(5)

    assert [(2000.0, None), (1062.0, None), (1061.0, None), (1060.0, 1100.0)] == [
        (found.closed, found.recovered) for found in one.losses()
    ]


def test_jobs_in_flight_are_those_of_before_the_start(start: Start) -> None:
    """A job of this run is not handed out by this run, and one that is closed by nobody any more."""
    first = start()
    for jid in ("closed", "left", "replaced", "closed later"):
        first.opened(InFlight(jid, "f", None, 5.0, ("a",), frozenset()))
    first.closed("closed")
    first.close()
    second = start()
    assert ["left", "replaced", "closed later"] == [job.jid for job in second.in_flight()]
    second.opened(JOB)
    second.opened(InFlight("replaced", "f", None, 9.0, (), frozenset()))
    second.closed("closed later")
    assert second.flush(5)
    assert ["left"] == [job.jid for job in second.in_flight()]
    second.close()

    assert {"left": 5.0, JOB.jid: 1100.0, "replaced": 9.0} == {job.jid: job.deadline for job in start().in_flight()}


def test_job_after_all_have_closed_is_of_this_run(start: Start) -> None:
    """A new job is not taken for one of before the start when those have left the file."""
    first = start()
    first.opened(JOB)
    first.close()
    second = start()
    second.closed(JOB.jid)
    assert second.flush(5)
    second.opened(JOB)
    assert second.flush(5)

    assert [] == second.in_flight()


def test_large_jobs_are_stored_small(start: Start, folder: Path) -> None:
    """50,000 minions of one job are known after a restart, from less than a tenth of their text."""
    ids = tuple(f"minion{number:05}.example.com" for number in range(50_000))
    one = start()
    one.opened(InFlight("1", "f", 1.0, 2.0, ids, frozenset(ids[:100])))
    one.close()
    (found,) = start().in_flight()

    assert (ids, frozenset(ids[:100])) == (found.expected, found.absent)
    assert (folder / "journal.sqlite").stat().st_size < 50_000 * 24 / 3


def test_last_seen_times_only_grow(start: Start) -> None:
    """A later time replaces an earlier one, in one batch and across; forgotten minions come back when seen again."""
    one = start()
    one.seen({"a": 5.0, "b": 5.0, "c": 5.0, "d": 5.0})
    one.seen({"a": 4.0, "b": 6.0})
    assert one.flush(5)
    one.seen({"a": 3.0, "c": 9.0})
    one.forget(["d", "b", "nobody"])
    one.seen({"b": 1.0, "e": 1.0})
    one.forget(["e"])
    assert one.flush(5)

    assert {"a": 5.0, "b": 1.0, "c": 9.0} == one.last_seen()


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)


@settings(deadline=None)
@given(ids=st.lists(ANY_TEXT, min_size=1, max_size=5, unique=True), evidence=ANY_TEXT)
def test_any_text_is_stored(ids: list[str], evidence: str) -> None:
    """Ids of the network may hold anything, NUL and lone surrogates too: they are stored, and found again."""
    store = Store(None)
    job = InFlight(ids[0], ids[-1], None, 1.0, tuple(ids), frozenset(ids))
    losses = [Loss(text, text, text, text, evidence, None, 1.0) for text in ids]
    notes = Notes([*losses, Recovery(ids[0], ids[0], 2.0)], {ids[0]: job}, set(ids), dict.fromkeys(ids, 3.0))
    store.write(notes, 1.0)

    for text in ids:
        (found,) = store.losses(minion=text, jid=text, cause=text, limit=9)
        assert (text, text, evidence) == (found.minion, found.function, found.evidence)
        assert (2.0 if text == ids[0] else None) == found.recovered
    assert [job] == store.in_flight(9)
    assert dict.fromkeys(ids, 3.0) == store.last_seen()
    assert dict.fromkeys(ids, 1) == store.counts()


def test_text_without_end_is_cut(start: Start) -> None:
    """What no Salt would accept as an id does not fill the disk, and is found by itself all the same."""
    one = start()
    one.record([loss(1, minion="\udc80" * 10_000, evidence="x" * 10_000)])
    one.recovered(LOSS.jid, "\udc80" * 10_000, 5.0)
    assert one.flush(5)

    (found,) = one.losses(minion="\udc80" * 10_000)
    assert ("\udc80" * 512, 2000, 5.0) == (found.minion, len(found.evidence), found.recovered)


# --- bounds ---


def test_oldest_losses_are_deleted_beyond_the_rows(start: Start, folder: Path) -> None:
    """The newest are kept, by the time they were closed, and the file shrinks."""
    one = start(max_rows=100)
    one.record(loss(number, evidence="x" * 1000) for number in range(5000, 0, -1))
    assert one.flush(20)
    wait_until(lambda: one.rows <= 100)

    assert [loss(number).closed for number in range(5000, 4900, -1)] == [found.closed for found in one.losses()]
    one.close()
    assert (folder / "journal.sqlite").stat().st_size < 500_000


def test_old_losses_are_deleted(start: Start) -> None:
    """A loss goes when it is older than the longest age."""
    now = [1070.0]
    one = start(max_age=60.0, clock=lambda: now[0])
    one.record([loss(0), loss(10)])
    assert one.flush(5)
    assert 2 == one.rows
    now[0] = 1125.0
    one.flush(5)
    wait_until(lambda: one.rows == 1)

    assert [loss(10)] == one.losses()


def test_notes_are_bounded() -> None:
    """When too much waits, the oldest last-seen times go first, then the oldest jobs, and losses last."""
    notes = Notes()
    notes.see({"new": 3.0, "old": 1.0, "newer": 4.0, "middle": 2.0})
    notes.losses += [LOSS, loss(2)]
    notes.put_job("a", InFlight("a", "f", None, 1.0, ("x",) * 300, frozenset()))
    notes.put_job("b", None)
    notes.forget(["gone"])
    size = len(notes)
    assert 4 + 2 + 2 + 1 + 3 == size  # hundred ids of a job are one more

    assert (0, size) == (notes.shed(size), len(notes))
    assert (2, {"new", "newer"}) == (notes.shed(size - 2), set(notes.seen))
    assert (3, {}, {"a", "b"}) == (notes.shed(size - 5), notes.seen, set(notes.jobs))
    assert (1, {"b": None}) == (notes.shed(size - 6), notes.jobs)
    assert 2 == len(notes.losses)
    assert (2, [loss(2)]) == (notes.shed(1), notes.losses)


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.integers(0, 3).map(lambda number: ("job", f"j{number}", number * 150)),
            st.integers(0, 3).map(lambda number: ("closed", f"j{number}", 0)),
            st.integers(0, 3).map(lambda number: ("seen", f"m{number}", number)),
            st.integers(0, 3).map(lambda number: ("forget", f"m{number}", 0)),
            st.integers(0, 3).map(lambda number: ("loss", f"m{number}", 0)),
        ),
        max_size=30,
    ),
    st.integers(0, 12),
)
def test_notes_keep_to_their_bound(told: list[tuple[str, str, int]], bound: int) -> None:
    """Whatever is told in whatever order, no more than the bound is kept, and what is dropped is counted."""
    notes = Notes()
    count = dropped = 0
    for kind, name, number in told:
        before = len(notes.losses) + len(notes.jobs) + len(notes.forgotten) + len(notes.seen)
        if kind == "job":
            notes.put_job(name, InFlight(name, "f", None, 1.0, ("x",) * number, frozenset()))
        elif kind == "closed":
            notes.put_job(name, None)
        elif kind == "seen":
            notes.see({name: float(number)})
        elif kind == "forget":
            notes.forget([name])
        else:
            notes.losses.append(loss(1))
        count += len(notes.losses) + len(notes.jobs) + len(notes.forgotten) + len(notes.seen) - before
        dropped += notes.shed(bound)
        assert len(notes) <= bound

    assert count - dropped == len(notes.losses) + len(notes.jobs) + len(notes.forgotten) + len(notes.seen)
    assert notes._ids == sum(len(job.expected) for job in notes.jobs.values() if job)


# --- files that are none ---


def _garbage(path: Path) -> None:
    path.write_bytes(b"no database\n" * 1000)


def _foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE losses (mine)")
        connection.execute("PRAGMA user_version = 1")


def _newer(path: Path) -> None:
    Store(_made(path)).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


def _cut(path: Path) -> None:
    store = Store(_made(path))
    store.write(Notes([loss(number) for number in range(2000)]), 1.0)
    store.close()
    os.truncate(path, 50_000)


def _made(path: Path) -> Path:
    path.touch(0o600)
    return path


@pytest.mark.parametrize("make", [_garbage, _foreign, _newer, _cut, os.mkdir, os.mkfifo])
def test_what_is_no_journal_is_put_aside(
    make: Callable[[Path], None], start: Start, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that cannot be used is renamed, said once, and a new journal begun; the next one takes its name."""
    folder.mkdir(parents=True)
    aside = folder / "journal.sqlite.aside"
    aside.write_text("earlier")
    make(folder / "journal.sqlite")
    before = (folder / "journal.sqlite").stat()
    one = start()
    one.record([LOSS])
    assert one.flush(5)

    assert [LOSS] == one.losses()
    assert one.persistent
    assert before.st_ino == aside.stat().st_ino
    assert {"journal.sqlite", aside.name} == {path.name for path in folder.iterdir() if "-" not in path.name}
    (said,) = warnings(caplog)
    assert str(folder / "journal.sqlite") in said
    assert aside.name in said


def test_damage_that_a_question_meets_is_dealt_with(
    start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the disk has spoilt the file in the meantime, who asks is told, and a new file is begun."""
    monkeypatch.setattr(Journal, "_prune", lambda *_arguments: False)  # it would meet the damage, too
    one = start()
    one.record(loss(number) for number in range(2000))
    assert one.flush(5)
    one._store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    with (folder / "journal.sqlite").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 200_000)
        file.flush()
        with pytest.raises(SourceError, match="malformed"):
            one.losses()
        one.record([LOSS])
        assert one.flush(5)

    assert [LOSS] == one.losses()
    assert (1, 0, True) == (one.rows, one.errors, one.persistent)
    assert ["damaged" in text for text in warnings(caplog)] == [True]
    assert 200_000 < (folder / "journal.sqlite.aside").stat().st_size


def test_copy_put_aside_is_complete(start: Start, folder: Path) -> None:
    """What stands only in the write-ahead log goes with the file."""
    folder.mkdir(parents=True)
    path = folder / "journal.sqlite"
    other = sqlite3.connect(path, isolation_level=None)
    with closing(other):
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE theirs (a)")
        other.execute("INSERT INTO theirs VALUES (7)")
        start()
        with closing(sqlite3.connect(path.with_name(path.name + ".aside"))) as copy:
            assert [(7,)] == copy.execute("SELECT a FROM theirs").fetchall()


@pytest.mark.parametrize("by_another", [False, True])
def test_removed_file_is_begun_anew(
    *, by_another: bool, start: Start, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """When somebody tidies the state directory, or puts back a copy, the journal does not go on without a name."""
    start(folder=tmp_path / "copy").close()
    one = start()
    one.record([LOSS])
    assert one.flush(5)
    for path in folder.iterdir():
        path.unlink()
    if by_another:
        (tmp_path / "copy" / "journal.sqlite").rename(folder / "journal.sqlite")
    one.record([loss(2)])
    assert one.flush(5)

    assert [loss(2)] == one.losses()
    assert ["removed" in text for text in warnings(caplog)] == [True]


def test_only_we_may_read_it(start: Start, folder: Path) -> None:
    """Directory, file and logs are for the exporter's user only, whatever the umask and whatever they were."""
    umask = os.umask(0)
    try:
        one = start()
        one.record([LOSS])
        assert one.flush(5)
        assert 0o700 == folder.stat().st_mode & 0o777
        assert {0o600} == {path.stat().st_mode & 0o777 for path in folder.iterdir()}
        one.close()
        (folder / "journal.sqlite").chmod(0o644)
        start()
    finally:
        os.umask(umask)

    assert 0o600 == (folder / "journal.sqlite").stat().st_mode & 0o777


# --- disks that do not take it ---


def test_journal_is_in_memory_where_no_file_can_be(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where nothing can be written the journal works as long as the process, bounded, and says so once."""
    monkeypatch.setattr(journal, "_MAX_ROWS_IN_MEMORY", 10)
    (tmp_path / "file").touch()
    one = start(folder=tmp_path / "file" / "state")
    one.record(loss(number) for number in range(20))
    one.opened(JOB)
    one.seen({"web1": 5.0})
    assert one.flush(5)
    wait_until(lambda: one.rows == 10)

    assert [loss(number) for number in range(19, 9, -1)] == one.losses()
    assert (10, {"web1": 5.0}, [], None) == (
        one.counts()["not_connected"],
        one.last_seen(),
        one.in_flight(),
        one.alive_until,
    )
    assert not one.persistent
    assert 0 == one.errors
    (said,) = warnings(caplog)
    assert "Not a directory" in said
    assert "memory" in said
    one.close()
    with pytest.raises(SourceError):
        one.losses()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
def test_folder_of_others_is_not_written(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """A state directory of another user is one more reason for memory."""
    with public_folder() as place, unprivileged():
        assert not start(folder=place).persistent
    assert "denied" in warnings(caplog)[0]


def test_second_exporter_keeps_to_memory(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """Two exporters with one state directory do not mix their journals; when the first has ended, there is room."""
    first = start()
    second = start()
    assert (True, False) == (first.persistent, second.persistent)
    assert "another salt-exporter" in warnings(caplog)[0]
    first.close()

    assert start().persistent


def test_full_disk_is_waited_for(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While the disk is full attempts are counted and it is said once; when there is room again nothing is missing."""
    monkeypatch.setattr(journal, "_FIRST_PAUSE", 0.01)
    one = start()
    assert one.flush(5)
    one._store._connection.execute("PRAGMA max_page_count = 1")  # is no less than there are
    one.record(loss(number) for number in range(1000))
    assert not one.flush(0.3)
    wait_until(lambda: not one.persistent)
    wait_until(lambda: one.errors >= 2)
    one.record([loss(5000)])
    assert [] == one.losses()
    one._store._connection.execute("PRAGMA max_page_count = 1000000")
    assert one.flush(10)

    assert 1001 == len(one.losses(limit=2000)) == one.rows
    assert one.persistent
    full, again = warnings(caplog)
    assert "full" in full
    assert "again" in again


def test_end_does_not_wait_for_a_full_disk(start: Start) -> None:
    """What cannot be written when the exporter ends is counted as dropped, and the end comes at once."""
    one = start()
    assert one.flush(5)
    one._store._connection.execute("PRAGMA max_page_count = 1")
    one.record(loss(number) for number in range(1000))
    began = time.monotonic()
    one.close()

    assert time.monotonic() - began < 10
    assert 1000 < one.errors


def test_too_many_notes_are_dropped_and_counted(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing can be written, memory is bounded: losses stay when last-seen times go."""
    monkeypatch.setattr(journal, "_MAX_NOTES", 10)
    monkeypatch.setattr(journal, "_GATHER", 60.0)
    one = start()
    one.seen({f"web{number}": 1.0 for number in range(8)})
    one.record(loss(number) for number in range(5))
    assert 3 == one.errors
    assert one.flush(5)

    assert (5, 5) == (len(one.losses()), len(one.last_seen()))


def test_what_cannot_be_stored_does_not_stop_the_rest(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """A note that no file takes is dropped, counted and said; what is told later is written."""
    one = start()
    one.record([loss(1, closed=float("nan"))])
    one.flush(5)
    one.record([LOSS])
    assert one.flush(5)

    assert [LOSS] == one.losses()
    assert 2 == one.errors  # the transaction and the note
    assert "dropped 1 notes" in warnings(caplog)[0]


# --- readers ---


def test_another_process_reads_while_it_is_written(start: Start, folder: Path) -> None:
    """A reader elsewhere sees what is written, whether the daemon runs or has ended."""
    program = (
        "import sys; from pathlib import Path; from salt_exporter.journal import reader\n"
        "with reader(Path(sys.argv[1])) as journal: print(len(journal.losses(limit=99)))"
    )

    def read() -> str:
        return subprocess.run(
            [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True
        ).stdout

    one = start()
    one.record([LOSS])
    assert one.flush(5)
    assert "1\n" == read()
    one.record([loss(2)])
    assert one.flush(5)  # a reader that came and went has taken nobody's locks
    assert "2\n" == read()
    one.close()
    assert "2\n" == read()
    assert start().persistent


def test_reading_within_the_daemon_keeps_its_locks(start: Start, folder: Path) -> None:
    """A question does not give up the locks of the file: another process may not delete the log that is in use."""
    one = start()
    one.record([LOSS])
    assert one.flush(5)
    one.losses()
    with closing(sqlite3.connect(folder / "journal.sqlite")) as other:
        other.execute("SELECT count(*) FROM losses").fetchall()  # whoever closes last, as it believes, deletes the log
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM losses'); c.close()",
            str(folder / "journal.sqlite"),
        ],
        check=True,
    )

    assert (folder / "journal.sqlite-wal").exists()


def test_reader_cannot_change_the_journal(start: Start, folder: Path) -> None:
    """Whatever a reader asks, the file stays the daemon's."""
    start()
    with pytest.raises(SourceError, match="readonly"), reader(folder) as found:
        found._connection.execute("DELETE FROM losses")


def test_no_journal_is_one_sentence(folder: Path) -> None:
    """Where there is none, nothing is made, and the reasons that there may be are named."""
    with pytest.raises(SourceError, match=r"journal.sqlite does not exist: .*--state.directory"), reader(folder):
        pass

    assert not folder.exists()


@pytest.mark.parametrize("make", [_garbage, _foreign, _newer])
def test_reader_refuses_what_is_no_journal(make: Callable[[Path], None], tmp_path: Path) -> None:
    """A reader says what is wrong and changes nothing."""
    make(tmp_path / "journal.sqlite")
    content = (tmp_path / "journal.sqlite").read_bytes()
    with pytest.raises(SourceError, match="cannot read the loss journal"), reader(tmp_path) as found:
        found.losses(limit=1)

    assert content == (tmp_path / "journal.sqlite").read_bytes()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
def test_reader_without_rights_is_told_whose_they_are() -> None:
    """A user who may not read the file gets a sentence that says what to do."""
    with public_folder() as place:
        Store(_made(place / "journal.sqlite")).close()
        with (
            unprivileged(),
            pytest.raises(SourceError, match=r"Permission denied.*as the user the exporter runs as"),
            reader(place),
        ):
            pass


def test_damaged_job_is_left_out(start: Start, folder: Path) -> None:
    """Of jobs in flight whose minions cannot be unpacked nothing is handed out."""
    one = start()
    one.opened(JOB)
    one.opened(InFlight("2", "f", None, 1.0, (), frozenset()))
    one.close()
    with closing(sqlite3.connect(folder / "journal.sqlite", isolation_level=None)) as connection:
        connection.execute("UPDATE in_flight SET expected = x'00' WHERE jid <> '2'")

    assert ["2"] == [job.jid for job in start().in_flight()]
