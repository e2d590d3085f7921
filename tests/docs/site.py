"""The site that the documents' commands are run on: a master, three minions, and what watches the master.

Installed as the documents say: Salt and its units as its packages have them, the exporter in /opt/salt-exporter with
the unit of this repository, Prometheus and Alertmanager with the rules of this repository.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import yaml

from salt_exporter.demo.salt_config import _MINION as QUICK_MINION
from tests.docs.machine import WATCHERS, Machine
from tests.real.conftest import GHOST_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from salt_exporter.demo.cleaner import Cleaner
    from tests.docs.machine import Done
    from tests.real.namespaces import Network

_ROOT: Final = Path(__file__).parents[2]

_JID: Final = re.compile(r"\b20\d{18}\b")

# Addresses for documentation (RFC 5737), and every name that a document calls one of these machines.
_MASTER_ADDRESS: Final = "192.0.2.10"
_MINIONS: Final = {"web1": "192.0.2.21", "web2": "192.0.2.22", "web3": "192.0.2.23"}
_STAND_INS: Final = {"": "master", "new-host": "web3"}  # whose prompts there are but no machine
MACHINES: Final = ("master", *_MINIONS, *_STAND_INS)
_MASTER_NAMES: Final = ("master", "master.example.org", "salt", "prometheus", "prometheus.example.org", "alertmanager")

_SALT_MASTER: Final = {
    "user": "salt",
    "autosign_file": "/etc/salt/autosign.conf",
    "worker_threads": 3,
    "pub_hwm": 40,
    "salt_event_pub_hwm": 128000,
    "zmq_heartbeat_ivl": 2000,  # milliseconds: a frozen minion is soon known to be one,
    "zmq_heartbeat_timeout": 300_000,  # and stays connected until all commands have been run
    "timeout": 2,
    "gather_job_timeout": 2,
}
# What an operator need not wait for here; what it bounds is the same. `test.arg` are the large jobs: how long they take
# on a busy machine is nobody's loss.
_EXPORTER: Final = {
    "sampler": {"interval": "1s"},
    "presence": {"refresh": "1s"},
    "jobs": {"deadline": "6s", "deadlines": "test.sleep=10m,test.arg=10m"},
    "probe": {"request-interval": "1s", "request-timeout": "1s"},
}
_PROMETHEUS: Final = {
    "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
    "rule_files": ["/opt/source/alerts/salt.rules.yml", "/etc/prometheus/rules.d/*.yml"],
    "alerting": {"alertmanagers": [{"static_configs": [{"targets": ["localhost:9093"]}]}]},
    "scrape_configs": [{"job_name": "salt", "static_configs": [{"targets": ["master.example.org:4507"]}]}],
}

# As in Salt's packages (pkg/common/*.service of its repository), but for the user: see docs/operating.md, Permissions.
_MASTER_UNIT: Final = """\
[Unit]
Description=The Salt Master Server
After=network.target

[Service]
LimitNOFILE=100000
Type=notify
NotifyAccess=all
User=salt
ExecStart=/usr/bin/salt-master
"""
_MINION_UNIT: Final = """\
[Unit]
Description=The Salt Minion
After=network.target salt-master.service

[Service]
KillMode=process
Type=notify
NotifyAccess=all
LimitNOFILE=8192
ExecStart=/usr/bin/salt-minion
"""

# Named as Debian's packages name them.
_WATCHER_UNIT: Final = """\
[Service]
WorkingDirectory=/opt/source
ExecStart={name} {arguments}
ExecReload=/bin/kill -HUP $MAINPID
"""
_WATCHERS: Final = {
    "prometheus": "--config.file=/etc/prometheus/prometheus.yml --storage.tsdb.path=/tmp/tsdb",
    "prometheus-alertmanager": "--config.file=alerts/alertmanager-example.yml --storage.path=/tmp/alertmanager "
    "--cluster.listen-address=",
}

# In /usr/bin, as packages have them, and run by the Python that every user reaches.
_PROGRAMS_OF_SALT: Final = """\
cd /opt/saltstack/salt/bin
for program in salt salt-*; do
    { echo '#!/opt/saltstack/salt/bin/python3'; sed 1d $program; } >/usr/bin/$program
    chmod 755 /usr/bin/$program
