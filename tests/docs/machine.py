"""A machine of its own, made of namespaces, on which the documents' commands run as they are written.

It has the software of the real machine and nothing else of it, for what the real one is used for must not decide about
a test (machine.sh). It may change any file, for what it writes goes into memory; it has its own processes (process 1 is
systemd), network, hostname and users. So `/etc/salt`, port 4507, `systemctl restart` and `ps` mean there what they mean
to an operator, and nothing has to be replaced in a command. Needs root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import psutil

if TYPE_CHECKING:
    from salt_exporter.demo.cleaner import Cleaner
    from tests.real.namespaces import Network

_ROOT: Final = Path(__file__).parents[2]
_SCRIPT: Final = Path(__file__).with_name("machine.sh")
_NAMESPACES: Final = ("--mount", "--pid", "--uts", "--ipc", "--cgroup")
_ENVIRONMENT: Final = {
    "LANG": "C.UTF-8",
    "HOME": "/root",
    "TERM": "dumb",
    "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}
_PROGRAMS: Final = (
    *("systemctl", "dbus-daemon", "unshare", "nsenter", "ip", "useradd", "runuser"),
    *("curl", "ss", "nstat", "ps", "top"),
)
WATCHERS: Final = ("prometheus", "promtool", "prometheus-alertmanager", "amtool")
_ENTER: Final = 'echo 0 >"$0/cgroup.procs" && exec "$@"'


class Done(NamedTuple):
    """A command that has ended."""

    status: int
    output: str  # standard output and error, as a terminal shows them


class Machine:
    """A node of the network with everything around it."""

    def __init__(self, cleaner: Cleaner, network: Network, node: str, hostname: str, salt: Path) -> None:
        folder = cleaner.folder / node
        folder.mkdir()
        self.log = cleaner.folder / f"{node}.log"
        # Process ids do not tell machines apart: another run may have the same one, in a namespace of its own.
        self._cgroup = Path(tempfile.mkdtemp(prefix=f"salt-exporter-{node}-", dir=_cgroup()))
        self._cgroup.chmod(0o755)
        arguments = (folder, hostname, _ROOT, salt, sys.base_prefix, sysconfig.get_path("purelib"))
        become = ["sh", str(_SCRIPT), *map(str, arguments)]
        unshare = ["unshare", *_NAMESPACES, "--fork", "--kill-child", "--propagation=private"]
        argv = ["sh", "-c", _ENTER, str(self._cgroup), *network.prefix(node), *unshare, *become]
        self._pid = cleaner.spawn(argv, dict(os.environ), self.log)
        self._wait(lambda: self.run("systemctl is-system-running").output == "running\n")

    def run(self, command: str, timeout: float = 40) -> Done:
        """Run a command line of bash as root; its status is 124 if it had not ended in time."""
        within = ["nsenter", f"--target={self._init()}", "--net", *_NAMESPACES, "env", "--chdir=/opt/source"]
        argv = [*within, "timeout", "--kill-after=1", str(timeout), "bash", "-c", command]
        pipe = subprocess.PIPE
        done = subprocess.run(
            argv, env=_ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT, check=False
        )
        return Done(done.returncode, done.stdout.decode(errors="replace"))

    def must(self, command: str, timeout: float = 60) -> str:
        """Run a command that prepares something; AssertionError with what it said if it fails."""
        done = self.run(command, timeout)
        if done.status != 0:
            journal = self.run("journalctl --no-pager -n 40").output
            raise AssertionError(f"{command}: status {done.status}\n{done.output}\nThe journal ends with\n{journal}")
        return done.output

    def write(self, path: str, text: str) -> None:
        """Write a file that every user may read."""
        within = ["nsenter", f"--target={self._init()}", "--mount"]
        copy = ["sh", "-c", 'mkdir -p "${0%/*}" && cat >"$0"', path]
        subprocess.run([*within, *copy], input=text.encode(), check=True)

    def copy(self, program: Path, path: str) -> None:
        """Give it a program of the real machine."""
        within = ["nsenter", f"--target={self._init()}", "--mount"]
        with program.open("rb") as file:
            subprocess.run([*within, "sh", "-c", 'cat >"$0" && chmod 755 "$0"', path], stdin=file, check=True)

    def close(self) -> None:
        """End it with everything on it."""
        with suppress(psutil.NoSuchProcess, IndexError):
            psutil.Process(self._init()).kill()
            psutil.Process(self._pid).wait(10)
        for folder, _, _ in os.walk(self._cgroup, topdown=False):
            with suppress(OSError):  # the kernel is still taking leave of a process: the folder stays, empty
                Path(folder).rmdir()

    def _init(self) -> int:
        """Return process 1 of the machine, as it is called out here."""
        return psutil.Process(self._pid).children()[0].pid

    def _wait(self, condition: object) -> None:
        deadline = time.monotonic() + 20
        while True:
            with suppress(IndexError, psutil.NoSuchProcess):
                if condition():  # type: ignore[operator]
                    return
            assert time.monotonic() < deadline, f"the machine does not start\n{self.log.read_text(errors='replace')}"
            time.sleep(0.05)


def missing() -> str:
    """Say why there can be no such machine here, with all that the documents' commands call; nothing if there can."""
    if os.geteuid() != 0:
        return "namespaces need root"
    absent = [program for program in _PROGRAMS if not shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin")]
    absent += [program for program in WATCHERS if not shutil.which(program)]
    if absent:
        return f"not installed: {', '.join(absent)}"
    try:
        _cgroup()
    except LookupError as error:
        return str(error)
    return ""


def _cgroup() -> Path:
    """Return the cgroup of this process in the unified hierarchy. LookupError if that is not mounted."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    for _, path, kind, *_ in mounts:
        if kind == "cgroup2":
            lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
            return Path(path) / next(line[len("0::/") :] for line in lines if line.startswith("0::/"))
    raise LookupError("no unified cgroups, in which systemd could manage processes")
