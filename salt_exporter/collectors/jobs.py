"""Jobs as the event bus shows them: published, expected, returned, closed."""

from __future__ import annotations

import heapq
from operator import itemgetter
from typing import TYPE_CHECKING, ClassVar, Final

from salt_exporter.metric import Metric, Sample, counter, gauge, histogram

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salt_exporter.analysis.jobs import FunctionCounters
    from salt_exporter.world import World

NEW = counter(
    "salt_jobs_new_total",
    "Jobs seen published on the event bus (salt/job/<jid>/new), without Salt's own find_job questions.",
    "function",
)
IN_FLIGHT = gauge("salt_jobs_in_flight", "Jobs published and not closed yet, from the event bus.")
OUTSTANDING = gauge(
    "salt_jobs_responses_outstanding", "Responses that jobs in flight still wait for, from the event bus."
)
EXPECTED = counter(
    "salt_jobs_expected_responses_total",
    "Responses to expect: the minions named when jobs were published (minions of salt/job/<jid>/new).",
    "function",
)
RESPONSES = counter(
    "salt_jobs_responses_total",
    "Returns seen on the event bus (salt/job/<jid>/ret/<id>), scheduled ones included; success is Salt's own "
    "and a retcode of 0.",
    "function",
    "success",
)
CLOSED = counter(
    "salt_jobs_closed_total",
    "Jobs closed as complete, as incomplete at their deadline, or as unknown: nobody was named, or the bus was not "
    "read all the time.",
    "function",
    "outcome",
)
CLOSED_EXPECTED = counter(
    "salt_jobs_closed_expected_responses_total",
    "Responses that closed jobs had to expect, those that ended as unknown left out; the denominator of the "
    "completion ratio.",
    "function",
)
CLOSED_RECEIVED = counter(
    "salt_jobs_closed_received_responses_total",
    "Expected responses that had come when jobs were closed, those that ended as unknown left out; the numerator of "
    "the completion ratio.",
    "function",
)
COMPLETION = histogram(
    "salt_jobs_completion_ratio",
    "Received divided by expected responses of each closed job, those that ended as unknown left out.",
    "function",
)
LATE = counter(
    "salt_jobs_late_responses_total",
    "Expected returns that came on the event bus after their job was closed.",
    "function",
)
DUPLICATE = counter(
    "salt_jobs_duplicate_responses_total",
    "Further returns of a minion for the same job on the event bus: it repeats one when the master does not "
    "answer in time.",
    "function",
)
UNEXPECTED = counter(
    "salt_jobs_unexpected_responses_total",
    "Returns on the event bus from minions that their job did not name when it was published.",
    "function",
)
SECONDS = histogram(
    "salt_jobs_response_seconds",
    "Time from the publication of a job to each return, from the master's own time stamps on the event bus.",
    "function",
)
MISSING = counter(
    "salt_jobs_missing_responses_total",
    "Expected responses that had not come when their job was closed, by the cause that the evidence of the kernel, the "
    "event bus and the job cache gives; docs/causes.md explains each. The exemplar names the newest one.",
    "function",
    "cause",
)
BUS_ONLY = counter(
    "salt_jobs_bus_only_responses_total",
    "Returns seen on the event bus that the master's job cache does not hold 10 seconds after their job was closed.",
)
CACHE_ONLY = counter(
    "salt_jobs_cache_only_responses_total",
    "Expected returns found in the master's job cache that were not seen on the event bus; they are not missing.",
)
CACHE_READABLE = gauge(
    "salt_jobs_cache_readable",
    "1 when returns can be compared with the master's job cache; 0 when that is off, elsewhere or unreadable, see the "
    "log.",
)
MISSES = gauge(
    "salt_jobs_minion_consecutive_misses",
    "Responses missing since the minion's last return on the event bus, for the minions with the most.",
    "minion",
)
DELIVERY = histogram(
    "salt_jobs_return_delivery_seconds",
    "Time from a minion's sending of a return (its own clock, whole seconds) to the master's event: needs synchronised "
    "clocks, and is up to a second too long.",
)

_WORST: Final = 20  # minions


class JobsCollector:
    """Reports the jid ledger."""

    name: ClassVar[str] = "jobs"
    metrics: ClassVar[tuple[Metric, ...]] = (
        NEW,
        IN_FLIGHT,
        OUTSTANDING,
        EXPECTED,
        RESPONSES,
        CLOSED,
        CLOSED_EXPECTED,
        CLOSED_RECEIVED,
        COMPLETION,
        LATE,
        DUPLICATE,
        UNEXPECTED,
        SECONDS,
        MISSING,
        BUS_ONLY,
        CACHE_ONLY,
        CACHE_READABLE,
        MISSES,
        DELIVERY,
    )

    def __init__(self, world: World) -> None:
        self._world = world

    def collect(self) -> Iterator[Sample]:
        """Yield the samples of now."""
        activity = self._world.activity
        with activity.lock:
            yield IN_FLIGHT(activity.jobs.in_flight)
            yield OUTSTANDING(activity.jobs.outstanding)
            for function, counters in activity.jobs.functions.items():
                yield from _function(function, counters)
            yield BUS_ONLY(activity.jobs.bus_only)
            yield CACHE_ONLY(activity.jobs.cache_only)
            yield DELIVERY(activity.jobs.delivery.value())
            worst = heapq.nlargest(_WORST, activity.jobs.consecutive.items(), key=itemgetter(1))
        for minion, misses in worst:
            yield MISSES(misses, minion=minion)
        yield CACHE_READABLE(not self._world.closer.cache_problem)


def _function(function: str, counters: FunctionCounters) -> Iterator[Sample]:
    yield NEW(counters.new, function=function)
    yield EXPECTED(counters.expected, function=function)
    for success, number in counters.responses.items():
        yield RESPONSES(number, function=function, success=str(success).lower())
    for outcome, number in counters.closed.items():
        yield CLOSED(number, function=function, outcome=outcome)
    yield CLOSED_EXPECTED(counters.closed_expected, function=function)
    yield CLOSED_RECEIVED(counters.closed_received, function=function)
    yield COMPLETION(counters.completion.value(), function=function)
    yield LATE(counters.late, function=function)
    yield DUPLICATE(counters.duplicate, function=function)
    yield UNEXPECTED(counters.unexpected, function=function)
    for cause, number in counters.missing.items():
        yield MISSING(number, counters.exemplars.get(cause), function=function, cause=cause.value)
    yield SECONDS(counters.seconds.value(), function=function)
