r"""Event bodies to typed events. Pure; reads the events of Salt 3006, 3007 and 3008.

A body is `tag + b"\n\n" + msgpack(data)` (TAGEND, salt/utils/event.py). What each tag carries is written down in
docs/design.md. A minion may fire events under any tag: the master marks those with `cmd: _minion_event` and the true
sender in `id` (salt/master.py, `_minion_event`), so a forged job event is recognised and only proves its sender alive.
What a minion fires as a list (`events`) the master puts on the bus unmarked (salt/daemons/masterapi.py, all lines): a
return forged like that cannot be told from a true one; the job cache lacks it (`salt_jobs_bus_only_responses_total`).

The masters of a cluster (3007, 3008) repeat one another's events, which then say in `__peer_id` who fired them
(salt/channel/server.py, `extract_cluster_event`).
"""

from __future__ import annotations

from datetime import datetime, timezone
from sys import intern  # ids are remembered by every job that names them: one string for all
from typing import Any, Final, NamedTuple

import msgpack

TAG_END: Final = b"\n\n"
MAX_TAG: Final = 1024
MAX_ID: Final = 255  # a minion id is a file name below pki_dir
MAX_FUNCTION: Final = 255  # several functions in one job can be longer: cut here, so that no two labels come out alike
_TRIMMED: Final = "VALUE_TRIMMED"  # what Salt puts in the place of what is too large (salt/utils/dicttrim.py)
_HUGE: Final = 1e12  # neither seconds nor runs are ever so many
# From this size on it is cheaper to step over the values nobody asked for than to decode them.
_SKIP_FROM: Final = 2048

# The closed set of `kind` labels; what fits none of them is "other".
KINDS: Final = (
    "auth",
    "batch",
    "beacon",
    "job_error",
    "job_jid",
    "job_new",
    "job_progress",
    "job_publish",
    "job_return",
    "job_start",
    "key",
    "minion_start",
    "other",
    "presence",
    "refresh",
    "run",
    "stats",
    "syndic",
    "wheel",
)


class EventError(ValueError):
    """The body is no event, or one whose fields are not what Salt sends."""


class JobNew(NamedTuple):
    """`salt/job/<jid>/new`: a job is about to be published."""

    jid: str
    function: str
    minions: tuple[str, ...]  # expected to answer; empty means unknown (a master of masters), not nobody
    missing: tuple[str, ...]  # named in a list target, without an accepted key
    trimmed: bool = False  # Salt has cut the list of minions out: the event would exceed max_event_size
    relayed: bool = False  # another master of the cluster publishes it, which says so


class JobReturn(NamedTuple):
    """`salt/job/<jid>/ret/<id>`: a minion's return has reached the master."""

    jid: str
    function: str
    minion: str
    success: bool  # Salt's `success`, and a retcode of 0; of every function if the job has several
    scheduled: bool
    asks_for: str  # the jid a `saltutil.find_job` asked for, else ""
    empty: bool  # the return is empty: for find_job, "not running here"
    sent: float | None = None  # when the minion sent it by its own clock, whole Unix seconds
    relayed: bool = False  # it has reached another master of the cluster, which says so


class JobStart(NamedTuple):
    """`salt/job/<jid>/start/<id>` (Salt 3008): a minion has accepted the job; fired where the caller asks for it."""

    jid: str
    minion: str


class WorkerStats(NamedTuple):
    """`salt/stats/<worker>`, with `master_stats: True`: what one worker has done since its last such event."""

    worker: str
    seconds: float  # length of the time it tells about
    commands: dict[str, tuple[int, float]]  # runs, and seconds they took together, by command


class Event(NamedTuple):
    """One event of the bus."""

    kind: str
    stamp: float | None  # when the master put it on the bus, Unix seconds; None where it has no `_stamp`
    minion: str | None  # the minion whose sign of life this is
    detail: JobNew | JobReturn | JobStart | WorkerStats | None


