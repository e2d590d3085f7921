"""Minions as a master sees them: accepted keys, cached grains, subscriptions to its publisher. None of them runs."""

from __future__ import annotations

from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgpack

from benchmarks.processes import Child
from salt_exporter.kernel.inet_diag import COOKIE, ESTABLISHED
from salt_exporter.kernel.sock_diag import tcp_sockets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from salt_exporter.demo.lab import Lab
    from salt_exporter.master.addresses import Layout

_ABSENT: Final = 125  # every so-many-th minion is not connected: 40 of 5,000
# libzmq looks through the timers of all connections at each answer to a heartbeat (poller_base.cpp, `cancel_timer`):
# with 20,000 connections one publisher alone takes a whole core.
_SUBSCRIBERS: Final = 5000  # of the real publisher
_IDLERS: Final = 9000  # connections held by one process, at two open files each
_CONTAINERS: Final = range(5, 60)  # on a minion; their interfaces make grains of 4 to 10 kB
_KEY: Final = f"-----BEGIN PUBLIC KEY-----\n{'MIIBIjANBgkqhkiG' * 24}\n-----END PUBLIC KEY-----\n"


class FleetError(Exception):
    """The minions are not connected as they should be."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """The minions of a master, sorted by id."""

    minions: list[str]
    absent: list[str]
    grains_bytes: tuple[int, int]  # the smallest and the largest cache file
    port: int
    cookies: frozenset[int]  # the kernel's identities of the connections

    def check(self) -> None:
        """Raise FleetError if not every connection is the one it was."""
        lost = len(self.cookies - _established(self.port))
        if lost:
            raise FleetError(f"{lost} of {len(self.cookies)} subscribers were disconnected during the measurement")


@contextmanager
def fleet(lab: Lab, layout: Layout, number: int, away: int = _ABSENT) -> Iterator[Fleet]:
    """Give the lab's master this many minions; the absent ones have a key and grains, as after their host went down.

    Every `away`-th is absent, with 0 nobody is. The first 5,000 subscribe to its publisher, the others are
    connected to its port at other addresses. At the end the connections are closed; keys and grains stay for a larger
    fleet. Raises FleetError.
    """
    minions = {f"minion-{index:05}": f"127.77.{index >> 8}.{index & 255}" for index in range(1, number + 1)}
    absent = list(minions)[away - 1 :: away] if away else []
    sizes = []
    for index, (minion, address) in enumerate(minions.items(), 1):
        path = lab.folder / "cache" / layout.directory / (layout.file % minion)
        if not path.exists():  # else it was a smaller fleet's, too
            lab.accept_key(minion, _KEY)
            _cache(path, layout, _grains(minion, address, _CONTAINERS[index % len(_CONTAINERS)]))
        sizes.append(path.stat().st_size)
    port = lab.ports[0]
    with ExitStack() as stack:
        _connect(stack, lab.programs.python, port, [minions[minion] for minion in minions.keys() - absent])
        cookies = _established(port)
        if len(cookies) != number - len(absent):
            raise FleetError(f"{len(cookies)} of {number - len(absent)} subscribers are connected")
        yield Fleet(list(minions), absent, (min(sizes), max(sizes)), port, cookies)


def _connect(stack: ExitStack, python: str, port: int, addresses: Sequence[str]) -> None:
    """Let all these connect, from processes that end with the stack."""
    subscribers = stack.enter_context(closing(Child(python, "subscribers", "127.0.0.1", port)))
    subscribers.ask(" ".join(addresses[:_SUBSCRIBERS]))
    for which, start in enumerate(range(_SUBSCRIBERS, len(addresses), _IDLERS), 1):
        idlers = stack.enter_context(closing(Child(python, "idlers", f"127.0.{which}.1", port)))
        idlers.ask(" ".join(addresses[start : start + _IDLERS]))


def _cache(path: Path, layout: Layout, grains: dict[str, Any]) -> None:
    """Write a minion's cache file as its Salt line does."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_bytes(msgpack.packb({"grains": grains, "pillar": {}} if layout.wrapped else grains))


def _established(port: int) -> frozenset[int]:
    return frozenset(row[COOKIE] for row in tcp_sockets((port,), states=1 << ESTABLISHED).connections)


def _grains(minion: str, address: str, containers: int) -> dict[str, Any]:
    """Return the grains of a Debian host with one address of its own, as Salt would report them."""
    interfaces = ["lo", "eth0", *(f"veth{number:07x}" for number in range(containers))]
    ipv4 = {"lo": ["127.0.0.1"], "eth0": [address]}
    ipv6 = {"lo": ["::1"], **{name: [f"fe80::42:acff:fe11:{number:x}"] for number, name in enumerate(interfaces[2:])}}
    return {
        "cwd": "/",
        "dns": {"nameservers": ["192.0.2.53"], "search": ["example.org"], "options": [], "sortlist": []},
        "machine_id": "3d1219c7c4c5404aaa1f6d2a48adfda4",
        "master": "salt",
        "server_id": 303712385,
        "localhost": minion,
        "host": minion,
        "nodename": minion,
        "fqdn": f"{minion}.example.org",
        "domain": "example.org",
        "hwaddr_interfaces": {name: f"02:42:ac:11:00:{number:02x}" for number, name in enumerate(interfaces)},
        "id": minion,
        "ip4_interfaces": {name: ipv4.get(name, []) for name in interfaces},
        "ip6_interfaces": {name: ipv6.get(name, []) for name in interfaces},
        "ipv4": ["127.0.0.1", address],
        "ipv6": ["::1"],
        "fqdn_ip4": [address],
        "ip_interfaces": {name: ipv4.get(name, []) + ipv6.get(name, []) for name in interfaces},
        "kernelparams": [["BOOT_IMAGE", "/vmlinuz"], ["root", "/dev/mapper/vg0-root"], ["ro", None], ["quiet", None]],
        "locale_info": {"defaultlanguage": "en_US", "defaultencoding": "UTF-8", "timezone": "UTC"},
        "gpus": [{"vendor": "unknown", "model": "QXL paravirtual graphic card"}],
        "kernel": "Linux",
        "kernelrelease": "6.1.0-28-amd64",
        "kernelversion": "#1 SMP PREEMPT_DYNAMIC Debian 6.1.119-1 (2024-11-22)",
        "systemd": {"version": "252", "features": " ".join(f"+FEATURE{number}" for number in range(30))},
        "os": "Debian",
        "os_family": "Debian",
        "oscodename": "bookworm",
        "osfullname": "Debian GNU/Linux",
        "osrelease": "12",
        "osrelease_info": [12],
        "osarch": "amd64",
        "num_cpus": 8,
        "cpu_model": "Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz",
        "cpu_flags": [f"flag_{number}" for number in range(160)],
        "mem_total": 32105,
        "virtual": "kvm",
        "disks": [f"sd{letter}" for letter in "abcdefgh"],
        "path": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "systempath": ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"],
        "pythonpath": [f"/opt/saltstack/salt/lib/python3.10/{name}" for name in ("", "lib-dynload", "site-packages")],
        "pythonversion": [3, 10, 15, "final", 0],
        "saltpath": "/opt/saltstack/salt/lib/python3.10/site-packages/salt",
        "saltversion": "3008.3",
        "zmqversion": "4.3.5",
        "shell": "/bin/sh",
        "lvm": {f"vg{number}": ["root", "swap", "var", "home"] for number in range(4)},
        "mdadm": [],
        "roles": ["web", "frontend", "monitored", "backup"],
        "location": {"site": "example-1", "room": "B2", "rack": "17", "unit": 23, "owner": "platform team"},
    }
