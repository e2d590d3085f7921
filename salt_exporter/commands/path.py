"""The way of a message through the master, hop by hop: each queue against its limit, and what is wrong with it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from salt_exporter.collectors import connections, eventbus, probe, publish, request
from salt_exporter.sampler import PUBLISH, REQUEST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salt_exporter.metric import Metric
    from salt_exporter.scrape import Scrape

NEARLY_FULL = 0.8
# The kernel holds 100 to 200 kB for a consumer of the event bus; one that is half that behind has stopped reading.
SLOW_CONSUMER = 50_000
LONG_WAIT = 2.0  # seconds; an idle master answers a request in milliseconds


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that should be looked at, and what to do about it."""

    about: str
    says: str


class Values:
    """The values of one scrape."""

    def __init__(self, scrape: Scrape) -> None:
        self._values: defaultdict[str, dict[tuple[str, ...], Any]] = defaultdict(dict)
        for sample in scrape.samples():
            self._values[sample.metric.name][sample.labels] = sample.value

    def of(self, metric: Metric, *labels: str) -> float | None:
        """Return one value, None if the scrape has none."""
        value: float | None = self._values[metric.name].get(labels)
        return value

    def by_label(self, metric: Metric) -> dict[str, float]:
        """Return the values of a metric with one label, by its value."""
        return {label: value for (label,), value in self._values[metric.name].items()}


def path(scrape: Scrape) -> tuple[dict[str, str], list[Finding]]:
    """Return what is on the way now, hop by hop in order, and the findings about it."""
    values = Values(scrape)
    return dict(_hops(values)), list(_findings(values))


def _hops(values: Values) -> Iterator[tuple[str, str]]:
    for channel in (REQUEST, PUBLISH):
        established = values.of(connections.CONNECTIONS, channel, "established")
        if established is not None:
            peers = values.of(connections.PEERS, channel)
            waiting = values.of(connections.LISTEN_QUEUE, channel)
            limit = values.of(connections.LISTEN_QUEUE_LIMIT, channel)
            accept = f"accept queue {waiting:.0f} of {limit:.0f}"
            yield f"{channel} port", f"{established:.0f} connections from {peers:.0f} addresses, {accept}"
    if (received := values.of(request.RECEIVE_QUEUE_BYTES)) is not None:
        yield (
            "requests",
            f"{received:.0f} bytes not read by the master, {values.of(request.UNANSWERED) or 0:.0f} unanswered",
        )
    for pool, queued in values.by_label(request.WORKER_QUEUE).items():
        yield f"workers ({pool})", f"{queued:.0f} bytes between router and workers"
    if (queue := values.of(publish.SEND_QUEUE_BYTES)) is not None:
        yield (
            "publisher",
            (
                f"{queue:.0f} bytes in the kernel, {values.of(publish.BEHIND):.0f} subscribers behind, "
                f"worst queue {values.of(publish.HWM_RATIO) or 0:.0%} of pub_hwm"
            ),
        )
    for process, unread in sorted(values.by_label(eventbus.CONSUMER_QUEUE).items()):
        yield f"event bus ({process})", f"{unread:.0f} bytes not read"
    for name, success in values.by_label(probe.SUCCESS).items():
        yield f"probe ({name})", "succeeds" if success else "FAILS"


def _findings(values: Values) -> Iterator[Finding]:
    for channel in (REQUEST, PUBLISH):
        waiting = values.of(connections.LISTEN_QUEUE, channel)
        limit = values.of(connections.LISTEN_QUEUE_LIMIT, channel)
        if waiting and limit and waiting >= NEARLY_FULL * limit:
            yield Finding(
                "path",
                f"the accept queue of the {channel} port holds {waiting:.0f} of {limit:.0f}: raise zmq_backlog and "
                "net.core.somaxconn",
            )
    yield from _request_findings(values)
    yield from _publish_findings(values)
    for process, unread in values.by_label(eventbus.CONSUMER_QUEUE).items():
        if unread >= SLOW_CONSUMER:
            yield Finding(
                "path",
                f"{process} does not keep up with the event bus ({unread:.0f} bytes unread): look at that process",
            )


def _request_findings(values: Values) -> Iterator[Finding]:
    if values.of(probe.SUCCESS, "request") == 0:
        yield Finding(
            "path",
            "a harmless request got no answer: all workers are busy or stopped; look at the salt-master's CPU and log, "
            "then raise worker_threads",
        )
    oldest = values.of(request.OLDEST_UNANSWERED) or 0
    if oldest >= LONG_WAIT:
        yield Finding(
            "path", f"a request has waited {oldest:.0f} s for its answer: workers are too few, busy or stopped"
        )


def _publish_findings(values: Values) -> Iterator[Finding]:
    ratio = values.of(publish.HWM_RATIO) or 0
    if ratio >= NEARLY_FULL:
        yield Finding(
            "path",
            f"a subscriber's queue is at {ratio:.0%} of pub_hwm: what comes next to it is dropped; raise pub_hwm",
        )
    if stalled := values.of(publish.STALLED):
        yield Finding("path", f"{stalled:.0f} subscribers read nothing: look at these minions and the network to them")
    if silent := values.of(publish.SILENT):
        yield Finding("path", f"{silent:.0f} subscribers answer no heartbeat: their hosts are frozen or cut off")
