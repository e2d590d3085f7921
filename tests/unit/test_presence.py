"""Presence: each rule of salt_exporter/analysis/presence.py by itself, then properties that always hold."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salt_exporter.analysis.presence import (
    NOT_PRESENT,
    PRESENT,
    STATES,
    UNCERTAIN,
    Evidence,
    Peers,
    Presence,
    PresenceTracker,
    Verdict,
    address_text,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

NOW = 100_000.0
RECENT = 300.0
LATELY, LONG_AGO = NOW - 299.0, NOW - 301.0


def packed(text: str) -> bytes:
    """Return an address in network byte order."""
    return ipaddress.ip_address(text).packed


class Scene:
    """What is known at one moment; addresses as text."""

    def __init__(
        self,
        claims: Mapping[str, Collection[str]],
        connections: Mapping[str, int] | Collection[str] = (),
        *,
        silent: Collection[str] = (),
        own: Collection[str] = (),
        seen: Mapping[str, float] | None = None,
        ungrained: Collection[str] = (),
    ) -> None:
        """Take the claimed addresses by minion; `ungrained` minions have no cached grains."""
        counts = connections if isinstance(connections, dict) else dict.fromkeys(connections, 1)
        self.accepted = {*claims, *ungrained}
        self.by_minion = {minion: tuple(map(packed, addresses)) for minion, addresses in claims.items()}
        self.by_address: defaultdict[bytes, tuple[str, ...]] = defaultdict(tuple)
        for minion, addresses in self.by_minion.items():
            for address in addresses:
                self.by_address[address] += (minion,)
        self.peers = Peers({packed(text): number for text, number in counts.items()}, frozenset(map(packed, silent)))
        self.own = frozenset(map(packed, own))
        self.seen = seen or {}

    def decide(self, tracker: PresenceTracker | None = None) -> Presence:
        """Decide presence, with what a tracker has seen before if one is given."""
        return (tracker or PresenceTracker(RECENT)).decide(
            self.accepted, self.by_minion, dict(self.by_address), self.peers, self.own, self.seen, NOW
        )

    def verdict(self, minion: str, tracker: PresenceTracker | None = None) -> tuple[str, Evidence, str]:
        """Return state, evidence and deciding address of one minion."""
        found = self.decide(tracker).verdicts[minion]
        assert self.seen.get(minion) == found.last_seen
        return found.state, found.evidence, address_text(found.address)


# --- rule 1: an address of its own ---


def test_connected_from_its_own_address_is_present() -> None:
    """A connection from an address that nobody else claims is the minion."""
    scene = Scene({"web1": ["10.0.0.1"], "web2": ["10.0.0.2"]}, ["10.0.0.1"])

    assert (PRESENT, Evidence.CONNECTED, "10.0.0.1") == scene.verdict("web1")
    assert (NOT_PRESENT, Evidence.NO_CONNECTION, "") == scene.verdict("web2")


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.0.1", "fd00::1"])
def test_any_of_its_addresses_will_do(address: str) -> None:
    """A minion with several addresses, of both families, may connect from any."""
    scene = Scene({"web1": ["10.0.0.1", "192.168.0.1", "fd00::1"]}, [address])

    assert (PRESENT, Evidence.CONNECTED, address) == scene.verdict("web1")


def test_own_address_decides_before_a_shared_one() -> None:
    """A docker bridge that everybody claims does not matter to a minion that is connected from its own address."""
    scene = Scene({"web1": ["172.17.0.1", "10.0.0.1"], "web2": ["172.17.0.1"]}, ["172.17.0.1", "10.0.0.1"])

    assert (PRESENT, Evidence.CONNECTED, "10.0.0.1") == scene.verdict("web1")
    assert 1 == scene.decide().shared_address_minions


def test_silent_connection_is_uncertain() -> None:
    """A host that has stopped answering may be gone, though its connection stands."""
    scene = Scene({"web1": ["10.0.0.1"]}, ["10.0.0.1"], silent=["10.0.0.1"], seen={"web1": NOW})

    assert (UNCERTAIN, Evidence.SILENT, "10.0.0.1") == scene.verdict("web1")


@pytest.mark.parametrize("addresses", [["10.0.0.1", "10.0.0.2"], ["10.0.0.2", "10.0.0.1"]])
def test_connection_that_answers_wins_over_a_silent_one(addresses: list[str]) -> None:
    """A minion that came back from another of its addresses is there, while its old connection still stands."""
    scene = Scene({"web1": addresses}, addresses, silent=["10.0.0.1"])

    assert (PRESENT, Evidence.CONNECTED, "10.0.0.2") == scene.verdict("web1")


# --- rule 2: shared addresses ---


def test_shared_address_is_uncertain_without_a_sign_of_life() -> None:
    """One connection cannot make two minions present, though Salt says so."""
    scene = Scene({"web1": ["10.0.0.1"], "web2": ["10.0.0.1"]}, ["10.0.0.1"], seen={"web2": LONG_AGO})

    assert (UNCERTAIN, Evidence.SHARED, "10.0.0.1") == scene.verdict("web1")
    assert (UNCERTAIN, Evidence.SHARED, "10.0.0.1") == scene.verdict("web2")
    assert 2 == scene.decide().shared_address_minions


def test_sign_of_life_decides_a_shared_address() -> None:
    """Who was heard lately is the one who is connected; that proves nothing about the other."""
    scene = Scene({"web1": ["10.0.0.1"], "web2": ["10.0.0.1"]}, ["10.0.0.1"], seen={"web1": LATELY})

    assert (PRESENT, Evidence.SHARED_ALIVE, "10.0.0.1") == scene.verdict("web1")
    assert (UNCERTAIN, Evidence.SHARED, "10.0.0.1") == scene.verdict("web2")


def test_unconnected_shared_address_is_no_connection() -> None:
    """A shared address from which nobody is connected hides nobody."""
    scene = Scene({"web1": ["10.0.0.1"], "web2": ["10.0.0.1"]})

    assert (NOT_PRESENT, Evidence.NO_CONNECTION, "") == scene.verdict("web1")
    assert 0 == scene.decide().shared_address_minions


@pytest.mark.parametrize(("ago", "state"), [(RECENT, PRESENT), (RECENT + 0.1, UNCERTAIN)])
def test_sign_of_life_counts_as_long_as_it_is_recent(ago: float, state: str) -> None:
    """Up to the very second that is configured."""
    scene = Scene({"web1": ["10.0.0.1"], "web2": ["10.0.0.1"]}, ["10.0.0.1"], seen={"web1": NOW - ago})

    assert state == scene.verdict("web1")[0]


# --- rule 3: who has once been seen ---


def test_minion_that_left_is_not_present() -> None:
    """Who was connected from its own address is not behind NAT: connections from elsewhere are not its own."""
    tracker = PresenceTracker(RECENT)
    Scene({"web1": ["10.0.0.1"]}, ["10.0.0.1"]).decide(tracker)
    later = Scene({"web1": ["10.0.0.1"]}, ["203.0.113.9"], seen={"web1": LATELY})

    assert (NOT_PRESENT, Evidence.LEFT, "") == later.verdict("web1", tracker)
    assert (PRESENT, Evidence.NAT_ALIVE, "") == later.verdict("web1")  # to a tracker that has not seen it


def test_minion_that_comes_back_is_present() -> None:
    """Leaving is not for ever."""
    tracker = PresenceTracker(RECENT)
    for connections in (["10.0.0.1"], [], ["10.0.0.1"]):
        presence = Scene({"web1": ["10.0.0.1"]}, connections).decide(tracker)

    assert PRESENT == presence.verdicts["web1"].state


def test_deleted_key_is_forgotten() -> None:
    """A minion whose key was deleted and accepted anew begins anew."""
    tracker = PresenceTracker(RECENT)
    Scene({"web1": ["10.0.0.1"]}, ["10.0.0.1"]).decide(tracker)
    Scene({}).decide(tracker)

    assert Evidence.NAT is Scene({"web1": ["10.0.0.1"]}, ["203.0.113.9"]).verdict("web1", tracker)[1]


def test_minion_that_moved_to_a_shared_address_may_be_there() -> None:
    """An address that others claim too says more about a minion than that it was once seen from another."""
    tracker = PresenceTracker(RECENT)
    claims = {"web1": ["10.0.0.1", "172.17.0.1"], "web2": ["172.17.0.1"]}
    Scene(claims, ["10.0.0.1"]).decide(tracker)

    assert Evidence.SHARED is Scene(claims, ["172.17.0.1"]).verdict("web1", tracker)[1]


def test_connection_from_a_shared_address_is_no_proof_of_an_own_one() -> None:
    """Only an address that tells a minion apart shows that it does not sit behind NAT."""
    tracker = PresenceTracker(RECENT)
    Scene({"web1": ["10.0.0.1"], "web2": ["10.0.0.1"]}, ["10.0.0.1"]).decide(tracker)
    later = Scene({"web1": ["10.0.0.1"], "web2": ["10.0.0.1"]}, {"203.0.113.9": 2})

    assert Evidence.NAT is later.verdict("web1", tracker)[1]


# --- rules 4 and 5: connections that nobody claims ---


def test_unknown_connections_may_hide_as_many_minions() -> None:
    """Two connections behind one NAT address can be two minions, claimed or not: nobody can tell."""
    scene = Scene({"web1": ["192.168.0.1"]}, {"203.0.113.9": 2}, ungrained=["web2"])

    assert (UNCERTAIN, Evidence.NAT, "") == scene.verdict("web1")
    assert (UNCERTAIN, Evidence.NAT, "") == scene.verdict("web2")
    assert (1, 2) == (scene.decide().unknown_peers, scene.decide().shared_address_minions)


def test_unknown_connections_cannot_hide_more_minions_than_they_are() -> None:
    """With more minions than unexplained connections, those without any sign of life are not present."""
    seen = {"web1": LATELY, "web2": LONG_AGO}
    scene = Scene(
        {"web1": ["192.168.0.1"], "web2": ["192.168.0.2"], "web3": []}, ["203.0.113.9"], seen=seen, ungrained=["x"]
    )

    assert (PRESENT, Evidence.NAT_ALIVE, "") == scene.verdict("web1")
    assert (UNCERTAIN, Evidence.NAT, "") == scene.verdict("web2")
    assert (NOT_PRESENT, Evidence.NO_CONNECTION, "") == scene.verdict("web3")
    assert (NOT_PRESENT, Evidence.NO_ADDRESS, "") == scene.verdict("x")
    assert 2 == scene.decide().shared_address_minions


def test_explained_minions_leave_unknown_connections_to_the_others() -> None:
    """Only minions that no connection explains compete for the connections that no minion explains."""
    scene = Scene({"web1": ["10.0.0.1"], "web2": ["10.0.0.2"]}, ["10.0.0.1", "203.0.113.9"])

    assert (UNCERTAIN, Evidence.NAT, "") == scene.verdict("web2")


def test_sign_of_life_without_any_unknown_connection_is_no_presence() -> None:
    """Whoever was heard a moment ago and is connected from nowhere has gone since."""
    scene = Scene({"web1": ["10.0.0.1"]}, seen={"web1": LATELY}, ungrained=["web2"])

    assert (NOT_PRESENT, Evidence.NO_CONNECTION, "") == scene.verdict("web1")
    assert (NOT_PRESENT, Evidence.NO_ADDRESS, "") == scene.verdict("web2")
    assert 0 == scene.decide().shared_address_minions


# --- the local minion ---


@pytest.mark.parametrize("loopback", ["127.0.0.1", "::1"])
def test_local_minion_is_connected_from_the_loopback(loopback: str) -> None:
    """A minion on the master's host connects from the loopback, and claims the host's addresses."""
    scene = Scene({"local": ["10.0.0.5"], "web1": ["10.0.0.1"]}, [loopback], own=["10.0.0.5", "fd00::5"])

    assert (PRESENT, Evidence.CONNECTED, "10.0.0.5") == scene.verdict("local")
    assert Evidence.NO_CONNECTION is scene.verdict("web1")[1]
    assert 0 == scene.decide().unknown_peers


def test_loopback_without_a_claimed_host_address_is_an_unknown_connection() -> None:
    """As long as the local minion's grains are not cached its connection is one that nobody claims."""
    scene = Scene({"web1": ["10.0.0.1"]}, ["10.0.0.1", "127.0.0.1"], own=["10.0.0.5"], ungrained=["local"])

    assert (UNCERTAIN, Evidence.NAT, "") == scene.verdict("local")
    assert 1 == scene.decide().unknown_peers


