"""Event bodies to typed events: what the recorded masters said, forged tags, and bodies that are none."""

from __future__ import annotations

import math
import time
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salt_exporter.master import events
from salt_exporter.master.events import (
    KINDS,
    MAX_FUNCTION,
    MAX_ID,
    MAX_TAG,
    Event,
    EventError,
    JobNew,
    JobReturn,
    JobStart,
    WorkerStats,
    decode,
    kind_of,
)
from salt_exporter.master.wire import MAX_HEAD, Framer

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).parents[1] / "data"
JID = "20261122101500000000"
STAMP = "2026-11-22T10:15:00.250000"

# By kind, in each recording; tests/data/README.md says which commands ran.
KINDS_RECORDED = {
    "3006": {"auth": 1, "job_jid": 12, "job_new": 12, "job_return": 11, "minion_start": 2, "other": 2, "refresh": 1}
    | {"run": 2, "stats": 8},
    "3007": {"job_jid": 12, "job_new": 12, "job_publish": 12, "job_return": 11, "other": 2, "run": 2, "stats": 7},
    "3008": {"batch": 4, "job_new": 12, "job_publish": 12, "job_return": 11, "other": 2, "run": 2, "stats": 6},
}
# Function, expected minions, targeted minions without a key; whether web1's return was a success, None without one.
JOBS_RECORDED = (
    ("test.ping", ("web1",), (), True),
    ("cmd.run", ("web1",), (), False),
    ("test.ping", ("ghost", "web1"), (), True),
    ("saltutil.find_job", ("ghost",), (), None),
    ("test.sleep", ("web1",), (), True),
    ("saltutil.find_job", ("web1",), (), True),
    ("test.arg", ("web1",), ("nokey",), True),
    ("event.fire_master", ("web1",), (), True),
    ("event.send", ("web1",), (), True),
    ("test.ping", ("web1",), (), True),
    ("test.ping", ("web1",), (), True),
    ("test.arg", ("web1",), (), True),
)

every_line = pytest.mark.parametrize("line", ["3006", "3007", "3008"])


def recorded(line: str) -> list[Event]:
    """Return the events of a recording."""
    return [decode(body) for body in Framer().feed((DATA / f"bus-{line}.bin").read_bytes())]


def body(tag: str, data: object) -> bytes:
    """Build an event's body as salt/utils/event.py does."""
    packed: bytes = msgpack.packb(data)
    return tag.encode() + b"\n\n" + packed


def returned(**data: object) -> JobReturn:
    """Return what a minion's return with these fields, beside those all have, is decoded to."""
    fields = {"cmd": "_return", "id": "web1", "jid": JID, "fun": "test.ping", "return": True} | data
    job = decode(body(f"salt/job/{JID}/ret/web1", fields)).detail
    assert isinstance(job, JobReturn)
    return job


@pytest.fixture
def far_from_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the test run in a zone whose time is not UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "XXX-7")
        time.tzset()
        yield
    time.tzset()


@every_line
def test_recorded_events_are_of_the_known_kinds(line: str) -> None:
    """Every event of a real master is of the kind that its tag says, and all kinds are declared."""
    kinds = Counter(event.kind for event in recorded(line))

    assert KINDS_RECORDED[line] == kinds
    assert kinds.keys() <= set(KINDS)


@every_line
def test_recorded_jobs_are_what_the_commands_published(line: str) -> None:
    """The functions, the expected minions and those without a key, in the order of the commands."""
    jobs = [event.detail for event in recorded(line) if isinstance(event.detail, JobNew)]

    assert [job[:3] for job in JOBS_RECORDED] == [(job.function, job.minions, job.missing) for job in jobs]
    assert len(jobs) == len({job.jid for job in jobs})


@every_line
def test_recorded_returns_belong_to_their_jobs(line: str) -> None:
    """Each return of web1 has the jid, the function and the success of the job it answers, and proves web1 alive."""
    events = recorded(line)
    jids = {event.detail.jid: number for number, event in enumerate(events) if isinstance(event.detail, JobNew)}
    expected = {
        (jid, function, success)
        for jid, (function, _minions, _missing, success) in zip(jids, JOBS_RECORDED, strict=True)
        if success is not None
    }
    returns = [(event.minion, event.detail) for event in events if isinstance(event.detail, JobReturn)]

    assert expected == {(job.jid, job.function, job.success) for _, job in returns}
    assert len(expected) == len(returns)
    assert {("web1", "web1")} == {(minion, job.minion) for minion, job in returns}


