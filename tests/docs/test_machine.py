"""A machine on which the documents' commands run has nothing of what the real machine is used for."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

import pytest

from salt_exporter.demo.cleaner import Cleaner
from tests.docs import machine
from tests.docs.machine import Machine
from tests.real.namespaces import Network, delete_leftovers
from tests.real.newest import INSTALLED, NEWEST_INSTALLED

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOREIGN: Final = (
    *("/etc/salt", "/etc/salt-exporter", "/etc/prometheus", "/etc/default/salt*", "/etc/init.d/salt*"),
    *("/var/lib/salt*", "/var/lib/prometheus", "/var/cache/salt", "/var/log/salt", "/run/salt"),
    *("/srv/*", "/home/*", "/opt/salt-exporter", "/usr/local/*/*", "/usr/bin/salt*", "/root/.??*"),
    *("/etc/systemd/system/*salt*", "/etc/systemd/system/*prometheus*", "/lib/systemd/system/*salt*"),
)

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(machine.missing() != "", reason=machine.missing()),
    pytest.mark.skipif(not INSTALLED, reason="no Salt in .salt/<line>/bin and none named by SALT_EXPORTER_TEST_SALTS"),
]


@pytest.fixture(scope="module")
def fresh() -> Iterator[Machine]:
    """Yield a machine on which nothing has been done."""
    delete_leftovers()
    salt = INSTALLED[NEWEST_INSTALLED].parent
    with closing(Network("fresh-")) as network, closing(Cleaner()) as cleaner:
        network.add("fresh", "192.0.2.10/24")
        with closing(Machine(cleaner, network, "fresh", "fresh", salt)) as fresh:
            yield fresh


def test_a_machine_has_nothing_of_the_real_one_but_software(fresh: Machine) -> None:
    """No settings, state, units or homes of the real machine are there, nor what its packages of Salt brought."""
    assert "" == fresh.run(f"ls -d {' '.join(_FOREIGN)} 2>/dev/null").output
    assert "/opt/packages\n/opt/python\n/opt/saltstack\n/opt/source\n" == fresh.run("ls -d /opt/*").output
    assert "" == fresh.run("getent passwd salt; getent group salt; ss -Hltn").output
    assert "/dev/shm:\n\n/tmp:\n" == fresh.run("ls -A /dev/shm /tmp").output


def test_a_machine_has_salt_and_the_exporter_to_install(fresh: Machine) -> None:
    """Both can be run by any user."""
    as_nobody = "runuser -u nobody --"
    salt = "/opt/saltstack/salt/bin/python3 -c 'import salt.version; print(salt.version.__version__)'"
    exporter = "env PYTHONPATH=/opt/source:/opt/packages /opt/python/bin/python3 -m salt_exporter --version"
    assert fresh.must(f"{as_nobody} {salt}").startswith(NEWEST_INSTALLED)
    assert fresh.must(f"{as_nobody} {exporter}").startswith("salt-exporter ")
