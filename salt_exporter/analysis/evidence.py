"""Collects the facts about missing responses at the moment a job is closed. Pure: it is given what was seen."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from salt_exporter.analysis.attribution import Facts
from salt_exporter.analysis.presence import Evidence, on_this_host

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from salt_exporter.analysis.jobs import Job
    from salt_exporter.analysis.presence import Presence
    from salt_exporter.analysis.subscriptions import Life, Subscriptions

# A sign of life so soon after the publication proves nothing: the minion may have stopped since.
_AFTERMATH: Final = 2.0  # seconds
_BEHIND_NAT: Final = (Evidence.NAT, Evidence.NAT_ALIVE)


class Delivery(NamedTuple):
    """What the publisher did for one connection."""

    dropped: bool  # messages published at the time asked about
    queued: int  # messages that wait now
    stalled: bool  # its kernel queue does not move


class Publisher(Protocol):
    """The byte ledger, as far as it is asked here."""

    def delivery(self, cookie: int, time: float) -> Delivery:
        """Tell about one connection, as of what was published at `time` (monotonic)."""

    def stands_still(self, time: float) -> bool:
        """Tell whether nothing has come out of the publish port since `time` (monotonic)."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that was known when a job was closed; `now` is monotonic, `wall` the same moment in Unix seconds."""

    now: float
    wall: float
    accepted: Collection[str]
    addresses: Mapping[str, tuple[bytes, ...]]  # by minion
    claims: Mapping[bytes, tuple[str, ...]]  # its inverse
    own_addresses: Collection[bytes]  # of this host
    subscriptions: Subscriptions
    publisher: Publisher
    presence: Presence
    seen: Mapping[str, float]  # minion → its last sign of life on the event bus, Unix seconds
    reaching: Collection[bytes]  # addresses that try in vain to reach the request port
    silent_limit: float | None  # longest silence in seconds that the master's heartbeats allow

    def facts(self, job: Job, minion: str, absent: Collection[str], *, checked: bool) -> Facts:
        """Return what is known about one missing response.

        `absent` are the minions that had no connection when the job was published, where that is remembered from
        before a restart. `checked` tells whether the job cache was asked.
        """
        seen = self.seen.get(minion)
        alive = self._after(job, self.now - (self.wall - seen)) if seen else None
        addresses = self._its_alone(minion)
        own = self.subscriptions.at(addresses, job.opened)
        live = [life for life in own if life.gone == inf]
        ended = None if live else max(own, key=_gone, default=None)
        delivery = [self.publisher.delivery(life.cookie, job.opened) for life in live or own]
        return Facts(
            accepted=minion in self.accepted and minion not in job.unknown,
            observed=job.observed,
            checked=checked,
            closed=self.now - job.opened,
            connected=self._connected(job, minion, own, absent),
            dropped=bool(delivery) and all(one.dropped for one in delivery),
            ended=ended.gone - job.opened if ended else None,
            back=ended is not None and self.subscriptions.is_connected(addresses),
            delivered_before_end=ended is not None and not ended.unsent,
            silent_before_end=ended.seen - ended.received if ended else 0.0,
            silent_limit=self.silent_limit,
            halted=self.publisher.stands_still(job.opened),
            queued=min((one.queued for one in delivery), default=0) if live else 0,
            unsent=min(map(_stuck, live, delivery), default=0),
            repeats=min((life.repeats for life in live), default=0),
            heard=max((life.received - job.opened for life in live), default=None),
            alive=alive if alive is not None and alive > _AFTERMATH else None,
            started=self._after(job, job.started.get(minion)),
            running=self._after(job, job.running.get(minion)),
            denied=self._after(job, job.denied.get(minion)),
            reaching=any(address in self.reaching for address in addresses),
        )

    def _connected(self, job: Job, minion: str, own: list[Life], absent: Collection[str]) -> bool | None:
        """Tell whether the minion had a connection when the job was published."""
        if job.opened < self.subscriptions.began:
            return False if minion in absent else None
        if own:
            return True
        verdict = self.presence.verdicts.get(minion)
        if verdict is not None and verdict.evidence in _BEHIND_NAT:
            return None
        addresses = on_this_host(self.addresses.get(minion, ()), self.own_addresses)
        return None if self.subscriptions.at(addresses, job.opened) else False

    def _its_alone(self, minion: str) -> tuple[bytes, ...]:
        """Return the addresses connections from which tell about this minion, and not as well about others.

        Most hosts have some that others have too, such as that of Docker's bridge.
        """
        addresses = (item for item in self.addresses.get(minion, ()) if len(self.claims.get(item, ())) <= 1)
        return on_this_host(tuple(addresses), self.own_addresses)

    @staticmethod
    def _after(job: Job, time: float | None) -> float | None:
        return None if time is None else time - job.opened


def _stuck(life: Life, delivery: Delivery) -> int:
    """Return the bytes in the kernel's send queue; those that are only on their way count as delivered."""
    return life.unsent if life.repeats > 1 or delivery.stalled else 0


def _gone(life: Life) -> float:
    return life.gone
