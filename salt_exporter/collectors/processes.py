"""The master's processes by role."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from salt_exporter.analysis.cpu import CpuByRole
from salt_exporter.errors import SourceError
from salt_exporter.kernel.descriptors import HeldSockets
from salt_exporter.kernel.inet_diag import LISTEN
from salt_exporter.kernel.sock_diag import tcp_sockets, unix_sockets
from salt_exporter.kernel.unix_diag import listeners
from salt_exporter.master.processes import master_processes, roles
from salt_exporter.master.titles import EVENT_PUBLISHER, PUBLISHER, REQUEST_ROUTER, ROLES
from salt_exporter.metric import Metric, Sample, counter, gauge
from salt_exporter.sampler import PUBLISH, REQUEST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salt_exporter.master.processes import OpenFiles, Process
    from salt_exporter.master.settings import MasterSettings
    from salt_exporter.world import World

PROCESSES = gauge(
    "salt_processes",
    "Processes of the master by role: the oldest salt-master of the config dir (main) and its descendants, told by the "
    "listening socket that one alone owns, else by Salt's title, else (no setproctitle) by their place in the tree. "
    f"Roles: {', '.join(ROLES)}.",
    "role",
)
CPU = counter(
    "salt_processes_cpu_seconds_total",
    "User and system CPU seconds by role, added up from one scrape to the next since the exporter started, so it does "
    "not go backwards when a process ends.",
    "role",
)
RESIDENT = gauge(
    "salt_processes_resident_memory_bytes",
    "Resident memory by role, sum; pages that forked processes share are counted in each of them.",
    "role",
)
OPEN_FDS = gauge(
    "salt_processes_open_fds",
    "Open file descriptors of that process of the role which is closest to its limit (/proc/<pid>/fd); no series where "
    "the exporter may not look: it must run as root or as the user who started the master.",
    "role",
)
MAX_FDS = gauge(
    "salt_processes_max_fds",
    "Limit of open file descriptors (RLIMIT_NOFILE, soft) of the process that salt_processes_open_fds is about.",
    "role",
)


class ProcessesCollector:
    """Looks at the master's processes; fails while there is no master."""

    name: ClassVar[str] = "processes"
    metrics: ClassVar[tuple[Metric, ...]] = (PROCESSES, CPU, RESIDENT, OPEN_FDS, MAX_FDS)

    def __init__(self, world: World) -> None:
        self._world = world
        self._cpu = CpuByRole()
        self._held = HeldSockets()

    def collect(self) -> Iterator[Sample]:
        """Yield the samples of now."""
        settings = self._world.settings.current()
        if settings.process is None:
            raise SourceError(
                f"no salt-master with {settings.config_dir} runs among the processes the exporter sees: is it down, or "
                "in another PID namespace?"
            )
        listening = self._listening(settings)
        processes = master_processes(settings.process, listening.keys(), self._held)
        found = roles(processes, settings.process.pid, listening)
        by_role: dict[str, list[Process]] = {role: [] for role in ROLES}
        for process in processes:
            by_role[found[process.pid]].append(process)
        self._cpu.observe((process, found[process.pid]) for process in processes)
        for role, members in by_role.items():
            yield PROCESSES(len(members), role=role)
            yield CPU(self._cpu.seconds[role], role=role)
            yield RESIDENT(sum(process.resident_bytes for process in members), role=role)
            files = _closest_to_limit(members)
            if files:
                yield OPEN_FDS(files.count, role=role)
                yield MAX_FDS(files.limit, role=role)

    def _listening(self, settings: MasterSettings) -> dict[int, str]:
        """Return the role of whoever owns a listening socket, by the socket's inode."""
        channels = self._world.sampler.snapshot().listeners
        found = {listener.inode: PUBLISHER for listener in channels[PUBLISH]}
        found |= {listener.inode: REQUEST_ROUTER for listener in channels[REQUEST]}
        if settings.bus.path:
            return found | {item.inode: EVENT_PUBLISHER for item in listeners(unix_sockets(), str(settings.bus.path))}
        table = tcp_sockets({settings.bus.port}, states=1 << LISTEN, info=False)
        return found | {listener.inode: EVENT_PUBLISHER for listener in table.listeners}


def _closest_to_limit(processes: list[Process]) -> OpenFiles | None:
    files = [process.files for process in processes if process.files]
    return max(files, key=lambda item: (item.count / item.limit, item.count), default=None)