@every_line
def test_recorded_find_job_answer_says_which_job_still_runs(line: str) -> None:
    """The answer to `find_job` names the jid of test.sleep, and that it runs."""
    jobs = [event.detail for event in recorded(line) if event.detail]
    (sleep,) = (job.jid for job in jobs if isinstance(job, JobNew) and job.function == "test.sleep")
    (answer,) = (job for job in jobs if isinstance(job, JobReturn) and job.function == "saltutil.find_job")

    assert (sleep, False) == (answer.asks_for, answer.empty)
    assert {""} == {job.asks_for for job in jobs if isinstance(job, JobReturn) and job is not answer}


@every_line
def test_recorded_forged_return_proves_only_its_sender_alive(line: str) -> None:
    """A return that web1 fired in the name of ghost is no return: it is `other`, and no life of ghost."""
    events = recorded(line)

    assert [("other", "web1", None)] * 2 == [event[:1] + event[2:] for event in events if event.kind == "other"]
    assert {None, "web1"} == {event.minion for event in events}


@every_line
def test_recorded_stamps_are_the_time_of_the_event(line: str) -> None:
    """The time stamps of all lines are read as UTC: a job's is that of its jid, made a moment before."""
    events = [event for event in recorded(line) if isinstance(event.detail, JobNew)]

    for event in events:
        assert isinstance(event.detail, JobNew)
        made = datetime.strptime(event.detail.jid, "%Y%m%d%H%M%S%f").replace(tzinfo=timezone.utc)
        assert event.stamp is not None
        assert 0 <= event.stamp - made.timestamp() < 0.5


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        ("2026-11-22T10:15:00.250000", 1795342500.25),
        ("2026-11-22T10:15:00", 1795342500.0),
        ("2026-11-22T10:15:00.250000+00:00", 1795342500.25),
        ("2026-11-22T12:15:00+02:00", 1795342500.0),
        ("yesterday", None),
        ("", None),
        ("0001-01-01T00:00:00+23:59", -62135683140.0),
        (1795342500, None),
        (None, None),
    ],
)
@pytest.mark.usefixtures("far_from_greenwich")
def test_stamp_is_read_in_both_spellings_or_left_out(stamp: object, expected: float | None) -> None:
    """Naive stamps are UTC, others have their offset, and an odd one costs only itself."""
    assert expected == decode(body("my/tag", {"_stamp": stamp})).stamp


@pytest.mark.parametrize(
    ("tag", "kind"),
    [
        ("salt/job/1/new", "job_new"),
        ("salt/job/1/ret/web1", "job_return"),
        ("salt/job/1/ret/a/b", "job_return"),
        ("salt/job/1/publish", "job_publish"),
        ("salt/job/1/start/web1", "job_start"),
        ("salt/job/1/prog/web1/3", "job_progress"),
        ("salt/job/1/sub/web1/error/state.sls", "job_error"),
        ("salt/job/1/error", "job_error"),
        ("salt/job/1/unheard", "other"),
        ("salt/job/1", "other"),
        ("salt/job", "other"),
        ("20261122101500000000", "job_jid"),
        ("20261122101500000000_4711", "job_jid"),  # unique_jid: True
        ("2026112210150000000", "other"),
        ("20261122101500000000x", "other"),
        ("salt/auth", "auth"),
        ("salt/key", "key"),
        ("key", "key"),
        ("salt/presence/present", "presence"),
        ("salt/stats/MWorker-0", "stats"),
        ("salt/run/1/new", "run"),
        ("salt/wheel/1/ret", "wheel"),
        ("salt/batch/1/progress", "batch"),
        ("salt/beacon/web1/load/", "beacon"),
        ("salt/minion/web1/start", "minion_start"),
        ("minion_start", "minion_start"),
        ("syndic_start", "syndic"),
        ("salt/syndic/low/start", "syndic"),
        ("syndic/low/salt/job/1/ret/web1", "syndic"),
        ("minion/refresh/web1", "refresh"),
        ("resource/refresh/web1", "refresh"),
        ("my/tag", "other"),
        ("salt", "other"),
        ("", "other"),
        ("/", "other"),
    ],
)
def test_kind_follows_from_the_tag(tag: str, kind: str) -> None:
    """Each tag that Salt knows has its kind, everything else is `other`."""
    assert kind == kind_of(tag.split("/", 4))
    assert kind in KINDS


