"""What waits for the subscribers of 4505, and what they will never get."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from salt_exporter.kernel.inet_diag import ESTABLISHED, SEND_QUEUE, STATE
from salt_exporter.metric import Metric, Sample, counter, gauge
from salt_exporter.rollcall import silent_after
from salt_exporter.sampler import PUBLISH, silent_subscribers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salt_exporter.world import World

SEND_QUEUE_BYTES = gauge(
    "salt_publish_send_queue_bytes",
    "Bytes in the kernel's send queues of the publish port, not acknowledged yet, summed over the subscribers.",
)
SEND_QUEUE_MAX_BYTES = gauge(
    "salt_publish_send_queue_max_bytes",
    "Bytes in the fullest of the kernel's send queues of the publish port.",
)
STALLED = gauge(
    "salt_publish_stalled_subscribers",
    "Subscribers whose send queue is not empty and has not moved since the last sample of the kernel's sockets.",
)
SILENT = gauge(
    "salt_publish_silent_subscribers",
    "Subscribers that have sent nothing, not even the answer to a heartbeat, for one and a half intervals of the "
    "master's heartbeats; 0 where the master sends none, as in 3007.",
)
MESSAGES = counter(
    "salt_publish_messages_total", "Messages the master published, as seen by the exporter's own subscriber on 4505."
)
BYTES = counter(
    "salt_publish_bytes_total",
    "Bytes the master published to each subscriber, ZMTP framing included, as seen by our own subscriber.",
)
QUEUED_MAX = gauge(
    "salt_publish_hwm_queue_messages_max",
    "Estimate of the messages waiting in the master's own ZeroMQ queue for the worst subscriber, from the byte ledger.",
)
HWM_RATIO = gauge(
    "salt_publish_hwm_ratio",
    "Estimate of how full the master's own ZeroMQ queue for the worst subscriber is: at 1 the next message to it is "
    "dropped silently. ZeroMQ frees places only when half of pub_hwm has been sent, so a queue may be full with fewer "
    "messages than pub_hwm.",
)
BEHIND = gauge(
    "salt_publish_subscribers_behind",
    "Subscribers for whom messages wait in the master's own ZeroMQ queue; byte ledger.",
)
DROPPED = counter(
    "salt_publish_dropped_messages_total",
    "Messages the master dropped at pub_hwm, summed over all subscribers, from the byte ledger.",
)
DROPPED_BYTES = counter(
    "salt_publish_dropped_bytes_total",
    "Bytes the master dropped at pub_hwm, summed over all subscribers; byte ledger.",
)
MINION_DROPPED = counter(
    "salt_publish_minion_dropped_messages_total",
    "Messages dropped at pub_hwm for a minion known by an address of its own, from the byte ledger; only minions that "
    "lost something.",
    "minion",
)
LOST_ON_CLOSE = counter(
    "salt_publish_lost_on_close_messages_total",
    "Messages that waited for a subscriber or were not acknowledged when its connection ended, from the byte ledger.",
)
LOST_ON_CLOSE_BYTES = counter(
    "salt_publish_lost_on_close_bytes_total",
    "Bytes that waited for a subscriber or were not acknowledged when its connection ended, from the byte ledger.",
)
FRAMES_MISSING = counter(
    "salt_publish_frames_missing_total",
    "Jobs told of on the event bus that did not come out of the publish port within 10 s: the publisher stands "
    "still, or has lost them for every minion. Seen by the exporter's own subscriber on 4505.",
)


class PublishCollector:
    """Reads the snapshot of the sockets and the byte ledger; fails where the ledger cannot know."""

    name: ClassVar[str] = "publish"
    metrics: ClassVar[tuple[Metric, ...]] = (
        SEND_QUEUE_BYTES,
        SEND_QUEUE_MAX_BYTES,
        STALLED,
        SILENT,
        MESSAGES,
        BYTES,
        QUEUED_MAX,
        HWM_RATIO,
        BEHIND,
        DROPPED,
        DROPPED_BYTES,
        MINION_DROPPED,
        LOST_ON_CLOSE,
        LOST_ON_CLOSE_BYTES,
        FRAMES_MISSING,
    )

    def __init__(self, world: World) -> None:
        self._world = world

    def collect(self) -> Iterator[Sample]:
        """Yield the samples of now."""
        snapshot = self._world.sampler.snapshot()
        rows = snapshot.connections[PUBLISH]
        queues = [row[SEND_QUEUE] for row in rows if row[STATE] == ESTABLISHED]
        figures = self._world.publisher.figures()
        yield SEND_QUEUE_BYTES(sum(queues))
        yield SEND_QUEUE_MAX_BYTES(max(queues, default=0))
        yield STALLED(figures.stalled)
        yield SILENT(silent_subscribers(snapshot, silent_after(self._world.settings.current())))
        yield MESSAGES(figures.published_messages)
        yield BYTES(figures.published_bytes)
        yield QUEUED_MAX(figures.queued_messages_max)
        yield HWM_RATIO(figures.hwm_ratio)
        yield BEHIND(figures.behind)
        yield DROPPED(figures.dropped_messages)
        yield DROPPED_BYTES(figures.dropped_bytes)
        owners = self._world.index.current.by_address
        for peer, messages in figures.dropped_by_peer.items():
            if len(owners.get(peer, ())) == 1:
                yield MINION_DROPPED(messages, minion=owners[peer][0])
        yield LOST_ON_CLOSE(figures.lost_on_close_messages)
        yield LOST_ON_CLOSE_BYTES(figures.lost_on_close_bytes)
        yield FRAMES_MISSING(figures.frames_missing)
