"""The exporter inside Salt's own Python: `salt-pip install` in a onedir package, beside its master.

A onedir is a Python that only Salt is in, which calls itself by sys.RELENV. Salt's real salt-pip runs here in a
virtualenv that is told to be one.
"""

from __future__ import annotations

import os
import re
import shlex
from contextlib import closing
from typing import TYPE_CHECKING, Final

import pytest

from salt_exporter.demo.cleaner import Cleaner
from salt_exporter.demo.lab import Lab
from salt_exporter.demo.programs import SaltPrograms
from tests.packaging.distributions import ROOT, Distributions, Virtualenv, registry
from tests.real.conftest import _installed
from tests.real.exporter import Metrics

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

# One line of Salt is enough: the oldest, whose own packages are the oldest.
_SALT: Final = next(iter(_installed().values()), None)
_PATIENCE: Final = 120.0  # seconds; machines may be busy
_SALT_PIP: Final = (
    "import pathlib, sys; sys.RELENV = pathlib.Path(sys.prefix); from salt.scripts import salt_pip; salt_pip()"
)

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(600),  # packages are built and fetched within the first test's time
    pytest.mark.skipif(_SALT is None, reason="no Salt in .salt/<line>/bin and none named by SALT_EXPORTER_TEST_SALTS"),
]


def documented() -> list[str]:
    """Return the arguments of the command in docs/installing.md."""
    (command,) = re.findall(r"^salt-pip (install .*)$", (ROOT / "docs/installing.md").read_text(), re.MULTILINE)
    return shlex.split(command)


class Onedir:
    """A Python with Salt in it, and what salt-pip puts beside Salt."""

    def __init__(self, folder: Path, salt: Path) -> None:
        (site,) = salt.glob("../lib/python*/site-packages")
        self.python = Virtualenv(folder / "onedir", [site.resolve()], str(salt / "python3"), pip=True)
        (own_site,) = self.python.folder.glob("lib/python*/site-packages")
        self.extras = self.python.folder / own_site.parent.name.replace("python", "extras-")
        (own_site / "extras.pth").write_text(f"{self.extras}\n")  # as relenv, which makes onedirs, has it
        self._before = self._complaints()

    def salt_pip(self, *arguments: str) -> None:
        """Run Salt's own salt-pip."""
        self.python.run("python3", "-c", _SALT_PIP, *arguments, HOME=str(self.python.folder), **registry())

    def exporter(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the program that salt-pip has installed."""
        return self.python.attempt(str(self.extras / "bin/salt-exporter"), *arguments)

    def new_complaints(self) -> set[str]:
        """Return what `pip check` finds wrong with all that Salt can import, and did not before."""
        return self._complaints() - self._before

    def _complaints(self) -> set[str]:
        return set(self.python.attempt("python3", "-m", "pip", "check").stdout.splitlines())


@pytest.fixture(scope="module")
def onedir(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Onedir:
    """Return a onedir after the documented command."""
    assert _SALT
    onedir = Onedir(tmp_path_factory.mktemp("salt"), _SALT)
    onedir.salt_pip(*(str(distributions.wheel) if word == "salt-exporter" else word for word in documented()))
    return onedir


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Yield a master on ports of its own."""
    assert _SALT
    # Below those from which the kernel takes the ports of clients (ip_local_port_range).
    port = 20000 + os.getpid() % 6000 * 2
    with closing(Cleaner()) as cleaner:
        lab = Lab(cleaner, SaltPrograms(_SALT), (port, port + 1))
        lab.accept_key("ghost", "nobody has the other half")
        lab.start_master()
        lab.wait_master_ready(_PATIENCE)
        yield lab


def test_salts_own_packages_stay_as_they_are(onedir: Onedir) -> None:
    """What salt-pip adds is new to Salt: nothing that Salt brings along is there twice, in whatever version."""
    added = {path.name.partition("-")[0] for path in onedir.extras.glob("*.dist-info")}

    assert {"bcrypt", "prometheus_client", "salt_exporter"} == added


def test_nothing_is_missing_but_for_watch(onedir: Onedir) -> None:
    """`pip check` has no complaint about Salt, and of the exporter only lacks what `salt-exporter watch` draws with."""
    complaints = onedir.new_complaints() - {"No broken requirements found."}

    assert set() == {line for line in complaints if not re.search("salt-exporter .* requires textual", line)}


def test_exporter_in_salts_python_sees_the_master(onedir: Onedir, lab: Lab, tmp_path: Path) -> None:
    """Salt's Python runs the exporter, which finds the master and its version, and looks at all there is."""
    settings = ("--config.file=/dev/null", f"--salt.config-dir={lab.config_dir}", f"--state.directory={tmp_path}")
    once = onedir.exporter("--once", *settings)
    metrics = Metrics(once.stdout)

    assert (0, 1.0) == (once.returncode, metrics.get("salt_master_up")), once.stderr
    assert {1.0} == set(metrics.by("salt_exporter_collector_success", "collector").values())
    assert ["master"] == metrics.labels("salt_master_info", "source")
    assert 1 == metrics.get("salt_keys", state="accepted")
    check = onedir.exporter("check", *settings)
    assert 1 == check.returncode, check.stdout + check.stderr
    assert re.search(r"^ +not present +1$", check.stdout, re.MULTILINE), check.stdout
