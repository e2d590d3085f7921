"""The commands in the documents that are not run as they stand, each with the reason. Keep it short."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from tests.docs.commands import Command


class Exemption(NamedTuple):
    """Commands that begin with a match of a regular expression, and why they are not run."""

    pattern: str
    reason: str
    instead: str = ""  # the test that does what they do

    def covers(self, command: Command) -> bool:
        """Tell whether it is about a command."""
        return bool(re.match(self.pattern, command.text))


_NO_REGISTRY: Final = "fetches packages, and the site has no way out"

EXEMPTIONS: Final = (
    Exemption(r"\./setup test", "is what runs this test"),
    Exemption(r"\./setup run", "has an end only when it is interrupted", "tests/real/test_demo.py"),
    Exemption(r"(python3 -m venv )?/tmp/new\b", _NO_REGISTRY),
    Exemption(r"python3 -m venv /opt/|/opt/salt-exporter/bin/pip ", _NO_REGISTRY, "tests/packaging/test_wheel.py"),
    Exemption(r"salt(-call --local| 'master\*') .*state\.apply", _NO_REGISTRY, "tests/packaging/test_formula.py"),
    Exemption(r"salt-pip |/opt/saltstack/salt/extras", _NO_REGISTRY, "tests/packaging/test_salt_pip.py"),
    Exemption(r"docker (build|run) ", "there is no container service", "tests/packaging/test_image.py"),
    Exemption(
        r"(MASTER_USER=.* )?docker compose ", "there is no container service", "tests/packaging/test_monitoring.py"
    ),
    Exemption(r"kubectl ", "there is no cluster", "tests/packaging/test_kubernetes.py"),
    Exemption(r"salt-exporter watch$", "needs a terminal and somebody who ends it", "tests/real/test_watch.py"),
    Exemption(r"(cp|install) .*(/etc/|/var/lib/)grafana|systemctl restart grafana-server", "there is no Grafana"),
)


def exemption(command: Command) -> Exemption | None:
    """Return the exemption that covers a command."""
    return next((found for found in EXEMPTIONS if found.covers(command)), None)
