"""The image, built with the Dockerfile and run beside a real master with the command that the Dockerfile gives."""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import bcrypt
import pytest

from salt_exporter.demo.cleaner import Cleaner
from salt_exporter.demo.lab import Lab
from salt_exporter.demo.programs import SaltPrograms
from salt_exporter.demo.salt_config import living_at
from tests.packaging import containers
from tests.packaging.containers import IMAGE, ROOT, run
from tests.real.exporter import Metrics
from tests.unit.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(bool(containers.lacking()), reason=containers.lacking()),
    pytest.mark.timeout(1200),  # the image is built within the first test's time
]

_USER: Final = pwd.getpwnam("daemon")  # any but root; the master runs as it
_MINIONS: Final = {"web1": "127.0.0.11", "web2": "127.0.0.12"}
_GET: Final = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())"
_PATIENCE: Final = 120.0  # seconds; machines may be busy
_QUICK: Final = ("--jobs.deadline=4s", "--jobs.deadlines=")


@pytest.fixture(scope="module")
def image() -> Iterator[dict[str, Any]]:
    """Yield the configuration of the image, built anew; everything of it is in memory where that can be."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="salt-exporter-image-", dir=memory if os.access(memory, os.W_OK) else None))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in containers.environment(folder).items():
            patch.setenv(name, value)
        try:
            containers.build(folder)
            patch.delenv("TMPDIR")
            yield json.loads(run("buildah", "inspect", "--type=image", IMAGE))["Docker"]["config"]
        finally:
            subprocess.run(["podman", "rm", "--all", "--force"], check=False, capture_output=True)
            subprocess.run(["buildah", "rm", "--all"], check=False, capture_output=True)
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def namespace() -> Iterator[tuple[str, ...]]:
    """Yield what to put before a command to run it in a network of its own: nothing but loopback.

    nsenter and not `ip netns exec`, which would hide the cgroups that containers are put into.
    """
    name = f"salt-exporter-{os.getpid()}-image"
    run("ip", "netns", "add", name)
    run("ip", "-n", name, "link", "set", "lo", "up")
    yield "nsenter", f"--net=/run/netns/{name}"
    run("ip", "netns", "delete", name)


@pytest.fixture(scope="module")
def lab(namespace: tuple[str, ...]) -> Iterator[Lab]:
    """Yield a master that runs as a user of its own, with two minions that answer and one that does not exist."""
    # The Python of the tests may be in a folder of root's. To read there is all that this capability adds.
    may_read = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    user = ("setpriv", f"--reuid={_USER.pw_uid}", f"--regid={_USER.pw_gid}", "--clear-groups", *may_read)
    with closing(Cleaner()) as cleaner:
        cleaner.folder.chmod(0o755)
        options = {"user": _USER.pw_name, "timeout": 2, "gather_job_timeout": 2}
        lab = Lab(cleaner, SaltPrograms.find(), options=options, prefix=(*namespace, *user))
        lab.accept_key("ghost", "nobody has the other half")
        run("chown", "--recursive", f"{_USER.pw_uid}:{_USER.pw_gid}", str(lab.folder))
        lab.start_master()
        lab.wait_master_ready(_PATIENCE)
        for minion, address in _MINIONS.items():
            lab.start_minion(minion, living_at(address), namespace)
        lab.wait_minions(_MINIONS, _PATIENCE)
        yield lab


def documented(lab: Lab, state: Path) -> list[str]:
    """Return the flags of `docker run` in the Dockerfile's head, for the folders and the user of this master."""
    head = re.sub(r"^# ?", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    (command,) = re.findall(r"docker run ((?:.*\\\n)*.*)\n", head)
    *flags, image = shlex.split(command.replace("\\\n", ""))
    assert image == "salt-exporter"
    theirs = {
        "/etc/salt": lab.config_dir,
        "/var/cache/salt/master": lab.folder / "cache",
        "/var/run/salt/master": lab.folder / "run",
    }
    ours = {f"{path}:{path}:ro": f"{folder}:{folder}:ro" for path, folder in theirs.items()}
    ours |= {
        "/var/lib/salt-exporter:/var/lib/salt-exporter": f"{state}:/var/lib/salt-exporter",
        "$(id -u salt):$(id -g salt)": f"{_USER.pw_uid}:{_USER.pw_gid}",
    }
    assert ours.keys() <= set(flags)
    # This master has its pki_dir beside, not inside its configuration.
    return [ours.get(flag, flag) for flag in flags] + ["--volume", f"{lab.folder}/pki:{lab.folder}/pki:ro"]


class Container:
    """The exporter in a container beside the master of a lab."""

    def __init__(self, lab: Lab, namespace: tuple[str, ...], name: str) -> None:
        self.name = name
        self._lab = lab
        self._namespace = namespace

    def podman(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run podman in the network of the master."""
        argv = [*self._namespace, "podman", *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)

    def is_healthy(self) -> bool:
        """Tell what the health check of the image finds."""
        return self.podman("healthcheck", "run", self.name).returncode == 0

    def get(self, path: str) -> str:
        """Return a page of one that listens on 4507 without TLS."""
        argv = [*self._namespace, sys.executable, "-c", _GET, f"http://127.0.0.1:4507{path}"]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout

    def wait(self, condition: str, timeout: float = _PATIENCE) -> Metrics:
        """Scrape until a line is there that matches the condition."""
        deadline = time.monotonic() + timeout
        while not re.search(condition, text := self.get("/metrics"), re.MULTILINE):
            assert time.monotonic() < deadline, f"no {condition}\n{text}\n{self._lab.log(self.name).read_text()}"
            time.sleep(0.5)
        return Metrics(text)


@contextmanager
def running(lab: Lab, namespace: tuple[str, ...], name: str, flags: list[str], *arguments: str) -> Iterator[Container]:
    """Run a container until it is healthy, and during the block."""
    argv = ["podman", "run", "--name", name, *flags, IMAGE, f"--salt.config-dir={lab.config_dir}", *arguments]
    lab.start(name, argv, namespace)
    container = Container(lab, namespace, name)
    lab.wait(name, container.is_healthy, _PATIENCE)
    yield container
    assert container.podman("stop", "--time=15", name).returncode == 0


@pytest.fixture(scope="module")
def exporter(
    image: dict[str, Any], lab: Lab, namespace: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Container]:
    """Yield the exporter as the Dockerfile's head says to run it."""
    assert image
    state = tmp_path_factory.mktemp("state")
    os.chown(state, _USER.pw_uid, _USER.pw_gid)
    with running(lab, namespace, "exporter", documented(lab, state), *_QUICK) as container:
        yield container
    assert {"journal.sqlite", "settings.json"} <= {file.name for file in state.iterdir()}


def test_the_image_says_how_to_run_it(image: dict[str, Any]) -> None:
    """The image runs the exporter, as a user without rights, on its port, and has a health check and labels."""
    assert ["salt-exporter"] == image["Entrypoint"]
    assert "65532:65532" == image["User"]
    assert {"4507/tcp"} == image["ExposedPorts"].keys()
    assert ["CMD", "python", "/opt/salt-exporter/healthcheck.py"] == image["Healthcheck"]["Test"]
    assert "Apache-2.0" == image["Labels"]["org.opencontainers.image.licenses"]


def test_the_container_sees_the_master(exporter: Container, lab: Lab) -> None:
    """With the documented mounts, read-only, as the master's user, all collectors see what is true of the master."""
    exporter.wait('^salt_presence_minions{state="present"} 2')
    lab.salt("*", "test.ping")
    metrics = exporter.wait(r'^salt_jobs_closed_total{function="test\.ping",outcome="incomplete"} 1')

    assert {1.0} == set(metrics.by("salt_exporter_collector_success", "collector").values())
    assert 1 == metrics.get("salt_master_up")
    assert 3 == metrics.get("salt_keys", state="accepted")
    assert 1 == metrics.get("salt_presence_minion_not_present", minion="ghost")
    assert 2 == metrics.get("salt_connections_peers", channel="publish")
    assert 1 == metrics.get("salt_exporter_eventbus_connected")
    assert 1 == metrics.get("salt_exporter_journal_persistent")
    assert 3 == metrics.get("salt_processes", role="request_worker")
    assert 3 == metrics.get("salt_jobs_closed_expected_responses_total", function="test.ping")
    assert 2 == metrics.get("salt_jobs_closed_received_responses_total", function="test.ping")


def test_the_commands_work_in_the_container(exporter: Container, lab: Lab) -> None:
    """`salt-exporter minions` can be run in the container that runs already."""
    said = exporter.podman(
        *("exec", exporter.name, "salt-exporter", "minions", "--absent", "--json"),
        f"--salt.config-dir={lab.config_dir}",
    )

    assert {"ghost"} == json.loads(said.stdout).keys()


def test_a_hung_exporter_is_unhealthy(exporter: Container) -> None:
    """The health check fails while the exporter is stopped."""
    (pid,) = (int(word) for word in exporter.podman("inspect", "--format={{.State.Pid}}", exporter.name).stdout.split())
    os.kill(pid, signal.SIGSTOP)
    try:
        assert not exporter.is_healthy()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert exporter.is_healthy()


def test_a_guarded_exporter_elsewhere_is_healthy(
    exporter: Container, lab: Lab, namespace: tuple[str, ...], tmp_path: Path
) -> None:
    """The health check follows SALT_EXPORTER_WEB_LISTEN_ADDRESS and gets along with TLS, client certificates and users.

    With --pid host it sees the other container's exporter too, and is not misled by it.
    """
    assert exporter.is_healthy()
    authority = Authority(tmp_path / "tls")
    cert_file, key_file = authority.issue("exporter")
    secret = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    web_config = authority.folder / "web.yml"
    web_config.write_text(
        f"tls_server_config: {{cert_file: {cert_file}, key_file: {key_file}, client_ca_file: {authority.file},"
        f" client_auth_type: RequireAndVerifyClientCert}}\nbasic_auth_users: {{prometheus: {secret}}}\n"
    )
    run("chown", "--recursive", f"{_USER.pw_uid}:{_USER.pw_gid}", str(tmp_path))
    flags = [*documented(lab, tmp_path), "--env", "SALT_EXPORTER_WEB_LISTEN_ADDRESS=:4599"]
    flags += ["--volume", f"{authority.folder}:{authority.folder}:ro"]

    with running(lab, namespace, "guarded", flags, f"--web.config.file={web_config}") as container:
        assert "listening on https://0.0.0.0:4599/metrics" in container.podman("logs", "guarded").stderr
