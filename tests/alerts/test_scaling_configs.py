"""The Prometheus configurations that the documentation shows: taken by Prometheus, and meaning what the text says."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.alerts.declarations import catalogue
from tests.alerts.rules import RULES, load_recordings

_DOCS = Path(__file__).parents[2] / "docs"
_FENCE = re.compile(r"^```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)


def _configurations() -> list[Any]:
    return [
        pytest.param(text, id=f"{page}-{number}")
        for page in ("several-masters.md", "scaling.md")
        for number, text in enumerate(_FENCE.findall((_DOCS / page).read_text(encoding="utf-8")))
    ]


def _scaling(key: str) -> dict[str, Any]:
    """Return the one configuration of scaling.md that has something to say about `key`."""
    documents = map(yaml.safe_load, _FENCE.findall((_DOCS / "scaling.md").read_text(encoding="utf-8")))
    (found,) = [document for document in documents if key in yaml.safe_dump(document)]
    return dict(found)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool on the PATH")
@pytest.mark.parametrize("text", _configurations())
def test_prometheus_takes_the_configuration(text: str, tmp_path: Path) -> None:
    """Each example is a whole configuration without a fault, with our rules beside it."""
    (tmp_path / "prometheus.yml").write_text(text)
    shutil.copy(RULES, tmp_path)
    done = subprocess.run(
        ["promtool", "check", "config", str(tmp_path / "prometheus.yml")], capture_output=True, text=True, check=False
    )
    assert (0, False) == (done.returncode, "WARNING" in done.stdout), done.stdout + done.stderr


def test_federation_takes_every_recording_and_keeps_its_labels() -> None:
    """All that our rules record goes up under its own labels, and of single metrics only some that exist."""
    (job,) = _scaling("/federate")["scrape_configs"]
    pattern, metrics, _alerts = job["params"]["match[]"]
    recorded = re.compile(pattern.split('"')[1])

    assert job["honor_labels"]
    assert [] == [one.name for one in load_recordings() if not recorded.fullmatch(one.name)]
    assert set(metrics.split('"')[1].split("|")) <= catalogue().keys()


def test_remote_write_leaves_out_what_is_per_minion() -> None:
    """What is dropped is every metric with a label for the minion, and nothing else."""
    (remote,) = _scaling("remote_write")["remote_write"]
    (drop,) = remote["write_relabel_configs"]
    scraped = {name: labels for name, labels in catalogue().items() if ":" not in name}

    dropped = {name for name in scraped if re.fullmatch(drop["regex"], name)}
    assert dropped == {name for name, labels in scraped.items() if "minion" in labels}
