"""The Salt state that installs the exporter on masters, applied by a real Salt."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from salt_exporter.demo.programs import SaltPrograms
from tests.packaging.distributions import ROOT, Distributions, dependencies

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(600),  # the wheel is built within the first test's time
    pytest.mark.skipif(os.geteuid() != 0, reason="the state gives files to root, which takes root"),
]

_STATES: Final = ROOT / "deploy/salt"


class Minion:
    """A minion without a master that has the state in its file_roots, and a scratch folder to install into."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder
        self.program = folder / "opt/bin/salt-exporter"
        self._pillar = {
            "prefix": str(folder / "opt"),
            "source": str(wheel),
            "user": "root",
            "group": "root",
            "config_dir": str(folder / "etc"),
            "unit_dir": str(folder / "units"),
            "packages": [],
            "service": False,
        }
        # In front of the state's own file, as one overrides files of a formula: the pins are installed with the image.
        pins = folder / "overrides/salt-exporter/files/requirements.txt"
        pins.parent.mkdir(parents=True)
        pins.write_text("# nothing\n")
        (folder / "units").mkdir()
        config = {
            "root_dir": str(folder),
            "id": "master",
            "file_client": "local",
            "file_roots": {"base": [str(folder / "overrides"), str(_STATES)]},
            "pillar_roots": {"base": [str(folder / "pillar")]},  # not this machine's: all pillar is given with the call
            "enable_fqdns_grains": False,
            "enable_gpu_grains": False,
            "log_level": "error",
        }
        (folder / "minion").write_text(yaml.safe_dump(config))

    def apply(self, **pillar: Any) -> Mapping[str, Any]:  # noqa: ANN401 - whatever a pillar holds
        """Apply the state and return its results by the ids of the states."""
        chunks = self.call("state.apply", pillar)
        return {chunk["__id__"]: chunk for chunk in chunks.values()}

    def call(self, function: str, pillar: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever it returns
        """Return what an execution function returns of the state."""
        given = json.dumps({"salt-exporter": self._pillar | dict(pillar)})
        salt_call = str(SaltPrograms.find().bin_dir / "salt-call")
        done = subprocess.run(
            [
                salt_call,
                "--local",
                f"--config-dir={self.folder}",
                "--out=json",
                function,
                "salt-exporter",
                f"pillar={given}",
            ],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(dependencies())},  # instead of the pins
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout, done.stderr
        return json.loads(done.stdout)["local"]

    def read(self, name: str) -> str:
        """Return the text of a file that the state wrote."""
        return (self.folder / name).read_text()


@pytest.fixture(scope="module")
def minion(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Minion:
    """Return a minion to which the state was applied once."""
    minion = Minion(tmp_path_factory.mktemp("minion"), distributions.wheel)
    results = minion.apply()
    assert {} == {name: result for name, result in results.items() if not result["result"] or not result["changes"]}
    return minion


def test_the_state_installs_the_exporter(minion: Minion) -> None:
    """The exporter is in its virtualenv, and the unit starts that one, as the master's user, with its configuration."""
    done = subprocess.run([minion.program, "--version"], capture_output=True, text=True, check=True, cwd="/")

    assert done.stdout.startswith("salt-exporter ")
    assert minion.read("units/salt-exporter.service") == (ROOT / "deploy/systemd/salt-exporter.service").read_text()
    drop_in = minion.read("units/salt-exporter.service.d/formula.conf")
    assert f"\nUser=root\nGroup=root\nExecStart=\nExecStart={minion.program} --config.file=" in drop_in


def test_a_second_run_changes_nothing(minion: Minion) -> None:
    """Applied again, the state finds everything in place."""
    results = minion.apply()

    assert {} == {name: result["changes"] for name, result in results.items() if result["changes"]}
    assert {True} == {result["result"] for result in results.values()}


def test_the_pillar_is_the_configuration(minion: Minion) -> None:
    """Settings and users of the pillar reach files that only root and the master's group can read, and no terminal."""
    users = {"prometheus": "$2y$10$" + 53 * "a"}

    results = minion.apply(
        config={"web": {"listen-address": "127.0.0.1:4599"}, "jobs": {"deadline": "2m"}},
        web_config={"basic_auth_users": users},
    )

    changed = {name for name, result in results.items() if result["changes"]}
    assert {"salt-exporter-config", "salt-exporter-web-config"} == changed
    assert {
        "jobs": {"deadline": "2m"},
        "web": {"listen-address": "127.0.0.1:4599", "config.file": str(minion.folder / "etc/web-config.yml")},
    } == yaml.safe_load(minion.read("etc/config.yml"))
    assert {"basic_auth_users": users} == yaml.safe_load(minion.read("etc/web-config.yml"))
    assert 0o640 == stat.S_IMODE((minion.folder / "etc/web-config.yml").stat().st_mode)
    assert "$2y$" not in json.dumps(results)


def test_a_bad_setting_never_reaches_the_file(minion: Minion) -> None:
    """A pillar with a setting that does not exist fails, with its name, and leaves the configuration as it is."""
    before = minion.read("etc/config.yml")

    results = minion.apply(config={"jobs": {"deathline": "2m"}})

    failed = {name for name, result in results.items() if not result["result"]}
    assert {"salt-exporter-config"} == failed
    assert "unknown setting jobs.deathline" in results["salt-exporter-config"]["comment"]
    assert before == minion.read("etc/config.yml")


def test_the_service_follows_whatever_it_runs_with(minion: Minion) -> None:
    """Where there is a systemd, the service is enabled, runs, and is restarted for a new version or configuration."""
    chunks = minion.call("state.show_low_sls", {"service": True})

    (service,) = (chunk for chunk in chunks if chunk["state"] == "service")
    assert ("running", "salt-exporter", True) == (service["fun"], service["name"], service["enable"])
    states = ("installed", "config", "unit", "drop-in")
    assert [f"salt-exporter-{state}" for state in states] == [
        name for item in service["watch"] for name in item.values()
    ]
