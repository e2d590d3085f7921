"""Who of the accepted minions is there: keys, cached grains, connections and signs of life, put together.

Apart from the rest of the world, so that a command that asks nothing else loads nothing else.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Final

import psutil

from salt_exporter.analysis.presence import PresenceTracker
from salt_exporter.errors import SourceError
from salt_exporter.master.addresses import AddressIndex, layout_of
from salt_exporter.master.keys import KeyStore
from salt_exporter.master.options import OPTION, is_read
from salt_exporter.sampler import publish_peers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from salt_exporter.analysis.presence import Presence
    from salt_exporter.master.keys import Keys
    from salt_exporter.master.settings import MasterSettings, SettingsSource
    from salt_exporter.sampler import Sampler

# A healthy subscriber answers each heartbeat; half an interval more allows for the way there and back.
_HEARTBEATS: Final = 1.5
_OLD: Final = 30.0  # seconds after which who was present is news to nobody


class RollCall:
    """Calls the accepted minions. Questions may be asked from any thread; they raise SourceError."""

    def __init__(
        self,
        settings: SettingsSource,
        sampler: Sampler,
        last_seen: Callable[[], Mapping[str, float]],
        recent: float,
    ) -> None:
        """Take `last_seen`, which gives signs of life in Unix seconds; one of the last `recent` seconds is proof."""
        self.index = AddressIndex()
        self.own_addresses: frozenset[bytes] = frozenset()  # of this host
        self.newest: Presence | None = None
        self.refreshed: float | None = None  # monotonic seconds of the last good refresh
        self.observers: list[Callable[[MasterSettings, Collection[str]], None]] = []  # are told the accepted minions
        self.sampler = sampler
        self._settings = settings
        self._last_seen = last_seen
        self._keys = KeyStore()
        self._tracker = PresenceTracker(recent)
        self._basis: tuple[object, ...] = ()  # what `newest` was decided from
        self._decided = 0.0  # when that snapshot was taken (monotonic)
        self._reading = threading.Lock()  # of what _keys remembers
        self._deciding = threading.Lock()  # of what _tracker and `newest` remember
        self._refreshing = threading.Lock()
        self._index_problem = ""  # why addresses are not known: one sentence

    def keys(self) -> Keys:
        """Return the minion keys."""
        settings = self._settings.current()
        if settings.keys_driver != "localfs_key":
            raise SourceError(
                f"the master keeps its keys with keys.cache_driver: {settings.keys_driver}, which cannot be read: "
                "only localfs_key is supported"
            )
        with self._reading:
            return self._keys.read(settings.pki_dir)

    def presence(self) -> Presence:
        """Return who is present: decided once for each snapshot, and when keys or cached grains have changed.

        Signs of life are those of that moment, so as old as the snapshot at most. While the next one is being decided
        nobody waits for it.
        """
        if self.refreshed is None and not self._index_problem:
            self.refresh()
        if self._index_problem:
            raise SourceError(self._index_problem)
        settings = self._settings.current()
        accepted = self.keys().accepted
        snapshot, silent, addresses, own = (
            self.sampler.snapshot(),
            silent_after(settings),
            self.index.current,
            self.own_addresses,
        )
        basis = snapshot, silent, addresses, own, accepted
        newest = self.newest
        if newest is not None and self._deciding.locked() and snapshot.taken - self._decided < _OLD:
            return newest
        with self._deciding:
            if self.newest is None or basis != self._basis:
                peers = publish_peers(snapshot, silent)
                seen = self._last_seen()
                self.newest = self._tracker.decide(
                    accepted, addresses.by_minion, addresses.by_address, peers, own, seen, time.time()
                )
                self._basis, self._decided = basis, snapshot.taken
            return self.newest

    def refresh(self) -> None:
        """Look for changes of the master's configuration, keys and cached grains."""
        with self._refreshing:
            try:
                settings = self._settings.refresh()
            except SourceError:  # keys and grains change all the same, below the directories last known
                settings = self._settings.current()
            accepted = self.keys().accepted
            for observer in self.observers:
                observer(settings, accepted)
            try:
                self.own_addresses = _host_addresses()
                _require_readable_cache(settings)
                self.index.update(accepted, settings.cachedir, layout_of(settings.version_info))
                self._index_problem = ""
            except SourceError as error:
                self._index_problem = str(error)
                raise
            self.refreshed = time.monotonic()


def silent_after(settings: MasterSettings) -> float | None:
    """Return after how many seconds without a word a subscriber is silent, None if the master sends no heartbeats."""
    if settings.transport != "zeromq" or not is_read(OPTION["zmq_heartbeat_ivl"], settings.version_info):
        return None
    return settings.options["zmq_heartbeat_ivl"] / 1000 * _HEARTBEATS or None


def _require_readable_cache(settings: MasterSettings) -> None:
    """Raise SourceError where the master keeps no grains that the exporter can read."""
    if not settings.options.get("minion_data_cache", 1):
        raise SourceError(
            "the master runs with minion_data_cache: False, so nothing tells which address belongs to which minion: "
            "set it to True, as it is by default"
        )
    if settings.cache_driver != "localfs":
        raise SourceError(
            f"the master caches grains with cache: {settings.cache_driver}, which the exporter cannot read: "
            "only localfs is supported"
        )


def _host_addresses() -> frozenset[bytes]:
    """Return the addresses of this host in network byte order, without those of the loopback interface.

    Raises SourceError.
    """
    try:
        interfaces = psutil.net_if_addrs()
    except OSError as error:  # the C library asks with netlink
        raise SourceError(
            f"cannot list this host's addresses ({error.strerror}): the exporter needs leave to use AF_NETLINK "
            "(RestrictAddressFamilies= in its unit)"
        ) from error
    found = set()
    for name, addresses in interfaces.items():
        for item in addresses:
            if item.family in (socket.AF_INET, socket.AF_INET6) and name != "lo":
                found.add(socket.inet_pton(item.family, item.address.partition("%")[0]))
    return frozenset(found)