done
"""
_START_EXPORTER: Final = """\
chmod 755 /opt/salt-exporter/bin/salt-exporter
ln -s /opt/salt-exporter/bin/salt-exporter /usr/local/bin/
cp deploy/systemd/salt-exporter.service /etc/systemd/system/
systemctl daemon-reload && systemctl start salt-exporter
"""

_EXPORTER_PROGRAM: Final = """\
#!/opt/salt-exporter/bin/python3
import sys

from salt_exporter.cli import main
sys.exit(main())
"""
# Listens to the event bus and never reads.
_SLEEPY: Final = """\
import socket, sys, time
bus = socket.socket(socket.AF_UNIX)
bus.connect(sys.argv[1])
time.sleep(100000)
"""


class Job(NamedTuple):
    """A job, or several of the same kind."""

    targets: Sequence[str]
    function: str
    arguments: Sequence[object] = ()
    times: int = 1


def large_jobs(times: int, size: int) -> Job:
    """Return jobs of a size for the minion that is always there."""
    return Job(["web3"], "test.arg", ["x" * size], times)


class Site:
    """The machines, and what can be done to them."""

    def __init__(self, cleaner: Cleaner, network: Network, salt: Path) -> None:
        self.machines: dict[str, Machine] = {}
        self.jid = ""  # what job ids in the documents stand for
        try:
            self._set_up(cleaner, network, salt)
        except BaseException:
            self.close()
            raise

    def _set_up(self, cleaner: Cleaner, network: Network, salt: Path) -> None:
        for node, address in {"master": _MASTER_ADDRESS, **_MINIONS}.items():
            network.add(node, f"{address}/24")
            network.limit_buffers(node, 64 << 10)  # so that it takes little to fill ZeroMQ's queues
            self.machines[node] = Machine(cleaner, network, node, node, salt)
        self.master = self.machines["master"]
        for machine in self.machines.values():
            _install_salt(machine)
        self._start_master()
        for minion in _MINIONS:
            self._start_minion(minion)
        _install_exporter(self.master)
        _install_prometheus(self.master)
        self.wait_minions(*_MINIONS)
        self.wait_metric("every minion is present", f'salt_presence_minions{{state="present"}} {len(_MINIONS)}.0')

    def _start_master(self) -> None:
        master = self.master
        master.must("useradd --system --home-dir /opt/saltstack/salt --shell /usr/sbin/nologin salt")
        master.write("/etc/salt/master", yaml.safe_dump(_SALT_MASTER))
        master.write("/etc/salt/autosign.conf", "\n".join(_MINIONS))
        master.write("/etc/salt/pki/master/minions_pre/new-host", GHOST_KEY)
        master.write("/lib/systemd/system/salt-master.service", _MASTER_UNIT)
        folders = "/etc/salt/master.d /etc/salt/pki /var/cache/salt/master /var/log/salt /run/salt /srv/salt"
        master.must(f"mkdir -p {folders} && chown -R salt:salt {folders} /etc/salt")
        master.must("systemctl daemon-reload && systemctl start salt-master")

    def _start_minion(self, minion: str) -> None:
        machine = self.machines[minion]
        machine.write("/etc/salt/minion", yaml.safe_dump({"master": "salt", "id": minion, **QUICK_MINION}))
        machine.write("/lib/systemd/system/salt-minion.service", _MINION_UNIT)
        machine.must("mkdir -p /etc/salt/minion.d /var/log/salt && systemctl daemon-reload")
        machine.must("systemctl start --no-block salt-minion")

    def run(self, machine: str, command: str) -> Done:
        """Run a command of a document: the id of a job that it names is that of a job that really was."""
        return self.machines[_STAND_INS.get(machine, machine)].run(_JID.sub(self.jid, command))

    def wait_minions(self, *minions: str) -> None:
        """Wait until all of these answer: on a busy machine a hundred large jobs are not done in a minute."""
        ping = f"salt --out=txt -L {','.join(minions)} test.ping | sed -n 's/: True//p'"
        self.wait(f"{minions} answer", lambda: set(self.master.run(ping).output.split()) == set(minions), 180)

    def metrics(self) -> str:
        """Return a scrape."""
        return self.master.must("curl -sS http://localhost:4507/metrics")

    def losses(self, arguments: str = "") -> str:
        """Return what the journal holds."""
        return self.master.must(f"salt-exporter losses {arguments}")

    def publish(self, *jobs: Job) -> list[str]:
        """Publish jobs that nobody waits for and return their ids."""
        arguments = " ".join(shlex.quote(json.dumps(job)) for job in jobs)
        said = self.master.must(f"/opt/saltstack/salt/bin/python3 tests/docs/publish.py {arguments}")
        return said.split()

    def start_sleepy_consumer(self) -> None:
        """Connect a program to the event bus that does not read it."""
        self.master.write("/root/sleepy.py", _SLEEPY)
        self.master.must("systemd-run --unit=sleepy python3 /root/sleepy.py /var/run/salt/master/master_event_pub.ipc")

    def wait_metric(self, what: str, line: str, timeout: float = 30) -> None:
        """Wait until a scrape has a line."""
        self.wait(what, lambda: line in self.metrics(), timeout)

    def wait(self, what: str, condition: Callable[[], bool], timeout: float = 60) -> None:
        """Wait for something; AssertionError with the logs of the services if it does not come."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                said = self.master.run("journalctl -u salt-master -u salt-exporter --no-pager -n 60").output
                raise AssertionError(f"not after {timeout:.0f} s: {what}\n{said}")
            time.sleep(0.3)

    def close(self) -> None:
        """End all machines."""
        for machine in self.machines.values():
            machine.close()


