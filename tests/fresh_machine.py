"""Whether README's two commands work on a machine that has never seen this project: `python3 -m tests.fresh_machine`.

Makes a minimal Debian 12 in a folder, enters it with namespaces of its own, and there calls `./setup run` and
`./setup test` in a clone of this repository (what is not committed is not in it): as root, and in another one as an
ordinary user. The network is the host's, for the package registries must be reached: while this runs, port 4507 must be
free, for `--poisoned` also 4505, 4506, 9090 and 9093. Arguments after `--` go to `./setup test`. Needs root, mmdebstrap
and git, but nothing of the project. Ends with a table, and status 0 if everything was green.
"""

from __future__ import annotations

import argparse
import configparser
import hashlib
import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_REPOSITORY: Final = Path(__file__).parent.parent
_PROGRAMS: Final = ("mmdebstrap", "git", "unshare", "nsenter", "setpriv")
_PACKAGES: Final = "mmdebstrap git util-linux"
_NAMESPACES: Final = ("--mount", "--pid", "--uts", "--ipc", "--cgroup")
_SETUP_SECONDS: Final = 3600.0
_TEST_SECONDS: Final = 3 * 3600.0
_START_SECONDS: Final = 300.0
_END_SECONDS: Final = 60.0
_EXPORTER_PORT: Final = 4507
_MASTER_PORTS: Final = (4505, 4506)
_OTHER_PORTS: Final = (_EXPORTER_PORT, 9090, 9093)

_ENTER_CGROUP: Final = 'echo 0 >"$0/cgroup.procs" && exec "$@"'
# Process 1 of the machine is a shell that waits, for it must reap what others leave.
_BECOME_MACHINE: Final = """
set -eu
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup sys/fs/cgroup
mount -t devpts -o newinstance,gid=5,mode=620,ptmxmode=666 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
hostname fresh
mkdir mnt/before
pivot_root . mnt/before
umount --lazy /mnt/before
rmdir /mnt/before
exec bash -c 'sleep infinity & echo ready; exec >/dev/null 2>&1; wait'
"""

_BUNDLE: Final = "etc/ssl/certs/ca-certificates.crt"
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_ASKED: Final = re.compile(r"^setup:.*apt-get install ([a-z0-9+.\- ]+)", re.MULTILINE)
_DEMO_BEGINS: Final = re.compile(r"^setup: .*starting the demo", re.MULTILINE)
_TESTS_BEGIN: Final = re.compile(r"^=+ test session starts|^pytest \d", re.MULTILINE)
_SUMMARY: Final = re.compile(r"^(?:=+ )?(\d+ \w+.*) in ([\d.]+)s\b", re.MULTILINE)
_SKIPPED: Final = re.compile(r"^SKIPPED \[(\d+)\] \S+: (.*)$", re.MULTILINE)
_SECOND_TRY: Final = re.compile(r"^tests: passed at the second try: \S", re.MULTILINE)  # from tests/run.py


class RedError(Exception):
    """Something is not as the README promises."""


class CannotError(Exception):
    """This host cannot make such a machine."""


class Person(NamedTuple):
    """Who calls ./setup."""

    name: str
    home: str
    source: str  # where the clone is
    path: str
    become: tuple[str, ...] = ()


_ROOT: Final = Person(
    "root", "/root", "/home/salt-exporter", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)
_USER: Final = Person(
    "user",
    "/home/user",
    "/home/user/salt-exporter",
    "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games",
    ("setpriv", "--reuid=user", "--regid=user", "--init-groups"),
)
_PEOPLE: Final = {"root": (_ROOT,), "user": (_USER,), "both": (_ROOT, _USER)}


@dataclass(frozen=True)
class Plan:
    """What each run does."""

    only: str | None
    busy: bool
    poisoned: bool
    arguments: tuple[str, ...]

    @property
    def variant(self) -> str:
        """Return what is special about it, for the table."""
        words = [f"only {self.only}"] if self.only else []
        words += [word for word, is_so in (("busy", self.busy), ("poisoned", self.poisoned)) if is_so]
        words += [" ".join(self.arguments)] if self.arguments else []
        return ", ".join(words) or "plain"