def test_other_loopback_addresses_are_what_they_are() -> None:
    """127.0.0.11 is a minion's address where minions claim it (as in the demo)."""
    scene = Scene({"demo1": ["127.0.0.11"], "local": ["10.0.0.5"]}, ["127.0.0.11"], own=["10.0.0.5"])

    assert (PRESENT, Evidence.CONNECTED, "127.0.0.11") == scene.verdict("demo1")
    assert (NOT_PRESENT, Evidence.NO_CONNECTION, "") == scene.verdict("local")


def test_loopback_counts_for_every_address_of_the_host() -> None:
    """Salt calls each minion present that claims an address of the host, and so do we."""
    scene = Scene({"a": ["10.0.0.5"], "b": ["fd00::5"]}, ["127.0.0.1"], own=["10.0.0.5", "fd00::5"])

    assert ["a", "b"] == scene.decide().minions(PRESENT)


def test_two_local_minions_share_the_host() -> None:
    """Several minions on the master's host cannot be told apart."""
    scene = Scene({"a": ["10.0.0.5"], "b": ["10.0.0.5"]}, {"127.0.0.1": 1}, own=["10.0.0.5"])

    assert (UNCERTAIN, Evidence.SHARED, "10.0.0.5") == scene.verdict("a")


# --- what is told ---


