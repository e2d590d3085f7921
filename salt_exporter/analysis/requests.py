"""Which connections to 4506 have sent a request that has had no reply yet, told from their byte counters alone.

Of each connection the kernel tells how much it has received from the client and how much has been written to it. From
one sample to the next both may grow:

* by heartbeats, which are neither request nor reply: ZMTP PINGs of 9 bytes, PONGs of 7, each at most once per
  heartbeat interval and direction (3008's router sends PINGs; clients of other makers may);
* received more than heartbeats explain: a request, or a part of one;
* written an amount that no number of PINGs and PONGs adds up to: a reply. All replies of Salt differ from such sums
  while samples are not further apart than one heartbeat interval, even the shortest ones.

So a connection *waits* when something like a request came, nothing like a reply went out in the same interval or
since, and no more is arriving (a request still on its way is not unanswered): not for `_COMPLETE` seconds, or not in
the next interval. It waits since the last byte: ages are never too high, and what is answered within a second never
shows. A second sample is not waited for, because Salt's clients that get no reply connect anew after some seconds.

All doubts are decided against waiting. After a network was cut or a client was frozen several PONGs come at once: up to
`_AT_ONCE`, for then the master gives up. A new connection first shakes hands (all minions at once when a master has
been restarted, and many say nothing more for long). How long that is depends on the client's identity, which for Salt's
own is `salt-req/minion/<id>/<pid>/<uuid>` or shorter; what exceeds it for the longest minion id is taken for a request,
so a first request of up to about 100 bytes may stay unseen. Unseen is also a request sent between two samples right
behind the reply to the one before. And when samples are further apart than `_FAR`, whatever was written may be a reply.

This holds for the zeromq transport. Times are monotonic seconds, sizes bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_PING: Final = 9  # as libzmq sends it: flags, length, "\4PING", a TTL of 2 bytes
_PONG: Final = 7  # flags, length, "\4PONG"; libzmq's PINGs have no context that had to be sent back
_AT_ONCE: Final = 4  # heartbeat_timeout is three intervals by default, and one is under way
_COMPLETE: Final = 1.0
_FAR: Final = 25.0  # seconds; beyond, heartbeats add up to as much as an encrypted reply

# ZMTP 3.1: greeting; READY, in a long frame, with Socket-Type DEALER and Identity, without that identity.
_HANDSHAKE_RECEIVED: Final = 64 + 9 + 6 + 22 + 13
# Of an identity without the minion id, which for commands is the name of their host: at most 64 (HOST_NAME_MAX).
_IDENTITY: Final = len("salt-req/minion//4194304/01234567-89ab-cdef-0123-456789abcdef")
_LONGEST_NAME: Final = 64
# Greeting; READY with Socket-Type ROUTER and an empty Identity.
HANDSHAKE_SENT: Final = 64 + 2 + 6 + 22 + 13


class Client(NamedTuple):
    """One established connection to the request port at one sample; both sizes only grow."""

    cookie: int
    received: int  # from the client
    sent: int  # written by the master: acknowledged or still in the send queue
    quiet: float  # seconds since anything was received


class Unanswered(NamedTuple):
    """What a sample says."""

    connections: int
    oldest: float  # seconds that the oldest of these requests had waited at the sample; 0 if there is none


@dataclass(slots=True)
class _Account:
    received: int
    sent: int
    asked: float | None = None  # when the newest bytes of a request came that is open
    waits: bool = False  # and it was complete


@dataclass(slots=True)
class Requests:
    """Follows all connections; `observe` takes one sample after another."""

    unanswered: Unanswered | None = None  # None before the second sample
    longest_id: int = 0  # of all minions that may connect, in bytes
    _accounts: dict[int, _Account] = field(default_factory=dict)
    _seen: float | None = None  # when the newest sample was taken

    def observe(self, clients: Iterable[tuple[int, int, int, float]], now: float, heartbeat: float) -> None:
        """Take the connections of a sample at `now`, plain tuples shaped like Client.

        `heartbeat` is the interval in seconds, above 0.
        """
        if self._seen is None:  # who has asked what before we came is not known
            self._accounts = {cookie: _Account(received, sent) for cookie, received, sent, _quiet in clients}
            self._seen = now
            return
        elapsed = now - self._seen
        if elapsed <= 0:
            return
        self._seen = now
        beats = int(elapsed / heartbeat) + 1
        silence = _heartbeat_sums(beats) if elapsed <= _FAR else frozenset()
        noise = (beats + _AT_ONCE) * (_PING + _PONG)
        handshake = _HANDSHAKE_RECEIVED + _IDENTITY + max(_LONGEST_NAME, self.longest_id)
        accounts = self._accounts
        self._accounts = found = {}
        for cookie, received, sent, quiet in clients:
            account = accounts.get(cookie)
            if account is None:
                account = _Account(handshake, HANDSHAKE_SENT)
            found[cookie] = account
            if account.received != received or account.sent != sent or account.asked is not None:
                _update(account, received, sent, now - quiet, silence, noise, complete=quiet >= _COMPLETE)
        since = [account.asked for account in found.values() if account.waits and account.asked is not None]
        self.unanswered = Unanswered(len(since), now - min(since, default=now))


def _update(
    account: _Account, received: int, sent: int, asked: float, silence: frozenset[int], noise: int, *, complete: bool
) -> None:
    more_received, more_sent = received - account.received, sent - account.sent
    account.received, account.sent = received, sent
    if more_sent > 0 and more_sent not in silence:
        account.asked, account.waits = None, False
    elif more_received > noise:
        if not account.waits:
            account.asked, account.waits = asked, complete
    elif account.asked is not None:
        account.waits = True


@lru_cache(maxsize=64)
def _heartbeat_sums(beats: int) -> frozenset[int]:
    """Return every size that up to so many PINGs and so many PONGs may add up to."""
    return frozenset(pings * _PING + pongs * _PONG for pings in range(beats + 1) for pongs in range(beats + 1))
