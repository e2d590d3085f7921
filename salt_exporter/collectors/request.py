"""The request channel: what waits on its way into the master and on to the workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from salt_exporter.kernel.inet_diag import RECEIVE_QUEUE
from salt_exporter.kernel.sock_diag import unix_sockets
from salt_exporter.master.worker_queue import worker_queues
from salt_exporter.metric import Metric, Sample, gauge
from salt_exporter.sampler import REQUEST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salt_exporter.world import World

WORKER_QUEUE = gauge(
    "salt_request_worker_queue_bytes",
    "Bytes in the kernel's unix sockets between request router and workers, requests and replies that the other end "
    "has not read; above 0 for long only when workers are stopped or have stopped reading, for ZeroMQ reads ahead.",
    "pool",
)
RECEIVE_QUEUE_BYTES = gauge(
    "salt_request_receive_queue_bytes",
    "Bytes that clients have sent to the request port and the master has not read: the kernel's receive queues of all "
    "connections to 4506, sum.",
)
UNANSWERED = gauge(
    "salt_request_unanswered_connections",
    "Connections to 4506 with a request that has had no reply for a second or longer, told from the kernel's byte "
    "counters per connection; at least so many, and only with the zeromq transport.",
)
OLDEST_UNANSWERED = gauge(
    "salt_request_oldest_unanswered_seconds",
    "How long the oldest of the requests without a reply has waited, at least; told from the kernel's byte counters.",
)
WORKERS_STUCK = gauge(
    "salt_request_workers_stuck",
    "How many of as many pings as there are workers were not answered, which go to the workers in turn; sent every 5 "
    "minutes, and soon after a single ping failed. An estimate where minions' requests come in between; only with the "
    "request probe and the zeromq transport.",
)


class RequestCollector:
    """Reads queue lengths from the kernel's sockets, and who waits for a reply from the samples of these."""

    name: ClassVar[str] = "request"
    metrics: ClassVar[tuple[Metric, ...]] = (
        WORKER_QUEUE,
        RECEIVE_QUEUE_BYTES,
        UNANSWERED,
        OLDEST_UNANSWERED,
        WORKERS_STUCK,
    )

    def __init__(self, world: World) -> None:
        self._world = world

    def collect(self) -> Iterator[Sample]:
        """Yield the samples of now."""
        settings = self._world.settings.current()
        yield RECEIVE_QUEUE_BYTES(
            sum(row[RECEIVE_QUEUE] for row in self._world.sampler.snapshot().connections[REQUEST])
        )
        if unanswered := self._world.requests.unanswered:
            yield UNANSWERED(unanswered.connections)
            yield OLDEST_UNANSWERED(unanswered.oldest)
        if (stuck := self._world.prober.stuck_workers) is not None:
            yield WORKERS_STUCK(stuck)
        if settings.bus.path:  # with `ipc_mode: tcp` the router talks to the workers over TCP
            for pool, queued in worker_queues(unix_sockets(), settings.bus.path.parent, settings.pools).items():
                yield WORKER_QUEUE(queued, pool=pool)