@pytest.mark.parametrize(
    ("tag", "data", "minion"),
    [
        ("salt/auth", {"id": "web1", "result": True, "act": "accept"}, "web1"),
        ("salt/auth", {"id": "web1", "result": True, "act": "pend"}, None),
        ("salt/auth", {"id": "web1", "result": False, "act": "accept"}, None),
        ("minion/refresh/web1", {}, "web1"),
        ("resource/refresh/web1", {}, None),  # of a resource, which need not be a minion
        ("salt/beacon/web1/load/", {"id": "web1", "data": {}}, "web1"),
        ("salt/beacon/web1/load/", {"data": {}}, "web1"),  # beacons nest their data
        ("salt/job/1/prog/web1/3", {"id": "web1", "cmd": "_minion_event"}, "web1"),
        ("salt/job/1/prog/web1/3", {"id": "web1", "data": {}}, "web1"),  # one of a list of events, unmarked
        ("minion_start", {"id": "web1", "cmd": "_minion_event"}, "web1"),
        ("salt/minion/web1/start", {"id": "web1", "cmd": "_minion_event"}, "web1"),
        ("salt/key", {"id": "web1", "act": "accept", "result": True}, None),
        ("salt/job/1/new", {"jid": "1", "fun": "test.ping", "minions": ["web1"]}, None),
        ("salt/presence/present", {"present": ["web1"]}, None),
        ("salt/run/1/ret", {"id": "web1"}, None),
        ("my/tag", {"id": "web1"}, None),
    ],
)
def test_only_what_a_minion_did_is_its_sign_of_life(tag: str, data: dict[str, object], minion: str | None) -> None:
    """What the master says about a minion does not prove it alive, what the minion itself did does."""
    assert minion == decode(body(tag, data)).minion


@pytest.mark.parametrize(
    "tag", ["salt/job/1/new", "salt/job/1/ret/ghost", "salt/auth", "minion/refresh/ghost", "salt/key"]
)
def test_event_fired_by_a_minion_under_a_tag_of_the_master_is_recognised(tag: str) -> None:
    """Whatever tag and fields a minion chooses, the event counts as `other` and proves the true sender alive."""
    data = {"cmd": "_minion_event", "id": "web1", "jid": "1", "fun": "test.ping", "act": "accept", "result": True}

    assert Event("other", None, "web1", None) == decode(body(tag, data))


# --- start events ---


def test_start_event_is_of_its_sender() -> None:
    """The minion that accepts a job fires the event itself: tag and true sender agree."""
    data = {"cmd": "_minion_event", "id": "web1", "data": {"jid": JID}, "_stamp": STAMP}

    expected = Event("job_start", 1795342500.25, "web1", JobStart(JID, "web1"))
    assert expected == decode(body(f"salt/job/{JID}/start/web1", data))


@pytest.mark.parametrize(
    "tag",
    [
        f"salt/job/{JID}/start/web2",  # in the name of another one
        f"salt/job/{JID}/start/web1/more",
        f"salt/job/{JID}/start/",
        f"salt/job/{JID}/start",
        "salt/job//start/web1",
        f"salt/job/{'9' * (MAX_ID + 1)}/start/web1",
    ],
)
def test_minion_starts_jobs_only_for_itself(tag: str) -> None:
    """What a minion says for others, or about no job, proves it alive and no more."""
    assert Event("job_start", None, "web1", None) == decode(body(tag, {"cmd": "_minion_event", "id": "web1"}))


@pytest.mark.parametrize("sender", [None, "", 5, ["web1"]])
def test_start_event_of_nobody_is_of_nobody(sender: object) -> None:
    """A sender that is no id starts nothing, whatever the tag says."""
    assert decode(body(f"salt/job/{JID}/start/", {"cmd": "_minion_event", "id": sender}))[2:] == (None, None)


def test_start_event_that_nobody_has_sent_starts_nothing() -> None:
    """Without the master's mark nothing tells who fired it."""
    assert Event("job_start", None, None, None) == decode(body(f"salt/job/{JID}/start/web1", {"id": "web1"}))


# --- statistics of workers ---

_COUNTED: dict[str, Any] = {"runs": 3, "mean": 0.5, "time": 0.0}


def worker(**data: object) -> dict[str, object]:
    """Return the data of a worker's statistics with these fields."""
    return {"time": 60.25, "worker": "MWorker-0", "stats": {"_return": _COUNTED}} | data