@dataclass
class Row:
    """What came of a run; times in seconds."""

    who: str
    variant: str
    date: str = field(default_factory=lambda: f"{datetime.now(timezone.utc):%Y-%m-%d}")
    setup: float = 0
    received: int = 0
    tests: float = 0
    counts: Counter[str] = field(default_factory=Counter)
    skips: Counter[str] = field(default_factory=Counter)
    second_try: int = 0
    faults: list[str] = field(default_factory=list)

    TITLES = (
        "date",
        "who",
        "variant",
        "set-up, min",
        "downloaded, MB",
        "tests, min",
        "passed",
        "skipped",
        "passed at the second try",
        "failed",
    )

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Count the time and what the host receives from the network as set-up."""
        began, before = time.monotonic(), _received_bytes()
        try:
            yield
        finally:
            self.setup += time.monotonic() - began
            self.received += _received_bytes() - before

    def read_tests(self, log: str) -> None:
        """Take the numbers from pytest's output."""
        summaries = list(_SUMMARY.finditer(log))
        if not summaries:
            self.faults.append("pytest did not come to its summary")
            return
        self.tests = sum(float(summary[2]) for summary in summaries)
        for number, what in re.findall(r"(\d+) ([a-z]+)", summaries[0][1]):
            self.counts[what.removesuffix("s") if what == "errors" else what] += int(number)
        for number, reason in _SKIPPED.findall(log):
            self.skips[reason] += int(number)
        self.second_try = len(_SECOND_TRY.findall(log))
        if self.second_try:  # which is printed if nothing else failed
            self.counts["passed"] += self.second_try
            self.counts["failed"] = self.counts["error"] = 0

    def cells(self) -> list[str]:
        """Return what stands in the table."""
        skipped = f"{self.counts['skipped']}"
        if self.skips:
            skipped += ": " + "; ".join(f"{count} times {reason}" for reason, count in self.skips.most_common())
        figures = [f"{self.setup / 60:.1f}", f"{self.received / 1e6:.0f}", f"{self.tests / 60:.1f}"]
        failed = self.counts["failed"] + self.counts["error"]
        return [
            *(self.date, self.who, self.variant, *figures),
            *(str(self.counts["passed"]), skipped, str(self.second_try), "; ".join([str(failed), *self.faults])),
        ]


def _received_bytes() -> int:
    lines = Path("/proc/net/dev").read_text(encoding="utf-8").splitlines()[2:]
    fields = [line.partition(":") for line in lines]
    return sum(int(numbers.split()[0]) for name, _, numbers in fields if name.strip() != "lo")