_JOB_KINDS: Final = {
    "new": "job_new",
    "ret": "job_return",
    "publish": "job_publish",
    "start": "job_start",
    "prog": "job_progress",
    "sub": "job_error",
    "error": "job_error",
}
_SALT_KINDS: Final = {
    "auth": "auth",
    "key": "key",
    "presence": "presence",
    "stats": "stats",
    "run": "run",
    "wheel": "wheel",
    "batch": "batch",
    "beacon": "beacon",
    "syndic": "syndic",
    "minion": "minion_start",
}
_FIRST_KINDS: Final = {"minion_start": "minion_start", "syndic_start": "syndic", "key": "key"}
_FIRED_BY_MINIONS: Final = frozenset(("beacon", "job_progress", "job_start", "minion_start", "syndic"))
_WANTED: Final = frozenset(
    (
        "__peer_id",
        "_stamp",
        "act",
        "cmd",
        "fun",
        "fun_args",
        "id",
        "jid",
        "minions",
        "missing",
        "result",
        "retcode",
        "schedule",
        "stats",
        "success",
        "time",
        "ts",
        "worker",
    )
)


def decode(body: bytes) -> Event:
    """Read one event body. Raises EventError."""
    end = body.find(TAG_END, 0, MAX_TAG + len(TAG_END))
    if end < 0:
        raise EventError("no tag")
    tag = body[:end].decode("utf-8", "replace")
    data = _data(body, end + len(TAG_END))
    parts = tag.split("/", 4)
    kind = kind_of(parts)
    stamp = _stamp(data.get("_stamp"))
    if data.get("cmd") == "_minion_event":
        sender = _id(data.get("id"))
        start = _job_start(parts, sender) if kind == "job_start" else None
        return Event(kind if kind in _FIRED_BY_MINIONS else "other", stamp, sender, start)
    if kind == "job_new":
        return Event(kind, stamp, None, _job_new(data))
    if kind == "job_return":
        returned = _job_return(data)
        return Event(kind, stamp, returned.minion, returned)
    if kind == "stats":
        return Event(kind, stamp, None, _worker_stats(data))
    return Event(kind, stamp, _witness(kind, parts, data), None)


def kind_of(parts: list[str]) -> str:
    """Return the kind of an event from its tag, split at the slashes."""
    first = parts[0]
    if first == "salt" and len(parts) > 1:
        if parts[1] == "job":
            return _JOB_KINDS.get(parts[3], "other") if len(parts) > 3 else "other"
        return _SALT_KINDS.get(parts[1], "other")
    if len(parts) == 1:
        if first[:20].isdecimal() and (len(first) == 20 or first[20:21] == "_"):
            return "job_jid"  # the bare jid that 3006 and 3007 fire beside `new`; with `_<pid>` under unique_jid
        return _FIRST_KINDS.get(first, "other")
    if parts[1] == "refresh" and first in ("minion", "resource"):
        return "refresh"
    return "syndic" if first == "syndic" else "other"


def _witness(kind: str, parts: list[str], data: dict[str, Any]) -> str | None:
    """Return the minion that an event which the master itself fired proves alive."""
    if kind == "refresh" and parts[0] == "minion" and len(parts) > 2:
        return _id(parts[2])
    if kind == "auth" and data.get("result") is True and data.get("act") == "accept":
        return _id(data.get("id"))
    if kind in ("beacon", "job_progress"):
        return _id(data.get("id")) or (_id(parts[2]) if kind == "beacon" and len(parts) > 2 else None)
    return None


