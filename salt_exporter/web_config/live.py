"""The web configuration in force: follows its file and the files that names, and keeps the last good one."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from salt_exporter.config import ConfigError
from salt_exporter.web_config.file import WebConfig, read
from salt_exporter.web_config.tls import admits, context_of
from salt_exporter.web_config.users import Users

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from typing import Any

_LOOK_EVERY: Final = 2.0  # seconds

_log = logging.getLogger(__name__)


class Reload(Protocol):
    """Where the outcome of reloading is told to, when all of it is done."""

    successful: bool
    time: float  # of the last successful one, Unix seconds


@dataclass(frozen=True, slots=True)
class Active:
    """A web configuration that can be served with."""

    tls: ssl.SSLContext | None = None
    allowed_sans: frozenset[str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Users = field(default_factory=lambda: Users({}))

    def admits(self, certificate: Mapping[str, Any] | None) -> bool:
        """Tell whether a client with this verified certificate may speak."""
        return admits(self.allowed_sans, certificate)


def activate(config: WebConfig) -> Active:
    """Read the certificates that a configuration names. Raises ConfigError."""
    tls = config.tls
    sans = frozenset(tls.client_allowed_sans) if tls and tls.client_allowed_sans is not None else None
    return Active(context_of(tls) if tls else None, sans, config.headers, Users(config.users))


class LiveWebConfig:
    """The one in force, without a file an open one. `applied` is called, from another thread, with each new one."""

    def __init__(self, file: Path | None, reload: Reload) -> None:
        """Read the file. Raises ConfigError: there is no last good one yet."""
        self._file = file
        self._reload = reload
        self._applied: Callable[[Active], None] = lambda _active: None
        self._lock = threading.Lock()  # of the two below
        self._files: tuple[Path, ...] = ()  # that the last attempt would have needed
        self._tried = self._seen = _states(())  # of them, before the last attempt and at the last look
        self.current = self._load(file) if file else Active()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="web-config", daemon=True)

    def start(self, applied: Callable[[Active], None]) -> None:
        """Begin to follow the files."""
        self._applied = applied
        if self._file:
            self._thread.start()

    def stop(self) -> None:
        """Stop following them."""
        self._stop.set()

    def reload(self) -> None:
        """Read everything again; keep what is in force where it cannot be used. Raises nothing."""
        if self._file:
            with self._lock:
                self._try(self._file)

    def _try(self, file: Path) -> None:
        try:
            new = self._load(file)
            _refuse_less(self.current, new)
        except ConfigError as error:
            _log.error("web configuration not reloaded: %s", error)
            self._reload.successful = False
            return
        self.current = new
        self._applied(new)
        _log.info("web configuration reloaded")
        self._reload.successful, self._reload.time = True, time.time()

    def _load(self, file: Path) -> Active:
        # States first: what changes while it is read is then seen to be newer than what was read.
        self._files = (file,)
        self._tried = self._seen = _states(self._files)
        config = read(file)
        if config.tls:
            self._files = (file, *config.tls.files)
            self._tried = self._seen = self._tried + _states(config.tls.files)
        try:
            return activate(config)
        except ConfigError as error:
            raise ConfigError(f"{file}: {error}") from error

    def _follow(self) -> None:
        while self._file and not self._stop.wait(_LOOK_EVERY):
            with self._lock:
                states = _states(self._files)
                # What is being written is left alone until two looks find it the same.
                settled, self._seen = states == self._seen, states
                if settled and states != self._tried:
                    self._try(self._file)


def _refuse_less(old: Active, new: Active) -> None:
    """Refuse to take away protection while running: a file half written, or emptied by a full disk, looks like that."""
    for name, had, has in (
        ("tls_server_config", old.tls, new.tls),
        ("basic_auth_users", old.users, new.users),
    ):
        if had and not has:
            raise ConfigError(f"{name} is gone: to do without it takes a restart")


def _states(files: Iterable[Path]) -> tuple[tuple[int, ...], ...]:
    """Return what changes when a file does, be it written, replaced, or made readable."""
    return tuple(_state_of(file) for file in files)


def _state_of(file: Path) -> tuple[int, ...]:
    try:
        stat = file.stat()
    except OSError as error:
        return (error.errno or 0,)
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
