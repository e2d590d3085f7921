"""The running master's resolved options, asked of its own Python; Salt is never imported here.

The master's Python knows that version's defaults, drop-ins and includes. It is asked once per start and per change of
a configuration file. Where no running master is found, or its Python must not or cannot be run, the Salt installed
beside the exporter is asked instead, and `source` says so.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from salt_exporter.errors import SourceError
from salt_exporter.master.ask import Answer, Memory, ask, watched
from salt_exporter.master.bus import BusAddress
from salt_exporter.master.options import OPTIONS, values
from salt_exporter.master.process import distrust, require_same_network, running_masters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from salt_exporter.master.process import MasterProcess

_NAMES: Final = (
    *(
        "id",
        "transport",
        "interface",
        "pki_dir",
        "cluster_id",
        "cluster_pki_dir",
        "cachedir",
        "sock_dir",
        "publish_port",
        "ret_port",
    ),
    *("ipc_mode", "tcp_master_pub_port", "cache", "keys.cache_driver", "worker_pools", "worker_pools_enabled"),
    *("hash_type", "master_job_cache", "ext_job_cache"),
    *(option.name for option in OPTIONS),
)

_ANY: Final = ("", "0.0.0.0", "::")  # listens on all addresses
_RETRY: Final = 5.0  # seconds between attempts to resolve what has never been resolved
# The kernel gives a process's start relative to the boot, and that to the second.
_START_PRECISION: Final = 2.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MasterSettings:
    """What the exporter needs to know of one master."""

    version: str
    source: str  # "master": its own Python was asked; "exporter": the Salt beside the exporter
    id: str
    cluster_id: str  # of the master cluster that it is a member of (3007, 3008), "" if of none
    transport: str
    interface: str  # the address the master listens on
    config_dir: Path
    pki_dir: Path
    cachedir: Path
    publish_port: int
    request_port: int
    bus: BusAddress
    options: Mapping[str, float]  # see options.values
    pools: Mapping[str, int]  # configured workers by pool; before 3008 there is one, "default"
    ping_workers: int  # those that answer a `ping`
    cache_driver: str
    keys_driver: str
    hash_type: str  # of the jid, in the names of the job cache's directories
    master_job_cache: str
    ext_job_cache: str  # "" if none
    process: MasterProcess | None
    changed_since_start: bool  # a configuration file is newer than the running process

    @property
    def host(self) -> str:
        """The address at which the master's ports are reached from its own host."""
        return "127.0.0.1" if self.interface in _ANY else self.interface

    @property
    def ports(self) -> tuple[int, int]:
        """The publish and the request port."""
        return self.publish_port, self.request_port

    @property
    def version_info(self) -> tuple[int, ...]:
        """The leading numbers of the version: (3006, 28) for 3006.28."""
        return tuple(int(number) for number in re.findall(r"\d+", self.version)[:2])


class SettingsSource:
    """Resolves the settings of the master with one config dir, and keeps them current.

    `refresh` is for the daemon's housekeeping; whoever only reads calls `current`.
    """

    def __init__(self, config_dir: Path, memory: Memory) -> None:
        self.problem = ""  # why the last look failed: one sentence, "" if it did not
        self._failed = 0.0  # and when, monotonic seconds
        self._refused = ""  # why the running master's own Python is not asked
        self._config_dir = Path(os.path.normpath(config_dir))
        self._memory = memory
        self._lock = threading.Lock()
        self._current: MasterSettings | None = None
        self._answer: Answer | None = None
        self._seen: tuple[MasterProcess | None, list[list[Any]]] | None = None

    def current(self) -> MasterSettings:
        """Return the settings as last resolved, resolving them first if they never were. Raises SourceError.

        Many ask; while they cannot be resolved, this is not tried anew for each of them.
        """
        if self._current:
            return self._current
        with self._lock:
            if self.problem and time.monotonic() - self._failed < _RETRY:
                raise SourceError(self.problem)
            return self._current or self._look()

    def ports(self) -> tuple[int, int]:
        """Return the publish and the request port; whoever asks will look for their sockets. Raises SourceError.

        In another network namespace than the master's there are none, and everybody would seem to be gone.
        """
        settings = self.current()
        if settings.process:
            require_same_network(settings.process)
        return settings.ports

    def refresh(self) -> MasterSettings:
        """Resolve again if the master's process or a configuration file is another one. Raises SourceError."""
        with self._lock:
            return self._look()

    def _look(self) -> MasterSettings:
        try:
            settings = self._refresh()
        except SourceError as error:
            self._failed = time.monotonic()
            if str(error) != self.problem:
                self.problem = str(error)
                _log.warning("%s", error)
            raise
        self.problem = ""
        return settings

    def _refresh(self) -> MasterSettings:
        process = self._process()
        if self._current and self._answer and self._seen:
            before, files = self._seen
            unchanged = files == watched(self._answer)
            if unchanged and process is None:  # it restarts, or is down: with these settings it will come back
                if before:
                    self._seen = None, files
                    self._current = replace(self._current, process=None, changed_since_start=False)
                return self._current
            if unchanged and process == before:
                return self._current
        answer, source = self._resolve(process)
        settings = _settings(answer, source, self._config_dir, process)
        self._answer, self._seen, self._current = answer, (process, watched(answer)), settings
        _log.info("Salt %s, master %s, options resolved by the %s's Salt", settings.version, settings.id, source)
        return settings

    def _process(self) -> MasterProcess | None:
        masters = running_masters()
        for master in masters:
            if master.config_dir == self._config_dir:
                return master
        try:
            if (self._config_dir / "master").exists() or (self._config_dir / "master.d").exists():
                return None
        except OSError as error:
            raise SourceError(f"cannot look into {self._config_dir}: {error.strerror}") from error
        elsewhere = ", ".join(str(master.config_dir) for master in masters)
        raise SourceError(
            f"{self._config_dir} holds no master configuration and no salt-master runs with it: set --salt.config-dir"
            + (f" (masters run here with {elsewhere})" if elsewhere else "")
        )

    def _resolve(self, process: MasterProcess | None) -> tuple[Answer, str]:
        _require_readable(self._config_dir / "master")
        if process:
            reason = _refusal(process)
            if not reason:
                try:
                    answer = self._asked(process.python, process)
                except SourceError as error:
                    reason = str(error)
                else:
                    self._refused = ""
                    return answer, "master"
            if reason != self._refused:
                self._refused = reason
                _log.warning("the running master's Python is not asked (%s), but the Salt beside the exporter", reason)
        return self._asked(Path(sys.executable), None), "exporter"

    def _asked(self, python: Path, process: MasterProcess | None) -> Answer:
        key = str(python), str(self._config_dir), *_NAMES
        answer = self._memory.recall(*key)
        if answer is None:
            answer = ask(python, self._config_dir, _NAMES, process)
            self._memory.remember(answer, *key)
        return answer


