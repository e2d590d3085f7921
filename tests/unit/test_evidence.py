"""The facts about a missing response: whose connection it was, how it ended, who has been heard of, and since when."""

from __future__ import annotations

import socket
from math import inf
from typing import TYPE_CHECKING

import pytest

from salt_exporter.analysis.attribution import Facts
from salt_exporter.analysis.evidence import Delivery, Scene
from salt_exporter.analysis.jobs import Job
from salt_exporter.analysis.presence import NOT_PRESENT, PRESENT, UNCERTAIN, Evidence, Presence, Verdict
from salt_exporter.analysis.subscriptions import Subscriptions
from salt_exporter.kernel.inet_diag import ESTABLISHED, Connection

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

OPENED, CLOSED = 1000.0, 1060.0  # monotonic seconds
WALL = 1_800_000_000.0  # Unix seconds when the job is closed
RETRANSMISSION = 1
OWN, OTHER, SHARED, HOST = (socket.inet_aton(text) for text in ("10.0.0.1", "10.0.0.2", "172.17.0.1", "10.0.0.5"))
LOOPBACK = socket.inet_aton("127.0.0.1")
_MADE = Connection._make([0] * len(Connection._fields))._replace(state=ESTABLISHED)
_FINE = Delivery(dropped=False, queued=0, stalled=False)


class Publisher:
    """Tells what a test has put there, and who was asked about when."""

    def __init__(self) -> None:
        self.known: dict[int, Delivery] = {}  # by cookie; all others are fine
        self.asked: list[tuple[int, float]] = []
        self.still_since = inf  # monotonic seconds

    def delivery(self, cookie: int, time: float) -> Delivery:
        """Answer as the byte ledger."""
        self.asked.append((cookie, time))
        return self.known.get(cookie, _FINE)

    def stands_still(self, time: float) -> bool:
        """Answer as our own subscriber."""
        return self.still_since <= time


class Stage:
    """What was seen, in few words: minion `web1` at one address of its own, sampled from long before the job."""

    def __init__(self) -> None:
        self.subscriptions = Subscriptions()
        self.publisher = Publisher()
        self.addresses: dict[str, tuple[bytes, ...]] = {"web1": (OWN,)}
        self.own_addresses: Collection[bytes] = (HOST,)
        self.verdicts = {"web1": Verdict(PRESENT, Evidence.CONNECTED, OWN, None)}
        self.seen: dict[str, float] = {}
        self.reaching: Collection[bytes] = ()
        self.job = Job("1", "test.ping", WALL - 60.0, opened=OPENED)

    def sample(self, at: float, *rows: tuple[int, bytes], **fields: int) -> None:
        """Show the connections (cookie, peer) at a time, with these fields."""
        self.subscriptions.observe((_MADE._replace(cookie=one, peer=peer, **fields) for one, peer in rows), at)

    def see(self, ago: float, minion: str = "web1") -> None:
        """Let a minion be seen on the event bus so many seconds before the closing."""
        self.seen[minion] = WALL - ago

    def facts(self, minion: str = "web1", absent: Collection[str] = (), *, checked: bool = True) -> Facts:
        """Return the facts when the job is closed after a minute."""
        claims: dict[bytes, tuple[str, ...]] = {}
        for owner, addresses in self.addresses.items():
            for address in addresses:
                claims[address] = (*claims.get(address, ()), owner)
        scene = Scene(
            now=CLOSED,
            wall=WALL,
            accepted=self.verdicts.keys(),
            addresses=self.addresses,
            claims=claims,
            own_addresses=self.own_addresses,
            subscriptions=self.subscriptions,
            publisher=self.publisher,
            presence=Presence(self.verdicts, 0, 0),
            seen=self.seen,
            reaching=self.reaching,
            silent_limit=22.5,
        )
        return scene.facts(self.job, minion, absent, checked=checked)


@pytest.fixture
def stage() -> Stage:
    """Return a stage on which web1 is connected from before the job to its end."""
    stage = Stage()
    for at in (900.0, 1001.0, 1055.0):
        stage.sample(at, (1, OWN), last_received_ms=2000)
    return stage


def test_facts_of_a_minion_that_is_just_connected(stage: Stage) -> None:
    """A plain delivery: connected all the time, everything taken, last heard of as the newest sample says."""
    assert Facts(closed=60.0, connected=True, silent_limit=22.5, heard=53.0) == stage.facts()
    assert [(1, OPENED)] == stage.publisher.asked


@pytest.mark.parametrize("observed", [True, False])
@pytest.mark.parametrize("checked", [True, False])
def test_what_was_read_is_passed_on(stage: Stage, *, observed: bool, checked: bool) -> None:
    """Whether the bus was read all the time, and whether the job cache was asked, does not touch the rest."""
    stage.job.observed = observed
    facts = stage.facts(checked=checked)

    assert (observed, checked) == (facts.observed, facts.checked)
    assert facts.connected is True


