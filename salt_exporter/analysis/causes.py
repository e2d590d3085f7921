"""The causes of missing responses: what each means and what to do about it, in the order in which they are tried.

docs/causes.md is generated from this table (`python -m salt_exporter.docs`).
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple


class Cause(str, Enum):
    """The value is the label `cause`."""

    UNKNOWN_MINION = "unknown_minion"
    EXPORTER_GAP = "exporter_gap"
    NOT_CONNECTED = "not_connected"
    PUBLISHER_DROP = "publisher_drop"
    MINION_SILENT = "minion_silent"
    DISCONNECTED = "disconnected"
    PUBLISHER_QUEUE = "publisher_queue"
    NETWORK_STALL = "network_stall"
    RETURN_LOST = "return_lost"
    MINION_NO_RETURN = "minion_no_return"
    UNKNOWN = "unknown"


CAUSES: Final = tuple(Cause)


class Explanation(NamedTuple):
    """What stands in the docs about a cause."""

    means: str
    decided_by: str
    advice: str


EXPLANATIONS: Final[dict[Cause, Explanation]] = {
    Cause.UNKNOWN_MINION: Explanation(
        "The target names a minion that has no accepted key.",
        "The master's own list of such ids (`missing` in `salt/job/<jid>/new`), or no accepted key at the end.",
        "Correct the target, or accept the key (`salt-key -L`).",
    ),
    Cause.EXPORTER_GAP: Explanation(
        "The exporter did not read the event bus all the time and the job cache could not be asked, so the response "
        "may well have come.",
        "The exporter was stopped, or disconnected from the bus, while the job ran; the job cache is off, elsewhere or "
        "unreadable.",
        "Nothing about the minion. Keep the exporter running; let it read the job cache.",
    ),
    Cause.NOT_CONNECTED: Explanation(
        "The minion had no connection to the publish port (4505) when the job was published: nobody was there to "
        "receive it.",
        "No connection from any of its addresses in the kernel's table at that moment.",
        "See whether its host and its salt-minion are up and may reach port 4505: "
        "`salt-exporter minions --absent` has who is away, and since when.",
    ),
    Cause.PUBLISHER_DROP: Explanation(
        "The master's publisher dropped the job: the ZeroMQ queue of this minion was at `pub_hwm`.",
        "The byte ledger: its connection lacks bytes that were published at that moment.",
        "Find out why the minion or the network reads so slowly; if the queue is only too short for bursts, raise "
        "`pub_hwm` (`salt-exporter check` has the number).",
    ),
    Cause.MINION_SILENT: Explanation(
        "The job was delivered to the minion's host, which has not been heard of since: hung, suspended, or cut off "
        "after it received the job.",
        "The kernel's acknowledgement of every byte; then no event, no heartbeat.",
        "Look at the minion's host: is it swapping, suspended, is the salt-minion stuck?",
    ),
    Cause.DISCONNECTED: Explanation(
        "The connection to the publish port ended between publication and deadline: the minion was stopped or "
        "restarted, or its link failed.",
        "Its connection was there when the job was published and is gone, or replaced by another.",
        "See whether something restarts the minion (its own upgrade, an out-of-memory killer), or the network.",
    ),
    Cause.PUBLISHER_QUEUE: Explanation(
        "At the deadline the job was still waiting in the master's ZeroMQ queue for this minion.",
        "The byte ledger: messages queued for its connection.",
        "The minion or the network reads too slowly; the job will arrive late.",
    ),
    Cause.NETWORK_STALL: Explanation(
        "At the deadline bytes to the minion were stuck in the kernel: not acknowledged, sent again and again.",
        "The send queue and the retransmissions of its connection.",
        "The link is cut or drops packets, or a firewall has forgotten the connection.",
    ),
    Cause.RETURN_LOST: Explanation(
        "The minion worked on the job, and its return never reached the event bus.",
        "It said that it started or was still running (start event, answer to `find_job`), or it is trying in vain to "
        "reach the request port (4506).",
        "See the request path: port 4506 from the minion, workers, `salt_probe_success`; the minion's log says "
        "whether it gave up returning.",
    ),
    Cause.MINION_NO_RETURN: Explanation(
        "The job was delivered, the minion is alive, and it has not returned.",
        "It sent something since (an event, an answer to `find_job`, a heartbeat), but no return.",
        "See the minion's log for this jid: a crashed job process, `multiprocessing`, a full disk below its cachedir.",
    ),
    Cause.UNKNOWN: Explanation(
        "Nothing is known that would explain it.",
        "None of the above: for instance the minion sits behind NAT, where connections tell nothing about it.",
        "Ask the minion itself. If many end up here, `salt-exporter check` says what the exporter cannot see.",
    ),
}