def test_unknown_peers_are_addresses() -> None:
    """Peers are counted by address, however many connections each has."""
    scene = Scene({"web1": ["10.0.0.1"]}, {"10.0.0.1": 3, "203.0.113.9": 5, "203.0.113.10": 1})

    assert 2 == scene.decide().unknown_peers


def test_minions_are_listed_by_state_in_order() -> None:
    """Lists are sorted, and may take several states."""
    scene = Scene({"b": ["10.0.0.2"], "a": ["10.0.0.1"], "c": ["10.0.0.3"]}, ["10.0.0.2"])
    presence = scene.decide()

    assert ["a", "c"] == presence.minions(NOT_PRESENT)
    assert ["a", "b", "c"] == presence.minions(*STATES)
    assert {PRESENT: 1, NOT_PRESENT: 2, UNCERTAIN: 0} == presence.counts()


@pytest.mark.parametrize(
    ("evidence", "address", "seen", "sentence"),
    [
        (Evidence.CONNECTED, "10.0.0.1", None, "connected from 10.0.0.1"),
        (Evidence.SILENT, "fd00::1", None, "connected from fd00::1, but that host has stopped answering"),
        (
            Evidence.SHARED_ALIVE,
            "10.0.0.1",
            NOW - 7.4,
            "10.0.0.1 is shared with other minions; seen on the event bus 7 s ago",
        ),
        (
            Evidence.NAT_ALIVE,
            "",
            NOW + 1,
            "not connected from a known address, but seen on the event bus 0 s ago (NAT or a new address)",
        ),
        (Evidence.NO_CONNECTION, "", None, "no connection from any of its addresses"),
    ],
)
def test_evidence_is_said_in_words(evidence: Evidence, address: str, seen: float | None, sentence: str) -> None:
    """Operators read a sentence with the deciding address and the age of the sign of life."""
    assert sentence == Verdict(PRESENT, evidence, packed(address) if address else b"", seen).sentence(NOW)