def test_key_is_accepted_or_not(stage: Stage) -> None:
    """A minion without an accepted key, or that the master itself called missing, is none."""
    assert stage.facts().accepted
    assert not stage.facts("nokey").accepted
    stage.job.unknown.add("web1")
    assert not stage.facts().accepted


@pytest.mark.parametrize(("since", "halted"), [(OPENED - 1, True), (OPENED + 1, False)])
def test_publisher_that_stands_still(stage: Stage, since: float, *, halted: bool) -> None:
    """What matters is whether anything has come out of the publish port since this job."""
    stage.publisher.still_since = since
    assert halted is stage.facts().halted


# --- whose connection it is ---


def test_nobody_connected() -> None:
    """Without a connection from its address at that time the minion was not connected, whoever else was."""
    stage = Stage()
    stage.sample(900.0, (2, OTHER))
    stage.sample(1001.0, (2, OTHER))
    stage.sample(1010.0, (2, OTHER), (1, OWN))

    facts = stage.facts()
    assert facts.connected is False
    assert (None, None, False) == (facts.ended, facts.heard, facts.back)
    assert [] == stage.publisher.asked


@pytest.mark.parametrize(
    ("evidence", "connected"),
    [(Evidence.NAT, None), (Evidence.NAT_ALIVE, None), (Evidence.NO_CONNECTION, False), (Evidence.NO_ADDRESS, False)],
)
def test_minion_behind_nat_may_be_connected(evidence: Evidence, connected: object) -> None:
    """Where connections from unknown addresses may be its own, nobody can tell."""
    stage = Stage()
    stage.sample(900.0)
    stage.verdicts["web1"] = Verdict(UNCERTAIN, evidence, b"", None)
    stage.addresses = {} if evidence is Evidence.NO_ADDRESS else stage.addresses

    assert connected is stage.facts().connected


def test_shared_address_tells_nothing(stage: Stage) -> None:
    """A connection from an address that another minion claims too may be either's: no fact comes from it."""
    stage.addresses["web2"] = (OWN,)
    stage.publisher.known[1] = Delivery(dropped=True, queued=5, stalled=True)
    stage.reaching = (OWN,)
    facts = stage.facts()

    assert Facts(closed=60.0, connected=None, silent_limit=22.5) == facts


def test_nobody_at_a_shared_address(stage: Stage) -> None:
    """Where nobody is connected, none of those who share the address is."""
    stage = Stage()
    stage.addresses["web2"] = (OWN,)
    stage.sample(900.0, (2, OTHER))

    assert stage.facts().connected is False


def test_address_of_its_own_decides_beside_a_shared_one(stage: Stage) -> None:
    """Every host with Docker has 172.17.0.1: its own address tells all the same."""
    stage.addresses = {"web1": (SHARED, OWN), "web2": (SHARED, OTHER)}
    stage.publisher.known[1] = Delivery(dropped=True, queued=0, stalled=False)
    stage.reaching = (SHARED,)

    facts = stage.facts()
    assert (True, True, False) == (facts.connected, facts.dropped, facts.reaching)
    stage.verdicts["web2"] = Verdict(NOT_PRESENT, Evidence.LEFT, b"", None)
    assert stage.facts("web2").connected is False
    stage.reaching = (OWN,)
    assert stage.facts().reaching


def test_local_minion_connects_from_the_loopback() -> None:
    """The minion on the master's host has the host's addresses in its grains, and 127.0.0.1 in the kernel's table."""
    stage = Stage()
    stage.addresses = {"web1": (HOST,), "web2": (OTHER,)}
    stage.verdicts["web2"] = Verdict(NOT_PRESENT, Evidence.NO_CONNECTION, b"", None)
    stage.sample(900.0, (1, LOOPBACK))

    assert stage.facts().connected is True
    assert stage.facts("web2").connected is False


def test_loopback_is_nobodys_where_two_claim_the_host() -> None:
    """Two minions on the master's host cannot be told apart, and a remote one with Docker's address is not there."""
    stage = Stage()
    stage.addresses = {"web1": (HOST,), "web2": (HOST,), "web3": (OTHER, SHARED)}
    stage.verdicts |= dict.fromkeys(("web2", "web3"), Verdict(PRESENT, Evidence.CONNECTED, OTHER, None))
    stage.own_addresses = (HOST, SHARED)
    stage.sample(900.0, (1, LOOPBACK), (3, OTHER))
    stage.publisher.known[1] = Delivery(dropped=True, queued=0, stalled=False)

    assert [None, None, True] == [stage.facts(minion).connected for minion in ("web1", "web2", "web3")]
    stage.addresses["web2"] = (SHARED, OTHER)  # claimed with web3: the loopback is web1's alone now
    assert stage.facts("web1").dropped
    assert not stage.facts("web3").dropped


