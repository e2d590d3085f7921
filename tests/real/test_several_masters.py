"""Several masters: minions of two of them, cut off from one and stopped for good.

What holds for several masters alone is tested with one line of Salt, for it is the rules and the exporter that matter.
"""

from __future__ import annotations

import shutil
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.real.masters import Masters, Prometheus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.real.conftest import SaltLine
    from tests.real.masters import Master
    from tests.real.namespaces import Network

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(400),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus on the PATH"),
]

_ADDRESSES = {"north": "10.79.0.1", "south": "10.79.0.2", "both": "10.79.0.11", "lone": "10.79.0.12"}
# So that a connection which nobody answers on any more is noticed and closed within seconds.
_HEARTBEATS = {"zmq_heartbeat_ivl": 1000, "zmq_heartbeat_timeout": 3000}


class Fleet:
    """Two masters, minion "both" connected to each of them, minion "lone" to the northern one, which alone knows it."""

    def __init__(self, north: Master, south: Master, folder: Path, network: Network) -> None:
        self.north = north
        self.south = south
        exporters = [one.exporter(folder, "--presence.all-minions") for one in (north, south)]
        self.prometheus = Prometheus(exporters[0], north, [north, south], folder)
        self._network = network

    def wait_present(self, **expected: tuple[Master, ...]) -> None:
        """Wait until Prometheus knows of each minion that it is present at these masters, and absent from the rest."""
        wanted = {minion: {master.instance for master in masters} for minion, masters in expected.items()}
        self.prometheus.wait(lambda: self._present() == wanted, f"{wanted}")

    def _present(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for one in self.prometheus.query("salt_presence_minion_not_present"):
            there = found.setdefault(one["metric"]["minion"], set())
            if one["value"][1] == "0":
                there.add(one["metric"]["instance"])
        return found

    def gone(self) -> set[str]:
        """Return the minions that are gone as far as Prometheus knows."""
        return self.prometheus.firing("SaltMinionGone", "minion")

    def restore(self, minion: str) -> None:
        """Undo `cut_off`."""
        self._network.unblock_ports(minion)

    def cut_off(self, minion: str, master: Master) -> None:
        """Let nothing that a minion sends reach a master's publish port."""
        self._network.block_port(minion, 4505, master.address)


@pytest.fixture(scope="module")
def fleet(network: Network, salt_line: SaltLine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Yield the fleet with every minion connected."""
    if salt_line.name != "3008":
        pytest.skip("runs with Salt 3008 alone")
    folder = tmp_path_factory.mktemp("masters")
    with closing(Masters(network, salt_line, _ADDRESSES)) as masters:
        north, south = (masters.master(node, _HEARTBEATS) for node in ("north", "south"))
        _give_key_pair(north, south)
        for master in (north, south):
            master.lab.start_master()
        for master in (north, south):
            master.lab.wait_master_ready()
        south.accept("both")
        for minion, hosts in {"both": [north.address, south.address], "lone": [north.address]}.items():
            north.lab.start_minion(minion, {"master": hosts}, network.prefix(minion))
        scene = Fleet(north, south, folder, network)
        scene.wait_present(both=(north, south), lone=(north,))
        yield scene


def _give_key_pair(*masters: Master) -> None:
    """Give masters the same key pair: a minion of several trusts only one (Salt, "Multi Master Tutorial")."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for master in masters:
        pki = master.lab.folder / "pki"
        pki.mkdir(mode=0o700)
        for name, content in (("master.pem", private), ("master.pub", public)):
            (pki / name).write_bytes(content)
            (pki / name).chmod(0o400)


def test_minion_cut_off_from_one_master(fleet: Fleet) -> None:
    """It is not present at that master and told of there; gone it is not, for the other one has it."""
    assert set() == fleet.prometheus.firing("SaltMinionNotPresent", "minion")
    fleet.cut_off("both", fleet.south)
    try:
        fleet.wait_present(both=(fleet.north,), lone=(fleet.north,))
        fleet.prometheus.wait(
            lambda: {fleet.south.instance} == fleet.prometheus.firing("SaltMinionNotPresent", "instance"), "it is told"
        )
        time.sleep(3)  # as long as all rules take
        assert set() == fleet.gone()
    finally:
        fleet.restore("both")
    fleet.wait_present(both=(fleet.north, fleet.south), lone=(fleet.north,))


def test_minions_that_stop(fleet: Fleet) -> None:
    """A minion that stops is gone, be it of both masters or of one alone, which the other does not know."""
    fleet.north.lab.stop("lone")
    fleet.wait_present(both=(fleet.north, fleet.south), lone=())
    fleet.prometheus.wait(lambda: {"lone"} == fleet.gone(), "lone is gone")

    fleet.north.lab.stop("both")
    fleet.wait_present(both=(), lone=())
    fleet.prometheus.wait(lambda: {"both", "lone"} == fleet.gone(), "both are gone")
    masters = fleet.prometheus.query("job_minion:salt_presence_minion_gone:masters")
    assert {"both": "2", "lone": "1"} == {one["metric"]["minion"]: one["value"][1] for one in masters}
