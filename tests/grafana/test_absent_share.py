"""The share of absent minions on the dashboards, worked out by Prometheus itself."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from grafana.promql import absent_share

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool on the PATH")


class Master(NamedTuple):
    """What the exporter beside a master says."""

    job: str
    instance: str
    present: int
    uncertain: int
    absent: int
    clustered: bool = False


def _series(master: Master) -> list[dict[str, str]]:
    labels = f'job="{master.job}",instance="{master.instance}"'
    states = {"present": master.present, "uncertain": master.uncertain, "not_present": master.absent}
    found = {f'salt_presence_minions{{{labels},state="{state}"}}': number for state, number in states.items()}
    if master.clustered:
        found[f'salt_master_cluster_info{{{labels},cluster_id="fleet"}}'] = 1
    return [{"series": name, "values": str(value)} for name, value in found.items()]


@pytest.mark.parametrize(
    ("masters", "share"),
    [
        ([Master("a", "1", 90, 0, 10), Master("a", "2", 70, 10, 20)], 0.2),
        ([Master("a", "1", 90, 0, 10), Master("b", "1", 70, 0, 30)], 0.3),
        ([Master("c", "1", 50, 0, 50, clustered=True), Master("c", "2", 40, 5, 55, clustered=True)], 0.05),
        ([Master("c", "1", 50, 0, 50, clustered=True), Master("a", "1", 40, 0, 10)], 0.5),
        ([Master("c", "1", 99, 0, 1, clustered=True), Master("c", "2", 99, 0, 1, clustered=True)], 0),
    ],
    ids=["the worst of a job", "the worst of all", "a cluster adds up", "a cluster and a master", "more than all"],
)
def test_share_of_absent_minions(masters: list[Master], share: float, tmp_path: Path) -> None:
    """Each master misses a share of its own, the members of a cluster one together; what counts is the worst."""
    expression = f"max({absent_share()})".replace("{MASTER,", "{").replace("{MASTER}", "")
    case: dict[str, Any] = {
        "input_series": [series for master in masters for series in _series(master)],
        "promql_expr_test": [{"expr": expression, "eval_time": "0m", "exp_samples": [{"value": share}]}],
    }
    (tmp_path / "test.yml").write_text(json.dumps({"tests": [case]}))

    done = subprocess.run(["promtool", "test", "rules", tmp_path / "test.yml"], capture_output=True, check=False)

    assert (0, b"") == (done.returncode, done.stderr)
