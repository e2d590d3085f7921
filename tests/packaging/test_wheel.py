"""The sdist and the wheel: what they hold, and the exporter installed from one with the source tree out of reach."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest
import tomllib

import salt_exporter
from tests.packaging.distributions import ROOT, Distributions, Virtualenv, dependencies
from tests.real.exporter import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterable

VERSION = salt_exporter.__version__

pytestmark = pytest.mark.timeout(600)  # both are built within the first test's time


def files_in(folder: str) -> set[str]:
    """Return the files of a folder of the repository, relative to the root."""
    found = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(ROOT)) for path in found}


def names_in(sdist: Path) -> Iterable[str]:
    """Return the names in an sdist without the directory that they all begin with."""
    with tarfile.open(sdist) as archive:
        return [str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in archive.getnames()]


def test_wheel_holds_the_whole_package_and_nothing_else(distributions: Distributions) -> None:
    """The wheel has every file of the package, its type marker and licence among them, and no test."""
    names = set(ZipFile(distributions.wheel).namelist())

    metadata = f"salt_exporter-{VERSION}.dist-info/"
    shared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    data = {f"salt_exporter-{VERSION}.data/data/{target}" for target in shared["shared-data"].values()}
    assert files_in("salt_exporter") | data == {name for name in names if not name.startswith(metadata)}
    assert {"salt_exporter/py.typed", metadata + "licenses/LICENSE"} <= names


@pytest.mark.parametrize("folder", ["alerts", "deploy", "docs", "grafana", "salt_exporter"])
def test_sdist_holds_what_users_need(distributions: Distributions, folder: str) -> None:
    """Alerts, dashboards, deployment files and documentation are in the sdist where they are in the repository."""
    assert set() == files_in(folder) - set(names_in(distributions.sdist))


def test_sdist_holds_what_the_image_is_built_from(distributions: Distributions) -> None:
    """Whoever has the sdist can build the image: all that .dockerignore lets through is there."""
    allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    wanted = {str(path.relative_to(ROOT)) for pattern in allowed for path in ROOT.glob(pattern)}
    present = set(names_in(distributions.sdist))

    assert {"Dockerfile", ".dockerignore"} <= present
    assert set() == {path for path in wanted if path not in present and not files_in(path) <= present}


@pytest.fixture(scope="module")
def installed(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Virtualenv:
    """Return a virtualenv with the wheel, and with everything it depends on beside."""
    virtualenv = Virtualenv(tmp_path_factory.mktemp("clean") / "venv", [dependencies()])
    virtualenv.pip("install", "--quiet", "--no-deps", "--no-index", str(distributions.wheel))
    return virtualenv


def test_installed_exporter_is_the_wheels(installed: Virtualenv) -> None:
    """What runs is in the virtualenv, and says the version of the source it was built from."""
    file = installed.run("python", "-c", "import salt_exporter; print(salt_exporter.__file__)")

    assert Path(file.strip()).is_relative_to(installed.folder)
    assert f"salt-exporter {VERSION}\n" == installed.run("salt-exporter", "--version")


def only_below(folder: Path) -> tuple[str, ...]:
    """Return settings with which the exporter looks for everything below a folder."""
    return "--config.file=/dev/null", f"--salt.config-dir={folder}", f"--state.directory={folder}"


def test_installed_exporter_scrapes_itself_without_a_master(installed: Virtualenv, tmp_path: Path) -> None:
    """`--once` prints its own metrics where there is no master, and exits with 1 because collectors failed."""
    once = installed.attempt("salt-exporter", "--once", *only_below(tmp_path))

    assert 1 == once.returncode
    metrics = Metrics(once.stdout)
    assert [VERSION] == metrics.labels("salt_exporter_build_info", "version")
    assert 0 == metrics.get("salt_exporter_collector_success", collector="keys")


def test_installed_exporter_checks_that_there_is_no_master(installed: Virtualenv, tmp_path: Path) -> None:
    """`check` exits with 2 and names the configuration directory that holds no master."""
    check = installed.attempt("salt-exporter", "check", *only_below(tmp_path))

    assert 2 == check.returncode
    assert f"{tmp_path} holds no master configuration" in check.stdout