# --- how it was delivered ---


def test_drop_is_one_of_every_connection() -> None:
    """A minion with two connections got the job if one of them did."""
    stage = Stage()
    for at in (900.0, 1055.0):
        stage.sample(at, (1, OWN), (2, OWN))
    stage.publisher.known[1] = Delivery(dropped=True, queued=3, stalled=False)
    assert (False, 0) == (stage.facts().dropped, stage.facts().queued)

    stage.publisher.known[2] = Delivery(dropped=True, queued=2, stalled=False)
    assert (True, 2) == (stage.facts().dropped, stage.facts().queued)
    assert {(1, OPENED), (2, OPENED)} == set(stage.publisher.asked)


def test_connection_that_lives_counts_before_one_that_ended() -> None:
    """Beside one that lives, a half-open connection that has ended meanwhile neither got the job nor ended it."""
    stage = Stage()
    stage.sample(900.0, (1, OWN), (2, OWN))
    stage.sample(1010.0, (2, OWN))
    stage.publisher.known[2] = Delivery(dropped=True, queued=4, stalled=False)

    facts = stage.facts()
    assert (True, 4) == (facts.dropped, facts.queued)
    assert (None, False) == (facts.ended, facts.back)


def test_drop_for_a_connection_that_ended_since() -> None:
    """What was dropped for a connection was dropped, also if it ended afterwards; what was queued is gone."""
    stage = Stage()
    stage.sample(900.0, (1, OWN))
    stage.sample(1010.0)
    stage.publisher.known[1] = Delivery(dropped=True, queued=4, stalled=False)

    facts = stage.facts()
    assert (True, 0, 10.0) == (facts.dropped, facts.queued, facts.ended)


@pytest.mark.parametrize(
    ("fields", "stalled", "expected"),
    [
        ({"send_queue": 70}, False, (0, 0)),  # under way
        ({"send_queue": 70}, True, (70, 0)),  # since the sample before
        ({"send_queue": 70, "retransmits": 1, "timer": RETRANSMISSION}, False, (0, 1)),
        ({"send_queue": 70, "retransmits": 2, "timer": RETRANSMISSION}, False, (70, 2)),
    ],
)
def test_bytes_in_the_kernel_count_when_they_are_stuck(
    stage: Stage, fields: dict[str, int], stalled: object, expected: tuple[int, int]
) -> None:
    """What is only on its way at that moment is delivered, as far as anybody can know."""
    stage.publisher.known[1] = Delivery(dropped=False, queued=0, stalled=bool(stalled))
    stage.sample(1058.0, (1, OWN), **fields)

    assert expected == (stage.facts().unsent, stage.facts().repeats)


def test_one_of_two_connections_that_takes_everything_is_enough() -> None:
    """Bytes stuck on one of two connections do not keep the job from a minion."""
    stage = Stage()
    for at in (900.0, 1055.0):
        rows = [_MADE._replace(cookie=1, peer=OWN, send_queue=70, retransmits=5, timer=RETRANSMISSION)]
        stage.subscriptions.observe([*rows, _MADE._replace(cookie=2, peer=OWN)], at)

    assert (0, 0) == (stage.facts().unsent, stage.facts().repeats)


@pytest.mark.parametrize(("second", "unsent"), [(False, 0), (True, 60)])
def test_bytes_under_way_on_one_of_two_connections_are_delivered(*, second: bool, unsent: int) -> None:
    """Only what is stuck on both connections keeps the job from a minion."""
    stage = Stage()
    for at in (900.0, 1055.0):
        rows = [_MADE._replace(cookie=1, peer=OWN, send_queue=70), _MADE._replace(cookie=2, peer=OWN, send_queue=60)]
        stage.subscriptions.observe(rows, at)
    stage.publisher.known = {
        1: Delivery(dropped=False, queued=0, stalled=True),
        2: Delivery(dropped=False, queued=0, stalled=second),
    }

    assert unsent == stage.facts().unsent


# --- how it ended ---


def test_connection_that_ended() -> None:
    """When it was gone, that it had taken everything, and for how long it had been silent then."""
    stage = Stage()
    stage.sample(900.0, (1, OWN))
    stage.sample(1038.0, (1, OWN), last_received_ms=30_000)
    stage.sample(1040.0)

    facts = stage.facts()
    assert (True, 40.0, False) == (facts.connected, facts.ended, facts.back)
    assert (True, 30.0) == (facts.delivered_before_end, facts.silent_before_end)
    assert (None, 0, 0) == (facts.heard, facts.unsent, facts.repeats)


