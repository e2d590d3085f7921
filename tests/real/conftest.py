"""Real Salt for the tests: which lines of it are installed, and a master with minions in network namespaces.

`SALT_EXPORTER_TEST_SALTS` names installations as `line=folder of the programs`, separated by colons
(`3006=/x/bin:3007=/y/bin`). Without it they are looked for in `.salt/<line>/bin` of this repository.
"""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from salt_exporter.demo.cleaner import Cleaner
from salt_exporter.demo.lab import Lab
from salt_exporter.demo.programs import SaltPrograms
from tests.real import arena
from tests.real.arena import Arena
from tests.real.exporter import Exporter
from tests.real.namespaces import Network, delete_leftovers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ROOT = Path(__file__).parents[2]

_MASTER_ADDRESSES = ("10.77.0.1", "fd77::1")

# The minions of `lab`, in the order in which they are started.
_MINION_ADDRESSES: Mapping[str, tuple[str, ...]] = {
    "web1": ("10.77.0.11",),
    "web2": ("10.77.0.12",),
    "dual": ("10.77.0.13", "10.77.0.14"),
    "six": ("fd77::15",),
    "cut": ("10.77.0.16",),
}

# A key that nobody has the private half of.
GHOST_KEY = """\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAod8mT7QE9GByOM8ePYpQ
+0NOdDHFNf+nPHd43dlgldvsyEbpSlSCRu2fVS1KjXLKk38GO8gXNjvLejtOuxO0
KF/1ujckKluX5N+cM5U7CGg8eqe8+bGpEsIwBw16wlbR+l2Kqq0froBj3Wjf7JYs
HE2Z0IUcUvcB6VQNIF3p3KgWu5rM93r1NjGDAmDtjFXAWo6pZdzt10Fz6O7+SSE4
pgqL/Yx2tmzj8a1uWY2NBPtyV3tuS2ONC0+mJeb8HRl9g/M/5DeueJ8EhLW8UF+c
xe9dCzGer/eA00exF6lz+xunwyjnw/XDk+vbOEAegav6BYQhNvak6M03tq4w6PMa
8wIDAQAB
-----END PUBLIC KEY-----
"""


class SaltLine(NamedTuple):
    """A line of Salt, such as 3006, and an installation of it."""

    name: str
    programs: SaltPrograms


def _installed() -> dict[str, Path]:
    named = os.environ.get("SALT_EXPORTER_TEST_SALTS")
    if named is None:
        return {folder.parent.name: folder for folder in sorted(_ROOT.glob(".salt/*/bin"))}
    pairs = (item.partition("=") for item in named.split(":") if item)
    return {line: Path(folder) for line, _, folder in pairs}


_NEWEST = max(_installed(), default="")


def _params() -> list[Any]:
    lines = [pytest.param(item, id=item[0]) for item in _installed().items()]
    reason = "no Salt in .salt/<line>/bin and none named by SALT_EXPORTER_TEST_SALTS"
    return lines or [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]


@pytest.fixture(scope="session", params=_params())
def salt_line(request: pytest.FixtureRequest) -> SaltLine:
    """Return each installed line of Salt in turn."""
    name, folder = request.param
    return SaltLine(name, SaltPrograms(folder))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what runs with the newest line alone before anything is started for it."""
    marker = item.get_closest_marker("newest_line_only")
    params = item.callspec.params if hasattr(item, "callspec") else {}
    if marker and "salt_line" in params and params["salt_line"][0] != _NEWEST:
        pytest.skip(f"runs with Salt {_NEWEST} alone: {marker.args[0]}")


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End a shared master with the last of the tests in a row that share it: idle, it still takes processor time."""
    for name in {"lab", "arena"} & _fixtures(item) - _fixtures(nextitem):
        for fixture in item.session._fixturemanager.getfixturedefs(name, item) or ():
            fixture.finish(item._request)  # type: ignore[attr-defined] # of every function that is a test


def _fixtures(item: pytest.Item | None) -> set[str]:
    return set(getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    """Yield the network with the nodes "master" and those of the minions of `lab`."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    delete_leftovers()
    with closing(Network()) as network:
        network.add("master", *map(_with_prefix_length, _MASTER_ADDRESSES))
        for minion, addresses in _MINION_ADDRESSES.items():
            network.add(minion, *map(_with_prefix_length, addresses))
        yield network


@pytest.fixture(scope="session")
def lab(salt_line: SaltLine, network: Network) -> Iterator[Lab]:
    """Yield a master with minions that answer, one in each namespace, and an accepted key of a minion "ghost".

    Shared by all tests of a line: a test that stops a minion or cuts a link brings it back. The master
    listens on both families with one socket, hence IPv4 minions are seen with IPv4-mapped addresses.
    Other programs run in the master's namespace with `lab.start(…, prefix=network.prefix("master"))`.
    """
    options = {
        "interface": "::",
        "ipv6": True,
        "timeout": 3,  # seconds until `salt` asks after a missing minion
        "gather_job_timeout": 3,  # and from then until it gives up
        # A connection that does not answer is closed after 14 seconds instead of 40; Salt 3007 has no heartbeats.
        "zmq_heartbeat_ivl": 2000,
        "zmq_heartbeat_timeout": 12_000,
    }
    with closing(Cleaner()) as cleaner:
        lab = Lab(cleaner, salt_line.programs, options=options, prefix=network.prefix("master"))
        lab.accept_key("ghost", GHOST_KEY)
        lab.start_master()
        lab.wait_master_ready()
        for minion, (address, *_) in _MINION_ADDRESSES.items():
            ipv6 = ":" in address
            lab.start_minion(minion, {"ipv6": ipv6}, network.prefix(minion), _MASTER_ADDRESSES[ipv6])
        lab.wait_minions(_MINION_ADDRESSES)
        yield lab


@pytest.fixture(scope="session")
def arena_network(network: Network) -> Network:
    """Return the network with nodes for the arena."""
    network.add("arena", f"{arena.MASTER}/24")
    for number, minion in enumerate((*arena.MINIONS, *arena.MORE_MINIONS), 11):
        network.add(minion, f"10.78.0.{number}/24")
    for node in ("arena", *arena.MINIONS, *arena.MORE_MINIONS):
        network.limit_buffers(node, 64 << 10)  # so that it takes little to fill ZeroMQ's queues
    return network


@pytest.fixture(scope="session", name="arena")
def _arena(salt_line: SaltLine, arena_network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """Yield the arena; heartbeats follow one another quickly so that nobody waits for them."""
    options = {"interface": arena.MASTER, "timeout": 2, "gather_job_timeout": 2}
    options |= {"pub_hwm": arena.HWM, "zmq_heartbeat_ivl": 2000}
    with closing(Cleaner()) as cleaner:
        lab = Lab(cleaner, salt_line.programs, options=options, prefix=arena_network.prefix("arena"))
        lab.accept_key("ghost", GHOST_KEY)
        lab.start_master()
        lab.wait_master_ready()
        for minion in arena.MINIONS:
            lab.start_minion(minion, {}, arena_network.prefix(minion), arena.MASTER)
        lab.wait_minions(arena.MINIONS)
        with closing(Arena(lab, arena_network, tmp_path_factory.mktemp("state"))) as scene:
            yield scene


def _with_prefix_length(address: str) -> str:
    return f"{address}/{64 if ':' in address else 24}"


@pytest.fixture(scope="session")
def exporter(lab: Lab, network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    """Yield the exporter, running beside the master of `lab`."""
    exporter = Exporter(lab, network.prefix("master"), tmp_path_factory.mktemp("state"))
    yield exporter
    exporter.stop()
