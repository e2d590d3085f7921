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
        "Correct the target. If it is a machine of yours that waits (`salt-key -L`), compare its key and accept it: "
        "`salt-key -a ID`.",
    ),
    Cause.EXPORTER_GAP: Explanation(
        "The exporter did not read the event bus all the time and the job cache could not be asked, so the response "
        "may well have come.",
        "The exporter was stopped, or disconnected from the bus, while the job ran; the job cache is off, elsewhere or "
        "unreadable.",
        "Nothing about the minion: `salt-run jobs.list_job JID` says whether it has returned. Keep the exporter "
        "running, see in its log why it did not read the bus, and let it read the job cache "
        "(`salt_jobs_cache_readable`).",
    ),
    Cause.NOT_CONNECTED: Explanation(
        "The minion had no connection to the publish port (4505) when the job was published: nobody was there to "
        "receive it.",
        "No connection from any of its addresses in the kernel's table at that moment.",
        "See whether its host is up, its salt-minion runs, and it reaches port 4505 of the master; "
        "`salt-exporter minions --absent` names all who are away. Run the job again once it is back; the master does "
        "not. If the machine is gone for good: `salt-key -d ID`.",
    ),
    Cause.PUBLISHER_DROP: Explanation(
        "The master's publisher dropped the job: the ZeroMQ queue of this minion was at `pub_hwm`.",
        "The byte ledger: its connection lacks bytes that were published at that moment.",
        "Run the job again for this minion: it never heard of it. Then find out why the minion or the network reads so "
        "slowly; if the queue is only too short for bursts, raise `pub_hwm` (worked example in operating.md).",
    ),
    Cause.MINION_SILENT: Explanation(
        "The job was delivered to the minion's host, which has not been heard of since: hung, suspended, or cut off "
        "after it received the job.",
        "The kernel's acknowledgement of every byte; then no event, no heartbeat.",
        "Log in to the minion's host: is it swapping, suspended, is salt-minion stopped or stuck (`ps -eo "
        "pid,stat,wchan,args`)? Restart it there. Whether the job was done tells only the minion's log: look before "
        "you run it again.",
    ),
    Cause.DISCONNECTED: Explanation(
        "The connection to the publish port ended between publication and deadline: the minion was stopped or "
        "restarted, or its link failed.",
        "Its connection was there when the job was published and is gone, or replaced by another.",
        "See what ended it: a job that restarts salt-minion or upgrades it, the out-of-memory killer (`journalctl -k` "
        "there), the network. It may have done a part of the job: look before you run it again.",
    ),
    Cause.PUBLISHER_QUEUE: Explanation(
        "At the deadline the job was still waiting in the master: in the ZeroMQ queue for this minion, or for a "
        "publisher that stands still.",
        "The byte ledger: messages queued for its connection. Or: the exporter's own subscriber has got nothing "
        "either since the job was published.",
        "Do not send it again yet: it arrives when the minion reads, and would run twice. See why the minion or the "
        "network reads so slowly. If all minions are missing, look at the master's publisher process.",
    ),
    Cause.NETWORK_STALL: Explanation(
        "At the deadline bytes to the minion were stuck in the kernel: not acknowledged, sent again and again.",
        "The send queue and the retransmissions of its connection.",
        "The link is cut or drops packets, or a firewall has forgotten the connection: on the master `ss -tino dst "
        "ADDRESS` shows `backoff` and `retrans`. If the connection ends, the job is lost with it; if the link is back "
        "before, the job arrives late.",
    ),
    Cause.RETURN_LOST: Explanation(
        "The minion worked on the job, and its return never reached the event bus.",
        "It said that it started or was still running (start event, answer to `find_job`), or it is trying in vain to "
        "reach the request port (4506).",
        "The work was done or is being done: do not run it again without need. See the request path: port 4506 from "
        "the minion, the workers, `salt_probe_success`; the minion's log says whether it gave up returning, and "
        "`salt-run jobs.list_job JID` whether it got through in the end.",
    ),
    Cause.MINION_NO_RETURN: Explanation(
        "The job was delivered, the minion is alive, and it has not returned.",
        "It sent something since (an event, an answer to `find_job`, a heartbeat), but no return.",
        "If such losses are marked as recovered, the function takes longer than the exporter waits: give it a longer "
        "time (`--jobs.deadlines`). Otherwise see the minion's log for this jid: a crashed job process, a job that "
        "waits behind another one, a full disk below its cachedir.",
    ),
    Cause.UNKNOWN: Explanation(
        "Nothing is known that would explain it.",
        "None of the above: for instance the minion sits behind NAT, where connections tell nothing about it.",
        "Ask the minion itself (`salt ID test.ping`). If many end up here, `salt-exporter check` says what the "
        "exporter cannot see.",
    ),
}