def test_connection_that_ended_with_bytes_under_way() -> None:
    """What was not acknowledged when the connection was seen last was not delivered."""
    stage = Stage()
    stage.sample(900.0, (1, OWN), send_queue=1)
    stage.sample(1010.0)

    assert not stage.facts().delivered_before_end


def test_reconnect_is_told() -> None:
    """A minion that was connected, lost that, and is connected again: when the first ended, and that there is one."""
    stage = Stage()
    stage.sample(900.0, (1, OWN))
    stage.sample(1010.0, (2, OWN))

    facts = stage.facts()
    assert (True, 10.0, True) == (facts.connected, facts.ended, facts.back)
    assert facts.heard is None  # what the new one sent is of after the job


def test_last_end_of_several_counts() -> None:
    """With two connections the minion was there until the second ended."""
    stage = Stage()
    stage.sample(900.0, (1, OWN), (2, OWN))
    stage.sample(1010.0, (2, OWN), last_received_ms=1000)
    stage.sample(1020.0)

    assert (20.0, 1.0) == (stage.facts().ended, stage.facts().silent_before_end)


# --- signs of life ---


@pytest.mark.parametrize(("ago", "alive"), [(70.0, None), (60.0, None), (58.0, None), (57.9, 2.1), (0.0, 60.0)])
def test_sign_of_life_too_early_proves_nothing(stage: Stage, ago: float, alive: float | None) -> None:
    """An event from before the job, or within 2 seconds of it, may be older than what happened to the minion."""
    stage.see(ago)

    assert (None if alive is None else pytest.approx(alive)) == stage.facts().alive


def test_heard_is_the_last_byte_of_any_connection() -> None:
    """Of two connections the one that was heard of last tells."""
    stage = Stage()
    stage.subscriptions.observe([_MADE._replace(cookie=1, peer=OWN)], 900.0)
    rows = [_MADE._replace(cookie=1, peer=OWN, last_received_ms=70_000)]
    stage.subscriptions.observe([*rows, _MADE._replace(cookie=2, peer=OWN)], 990.0)
    second = _MADE._replace(cookie=2, peer=OWN, last_received_ms=5000)
    stage.subscriptions.observe([*rows, second], 1055.0)

    assert 50.0 == stage.facts().heard


def test_word_of_the_minion_is_timed_from_the_publication(stage: Stage) -> None:
    """Start event and answers to find_job, of this minion only."""
    stage.job.started = {"web1": 1000.5, "web2": 1001.0}
    stage.job.running = {"web1": 1015.0}
    stage.job.denied = {"web1": 1030.0}
    facts = stage.facts()

    assert (0.5, 15.0, 30.0) == (facts.started, facts.running, facts.denied)
    other = stage.facts("web2")
    assert (1.0, None, None) == (other.started, other.running, other.denied)


# --- a job of before a restart ---


@pytest.mark.parametrize(("absent", "connected"), [((), None), (("web2",), None), (("web1",), False)])
def test_job_of_before_a_restart_rests_on_what_was_remembered(absent: Collection[str], connected: object) -> None:
    """Who was connected before the first sample only the journal knows: who was not, and of the others nothing."""
    stage = Stage()
    stage.job.observed = False
    stage.sample(1010.0, (1, OWN))

    assert connected is stage.facts(absent=absent).connected


def test_what_was_remembered_is_for_jobs_of_before_the_first_sample(stage: Stage) -> None:
    """A job that was seen published is told by the samples."""
    assert stage.facts(absent=("web1",)).connected is True


def test_connection_that_ended_after_a_restart() -> None:
    """A connection that was there when the exporter came back, and then ended, has."""
    stage = Stage()
    stage.sample(1010.0, (1, OWN))
    stage.sample(1020.0)

    assert (None, 20.0) == (stage.facts().connected, stage.facts().ended)


def test_facts_of_a_minion_nobody_knows(stage: Stage) -> None:
    """A minion without verdict and addresses has facts all the same."""
    facts = stage.facts("stranger")

    assert Facts(accepted=False, closed=60.0, connected=False, silent_limit=22.5) == facts


def test_claims_may_lack_an_address(stage: Stage) -> None:
    """An address that nobody is known to claim is the minion's own."""
    claims: Mapping[bytes, tuple[str, ...]] = {}
    scene = Scene(
        *(CLOSED, WALL, ("web1",), stage.addresses, claims, (), stage.subscriptions, stage.publisher),
        *(Presence(stage.verdicts, 0, 0), {}, (), None),
    )

    assert scene.facts(stage.job, "web1", (), checked=True).connected is True