class Machine:
    """A Debian in a folder, entered with namespaces of its own for all but the network."""

    def __init__(self, root: Path, log: Path) -> None:
        self.root = root
        self._environment = _environment_of_registries()
        self._cgroup = _own_cgroup() / f"fresh-machine-{os.getpid()}"
        self._cgroup.mkdir(exist_ok=True)
        become = ["sh", "-c", _BECOME_MACHINE, "sh", str(root)]
        unshare = ["unshare", *_NAMESPACES, "--fork", "--kill-child", "--propagation=private", *become]
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig=KILL", "sh", "-c", _ENTER_CGROUP, str(self._cgroup), *unshare],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            self.close()
            raise CannotError(f"the machine does not start: {log.read_text(errors='replace')}")
        self._init = _only_child(self._process.pid)
        self._own = self.processes().keys()

    def start(self, person: Person, argv: list[str], log: Path, folder: str = "/") -> subprocess.Popen[bytes]:
        """Start a program there, all of whose output is appended to a log."""
        within = ["nsenter", f"--target={self._init}", *_NAMESPACES]
        variables = [f"HOME={person.home}", f"PATH={person.path}", "LANG=C.UTF-8", "TERM=dumb", *self._environment]
        env = ["env", "--ignore-environment", "--default-signal", f"--chdir={folder}", *variables]
        with log.open("ab") as output:
            os.fchmod(output.fileno(), 0o666)  # so that /dev/stderr can be opened by everyone, as on a terminal
            return subprocess.Popen(
                ["sh", "-c", _ENTER_CGROUP, str(self._cgroup), *within, *env, *person.become, *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def must(self, argv: list[str], log: Path) -> None:
        """Run a program there as root; RedError if it fails."""
        if (status := self.start(_ROOT, argv, log).wait()) != 0:
            raise RedError(f"{' '.join(argv)} ended with status {status}, see {log}")

    def interrupt(self, process: subprocess.Popen[bytes]) -> None:
        """Send SIGINT to what was started, as Ctrl-C does."""
        os.kill(_only_child(process.pid), signal.SIGINT)

    def processes(self) -> dict[int, str]:
        """Return the command lines of all that runs there, by the process ids out here."""
        namespace = Path(f"/proc/{self._init}/ns/pid").readlink()
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (folder / "ns/pid").readlink() == namespace:
                    words = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(folder.name)] = words.decode(errors="replace").strip()
        return found

    def started(self) -> dict[int, str]:
        """Return what runs there beside the process that keeps the machine."""
        return {pid: command for pid, command in self.processes().items() if pid not in self._own}

    def temporary_files(self) -> list[str]:
        """Return the names in its /tmp."""
        return [path.name for path in Path(f"/proc/{self._init}/root/tmp").iterdir()]

    def close(self) -> None:
        """End everything on it."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        _wait(self._is_gone, 10)

    def _is_gone(self) -> bool:
        for folder, _, _ in os.walk(self._cgroup, topdown=False):
            with suppress(OSError):  # the kernel has not done with all processes yet
                Path(folder).rmdir()
        return not self._cgroup.exists()


def _only_child(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    return int(child)


def _own_cgroup() -> Path:
    """Return the cgroup of this process in the unified hierarchy. CannotError if that is not mounted."""
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, path, kind, *_ = line.split()
        if kind == "cgroup2":
            lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
            return Path(path) / next(line[len("0::/") :] for line in lines if line.startswith("0::/"))
    raise CannotError("needs unified cgroups (a mount of type cgroup2)")


def _wait(condition: Callable[[], bool], timeout: float) -> bool:
    """Look until a condition holds; return False if it does not in time."""
    deadline = time.monotonic() + timeout
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return holds


def _make_debian(root: Path, log: Path) -> None:
    """Make a minimal Debian 12 that reaches the package registries as this host does. CannotError."""
    options = [f"--aptopt={line}" for line in _apt_proxies()]
    with log.open("wb") as output:
        # In namespaces of its own, so that all it started ends with it, however it ends.
        alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        argv = [*alone, "mmdebstrap", "--variant=minbase", *options, "bookworm", str(root)]
        status = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False).returncode
    if status != 0:
        raise CannotError(f"mmdebstrap ended with status {status}, see {log}")
    _write(root / "etc/resolv.conf", Path("/etc/resolv.conf").read_bytes())
    _write(root / "etc/hostname", b"fresh\n")
    _write(root / "etc/hosts", b"127.0.0.1 localhost\n127.0.1.1 fresh\n::1 localhost ip6-localhost ip6-loopback\n")
    _take_over_authorities(root)
    _take_over_pip(root)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def _apt_proxies() -> list[str]:
    """Return what this host's apt is told about proxies, as lines of its configuration."""
    said = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout.splitlines()
    return [line for line in said if re.match(r"Acquire::\w+::Proxy(::\S+)? ", line, re.IGNORECASE)]


def _take_over_authorities(root: Path) -> None:
    """Let the machine trust the certificate authorities that this host trusts and Debian does not, if there are any.

    A proxy that looks into TLS has one. Debian's package of authorities, once it is installed, adds them to its own.
    """
    bundle = Path(ssl.get_default_verify_paths().cafile or f"/{_BUNDLE}")
    if not bundle.exists():
        return
    debian = {pem for file in Path("/usr/share/ca-certificates").rglob("*.crt") for pem in _certificates(file)}
    own = [pem for pem in _certificates(bundle) if pem not in debian]
    for number, pem in enumerate(own, 1):
        _write(root / f"usr/local/share/ca-certificates/host-{number}.crt", f"{pem}\n".encode())
    if own:
        _write(root / _BUNDLE, bundle.read_bytes())


def _certificates(file: Path) -> list[str]:
    text = file.read_text(encoding="utf-8", errors="replace")
    return [ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(pem)).strip() for pem in _PEM.findall(text)]