@pytest.mark.parametrize("evidence", Evidence)
def test_every_evidence_can_be_said(evidence: Evidence) -> None:
    """No sentence has a gap that cannot be filled."""
    assert "{" not in Verdict(PRESENT, evidence, b"", None).sentence(NOW)


# --- what always holds ---

_MINIONS = ("a", "b", "c", "d")
_addresses = st.sampled_from([f"10.0.0.{number}" for number in range(1, 6)] + ["127.0.0.1", "203.0.113.9", "fd00::1"])
_times = st.sampled_from((NOW, LATELY, LONG_AGO))
_scenes = st.builds(
    Scene,
    st.dictionaries(
        st.sampled_from(_MINIONS),
        st.lists(_addresses.filter(lambda text: text != "127.0.0.1"), max_size=3, unique=True),
    ),
    st.dictionaries(_addresses, st.integers(1, 3)),
    silent=st.sets(_addresses),
    own=st.sets(st.sampled_from(("10.0.0.1", "10.0.0.2"))),
    seen=st.dictionaries(st.sampled_from(_MINIONS), _times),
    ungrained=st.sets(st.sampled_from(_MINIONS)),
)


@st.composite
def _histories(draw: st.DrawFn) -> list[Scene]:
    return draw(st.lists(_scenes, min_size=1, max_size=4))


