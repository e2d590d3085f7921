"""Who is there: accepted keys, connections, addresses and the last sign of life make a verdict with its evidence.

The rules, first match wins, for a minion with an accepted key. A *peer* is an address with an established connection to
the publish port that is not one of our own probes.

1. An address that this minion alone claims is a peer → present, unless all such connections are silent (see below).
2. An address that it shares with others is a peer → present if it gave a sign of life lately, else uncertain.
3. It has once been seen connected from its own address → not present: it does not sit behind NAT.
4. There are connections from addresses that nobody claims (NAT, stale grains): then they may hide this minion.
   A recent sign of life → present. An older one, or no more such minions than such connections → uncertain.
5. Otherwise → not present.

A connection is silent when the other end has not answered for longer than its protocol allows: 1.5 heartbeats
(Salt 3006 and 3008 send them on 4505), or data that stays unacknowledged. The host may be gone and the connection half
open: uncertain, until the kernel or ZeroMQ closes it. Salt itself calls such a minion present.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Mapping

PRESENT: Final = "present"
NOT_PRESENT: Final = "not_present"
UNCERTAIN: Final = "uncertain"
STATES: Final = (PRESENT, NOT_PRESENT, UNCERTAIN)

_LOOPBACK: Final = (socket.inet_pton(socket.AF_INET, "127.0.0.1"), socket.inet_pton(socket.AF_INET6, "::1"))


class Evidence(Enum):
    """Why a verdict is what it is; the value is the sentence an operator reads."""

    CONNECTED = "connected from {address}"
    SILENT = "connected from {address}, but that host has stopped answering"
    SHARED_ALIVE = "{address} is shared with other minions; seen on the event bus {ago} ago"
    SHARED = "{address} is connected but shared with other minions, and no sign of life lately"
    LEFT = "was connected from its own address before, now is not"
    NAT_ALIVE = "not connected from a known address, but seen on the event bus {ago} ago (NAT or a new address)"
    NAT = "not connected from a known address, but connections from unknown addresses may be its own (NAT)"
    NO_ADDRESS = "no connection, and the master has no cached grains that would give its addresses"
    NO_CONNECTION = "no connection from any of its addresses"


class Verdict(NamedTuple):
    """What is known about one minion."""

    state: str
    evidence: Evidence
    address: bytes  # the deciding one in network byte order, b"" if there is none
    last_seen: float | None  # Unix seconds of the last sign of life on the event bus

    def sentence(self, now: float) -> str:
        """Say the evidence in words; `now` in Unix seconds."""
        ago = f"{max(0.0, now - self.last_seen):.0f} s" if self.last_seen else "never"
        return self.evidence.value.format(address=address_text(self.address), ago=ago)


def address_text(address: bytes) -> str:
    """Return a packed address as text, "" for none."""
    if not address:
        return ""
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


@dataclass(frozen=True, slots=True)
class Peers:
    """Who is connected to the publish port: established connections by address, and those gone silent."""

    connections: Mapping[bytes, int] = field(default_factory=dict)
    silent: frozenset[bytes] = frozenset()  # addresses all of whose connections are silent


@dataclass(frozen=True)
class Presence:
    """The verdicts at one moment; many ask, so who is in which state is found out once."""

    verdicts: Mapping[str, Verdict]
    unknown_peers: int  # connected addresses that match no accepted minion
    shared_address_minions: int  # minions that no address of their own tells apart, or that sit behind NAT

    def counts(self) -> dict[str, int]:
        """Return the number of minions in each state; they add up to the accepted keys."""
        return {state: len(minions) for state, minions in self._by_state.items()}

    def minions(self, *states: str) -> list[str]:
        """Return the sorted ids in these states."""
        return sorted(chain.from_iterable(self._by_state[state] for state in states))

    @cached_property
    def _by_state(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {state: [] for state in STATES}
        for minion, verdict in self.verdicts.items():
            found[verdict.state].append(minion)
        return found


class PresenceTracker:
    """Decides presence; remembers who has been seen connected from its own address, and the last verdicts."""

    def __init__(self, recent: float) -> None:
        """`recent`: for how many seconds a sign of life counts as proof."""
        self._recent = recent
        self._direct: set[str] = set()
        self._before: Mapping[str, Verdict] = {}

    def decide(
        self,
        accepted: Collection[str],
        by_minion: Mapping[str, tuple[bytes, ...]],
        by_address: Mapping[bytes, tuple[str, ...]],
        peers: Peers,
        own_addresses: Iterable[bytes],
        last_seen: Mapping[str, float],
        now: float,
    ) -> Presence:
        """Return the presence of all accepted minions.

        `by_address` must be the inverse of `by_minion`; `own_addresses` are the master host's, whose local minion
        connects from the loopback; times are Unix seconds.
        """
        connections = _without_loopback(peers.connections, own_addresses, by_address)
        self._direct.intersection_update(accepted)
        verdicts: dict[str, Verdict] = {}
        unmatched: list[str] = []
        shared = 0
        for minion in accepted:
            seen = last_seen.get(minion)
            own, common = _connected(by_minion.get(minion, ()), by_address, connections, peers.silent)
            if own:
                self._direct.add(minion)
                state, evidence = (UNCERTAIN, Evidence.SILENT) if own in peers.silent else (PRESENT, Evidence.CONNECTED)
                fields = (state, evidence, own, seen)
                known = self._before.get(minion)
                # Most verdicts are the same as before; thousands of new objects would keep the garbage collector busy.
                verdicts[minion] = known if known == fields else Verdict(*fields)
            elif common:
                shared += 1
                alive = self._alive(seen, now)
                state, evidence = (PRESENT, Evidence.SHARED_ALIVE) if alive else (UNCERTAIN, Evidence.SHARED)
                verdicts[minion] = Verdict(state, evidence, common, seen)
            elif minion in self._direct:
                verdicts[minion] = Verdict(NOT_PRESENT, Evidence.LEFT, b"", seen)
            else:
                unmatched.append(minion)
        unknown = [address for address in connections if address not in by_address]
        hidden = self._unmatched(unmatched, by_minion, sum(connections[address] for address in unknown), last_seen, now)
        shared += sum(verdict.state != NOT_PRESENT for verdict in hidden.values())
        self._before = verdicts | hidden
        return Presence(self._before, len(unknown), shared)

    def _unmatched(
        self,
        minions: list[str],
        by_minion: Mapping[str, tuple[bytes, ...]],
        unknown_connections: int,
        last_seen: Mapping[str, float],
        now: float,
    ) -> dict[str, Verdict]:
        """Decide the minions that no connection matches: rules 4 and 5."""
        verdicts = {}
        for minion in minions:
            seen = last_seen.get(minion)
            if unknown_connections and self._alive(seen, now):
                state, evidence = PRESENT, Evidence.NAT_ALIVE
            elif unknown_connections and (seen is not None or len(minions) <= unknown_connections):
                state, evidence = UNCERTAIN, Evidence.NAT
            elif minion in by_minion:
                state, evidence = NOT_PRESENT, Evidence.NO_CONNECTION
            else:
                state, evidence = NOT_PRESENT, Evidence.NO_ADDRESS
            verdicts[minion] = Verdict(state, evidence, b"", seen)
        return verdicts

    def _alive(self, seen: float | None, now: float) -> bool:
        return seen is not None and now - seen <= self._recent


def _connected(
    addresses: tuple[bytes, ...],
    by_address: Mapping[bytes, tuple[str, ...]],
    connections: Mapping[bytes, int],
    silent: Container[bytes],
) -> tuple[bytes, bytes]:
    """Return (a connected address of this minion alone, a connected one it shares), b"" where there is none.

    Of several of its own, one that is not silent: a minion that came back from another address is there.
    """
    own = common = b""
    for address in addresses:
        if address in connections:
            if len(by_address[address]) > 1:
                common = address
            elif address not in silent:
                return address, b""
            else:
                own = address
    return own, common


def on_this_host(addresses: tuple[bytes, ...], own_addresses: Collection[bytes]) -> tuple[bytes, ...]:
    """Return the addresses that a minion connects from: the loopback's too if it runs on the master's host."""
    return (*addresses, *_LOOPBACK) if any(address in own_addresses for address in addresses) else addresses


def _without_loopback(
    connections: Mapping[bytes, int], own_addresses: Iterable[bytes], by_address: Mapping[bytes, tuple[str, ...]]
) -> Mapping[bytes, int]:
    """Count connections from 127.0.0.1 and ::1 for the addresses of this host that minions claim, as Salt does.

    (salt/utils/minions.py, `connected_ids`: the local minion's grains hold the host's addresses, not the loopback's.)
    If nobody claims any, they stay what they are: connections from an address that nobody claims.
    """
    local = sum(connections.get(address, 0) for address in _LOOPBACK)
    claimed = [address for address in own_addresses if address in by_address]
    if not local or not claimed:
        return connections
    others = {address: number for address, number in connections.items() if address not in _LOOPBACK}
    return others | dict.fromkeys(claimed, local)
