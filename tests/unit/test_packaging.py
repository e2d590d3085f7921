"""What is handed out: the two commands, the pins, the systemd unit. Packages and images: tests/packaging."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import salt_exporter

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy/systemd/salt-exporter.service"
SALT_LINES = ("3006", "3007", "3008")


def test_readme_gives_the_two_commands() -> None:
    """The README shows both set-up commands as lines that can be copied."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]

    assert {"./setup run", "./setup test"} <= set(lines)


def test_ci_runs_the_readme_test_command(tmp_path: Path) -> None:
    """CI calls `setup test`, the README's command, without arguments, and ends with its exit status."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    setup = tmp_path / "setup"
    setup.write_text('#!/bin/sh\necho "$@"\nexit 7\n')
    setup.chmod(0o755)

    ci = subprocess.run([tmp_path / ".ci/run"], cwd="/", capture_output=True, text=True, check=False)

    assert (ci.returncode, ci.stdout) == (7, "test\n")


def test_setup_refuses_what_it_does_not_know() -> None:
    """Without one of its two words the set-up does nothing but say which there are."""
    setup = subprocess.run([ROOT / "setup", "tset"], cwd="/", capture_output=True, text=True, check=False)

    assert (setup.returncode, setup.stderr) == (1, "setup: say ./setup run or ./setup test\n")


def test_changelog_has_an_entry_for_this_version() -> None:
    """The changelog says what is in the version that the package claims to be."""
    headings = re.findall(r"^## \[?([^\]\s]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert salt_exporter.__version__ in headings


def pins(path: Path) -> dict[str, str]:
    """Return the version by canonical name in a file of `name==version` lines; any other is a ValueError."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def test_every_dependency_is_pinned_within_its_range() -> None:
    """What pyproject.toml asks for, test tools included, is in constraints.txt with a version it allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pinned = pins(ROOT / "constraints.txt")

    for text in project["project"]["dependencies"] + project["dependency-groups"]["test"]:
        wanted = Requirement(text)
        assert pinned[canonicalize_name(wanted.name)] in wanted.specifier


@pytest.mark.parametrize("line", SALT_LINES)
def test_salt_line_pins_salt_of_that_line(line: str) -> None:
    """The virtualenv that tests use as a Salt line gets a Salt of that line."""
    assert line == pins(ROOT / f"tests/salt-lines/{line}.txt")["salt"].split(".")[0]


@pytest.mark.parametrize("line", SALT_LINES)
def test_every_salt_line_brings_what_the_exporter_shares_with_it(line: str) -> None:
    """What Salt brings along is in our ranges: in Salt's own Python nothing of it has to be replaced by pip."""
    brought = pins(ROOT / f"tests/salt-lines/{line}.txt")
    wanted = [
        Requirement(text) for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    ]
    shared = [item for item in wanted if canonicalize_name(item.name) in brought]

    assert {"msgpack", "psutil", "pyyaml", "pyzmq", "salt", "tornado"} <= {
        canonicalize_name(item.name) for item in shared
    }
    assert [] == [str(item) for item in shared if brought[canonicalize_name(item.name)] not in item.specifier]


def directives() -> dict[str, list[str]]:
    """Return the values that the systemd unit gives each directive, in order."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("directive", ["CapabilityBoundingSet", "AmbientCapabilities"])
def test_unit_has_no_capability(directive: str) -> None:
    """The service can neither hold nor gain a capability, whoever it runs as."""
    assert directives()[directive] == [""]


def test_unit_may_use_the_sockets_it_needs_and_no_other() -> None:
    """HTTP, the event bus and sock_diag are the families of sockets that the service opens."""
    assert directives()["RestrictAddressFamilies"] == ["AF_INET AF_INET6 AF_UNIX AF_NETLINK"]


def test_unit_is_watched() -> None:
    """Systemd waits until the exporter listens, and starts it again when it gives no sign of life."""
    found = directives()

    assert (["notify"], ["main"], ["on-failure"]) == (found["Type"], found["NotifyAccess"], found["Restart"])
    assert int(found["WatchdogSec"][0]) > 0


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_unit_is_hardened() -> None:
    """Systemd's own exposure score of the unit is at most 2.0 of 10."""
    analyze = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20"]

    done = subprocess.run([*analyze, UNIT], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout[-100:] + done.stderr
