"""Who is present, against real minions with addresses of their own and against Salt's own opinion."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from salt_exporter.demo.lab import Lab
    from tests.real.conftest import SaltLine
    from tests.real.exporter import Exporter, Metrics
    from tests.real.namespaces import Network

pytestmark = pytest.mark.real

_ABSENT = "salt_presence_minion_not_present"


def _absent(metrics: Metrics) -> list[str]:
    return metrics.labels(_ABSENT, "minion")


def _salts_opinion(lab: Lab) -> list[str]:
    found: list[str] = lab.run("manage.not_present")
    return sorted(found)


def _agree(exporter: Exporter, lab: Lab, absent: list[str]) -> None:
    """Assert that exporter and Salt both come to say that exactly these minions are absent."""
    exporter.wait(lambda metrics: _absent(metrics) == absent, 20, f"absent are {absent}")
    assert absent == _salts_opinion(lab)
    assert absent == _absent(exporter.scrape())


def test_a_key_that_never_connected_is_absent(exporter: Exporter, lab: Lab) -> None:
    """An accepted key whose minion never connected is not present, and all the others are, as Salt says too."""
    _agree(exporter, lab, ["ghost"])


def test_all_are_up(exporter: Exporter, lab: Lab) -> None:
    """With every accepted minion connected nobody is absent, and the three states add up to the accepted keys."""
    ghost = lab.folder / "pki" / "minions" / "ghost"
    key = ghost.read_text()
    ghost.unlink()
    try:
        _agree(exporter, lab, [])
        metrics = exporter.scrape()
        states = metrics.by("salt_presence_minions", "state")
        assert {("present",): 5.0, ("not_present",): 0.0, ("uncertain",): 0.0} == states
        assert metrics.get("salt_keys", state="accepted") == sum(states.values())
        assert metrics.get("salt_presence_unknown_peers") == 0
    finally:
        ghost.write_text(key)


def test_stopped_minions_are_absent(exporter: Exporter, lab: Lab) -> None:
    """Stopped minions are absent until they are back: with one address, with two, and with IPv6 only."""
    minions = ["web2", "dual", "six"]
    for minion in minions:
        lab.stop(minion)
    _agree(exporter, lab, sorted([*minions, "ghost"]))
    for minion in minions:
        lab.restart(minion)
    lab.wait_minions(minions)
    _agree(exporter, lab, ["ghost"])


def test_minions_tells_the_evidence(exporter: Exporter) -> None:
    """The command `minions` names the deciding address of every minion, `--absent` only those who are gone."""
    told = json.loads(exporter.command("minions", "--json"))
    assert ["cut", "dual", "ghost", "six", "web1", "web2"] == sorted(told)
    assert "connected from fd77::15" == told["six"]["evidence"]
    assert told["dual"]["address"] in ("10.77.0.13", "10.77.0.14")
    assert ["ghost"] == list(json.loads(exporter.command("minions", "--absent", "--json")))


def test_a_half_open_connection_is_uncertain(
    exporter: Exporter, lab: Lab, network: Network, salt_line: SaltLine
) -> None:
    """A minion killed behind a cut link leaves a connection that looks alive.

    Salt calls it present as long as that lasts. We call it uncertain as soon as the other end fails to answer:
    heartbeats on 3006 and 3008, the next job on 3007 (its minions send no heartbeats, so before that nobody can tell).
    When the connection is closed at last, both call it absent.
    """
    network.cut_link("cut")
    lab.kill("cut")
    try:
        assert ["ghost"] == _salts_opinion(lab)
        assert ["ghost"] == _absent(exporter.scrape())
        if salt_line.name == "3007":
            lab.salt("--async", "*", "test.ping")
        exporter.wait(
            lambda metrics: metrics.get("salt_presence_minions", state="uncertain") == 1, 45, "one minion is uncertain"
        )
        verdict = json.loads(exporter.command("minions", "--json"))["cut"]
        assert ("uncertain", "connected from 10.77.0.16, but that host has stopped answering") == (
            verdict["state"],
            verdict["evidence"],
        )
        if salt_line.name != "3007":  # there the kernel gives up after about a quarter of an hour
            _agree_in_the_end(exporter, lab)
    finally:
        network.restore_link("cut")
        lab.restart("cut")
        lab.wait_minions(["cut"])
    exporter.wait(lambda metrics: metrics.get("salt_presence_minions", state="present") == 5, 30, "all are back")


def _agree_in_the_end(exporter: Exporter, lab: Lab) -> None:
    exporter.wait(lambda metrics: _absent(metrics) == ["cut", "ghost"], 60, "the connection is closed")
    assert ["cut", "ghost"] == _salts_opinion(lab)