def _id(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= MAX_ID else None


def _job_new(data: dict[str, Any]) -> JobNew:
    trimmed = data.get("minions") == _TRIMMED
    return JobNew(
        jid=_text(data, "jid"),
        function=_function(data),
        minions=() if trimmed else _ids(data.get("minions")),
        missing=() if data.get("missing") == _TRIMMED else _ids(data.get("missing")),
        trimmed=trimmed,
        relayed="__peer_id" in data,
    )


def _job_start(parts: list[str], sender: str | None) -> JobStart | None:
    """Read a start event from its tag; a minion speaks only for itself."""
    named = parts[4:] == [sender] and 0 < len(parts[2]) <= MAX_ID
    return JobStart(parts[2], parts[4]) if named else None


def _worker_stats(data: dict[str, Any]) -> WorkerStats:
    """Read what a worker has counted (salt/master.py, `MWorker._post_stats`: `mean` is the mean time of the runs)."""
    seconds, stats = _number(data.get("time")), data.get("stats")
    if not seconds or not isinstance(stats, dict):
        raise EventError("the statistics of a worker are none")
    commands = {}
    for command, counted in stats.items():
        runs, mean = (_number(counted.get(key)) if isinstance(counted, dict) else None for key in ("runs", "mean"))
        if runs is None or mean is None or not isinstance(command, str):
            raise EventError("the statistics of a worker are none")
        commands[command[:MAX_ID]] = (int(runs), runs * mean)
    return WorkerStats(_text(data, "worker"), seconds, commands)


def _number(value: object) -> float | None:
    """Return a number that a duration or a count can be."""
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < _HUGE
    return float(value) if usable else None  # type: ignore[arg-type] # it is a number


def _job_return(data: dict[str, Any]) -> JobReturn:
    function = _function(data)
    asks_for = ""
    if function == "saltutil.find_job":
        arguments = data.get("fun_args")
        if isinstance(arguments, (list, tuple)) and arguments:
            asks_for = str(arguments[0])[:MAX_ID]
    return JobReturn(
        jid=_text(data, "jid"),
        function=function,
        minion=intern(_text(data, "id")),
        success=all(answer is not False for answer in _each(data.get("success")))
        and all(code in (0, None) for code in _each(data.get("retcode"))),
        scheduled="schedule" in data,
        asks_for=asks_for,
        empty="return" in data and not data["return"],
        sent=_number(data.get("ts")),
        relayed="__peer_id" in data,
    )


def _text(data: dict[str, Any], key: str) -> str:
    value = data.get(key)
    if isinstance(value, str) and 0 < len(value) <= MAX_ID:
        return value
    raise EventError(f"{key} is no text of 1 to {MAX_ID} characters")


def _each(value: Any) -> list[Any]:  # noqa: ANN401 - straight from msgpack
    """Return the values that a job of several functions gives in a list or by function, else the only one."""
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else [value]


def _function(data: dict[str, Any]) -> str:
    """Return the function; several in one job as the command line takes them, with commas."""
    value = data.get("fun")
    if isinstance(value, str):
        return value[:MAX_FUNCTION]
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return ",".join(value)[:MAX_FUNCTION]
    raise EventError("fun is neither a function nor a list of them")


def _ids(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, (list, tuple)) and all(isinstance(minion, str) and len(minion) <= MAX_ID for minion in value):
        return tuple(map(intern, value))
    raise EventError("a list of minions is none")


def _data(body: bytes, start: int) -> dict[str, Any]:
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, unicode_errors="replace", max_buffer_size=len(body))
    try:
        unpacker.feed(memoryview(body)[start:])
        data = unpacker.unpack() if len(body) - start < _SKIP_FROM else _wanted(unpacker)
    except (msgpack.UnpackException, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise EventError(f"cannot unpack the data: {error}") from error
    if not isinstance(data, dict):
        raise EventError("the data is no map")
    return data


def _wanted(unpacker: msgpack.Unpacker) -> dict[str, Any]:
    """Decode only the fields that events are made of; step over the rest (the body of a return above all)."""
    data = {}
    for _ in range(unpacker.read_map_header()):
        key = unpacker.unpack()
        if isinstance(key, str) and key in _WANTED:
            data[key] = unpacker.unpack()
        else:
            unpacker.skip()
    return data


def _stamp(value: object) -> float | None:
    """Read `_stamp`: naive UTC in 3006 and 3007, with its offset in 3008."""
    if not isinstance(value, str):
        return None
    try:
        stamp = datetime.fromisoformat(value)
        return (stamp if stamp.tzinfo else stamp.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        return None