def test_worker_tells_runs_and_their_time() -> None:
    """Runs by command, and the time of all of them from their mean; the length of the time it tells about."""
    stats = {"_return": _COUNTED, "_pillar": {"runs": 2, "mean": 1.5}, "_minion_event": {"runs": 0, "mean": 0}}
    event = decode(body("salt/stats/MWorker-0", worker(stats=stats, _stamp=STAMP)))

    commands = {"_return": (3, 1.5), "_pillar": (2, 3.0), "_minion_event": (0, 0.0)}
    assert Event("stats", 1795342500.25, None, WorkerStats("MWorker-0", 60.25, commands)) == event


def test_worker_that_has_done_nothing_is_one() -> None:
    """No commands are no error."""
    assert WorkerStats("MWorker-0", 60.25, {}) == decode(body("salt/stats/MWorker-0", worker(stats={}))).detail


def test_names_of_commands_are_cut() -> None:
    """A command is a request's own word: it is not longer than an id."""
    long = {"x" * 5000: _COUNTED}
    detail = decode(body("salt/stats/x", worker(stats=long))).detail

    assert isinstance(detail, WorkerStats)
    assert ["x" * MAX_ID] == list(detail.commands)


_ODD: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("time", (None, 0, 0.0, -1.0, "60", True, float("nan"), float("inf"), 1e12, [60])),
    ("worker", (None, "", 5, "x" * (MAX_ID + 1))),
    ("stats", (None, [], "x", "VALUE_TRIMMED", {"_return": None}, {"_return": []}, {5: _COUNTED})),
    ("stats", ({"_return": {}}, {"_return": {"runs": 1}}, {"_return": {"mean": 1.0}})),
    ("stats", tuple({"_return": _COUNTED | {"runs": odd}} for odd in (-1, "3", None, True, 1e12, float("nan")))),
    ("stats", tuple({"_return": _COUNTED | {"mean": odd}} for odd in (-0.1, "x", None, False, float("inf")))),
    ("stats", ({"_return": _COUNTED, "_pillar": "VALUE_TRIMMED"},)),
)


@pytest.mark.parametrize("odd", [{field: value} for field, values in _ODD for value in values], ids=repr)
def test_statistics_that_make_no_sense_are_refused(odd: dict[str, object]) -> None:
    """One value that no duration or count can be, and nothing of the event is counted."""
    with pytest.raises(EventError):
        decode(body("salt/stats/MWorker-0", worker(**odd)))


@pytest.mark.parametrize("size", [10, 5000])
def test_statistics_may_be_large(size: int) -> None:
    """Stepping over what nobody asked for keeps the statistics."""
    event = decode(body("salt/stats/MWorker-0", worker(more="x" * size)))

    assert WorkerStats("MWorker-0", 60.25, {"_return": (3, 1.5)}) == event.detail


def test_statistics_that_a_minion_fires_are_none() -> None:
    """Only the master's own workers are counted."""
    assert Event("other", None, "web1", None) == decode(
        body("salt/stats/MWorker-0", worker(cmd="_minion_event", id="web1"))
    )


# --- what Salt cuts out of events beyond max_event_size ---


@pytest.mark.parametrize("field", ["tgt", "arg", "user", "kwargs"])
def test_job_keeps_its_minions_where_something_else_was_cut_out(field: str) -> None:
    """Large arguments, say, are cut out of an event whose list of minions is small."""
    data = {"jid": JID, "fun": "test.ping", "minions": ["web1"], "missing": ["nokey"]} | {field: "VALUE_TRIMMED"}

    assert JobNew(JID, "test.ping", ("web1",), ("nokey",)) == decode(body(f"salt/job/{JID}/new", data)).detail


@pytest.mark.parametrize(
    ("minions", "missing", "expected"),
    [
        ("VALUE_TRIMMED", ["nokey"], ((), ("nokey",), True)),
        ("VALUE_TRIMMED", "VALUE_TRIMMED", ((), (), True)),
        ("VALUE_TRIMMED", None, ((), (), True)),
        (["web1"], "VALUE_TRIMMED", (("web1",), (), False)),
        (["VALUE_TRIMMED"], [], (("VALUE_TRIMMED",), (), False)),  # a minion may have any name
    ],
)
def test_list_of_minions_that_was_cut_out_is_marked(
    minions: object, missing: object, expected: tuple[tuple[str, ...], tuple[str, ...], bool]
) -> None:
    """A job for so many that the event would be too large says that, and is no job for nobody."""
    data = {"jid": JID, "fun": "test.ping", "minions": minions, "missing": missing}

    assert JobNew(JID, "test.ping", *expected) == decode(body(f"salt/job/{JID}/new", data)).detail


