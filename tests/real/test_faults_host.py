"""Faults of the host that exporter and master share: its clock, its files. Told, outlived, nothing forgotten."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.real.faults import DEADLINE, LOST, MINIONS, gone_back, is_well, scene
from tests.real.newest import newest_salt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.real.faults import Scene
    from tests.real.namespaces import Network

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

_CLOCK = Path(__file__).with_name("programs") / "stepping_clock.py"
_HOUR = 3600


@pytest.fixture(scope="module", name="place")
def _place(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Yield a scene."""
    with scene(newest_salt(), network, "files", tmp_path_factory.mktemp("state")) as found:
        yield found


@pytest.mark.parametrize("steps", [(_HOUR, 0), (-_HOUR, 0)], ids=["forward", "back"])
def test_clock_steps(place: Scene, tmp_path: Path, steps: tuple[int, int]) -> None:
    """Jobs that are in flight when the clock steps end in time, as they would have; no counter goes back."""
    clock = tmp_path / "clock"
    clock.write_text("0")
    with place.other_exporter([*place.prefix, sys.executable, str(_CLOCK), str(clock)]):
        before = place.wait_well()
        for step in steps:
            jids = [place.job("m*", "test.ping"), place.job("ghost", LOST, 6)]
            aside = clock.with_name("new")
            aside.write_text(str(step))
            aside.rename(clock)
            jids.append(place.job("m*", "test.ping"))
            place.wait_closed(jids, 4 * DEADLINE)
            known = place.jobs()
            assert [(2, 0), (0, 1), (2, 0)] == [(known[jid]["returned"], known[jid]["missing"]) for jid in jids]
            place.wait_told(jids[1])
            after = place.wait_well()
            assert [] == gone_back(before, after)
            assert {"present": 2.0, "not_present": 1.0, "uncertain": 0.0} == {
                state: number for (state,), number in after.by("salt_presence_minions", "state").items()
            }
            before = after


def test_bus_socket_replaced(place: Scene) -> None:
    """What is not the master's any more is left for the new one, whatever lay in its place meanwhile."""
    socket = place.lab.folder / "run" / "master_event_pub.ipc"
    with place.nothing_lost():
        place.assert_counted([place.job("m*", "test.ping")])
        with place.said() as said:
            place.lab.kill("master")
            socket.unlink(missing_ok=True)
            socket.write_bytes(b"no socket")
            place.exporter.wait(lambda metrics: metrics.get("salt_exporter_eventbus_connected") == 0, 20, "told")
            socket.unlink()
            place.lab.restart("master")
        place.lab.wait_master_ready()
        place.lab.wait_minions(MINIONS)
        place.start_caller()
        place.wait_well()
        place.assert_counted([place.job("m*", "test.ping")])
    assert any(f"the event bus {socket}" in line for line in said), said


@contextmanager
def _unreadable(directory: Path) -> Iterator[None]:
    mode = directory.stat().st_mode
    directory.chmod(0)
    try:
        yield
    finally:
        directory.chmod(mode)


def test_cache_directory_unreadable(place: Scene) -> None:
    """Who may not read the grains any more says so in one sentence; nobody is called absent, and jobs go on."""
    # Root's leave to read everything is given up: what is left are the owner's rights.
    capabilities = "-dac_override,-dac_read_search"
    as_owner = ["setpriv", f"--bounding-set={capabilities}", f"--inh-caps={capabilities}"]
    grains = place.lab.folder / "cache" / "grains"
    with place.other_exporter([*place.prefix, *as_owner]):
        before = place.wait_well()
        with place.said() as said, _unreadable(grains):
            metrics = place.exporter.wait(
                lambda metrics: metrics.get("salt_exporter_collector_success", collector="presence") == 0, 20, "told"
            )
            assert {} == metrics.by("salt_presence_minions", "state")
            jids = [place.job("m*", "test.ping")]
            place.assert_counted(jids)
        after = place.wait_well()
        assert [] == gone_back(before, after)
        assert 2 == after.get("salt_presence_minions", state="present")
    assert any(f"cannot read the minions' cached grains in {grains} (Permission denied)" in line for line in said), said
    assert [] == [line for line in said if "Traceback" in line]


def test_state_directory_becomes_read_only(place: Scene) -> None:
    """What the exporter has open it writes on; its journal still answers, and nothing that it held is lost."""
    before = place.lose()
    enter = ["nsenter", "--mount", f"--target={place.process.pid}"]
    mounts = [["mount", "--bind"], ["mount", "-o", "remount,bind,ro"]]
    with place.nothing_lost():
        subprocess.run([*enter, *mounts[0], place.state, place.state], check=True)
        try:
            subprocess.run([*enter, *mounts[1], place.state], check=True)
            with pytest.raises(subprocess.CalledProcessError):
                subprocess.run([*enter, "touch", place.state / "new"], check=True, stderr=subprocess.DEVNULL)
            meanwhile = place.lose()
            place.wait_told(before, meanwhile)
            assert is_well(place.exporter.scrape())
        finally:
            subprocess.run([*enter, "umount", place.state], check=True)
        after = place.lose()
        place.wait_told(before, meanwhile, after)
    place.exporter.stop()
    place.exporter = place.new_exporter()
    assert {before, meanwhile, after} <= place.losses().keys()
