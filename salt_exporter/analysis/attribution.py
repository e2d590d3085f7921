"""The cause of a missing response, from the facts known about it: one table of rules, the first that applies decides.

The facts are collected by salt_exporter/analysis/evidence.py. What each cause means to an operator stands in causes.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from salt_exporter.analysis.causes import Cause

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about one missing response when its job is closed. Times are seconds since its publication."""

    accepted: bool = True  # the minion's key
    observed: bool = True  # the event bus was read all the time
    checked: bool = True  # the job cache was asked, and has no return
    closed: float = 0.0
    connected: bool | None = True  # had a publish connection when the job was published; None: nobody can tell
    dropped: bool = False  # the publisher dropped what it published to this connection at that time
    ended: float | None = None  # the connection was gone by then
    back: bool = False  # there is another connection since
    delivered_before_end: bool = False  # it had acknowledged everything, and
    silent_before_end: float = 0.0  # its other end had sent nothing for so long
    silent_limit: float | None = None  # longest silence that heartbeats allow; None: there are none
    halted: bool = False  # nothing has come out of the publish port since
    queued: int = 0  # messages that wait in the publisher's ZeroMQ queue
    unsent: int = 0  # bytes in the kernel's send queue that have not moved
    repeats: int = 0  # how often the kernel has sent them again
    heard: float | None = None  # the last byte from its publish connection
    alive: float | None = None  # the last event it sent
    started: float | None = None  # its start event
    running: float | None = None  # its last answer to find_job that it runs the job
    denied: float | None = None  # its last answer that it does not
    reaching: bool = False  # it is trying in vain to reach the request port


class Attribution(NamedTuple):
    """A cause with its evidence, one sentence."""

    cause: Cause
    evidence: str


class _Rule(NamedTuple):
    cause: Cause
    applies: Callable[[Facts], bool]
    sentence: Callable[[Facts], str]


def _cut_for_silence(facts: Facts) -> bool:
    limit = facts.silent_limit
    return (
        facts.ended is not None
        and facts.delivered_before_end
        and limit is not None
        and facts.silent_before_end > limit
        and not facts.back
    )


def _is_silent(facts: Facts) -> bool:
    return (
        facts.heard is not None and facts.silent_limit is not None and facts.closed - facts.heard > facts.silent_limit
    )


def _worked(facts: Facts) -> float | None:
    """Return when it last said that it worked on the job, None if it has since said that it does not."""
    said = max((time for time in (facts.started, facts.running) if time is not None), default=None)
    return None if said is None or (facts.denied is not None and facts.denied > said) else said


def _sign(facts: Facts) -> float | None:
    """Return when the minion gave its last sign of life; heartbeats of its connection are one where there are any."""
    heard = facts.heard if facts.silent_limit is not None else None
    signs = [time for time in (heard, facts.alive) if time is not None and time > 0]
    return max(signs, default=None)


_RULES: Final = (
    _Rule(
        Cause.UNKNOWN_MINION,
        lambda facts: not facts.accepted,
        lambda _: "there is no accepted key of this name",
    ),
    _Rule(
        Cause.EXPORTER_GAP,
        lambda facts: not facts.observed and not facts.checked,
        lambda _: "the event bus was not read all the time, and the job cache cannot tell",
    ),
    _Rule(
        Cause.NOT_CONNECTED,
        lambda facts: facts.connected is False,
        lambda _: "no connection to the publish port when the job was published",
    ),
    _Rule(
        Cause.PUBLISHER_DROP,
        lambda facts: facts.dropped,
        lambda _: "the publisher dropped messages for its connection at that moment: its queue was at pub_hwm",
    ),
    _Rule(
        Cause.MINION_SILENT,
        _cut_for_silence,
        lambda facts: (
            f"everything was delivered, then its connection was silent for {facts.silent_before_end:.0f} s and was cut"
        ),
    ),
    _Rule(
        Cause.DISCONNECTED,
        lambda facts: facts.ended is not None,
        lambda facts: (
            f"its connection had ended {facts.ended:.1f} s after the job was published"
            f"{', it has another since' if facts.back else ''}"
        ),
    ),
    _Rule(
        Cause.PUBLISHER_QUEUE,
        lambda facts: facts.halted,
        lambda _: "nothing has come out of the publish port for anybody since the job was published",
    ),
    _Rule(
        Cause.PUBLISHER_QUEUE,
        lambda facts: facts.queued > 0,
        lambda facts: f"{facts.queued} messages still wait in the publisher's queue for its connection",
    ),
    _Rule(
        Cause.NETWORK_STALL,
        lambda facts: facts.unsent > 0 and facts.repeats > 1,
        lambda facts: (
            f"{facts.unsent} bytes are not acknowledged by its host after having been sent again {facts.repeats} times"
        ),
    ),
    _Rule(
        Cause.PUBLISHER_QUEUE,
        lambda facts: facts.unsent > 0,
        lambda facts: f"{facts.unsent} bytes wait in the kernel's send queue: its host takes no more",
    ),
    _Rule(
        Cause.MINION_SILENT,
        _is_silent,
        lambda facts: f"everything was delivered, and nothing has been heard for {facts.closed - facts.heard:.0f} s",  # type: ignore[operator] # it has been heard
    ),
    _Rule(
        Cause.RETURN_LOST,
        lambda facts: facts.reaching,
        lambda _: "it is trying to reach the request port, and its packets are not answered",
    ),
    _Rule(
        Cause.RETURN_LOST,
        lambda facts: _worked(facts) is not None,
        lambda facts: f"it said that it worked on the job {_worked(facts):.1f} s after it was published",
    ),
    _Rule(
        Cause.MINION_NO_RETURN,
        lambda facts: facts.denied is not None,
        lambda facts: f"it answered {facts.denied:.1f} s after the job was published that it does not run it",
    ),
    _Rule(
        Cause.MINION_NO_RETURN,
        lambda facts: facts.connected is True and _sign(facts) is not None,
        lambda facts: f"everything was delivered, and it gave a sign of life {_sign(facts):.0f} s after the job",
    ),
    _Rule(
        Cause.MINION_SILENT,
        lambda facts: facts.connected is True,
        lambda _: "everything was delivered, and nothing has been heard of it since",
    ),
)


def attribute(facts: Facts) -> Attribution:
    """Return the one cause of a missing response."""
    for rule in _RULES:
        if rule.applies(facts):
            return Attribution(rule.cause, rule.sentence(facts))
    return Attribution(Cause.UNKNOWN, "its connection cannot be told apart from others, and nothing else is known")