@pytest.mark.parametrize("field", ["return", "fun_args", "out", "metadata", "success", "schedule"])
def test_return_counts_where_something_was_cut_out(field: str) -> None:
    """The body of a return is what is cut out most often."""
    job = returned(**{field: "VALUE_TRIMMED"})

    assert JobReturn(JID, "test.ping", "web1", True, field == "schedule", "", False) == job  # noqa: FBT003 - in order


def test_answer_that_was_cut_out_is_one() -> None:
    """The answer to find_job holds the job's arguments, and may be too large for an event: then it runs."""
    job = returned(fun="saltutil.find_job", fun_args=[JID], **{"return": "VALUE_TRIMMED"})

    assert (JID, False) == (job.asks_for, job.empty)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (1795342500, 1795342500.0),
        (1795342500.75, 1795342500.75),
        (0, 0.0),
        (None, None),
        ("1795342500", None),
        (-1, None),
        (True, None),
        (10**12, None),
        (2**64 - 1, None),
        (float("nan"), None),
        (float("inf"), None),
        ([1795342500], None),
        (b"1795342500", None),
        ("VALUE_TRIMMED", None),
    ],
)
@pytest.mark.parametrize("padding", [0, 5000])
def test_time_of_sending_is_read_or_left_out(sent: object, expected: float | None, padding: int) -> None:
    """A minion's clock says what it says; what is no time costs only itself."""
    assert expected == returned(ts=sent, more="x" * padding).sent


@pytest.mark.parametrize(
    "jid",
    [
        "../../../etc/passwd",
        "a/b/c",
        "/",
        "9" * MAX_ID,
        "jid\nwith\x00control",
        "١٢٣",
        "blåbær",
        "\U0001f9c2",
        " ",
    ],
)
def test_absurd_jid_is_a_jid(jid: str) -> None:
    """A jid is only ever compared: whatever text it is, publication and return of it belong together."""
    new = decode(body(f"salt/job/{jid}/new", {"jid": jid, "fun": "test.ping", "minions": ["web1"]}))
    assert isinstance(new.detail, JobNew) or new.kind == "other"  # slashes make another tag
    job = returned(jid=jid)

    assert jid == job.jid
    if isinstance(new.detail, JobNew):
        assert jid == new.detail.jid


@pytest.mark.parametrize("jid", [None, "", 0, 20261122101500000000 % 10**18, 1.5, True, [], {}, b"\xff", "9" * 300])
def test_jid_that_is_no_text_is_refused(jid: object) -> None:
    """Salt's jids are text: an event without one is nobody's job, and is counted as a bad one."""
    with pytest.raises(EventError):
        decode(body("salt/job/x/new", {"jid": jid, "fun": "test.ping", "minions": ["web1"]}))


@pytest.mark.parametrize(
    "raw",
    [
        b"salt/job/1/ret/web1\n\n\x83\xa3jid\xa31\xff2\xa2id\xa4web1\xa3fun\xa9test.ping",
        b"salt/job/\xff\xfe/ret/web1\n\n\x83\xa3jid\xa31\xff2\xa2id\xa4web1\xa3fun\xa9test.ping",
    ],
)
def test_jid_that_is_no_utf8_is_shown_as_text(raw: bytes) -> None:
    """Bytes that are no UTF-8 come out as the mark for them, in tag and fields."""
    detail = decode(raw).detail

    assert isinstance(detail, JobReturn)
    assert "1\ufffd2" == detail.jid


def test_return_of_several_functions() -> None:
    """A job of several functions is one return: one name, a success if all were, its jid and sender as ever."""
    functions = ["test.ping", "state.apply"]
    data = {
        "fun": functions,
        "fun_args": [[], ["web"]],
        "return": {"test.ping": True, "state.apply": {}},
        "success": {"test.ping": True, "state.apply": True},
        "retcode": {"test.ping": 0, "state.apply": 2},
        "ts": 1795342500,
    }
    expected = JobReturn(JID, "test.ping,state.apply", "web1", False, False, "", False, 1795342500.0)  # noqa: FBT003 - in order

    assert expected == returned(**data)


