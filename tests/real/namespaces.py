"""Network namespaces on one bridge, so that a real master and its minions have addresses of their own. Needs root.

Nothing here touches the network of the machine: the bridge is in a namespace too, and no route leads out.
"""

from __future__ import annotations

import os
import re
import subprocess

import psutil

# Namespaces are named <prefix><process id of the owner>-<group><node>.
_PREFIX = "salt-exporter-"
_HUB = "hub"


class Network:
    """Nodes with addresses such as "10.77.0.2/24" or "fd77::2/64" that reach each other.

    Several networks of one process need a `group` each, which tells their namespaces apart.
    """

    def __init__(self, group: str = "") -> None:
        self._group = group
        self._nodes: set[str] = set()
        _add_namespace(self._name(_HUB))
        self._ip(_HUB, "link add name bridge type bridge")
        self._ip(_HUB, "link set dev bridge up")

    def add(self, node: str, *addresses: str) -> None:
        """Add a node (at most 15 characters: its name is an interface's too)."""
        _add_namespace(self._name(node))
        self._nodes.add(node)
        self._ip(_HUB, f"link add name {node} type veth peer name eth0 netns {self._name(node)}")
        self._ip(_HUB, f"link set dev {node} master bridge up")
        for address in addresses:
            # Without duplicate address detection, during which an IPv6 address cannot be used.
            self._ip(node, f"address add {address} dev eth0{' nodad' if ':' in address else ''}")
        self._ip(node, "link set dev eth0 up")

    def limit_buffers(self, node: str, size: int) -> None:
        """Let the kernel hold no more than so many bytes for each TCP connection of a node, either way."""
        for name in ("tcp_wmem", "tcp_rmem"):
            _run("ip", "netns", "exec", self._name(node), "sysctl", "-q", "-w", f"net.ipv4.{name}=4096 16384 {size}")

    def prefix(self, node: str) -> list[str]:
        """Return what to put before a command to run it on a node."""
        return ["ip", "netns", "exec", self._name(node)]

    def cut_link(self, node: str) -> None:
        """Drop all packets from and to a node without anybody being told: its interface stays up."""
        self._ip(_HUB, f"link set dev {node} nomaster")

    def restore_link(self, node: str) -> None:
        """Undo `cut_link`."""
        self._ip(_HUB, f"link set dev {node} master bridge")

    def block_port(self, node: str, port: int, host: str = "0.0.0.0/0") -> None:
        """Drop all packets from a node to a TCP port, of one host or of all, as a firewall does."""
        # By number (TCP is 6): the name would need /etc/protocols, which a minimal Debian lacks.
        self._ip(node, f"xfrm policy add dir out src 0.0.0.0/0 dst {host} proto 6 dport {port} action block")

    def unblock_ports(self, node: str) -> None:
        """Undo `block_port`."""
        self._ip(node, "xfrm policy flush")

    def close(self) -> None:
        """Delete all namespaces; what still runs in one keeps it, without a name and without a link."""
        for node in (*self._nodes, _HUB):
            _delete_namespace(self._name(node))

    def _name(self, node: str) -> str:
        return f"{_PREFIX}{os.getpid()}-{self._group}{node}"

    def _ip(self, node: str, command: str) -> None:
        _run("ip", "-n", self._name(node), *command.split())


def delete_leftovers() -> None:
    """Delete the namespaces of owners that were killed."""
    for name in _run("ip", "netns", "list").split():
        match = re.match(rf"{_PREFIX}(\d+)-", name)
        if match and not psutil.pid_exists(int(match[1])):
            _delete_namespace(name)


def _add_namespace(name: str) -> None:
    _run("ip", "netns", "add", name)
    _run("ip", "-n", name, "link", "set", "lo", "up")


def _delete_namespace(name: str) -> None:
    # Another run may delete the same leftover.
    subprocess.run(["ip", "netns", "delete", name], check=False, stderr=subprocess.DEVNULL)


def _run(*argv: str) -> str:
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout
