"""A master that comes back as another one: other ports, other options, another line of Salt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from salt_exporter.demo.programs import SaltPrograms
from tests.real.faults import MINIONS, scene
from tests.real.newest import INSTALLED, newest_salt

if TYPE_CHECKING:
    from pathlib import Path

    from tests.real.faults import Scene
    from tests.real.namespaces import Network

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]

_OLDEST = "3006"


def _configure(file: Path, **options: object) -> None:
    """Change options in a configuration file of Salt's."""
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | options))


def _come_back(place: Scene, publish_port: int, **options: object) -> None:
    """Restart master and minions with other ports and options."""
    lab = place.lab
    for name in ("master", *MINIONS):
        lab.stop(name)
    _configure(lab.config_dir / "master", publish_port=publish_port, ret_port=publish_port + 1, **options)
    lab.ports = publish_port, publish_port + 1
    lab.start_master()
    lab.wait_master_ready()
    for minion in MINIONS:
        config = lab.folder / "minions" / minion / "conf" / "minion"
        _configure(config, publish_port=publish_port, master_port=publish_port + 1)
        lab.restart(minion)
    lab.wait_minions(MINIONS)
    place.start_caller()


def _works(place: Scene, version: str, jobs: int = 3) -> dict[str, Any]:
    """Check that the exporter sees this version, both minions, and the returns of some jobs; return its metrics."""
    metrics = place.exporter.wait(
        lambda metrics: (
            any(found.startswith(version) for found in metrics.labels("salt_master_info", "version"))
            and metrics.get("salt_presence_minions", 0.0, state="present") == len(MINIONS)
        ),
        60,
        f"Salt {version} with all minions",
    )
    assert "master" in metrics.labels("salt_master_info", "source")
    assert 1 == metrics.get("salt_master_up")
    jids = [place.job("m*", "test.arg", "x" * size) for size in (10, 3000, 200_000)[:jobs]]
    place.assert_counted(jids)
    return {option: metrics.get("salt_settings_value", option=option) for option in ("pub_hwm", "worker_threads")}


def test_other_ports_options_and_version(network: Network, tmp_path: Path) -> None:
    """Ports and options change, then the line of Salt and with it framing and caches: the exporter follows."""
    newest = newest_salt()
    if _OLDEST not in INSTALLED:
        pytest.skip(f"no Salt {_OLDEST}")
    with scene(SaltPrograms(INSTALLED[_OLDEST]), network, "versions", tmp_path / "state") as place:
        place.lab.wait_minions(MINIONS)
        before = _works(place, _OLDEST)
        with place.nothing_lost(), place.said() as said:
            _come_back(place, 4605, pub_hwm=77, worker_threads=4)
            assert before | {"pub_hwm": 77, "worker_threads": 4} == _works(place, _OLDEST)
            # Salt 3008 writes the grains elsewhere, and frames events in another way.
            place.lab.programs = newest
            _come_back(place, 4705, pub_hwm=88)
            assert {"pub_hwm": 88, "worker_threads": 4} == _works(place, "3008")
        assert 0 == place.exporter.scrape().get("salt_exporter_eventbus_decode_errors_total")
    assert [] == [line for line in said if "raceback" in line]