@pytest.mark.parametrize(
    ("data", "success"),
    [
        ({"success": True, "retcode": 0}, True),
        ({}, True),
        ({"success": True, "retcode": 3}, False),
        ({"success": False, "retcode": 0}, False),
        ({"retcode": None}, True),
        ({"retcode": "0"}, False),
        # Several functions in one job (salt/minion.py, _thread_multi_return): by function, or in their order.
        ({"success": {"a": True, "b": True}, "retcode": {"a": 0, "b": 0}}, True),
        ({"success": {"a": True, "b": False}, "retcode": {"a": 0, "b": 1}}, False),
        ({"success": {"a": True, "b": False}}, False),
        ({"success": [True, True], "retcode": [0, 0]}, True),
        ({"success": [True, True], "retcode": [0, 2]}, False),
    ],
)
def test_success_is_salts_own_and_a_retcode_of_zero(data: dict[str, object], success: object) -> None:
    """A return is a success if Salt says so and every retcode is 0; what is not said is no failure."""
    assert success is returned(**data).success


def test_several_functions_are_one_name() -> None:
    """A job of several functions is named as on the command line."""
    assert "test.ping,test.arg" == returned(fun=["test.ping", "test.arg"]).function


def test_long_names_of_functions_are_cut() -> None:
    """Two functions that a label could not tell apart are not told apart before, so that no series comes twice."""
    first, second = ("test.ping," * 50 + name for name in ("a", "b"))

    assert MAX_FUNCTION == len(returned(fun=first).function)
    assert returned(fun=first).function == returned(fun=second.split(",")).function


@pytest.mark.parametrize(
    ("data", "asks_for", "empty"),
    [
        ({"fun_args": [JID], "return": {}}, JID, True),
        ({"fun_args": [JID], "return": {"jid": JID, "pid": 4}}, JID, False),
        ({"fun_args": [JID], "return": "Traceback"}, JID, False),
        ({"fun_args": [], "return": {}}, "", True),
        ({"fun_args": None, "return": {}}, "", True),
        ({"fun_args": JID, "return": {}}, "", True),
        ({"fun_args": [20261122101500000000 % 10**18], "return": {}}, str(20261122101500000000 % 10**18), True),
    ],
)
def test_find_job_answer_tells_the_jid_and_whether_it_runs(
    data: dict[str, object], asks_for: str, empty: object
) -> None:
    """An empty answer means that the minion does not run that job."""
    job = returned(fun="saltutil.find_job", **data)

    assert (asks_for, empty) == (job.asks_for, job.empty)


def test_arguments_of_other_functions_ask_for_nothing() -> None:
    """Only find_job's argument is a jid."""
    assert "" == returned(fun="test.arg", fun_args=[JID]).asks_for


def test_scheduled_return_is_marked() -> None:
    """A return that the minion's own schedule made says so."""
    assert returned(schedule="highstate").scheduled
    assert not returned().scheduled


@pytest.mark.parametrize("padding", [0, 5000])
def test_events_of_another_master_of_the_cluster_are_marked(padding: int) -> None:
    """A job that it publishes, and a return that has reached it, say so; one's own do not."""
    fields = {"__peer_id": "master-2", "filling": "x" * padding}
    published = {"jid": JID, "fun": "test.ping", "minions": ["web1"]}
    elsewhere, here = (decode(body(f"salt/job/{JID}/new", published | more)).detail for more in (fields, {}))

    assert (JobNew(JID, "test.ping", ("web1",), (), relayed=True), JobNew(JID, "test.ping", ("web1",), ())) == (
        elsewhere,
        here,
    )
    assert (True, False) == (returned(**fields).relayed, returned().relayed)


@pytest.mark.parametrize("size", [10, 2000, 2048, 100_000])
def test_large_return_loses_nothing_but_its_body(size: int) -> None:
    """Stepping over the body of a large return keeps every field, wherever it stands."""
    data = {
        "return": {"stdout": "x" * size, "deep": [{"a": [1, 2.5, None, b"bytes"]}] * 3},
        "schedule": "daily",
        "success": True,
        "retcode": 7,
        "fun_args": [JID, {"x": [1]}],
        "jid": JID,
        "id": "web1",
        "fun": "saltutil.find_job",
        "cmd": "_return",
        "_stamp": STAMP,
    }
    expected = JobReturn(JID, "saltutil.find_job", "web1", success=False, scheduled=True, asks_for=JID, empty=False)

    assert Event("job_return", 1795342500.25, "web1", expected) == decode(body(f"salt/job/{JID}/ret/web1", data))


def test_large_new_event_keeps_all_minions() -> None:
    """A job for thousands of minions names them all, and those without a key."""
    minions = [f"minion-{number:05}" for number in range(5000)]
    data = {
        "jid": JID,
        "tgt": minions,
        "fun": "test.ping",
        "minions": minions,
        "missing": ["nokey"],
        "arg": ["x" * 5000],
    }

    assert JobNew(JID, "test.ping", tuple(minions), ("nokey",)) == decode(body(f"salt/job/{JID}/new", data)).detail