def _take_over_pip(root: Path) -> None:
    """Give the machine this host's configuration of pip, and the files that it and its variables name."""
    pip = configparser.ConfigParser(interpolation=None)
    home = Path.home()
    files = [
        Path("/etc/xdg/pip/pip.conf"),
        Path("/etc/pip.conf"),
        home / ".pip/pip.conf",
        home / ".config/pip/pip.conf",
    ]
    pip.read([*files, Path(os.environ.get("PIP_CONFIG_FILE", os.devnull))], encoding="utf-8")
    named = [value for section in pip.values() for value in section.values()]
    for value in [*named, *_variables_of_pip().values()]:
        if value.startswith("/") and Path(value).is_file() and not (root / value.lstrip("/")).exists():
            _write(root / value.lstrip("/"), Path(value).read_bytes())
    if pip.sections():
        with (root / "etc/pip.conf").open("w", encoding="utf-8") as file:
            pip.write(file)


def _variables_of_pip() -> dict[str, str]:
    """Return the variables for pip, without those that name a folder of this host: the machine has never seen it."""
    variables = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    variables.pop("PIP_CONFIG_FILE", None)
    return {name: value for name, value in variables.items() if not (value.startswith("/") and Path(value).is_dir())}


def _environment_of_registries() -> list[str]:
    """Return the variables with which apt and pip reach their registries."""
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    return [f"{name}={value}" for name, value in {**proxies, **_variables_of_pip()}.items()]


class Visit:
    """Someone who has just cloned the project on a machine, and what came of it."""

    def __init__(self, machine: Machine, person: Person, plan: Plan, logs: Path, row: Row) -> None:
        self._machine = machine
        self._person = person
        self._plan = plan
        self._logs = logs
        self._row = row
        self._calls = 0
        self._installed: set[str] = set()

    def arrive(self) -> None:
        """Clone this repository, from outside: the machine has no git."""
        log = self._logs / "arrival.log"
        if self._person is not _ROOT:
            self._machine.must(["useradd", "--create-home", "--shell=/bin/bash", self._person.name], log)
        # Without hard links, for the clone may get another owner.
        clone = ["git", "clone", "--quiet", "--no-hardlinks", str(_REPOSITORY)]
        subprocess.run([*clone, f"{self._machine.root}{self._person.source}"], check=True)
        owner = f"{self._person.name}:{self._person.name}"
        self._machine.must(["chown", "--recursive", owner, self._person.source], log)

    def run(self) -> None:
        """Look at the demo, end it with Ctrl-C, and see that it has gone. RedError."""
        process, log = self._call(_DEMO_BEGINS, "run")
        if not _wait(lambda: process.poll() is not None or _is_complete(_read(log)), _START_SECONDS):
            raise RedError(f"./setup run did not show all its minions on port {_EXPORTER_PORT}, see {log}")
        if process.poll() is not None:
            raise RedError(f"./setup run ended by itself with status {process.returncode}, see {log}")
        self._machine.interrupt(process)
        self._expect_end(process, log, _END_SECONDS)
        if "nothing of it stays" not in _read(log):
            raise RedError(f"./setup run does not say that it has cleaned up, see {log}")
        if left := self._machine.temporary_files():
            raise RedError(f"./setup run left in /tmp: {', '.join(left)}")

    def test(self) -> None:
        """Run the tests. RedError."""
        poison = None
        if self._plan.poisoned:
            process, log = self._call(_TESTS_BEGIN, "test", "--version")
            self._expect_end(process, log, _END_SECONDS)
            poison = Poison(self._machine, self._person.source, self._logs)
        with _busy(2 if self._plan.busy else 0):
            process, log = self._call(_TESTS_BEGIN, "test", *self._plan.arguments)
            try:
                self._expect_end(process, log, _TEST_SECONDS)
            finally:
                self._row.faults += poison.faults() if poison else []
                self._row.read_tests(_read(log))

    def _call(self, milestone: re.Pattern[str], *arguments: str) -> tuple[subprocess.Popen[bytes], Path]:
        """Call ./setup until it gets to a milestone and return the process and its log, which counts as set-up.

        To an ordinary user it says which packages are missing: then they are installed, and it is called again.
        """
        before = self._machine.started().keys()
        with self._row.measured():
            while True:
                process, log = self._start(arguments)
                _wait_for_milestone(process, log, milestone)
                if asked := self._newly_asked(_read(log)):
                    _kill(self._machine.started().keys() - before)
                    process.wait()
                    self._install(asked)
                elif _has(log, milestone):
                    return process, log
                else:
                    raise RedError(f"./setup {arguments[0]} did not come to its work, see {log}")

    def _start(self, arguments: tuple[str, ...]) -> tuple[subprocess.Popen[bytes], Path]:
        self._calls += 1
        log = self._logs / f"{self._calls}-{arguments[0]}.log"
        _say(f"{self._person.name}: ./setup {' '.join(arguments)} > {log}")
        return self._machine.start(self._person, ["./setup", *arguments], log, self._person.source), log

    def _newly_asked(self, log: str) -> list[str]:
        """Return the packages that it says are missing; root has it install what it needs by itself."""
        if self._person is _ROOT:
            return []
        asked = {package for packages in _ASKED.findall(log) for package in packages.split()}
        return sorted(asked - self._installed)

    def _install(self, packages: list[str]) -> None:
        _say(f"root: apt-get install {' '.join(packages)}")
        log = self._logs / "packages.log"
        self._machine.must(["apt-get", "update", "-qq"], log)
        install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *packages]
        self._machine.must(["env", "DEBIAN_FRONTEND=noninteractive", *install], log)
        self._installed.update(packages)

    def _expect_end(self, process: subprocess.Popen[bytes], log: Path, timeout: float) -> None:
        """Wait until ./setup has ended well, with nothing left of it. RedError."""
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise RedError(f"./setup did not end within {timeout:.0f} s, see {log}") from None
        if status != 0:
            raise RedError(f"./setup ended with status {status}, see {log}")
        if not _wait(lambda: not self._left(), 5):
            raise RedError(f"still running: {', '.join(self._left())}, see {log}")

    def _left(self) -> list[str]:
        """Return the commands that run on the machine and are not part of its poison."""
        return [command for command in self._machine.started().values() if Poison.FOLDER not in command]