def _decide(scenes: list[Scene]) -> Presence:
    tracker = PresenceTracker(RECENT)
    return [scene.decide(tracker) for scene in scenes][-1]


@given(_histories())
def test_states_partition_the_accepted_minions(scenes: list[Scene]) -> None:
    """Every accepted minion has one state, nobody else has any, and the numbers add up."""
    presence = _decide(scenes)

    assert scenes[-1].accepted == presence.verdicts.keys()
    assert len(scenes[-1].accepted) == sum(presence.counts().values())
    assert sorted(scenes[-1].accepted) == sorted(minion for state in STATES for minion in presence.minions(state))
    assert 0 <= presence.shared_address_minions <= len(scenes[-1].accepted)
    assert 0 <= presence.unknown_peers <= len(scenes[-1].peers.connections)


@given(_histories())
def test_connected_minion_is_never_absent(scenes: list[Scene]) -> None:
    """Whoever is connected from an address of its own is present if that connection answers, and never not present."""
    presence = _decide(scenes)
    now = scenes[-1]
    for minion, addresses in now.by_minion.items():
        own = [one for one in addresses if one in now.peers.connections and now.by_address[one] == (minion,)]
        if any(one not in now.peers.silent for one in own):
            assert PRESENT == presence.verdicts[minion].state
        elif own:
            assert UNCERTAIN == presence.verdicts[minion].state


@given(_histories(), st.sampled_from(_MINIONS))
def test_sign_of_life_never_makes_a_verdict_worse(scenes: list[Scene], minion: str) -> None:
    """Hearing of a minion changes nothing for the others, and for itself nothing to the worse."""
    before = _decide(scenes).verdicts
    scenes[-1].seen = {**scenes[-1].seen, minion: NOW}
    after = _decide(scenes).verdicts

    order = (NOT_PRESENT, UNCERTAIN, PRESENT)
    for other, verdict in after.items():
        if other == minion:
            assert order.index(before[other].state) <= order.index(verdict.state)
        else:
            assert before[other] == verdict


@given(_histories())
def test_nobody_is_present_without_any_connection(scenes: list[Scene]) -> None:
    """With nobody connected every minion is not present, whatever was heard."""
    scenes[-1].peers = Peers()

    assert {NOT_PRESENT} >= {verdict.state for verdict in _decide(scenes).verdicts.values()}