@pytest.mark.parametrize("minions", [[], None])
def test_job_that_names_nobody_is_an_event(minions: object) -> None:
    """A master of masters may name no minions: they are unknown, which is no error."""
    job = decode(body(f"salt/job/{JID}/new", {"jid": JID, "fun": "test.ping", "minions": minions})).detail

    assert JobNew(JID, "test.ping", (), ()) == job


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no end of the tag",
        b"x\x80",
        b"x" * (MAX_TAG + 1) + b"\n\n\x80",
        b"tag\n\n",
        b"tag\n\n\xc1",
        b"tag\n\n\x93\x01\x02\x03",  # a list
        b"tag\n\n\xa3abc",
        b"tag\n\n" + msgpack.packb({"a": 1})[:-1],
        b"tag\n\n" + b"\x91" * 5000,  # deeper than anybody nests
        b"tag\n\n\xdf\xff\xff\xff\xff" + bytes(3000),  # more pairs than there are bytes
        b"tag\n\n\x81\xa1a\xdd\xff\xff\xff\xff",
        b"tag\n\n\x81\x90\x01",  # a list as key
        b"tag\n\n\x81\xa1a\xd6\xff\x00",  # a time stamp cut short
        b"tag\n\n\x81\xa1a\xd4\xff\x00",  # a time stamp of one byte
    ],
)
def test_body_that_is_no_event_is_refused(raw: bytes) -> None:
    """What has no tag, or whose data is no map, raises EventError and nothing else."""
    with pytest.raises(EventError):
        decode(raw)


@pytest.mark.parametrize(
    "wrong",
    [
        {"jid": None},
        {"jid": ""},
        {"jid": 20261122101500},
        {"jid": "9" * (MAX_ID + 1)},
        {"id": None},
        {"id": ["web1"]},
        {"id": "x" * (MAX_ID + 1)},
        {"fun": None},
        {"fun": 5},
        {"fun": ["test.ping", 5]},
        {"fun": {"test.ping": 1}},
    ],
)
@pytest.mark.parametrize("padding", [0, 5000])
def test_return_with_fields_that_salt_never_sends_is_refused(wrong: dict[str, object], padding: int) -> None:
    """A return that cannot be counted is an error, large or small, not a wrong count."""
    data = {"jid": JID, "id": "web1", "fun": "test.ping", "return": "x" * padding} | wrong

    with pytest.raises(EventError):
        decode(body(f"salt/job/{JID}/ret/web1", data))


@pytest.mark.parametrize("field", ["minions", "missing"])
@pytest.mark.parametrize("wrong", ["web1", 5, {"web1": 1}, ["web1", None], ["x" * (MAX_ID + 1)]])
def test_job_whose_minions_are_no_list_of_ids_is_refused(field: str, wrong: object) -> None:
    """A job whose expected minions cannot be read is an error, not a job for nobody."""
    with pytest.raises(EventError):
        decode(body(f"salt/job/{JID}/new", {"jid": JID, "fun": "test.ping", "minions": ["web1"]} | {field: wrong}))


@pytest.mark.parametrize("minion", ["", "x" * (MAX_ID + 1), 5, None, ["web1"]])
def test_sender_that_is_no_id_proves_nobody_alive(minion: object) -> None:
    """An event of a minion whose id makes no sense still counts, for nobody."""
    assert Event("other", None, None, None) == decode(body("my/tag", {"cmd": "_minion_event", "id": minion}))


def test_text_that_is_no_utf8_is_replaced() -> None:
    """Bytes that are no UTF-8 come out as text that can be shown."""
    raw = b"my/\xff\n\n\x82\xa3cmd\xad_minion_event\xa2id\xa3a\xffb"

    assert Event("other", None, "a\ufffdb", None) == decode(raw)


@given(st.binary(max_size=400))
@settings(deadline=None)
def test_random_bytes_raise_nothing_but_event_errors(raw: bytes) -> None:
    """No bytes get another exception out of the decoder."""
    _decode_or_refuse(raw)
    _decode_or_refuse(b"salt/job/1/ret/web1\n\n" + raw)
    _decode_or_refuse(b"salt/job/1/ret/web1\n\n\x81\xa6return" + raw + bytes(2048))


_anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=30)
    | st.binary(max_size=30)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=12))
    | st.builds(msgpack.Timestamp, st.integers(-(2**63), 2**63 - 1), st.integers(0, 10**9 - 1)),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.integers(0, 9), inner, max_size=4)
    ),
    max_leaves=12,
)
_likely = {
    "jid": st.sampled_from((JID, "", "9" * 300)) | _anything,
    "id": st.sampled_from(("web1", "", "x" * 300)) | _anything,
    "fun": st.sampled_from(("test.ping", "saltutil.find_job")) | st.lists(st.text(max_size=5)) | _anything,
    "minions": st.lists(st.text(max_size=10)) | _anything,
    "cmd": st.sampled_from(("_return", "_minion_event")) | _anything,
    "__peer_id": _anything,
    "_stamp": st.sampled_from((STAMP, STAMP + "+00:00")) | st.text(max_size=32) | _anything,
    "act": st.just("accept") | _anything,
    "worker": st.just("MWorker-0") | _anything,
    "time": st.floats() | _anything,
    "stats": st.dictionaries(
        st.text(max_size=5), st.fixed_dictionaries({}, optional={"runs": _anything, "mean": st.floats() | _anything})
    )
    | _anything,
    "ts": st.integers(-5, 2**40) | _anything,
} | dict.fromkeys(("missing", "fun_args", "retcode", "success", "result", "return", "schedule"), _anything)
_tags = st.sampled_from(
    (
        *(f"salt/job/{JID}/{rest}" for rest in ("new", "ret/web1", "prog/web1/1", "start/web1", "sub/x", "error")),
        *("salt/auth", "salt/beacon/", "salt/beacon", "minion/refresh", "minion/refresh/", "minion_start", "my/tag"),
        *("salt/stats/MWorker-0", "salt/job//start/", "salt/job/1", JID, ""),
    )
)


def test_fuzzed_fields_are_those_that_are_read() -> None:
    """What the decoder looks at is what gets values of any type below."""
    assert events._WANTED <= _likely.keys()


@given(_tags, st.fixed_dictionaries({}, optional=_likely), st.sampled_from((0, 3000)))
@settings(deadline=None)
def test_fields_of_any_type_raise_nothing_but_event_errors(tag: str, data: dict[str, Any], padding: int) -> None:
    """A field may be anything msgpack can say: the event is read or refused, and what is read has the types it says."""
    event = _decode_or_refuse(body(tag, data | {"padding": "x" * padding}))

    if event is not None:
        assert event.kind in KINDS
        assert event.minion is None or 0 < len(event.minion) <= MAX_ID
        assert isinstance(event.stamp, (float, type(None)))
        _check(event.detail)


@given(
    st.lists(st.tuples(_anything, _anything | st.binary() | st.text(max_size=300)), max_size=5), st.integers(1, 3000)
)
@settings(deadline=None)
def test_frames_of_any_types_cost_only_themselves(frames: list[tuple[object, object]], size: int) -> None:
    """Head and body of a frame may be anything msgpack can say: the good event behind them is read all the same."""
    good = body("my/tag", {"cmd": "_minion_event", "id": "web1"})
    stream = b"".join(msgpack.packb({"head": head, "body": content}) for head, content in frames)
    stream += bytes(MAX_HEAD) + msgpack.packb({"head": {}, "body": good})
    framer = Framer()
    found = [
        _decode_or_refuse(raw)
        for start in range(0, len(stream), size)
        for raw in framer.feed(stream[start : start + size])
    ]

    assert Event("other", None, "web1", None) == found[-1]
    assert len(found) <= len(stream)


def _check(detail: object) -> None:
    if isinstance(detail, JobReturn):
        assert isinstance(detail.success, bool)
        assert len(detail.asks_for) <= MAX_ID
        assert detail.sent is None or 0 <= detail.sent < math.inf
        assert 0 < len(detail.jid) <= MAX_ID
        assert 0 < len(detail.minion) <= MAX_ID
    elif isinstance(detail, JobNew):
        assert all(len(minion) <= MAX_ID for minion in detail.minions + detail.missing)
        assert not (detail.trimmed and detail.minions)
    elif isinstance(detail, WorkerStats):
        assert 0 < detail.seconds < math.inf
        for runs, seconds in detail.commands.values():
            assert isinstance(runs, int)
            assert 0 <= runs < math.inf
            assert 0 <= seconds < math.inf


def _decode_or_refuse(raw: bytes) -> Event | None:
    try:
        return decode(raw)
    except EventError:
        return None
