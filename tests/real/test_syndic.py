"""A master of masters, and below it a syndic with its master and a minion: what each exporter shows of a job.

With Salt 3006: in 3008.3 no return comes back through a syndic, whose own log says why.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import pytest
import yaml

from tests.real.masters import Masters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.real.conftest import SaltLine
    from tests.real.exporter import Exporter, Metrics
    from tests.real.masters import Master
    from tests.real.namespaces import Network

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

_ADDRESSES = {"top": "10.79.2.1", "below": "10.79.2.2", "leaf": "10.79.2.11"}
_FUNCTION = "test.ping"


class Tree(NamedTuple):
    """The master of masters, the master with the minion "leaf", and the exporters beside them."""

    top: Master
    below: Master
    at_top: Exporter
    at_below: Exporter


@pytest.fixture(scope="module")
def tree(network: Network, salt_line: SaltLine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """Yield it with the syndic and the minion connected."""
    if salt_line.name != "3006":
        pytest.skip("runs with Salt 3006 alone")
    folder = tmp_path_factory.mktemp("syndic")
    with closing(Masters(network, salt_line, _ADDRESSES)) as masters:
        top = masters.master("top", {"order_masters": True})
        below = masters.master("below", {"syndic_master": top.address})
        for master in (top, below):
            master.lab.start_master()
        for master in (top, below):
            master.lab.wait_master_ready()
        scene = Tree(top, below, *(master.exporter(folder) for master in (top, below)))
        top.accept("syndic")
        _start_syndic(below, salt_line)
        below.lab.start_minion("leaf", {}, network.prefix("leaf"), below.address)
        below.lab.wait_minions(["leaf"])
        scene.at_top.wait(lambda metrics: _events(metrics, "syndic") > 0, 60, "the syndic says that it has started")
        yield scene


def _start_syndic(below: Master, line: SaltLine) -> None:
    """Start the syndic of a master; it takes its id and its own key pair from the configuration of a minion."""
    home = below.lab.folder / "syndic"
    options = {
        "id": "syndic",
        "root_dir": str(home),
        "pki_dir": str(home / "pki"),
        "sock_dir": str(below.lab.folder / "run"),  # the master's, on whose event bus it listens
        "acceptance_wait_time": 1,
        "return_retry_timer": 1,
        "return_retry_timer_max": 2,
    }
    (below.lab.config_dir / "minion").write_text(yaml.safe_dump(options))
    program = str(line.programs.bin_dir / "salt-syndic")
    below.lab.start("syndic", [program, f"--config-dir={below.lab.config_dir}"], below.prefix)


def _events(metrics: Metrics, kind: str) -> float:
    return metrics.get("salt_eventbus_events_total", 0, kind=kind)


def _closed(metrics: Metrics, outcome: str) -> float:
    return metrics.get("salt_jobs_closed_total", 0, function=_FUNCTION, outcome=outcome)


def test_job_from_the_top(tree: Tree) -> None:
    """At the top nobody is named, so the job ends as unknown with its return counted; below it is a job like any."""
    complete = _closed(tree.at_below.scrape(), "complete")
    tree.top.lab.salt("--async", "*", "test.ping")

    top = tree.at_top.wait(lambda metrics: _closed(metrics, "unknown") == 1, 60, "closed at the top")
    # Not salt_jobs_responses_total: the syndic passes on the returns of jobs that were published below, too.
    assert 1 == top.get("salt_jobs_response_seconds_count", function=_FUNCTION)
    assert 0 == top.get("salt_jobs_expected_responses_total", function=_FUNCTION)
    assert (0, 0) == (_closed(top, "complete"), _closed(top, "incomplete"))
    assert 0 == sum(top.by("salt_jobs_missing_responses_total", "cause").values())
    tree.at_below.wait(lambda metrics: _closed(metrics, "complete") == complete + 1, 30, "closed below")


def test_minion_below_that_is_away(tree: Tree) -> None:
    """The cause is found below, where the minion would be connected; at the top nothing is called missing."""
    tree.below.lab.stop("leaf")
    tree.at_below.wait(lambda metrics: metrics.get("salt_presence_minions", state="not_present") == 1, 30, "away")
    tree.top.lab.salt("--async", "*", "test.ping")

    below = tree.at_below.wait(lambda metrics: _closed(metrics, "incomplete") == 1, 60, "closed below")
    assert 1 == below.get("salt_jobs_missing_responses_total", function=_FUNCTION, cause="not_connected")
    top = tree.at_top.wait(lambda metrics: _closed(metrics, "unknown") == 2, 30, "closed at the top")
    assert 0 == sum(top.by("salt_jobs_missing_responses_total", "cause").values())