def _read(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")


def _has(log: Path, milestone: re.Pattern[str]) -> bool:
    return milestone.search(_read(log)) is not None


def _wait_for_milestone(process: subprocess.Popen[bytes], log: Path, milestone: re.Pattern[str]) -> None:
    _wait(lambda: process.poll() is not None or _has(log, milestone), _SETUP_SECONDS)


def _kill(pids: set[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _is_complete(log: str) -> bool:
    """Tell whether the demo has explained itself and the exporter sees the master and as many minions as it said."""
    minions = re.search(r"^A private Salt master and (\d+) minions", log, re.MULTILINE)
    if not minions or "Ctrl-C ends everything" not in log:
        return False
    metrics = _metrics()
    return "salt_master_up 1" in metrics and f'salt_presence_minions{{state="present"}} {minions[1]}' in metrics


def _metrics() -> list[str]:
    """Return the exporter's metrics, without ".0" after whole numbers; none if it does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", _EXPORTER_PORT, timeout=10)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return []
    finally:
        connection.close()
    return [line.removesuffix(".0") for line in text.splitlines()]


@contextmanager
def _busy(processes: int) -> Iterator[None]:
    """Keep so many processes computing, beside the machine rather than on it."""
    spin = ["setpriv", "--pdeathsig=KILL", "sh", "-c", "while :; do :; done"]
    with ExitStack() as stack:
        for _ in range(processes):
            stack.callback(stack.enter_context(subprocess.Popen(spin)).kill)
        yield


class Poison:
    """What the tests could trip over, and must not harm, on a machine where all is set up.

    Files that a real master and a real exporter would have, all of them damaged; a user named salt; another's Salt
    master that runs; and someone on every port that the project's documents name.
    """

    FOLDER: Final = "/opt/salt-foreign"  # is named in the command line of each of its processes
    _CONFIG: Final = "/etc/salt-foreign"
    _FILES: Final = {
        "etc/salt/master": b"interface: [not closed\n\tworker_threads: many\nno_such_option: 1\n",
        "etc/salt/pki/master/master.pem": b"-----BEGIN RSA PRIVATE KEY-----\nnonsense\n-----END RSA PRIVATE KEY-----\n",
        "etc/salt-exporter/config.yml": b"no-such.setting: 1\nweb.listen-address: nowhere\n",
        "var/lib/salt-exporter/journal.sqlite": b"SQLite format 3\0" + bytes(range(256)) * 64,
        "var/cache/salt/master/jobs/00/garbage/jid": b"\xff\xfe garbage",
        "var/cache/salt/master/minions/web1/data.p": b"\xc1 garbage",
    }
    _FOLDERS: Final = ("etc/salt", "etc/salt-exporter", "etc/salt-foreign", "var/lib/salt-exporter", "var/cache/salt")

    def __init__(self, machine: Machine, source: str, logs: Path) -> None:
        self._machine = machine
        self._log = logs / "poison.log"
        for name, content in self._FILES.items():
            _write(machine.root / name, content)
        machine.must(["useradd", "salt"], self._log)
        shutil.copytree(f"{machine.root}{source}/.salt/3008", f"{machine.root}{self.FOLDER}", symlinks=True)
        for port in _OTHER_PORTS:
            machine.start(_ROOT, ["python3", "-m", "http.server", str(port), f"--directory={self.FOLDER}"], self._log)
        self._start_master()
        self._processes = self._settled()
        self._before = self._fingerprints()

    def faults(self) -> list[str]:
        """Return what has changed."""
        after = self._fingerprints()
        names = self._before.keys() | after.keys()
        changed = sorted(name for name in names if self._before.get(name) != after.get(name))
        faults = [f"changed, made or removed: {', '.join(changed)}"] if changed else []
        if ended := self._processes - self._machine.started().keys():
            faults.append(f"{len(ended)} of {len(self._processes)} foreign processes have ended")
        return faults + [f"port {port} is closed" for port in (*_MASTER_PORTS, *_OTHER_PORTS) if not _is_open(port)]

    def _start_master(self) -> None:
        publish_port, request_port = _MASTER_PORTS
        config = f"interface: 127.0.0.1\npublish_port: {publish_port}\nret_port: {request_port}\nuser: root\n"
        for option, folder in (("pki_dir", "pki"), ("cachedir", "cache"), ("sock_dir", "run"), ("log_file", "log")):
            config += f"{option}: /srv/salt-foreign/{folder}\n"
        config += "root_dir: /srv/salt-foreign\npidfile: /srv/salt-foreign/pid\n"
        _write(self._machine.root / "etc/salt-foreign/master", config.encode())
        argv = [f"{self.FOLDER}/bin/python", f"{self.FOLDER}/bin/salt-master", f"--config-dir={self._CONFIG}"]
        self._machine.start(_ROOT, argv, self._log)

    def _settled(self) -> set[int]:
        """Return the foreign processes once all ports are open and none has come or gone for a while. RedError."""
        if not _wait(lambda: all(map(_is_open, (*_MASTER_PORTS, *_OTHER_PORTS))), _START_SECONDS):
            raise RedError(f"the foreign processes do not start, see {self._log}")
        before: set[int] = set()
        while before != (now := set(self._machine.started())):
            before = now
            time.sleep(10)
        return now

    def _fingerprints(self) -> dict[str, tuple[object, ...]]:
        """Return what tells whether a file or folder is the same, by path."""
        found: dict[str, tuple[object, ...]] = {}
        for folder in self._FOLDERS:
            for path in [self._machine.root / folder, *(self._machine.root / folder).rglob("*")]:
                status = path.stat()
                content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
                name = f"/{path.relative_to(self._machine.root)}"
                found[name] = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, content)
        return found


def _is_open(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(5)
        return client.connect_ex(("127.0.0.1", port)) == 0


def _one_run(debian: Path, root: Path, person: Person, plan: Plan, logs: Path) -> Row:
    """Take a copy of a fresh Debian and do there what the plan says."""
    row = Row(person.name, plan.variant)
    subprocess.run(["cp", "--archive", "--reflink=auto", str(debian), str(root)], check=True)
    machine = Machine(root, logs / "machine.log")
    try:
        visit = Visit(machine, person, plan, logs, row)
        visit.arrive()
        for command in (visit.run, visit.test):
            if plan.only in {None, command.__name__}:
                command()
    except RedError as error:
        row.faults.append(str(error))
    finally:
        machine.close()
    return row


def _all_runs(folder: Path, people: tuple[Person, ...], plan: Plan, runs: int, rows: list[Row], *, keep: bool) -> None:
    """Add a row for each run, and stop at the first that is not green."""
    with ExitStack() as stack:
        if not keep:
            stack.callback(_remove, folder / "debian")
        _make_debian(folder / "debian", folder / "mmdebstrap.log")
        for number in range(1, runs + 1):
            for person in people:
                name = f"{number}-{person.name}"
                logs = folder / name
                logs.mkdir()
                root = folder / f"{name}.root"
                try:
                    rows.append(_one_run(folder / "debian", root, person, plan, logs))
                finally:
                    if not keep:
                        _remove(root)
                if rows[-1].faults:
                    return


def _remove(root: Path) -> None:
    subprocess.run(["rm", "--recursive", "--force", "--one-file-system", root], check=True)


def _say(text: str) -> None:
    sys.stdout.write(f"{datetime.now(timezone.utc):%H:%M:%S} {text}\n")
    sys.stdout.flush()


def _table(rows: list[Row]) -> str:
    lines = [Row.TITLES, ("---",) * len(Row.TITLES), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _check_host(folder: Path, plan: Plan) -> None:
    """See what this needs of the host. CannotError."""
    if os.geteuid() != 0:
        raise CannotError("needs root")
    if absent := [program for program in _PROGRAMS if not shutil.which(program)]:
        raise CannotError(f"{', '.join(absent)} not found; on Debian: apt-get install {_PACKAGES}")
    kind = ["stat", "--file-system", "--format=%T", str(folder)]
    if subprocess.run(kind, capture_output=True, text=True, check=True).stdout == "overlayfs\n":
        raise CannotError(f"{folder} is on overlayfs, over which no other can be mounted: name another with --folder")
    ports = {_EXPORTER_PORT, *(_MASTER_PORTS + _OTHER_PORTS if plan.poisoned else ())}
    if taken := sorted(port for port in ports if _is_open(port)):
        raise CannotError(f"ports of this host that must be free are taken: {', '.join(map(str, taken))}")


def _options() -> argparse.Namespace:
    summary, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser("python3 -m tests.fresh_machine", description=summary, epilog=rest)
    parser.add_argument("--as", dest="people", choices=_PEOPLE, default="both", help="who calls ./setup")
    parser.add_argument("--only", choices=("run", "test"), help="only this one of the two commands")
    parser.add_argument("--busy", action="store_true", help="keep two processes computing beside ./setup test")
    parser.add_argument("--poisoned", action="store_true", help="test amid another's damaged files, master and ports")
    parser.add_argument("--runs", type=int, default=1, help="repeat, and stop at the first that is not green")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="where the machines and logs are made")
    parser.add_argument("--keep", action="store_true", help="leave the machines' files in place")
    parser.add_argument("arguments", nargs="*", help="for ./setup test, after --")
    return parser.parse_args()


def main() -> int:
    """Return 0 if all is green, 1 if not, 2 if it cannot be found out here."""
    options = _options()
    plan = Plan(options.only, options.busy, options.poisoned, tuple(options.arguments))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    rows: list[Row] = []
    try:
        _check_host(options.folder, plan)
        folder = Path(tempfile.mkdtemp(prefix="fresh-machine-", dir=options.folder))
        folder.chmod(0o755)  # ordinary users live in there
        _say(f"the logs are in {folder}")
        try:
            _all_runs(folder, _PEOPLE[options.people], plan, options.runs, rows, keep=options.keep)
        finally:
            _say(f"the logs are in {folder}\n\n{_table(rows)}")
    except CannotError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 1 if any(row.faults for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