def _install_salt(machine: Machine) -> None:
    hosts = {"127.0.0.1": "localhost", _MASTER_ADDRESS: " ".join(_MASTER_NAMES)}
    hosts |= {address: name for name, address in _MINIONS.items()}
    machine.write("/etc/hosts", "".join(f"{address} {names}\n" for address, names in hosts.items()))
    machine.must(_PROGRAMS_OF_SALT)


def _install_exporter(machine: Machine) -> None:
    packages = Path(sysconfig.get_path("purelib"))
    machine.must("/opt/python/bin/python3 -m venv --without-pip /opt/salt-exporter")
    machine.write(
        f"/opt/salt-exporter/lib/{packages.parent.name}/site-packages/source.pth", "/opt/source\n/opt/packages\n"
    )
    machine.write("/opt/salt-exporter/bin/salt-exporter", _EXPORTER_PROGRAM)
    machine.write("/etc/salt-exporter/config.yml", yaml.safe_dump(_EXPORTER))
    machine.must(_START_EXPORTER)


def _install_prometheus(machine: Machine) -> None:
    for program in WATCHERS:
        path = Path(shutil.which(program) or "")  # there are such machines only where all of them are installed
        if path.is_relative_to(_ROOT):
            machine.must(f"ln -s /opt/source/{path.relative_to(_ROOT)} /usr/local/bin/{program}")
        elif path.parent != Path("/usr/bin"):
            machine.copy(path, f"/usr/local/bin/{program}")
    machine.write("/etc/prometheus/prometheus.yml", yaml.safe_dump(_PROMETHEUS))
    for name, arguments in _WATCHERS.items():
        machine.write(f"/etc/systemd/system/{name}.service", _WATCHER_UNIT.format(name=name, arguments=arguments))
    machine.must(f"systemctl daemon-reload && systemctl start {' '.join(_WATCHERS)}")
