"""The way of a message, hop by hop: what waits there, how full that is, and which causes of losses belong there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from salt_exporter.analysis.causes import Cause
from salt_exporter.analysis.presence import NOT_PRESENT, PRESENT, UNCERTAIN
from salt_exporter.collectors import connections, eventbus, jobs, master, presence, probe, publish, request, workers
from salt_exporter.commands.path import LONG_WAIT, NEARLY_FULL, SLOW_CONSUMER, Values
from salt_exporter.sampler import PUBLISH, REQUEST
from salt_exporter.status.words import several, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CONSUMERS: Final = 4  # of the event bus that are shown, those furthest behind


class Queue(NamedTuple):
    """One figure of a hop; `fill` is its share of the limit where there is one, 0 to 1."""

    name: str
    value: str
    fill: float | None = None
    alarming: bool = False


@dataclass(frozen=True, slots=True)
class Hop:
    """A place that messages pass. `collectors` are those who see its queues; `causes` say that one was lost here."""

    key: str
    title: str
    role: str
    collectors: tuple[str, ...]
    queues: Callable[[Values], Iterator[Queue]]
    causes: tuple[Cause, ...] = ()


def _client(values: Values) -> Iterator[Queue]:
    yield from _number("Jobs in flight", values.of(jobs.IN_FLIGHT))
    yield from _number("Responses awaited", values.of(jobs.OUTSTANDING))


def _request_port(values: Values) -> Iterator[Queue]:
    yield from _accept_queue(values, REQUEST)
    yield from _bytes("Not read by the master", values.of(request.RECEIVE_QUEUE_BYTES))
    yield from _connections(values, REQUEST)


def _workers(values: Values) -> Iterator[Queue]:
    if (answers := values.of(probe.SUCCESS, "request")) is not None:
        yield Queue("Harmless request", "answered" if answers else "NOT ANSWERED", alarming=not answers)
    for pool, number in values.by_label(master.WORKER_THREADS).items():
        yield from _number("Workers" if pool == "default" else f"Workers of {pool}", number)
    for pool, queued in values.by_label(request.WORKER_QUEUE).items():
        yield from _bytes("Waiting for a worker" if pool == "default" else f"Waiting for {pool}", queued)
    yield from _number("Do not answer", values.of(request.WORKERS_STUCK), alarming=True)
    if (busy := values.of(workers.BUSY)) is not None:
        yield Queue("Busy", f"{busy:.0%}", busy, alarming=busy >= NEARLY_FULL)


def _publisher(values: Values) -> Iterator[Queue]:
    ratio = values.of(publish.HWM_RATIO)
    if ratio is not None:
        waiting = several(values.of(publish.QUEUED_MAX) or 0, "message")
        full = ratio >= NEARLY_FULL
        yield Queue("Longest queue", f"{waiting}, {ratio:.0%} of pub_hwm", min(ratio, 1.0), alarming=full)
    yield from _number("Minions behind", values.of(publish.BEHIND), alarming=True)
    yield from _number("Dropped since start", values.of(publish.DROPPED))
    yield from _number("Never sent to anybody", values.of(publish.FRAMES_MISSING))


def _publish_port(values: Values) -> Iterator[Queue]:
    yield from _accept_queue(values, PUBLISH)
    yield from _bytes("Not acknowledged", values.of(publish.SEND_QUEUE_BYTES))
    yield from _number("Stalled", values.of(publish.STALLED), alarming=True)
    yield from _number("Silent", values.of(publish.SILENT), alarming=True)
    yield from _connections(values, PUBLISH)


def _minions(values: Values) -> Iterator[Queue]:
    found = values.by_label(presence.MINIONS)
    if found:
        total = sum(found.values())
        yield Queue("Present", f"{found[PRESENT]:,.0f} of {total:,.0f}", found[PRESENT] / total if total else None)
        yield from _number("Not present", found[NOT_PRESENT], alarming=True)
        yield from _number("Uncertain", found[UNCERTAIN], alarming=True)


def _return_port(values: Values) -> Iterator[Queue]:
    yield from _number("Requests unanswered", values.of(request.UNANSWERED))
    if (oldest := values.of(request.OLDEST_UNANSWERED)) is not None:
        yield Queue("Oldest has waited", f"{oldest:.0f} s", alarming=oldest >= LONG_WAIT)


def _event_bus(values: Values) -> Iterator[Queue]:
    yield from _number("Consumers", values.of(eventbus.CONSUMERS))
    unread = values.by_label(eventbus.CONSUMER_QUEUE)
    if unread and not any(unread.values()):
        yield Queue("Unread", "nothing")
    furthest_behind = sorted(((number, process) for process, number in unread.items() if number), reverse=True)
    for number, process in furthest_behind[:_CONSUMERS]:
        yield Queue(f"Unread by {process}", size(number), alarming=number >= SLOW_CONSUMER)


def _job_cache(values: Values) -> Iterator[Queue]:
    if (readable := values.of(jobs.CACHE_READABLE)) is not None:
        yield Queue("Compared with the bus", "yes" if readable else "NO", alarming=not readable)
    yield from _number("Returns not stored", values.of(jobs.BUS_ONLY))
    yield from _number("Returns only here", values.of(jobs.CACHE_ONLY))


def _nothing(_values: Values) -> Iterator[Queue]:
    yield from ()


HOPS: Final = (
    Hop("client", "Client", "asks the master to run a job", ("jobs",), _client, (Cause.UNKNOWN_MINION,)),
    Hop("request", "Port {request}", "takes requests", ("connections", "request"), _request_port),
    Hop("workers", "Workers", "publish the job, take returns", ("probe", "master", "request", "workers"), _workers),
    Hop(
        "publisher",
        "Publisher",
        "queues the job for each minion",
        ("publish",),
        _publisher,
        (Cause.PUBLISHER_DROP, Cause.PUBLISHER_QUEUE),
    ),
    Hop(
        "publish",
        "Port {publish}",
        "carries the job over the network",
        ("connections", "publish"),
        _publish_port,
        (Cause.NOT_CONNECTED, Cause.DISCONNECTED, Cause.NETWORK_STALL),
    ),
    Hop(
        "minions",
        "Minions",
        "run the job and return",
        ("presence",),
        _minions,
        (Cause.MINION_SILENT, Cause.MINION_NO_RETURN),
    ),
    Hop("return", "Port {request}, back", "takes the returns", ("request",), _return_port, (Cause.RETURN_LOST,)),
    Hop(
        "bus",
        "Event bus",
        "tells everybody of the return",
        ("eventbus",),
        _event_bus,
        (Cause.EXPORTER_GAP,),
    ),
    Hop("cache", "Job cache", "keeps the return", ("jobs",), _job_cache),
    # No stop of the way, drawn beside it.
    Hop("unplaced", "Somewhere", "no evidence says where", (), _nothing, (Cause.UNKNOWN,)),
)


def _number(name: str, value: float | None, *, alarming: bool = False) -> Iterator[Queue]:
    """Yield a number if there is one; `alarming`: it should be 0."""
    if value is not None:
        yield Queue(name, f"{value:,.0f}", alarming=alarming and value > 0)


def _bytes(name: str, value: float | None) -> Iterator[Queue]:
    if value is not None:
        yield Queue(name, size(value))


def _accept_queue(values: Values, channel: str) -> Iterator[Queue]:
    waiting = values.of(connections.LISTEN_QUEUE, channel)
    limit = values.of(connections.LISTEN_QUEUE_LIMIT, channel)
    if waiting is not None and limit:
        fill = min(waiting / limit, 1.0)
        yield Queue("Accept queue", f"{waiting:,.0f} of {limit:,.0f}", fill, alarming=fill >= NEARLY_FULL)


def _connections(values: Values, channel: str) -> Iterator[Queue]:
    yield from _number("Connections", values.of(connections.CONNECTIONS, channel, "established"))