def _require_readable(main: Path) -> None:
    """Raise SourceError unless the main configuration file can be read, or is not there: there may be drop-ins only."""
    try:
        main.open("rb").close()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise SourceError(
            f"{main} cannot be read ({error.strerror}): run the exporter as the user the salt-master runs as"
        ) from error


def _refusal(process: MasterProcess) -> str:
    """Return why a master's Python must not be run by us, "" if it may."""
    if os.geteuid() not in (0, process.uid) and process.uid:
        return f"it runs as uid {process.uid}, neither root nor the exporter's user"
    return distrust(process.python)


def _settings(answer: Answer, source: str, config_dir: Path, process: MasterProcess | None) -> MasterSettings:
    raw = answer["options"]
    version = str(answer["version"])
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    try:
        options = values(raw, numbers)
        pools = _pools(raw, options)
        return MasterSettings(
            version=version,
            source=source,
            id=str(raw["id"]),
            cluster_id=str(raw["cluster_id"] or ""),
            transport=str(raw["transport"]),
            interface=str(raw["interface"]),
            config_dir=config_dir,
            pki_dir=Path(raw["cluster_pki_dir"] if raw["cluster_id"] else raw["pki_dir"]),
            cachedir=Path(raw["cachedir"]),
            publish_port=_port(raw, "publish_port"),
            request_port=_port(raw, "ret_port"),
            bus=_bus(raw),
            options=options,
            pools=pools,
            ping_workers=_ping_workers(raw, pools),
            cache_driver=str(raw["cache"]),
            keys_driver=str(raw["keys.cache_driver"] or "localfs_key"),
            hash_type=str(raw["hash_type"] or "sha256"),
            master_job_cache=str(raw["master_job_cache"] or "local_cache"),
            ext_job_cache=str(raw["ext_job_cache"] or ""),
            process=process,
            changed_since_start=_changed_since_start(answer, process),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(
            f"the options in {config_dir} make no sense ({error!r}): compare with `salt-master --help`"
        ) from error


def _bus(raw: Mapping[str, Any]) -> BusAddress:
    if raw["ipc_mode"] == "tcp":
        return BusAddress(port=_port(raw, "tcp_master_pub_port"))
    return BusAddress(path=Path(raw["sock_dir"]) / "master_event_pub.ipc")


def _port(raw: Mapping[str, Any], name: str) -> int:
    port = int(raw[name])
    if not 0 < port < 1 << 16:
        raise ValueError(f"{name} is {port}")
    return port


def _pools(raw: Mapping[str, Any], options: Mapping[str, float]) -> dict[str, int]:
    """Return the workers by pool: `worker_pools` of 3008 where it is set, else `worker_threads` in one pool."""
    pools = raw["worker_pools"]
    if raw["worker_pools_enabled"] and isinstance(pools, dict) and pools:
        return {str(name): int(pool["worker_count"]) for name, pool in pools.items()}
    return {"default": int(options["worker_threads"])}


def _ping_workers(raw: Mapping[str, Any], pools: Mapping[str, int]) -> int:
    """Return the workers of the pool whose commands have `ping`, else of the one for all others, "*"."""
    for command in ("ping", "*"):
        for name, workers in pools.items():
            if len(pools) == 1 or command in raw["worker_pools"][name].get("commands", ()):
                return workers
    return 0


def _changed_since_start(answer: Answer, process: MasterProcess | None) -> bool:
    if process is None:
        return False
    started = (process.started + _START_PRECISION) * 1e9
    return any(len(state) > 1 and state[1] > started for state in watched(answer))
