"""A real Alertmanager with the shipped configuration, on loopback."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from tests.alerts.rules import ALERTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

CONFIG = ALERTS / "alertmanager-example.yml"
NOT_HERE = "no Alertmanager that starts (Debian: prometheus-alertmanager; unpacked, it needs a mount namespace)"

_STEADY = 8  # answers in a row


@cache
def find_program() -> str | None:
    """Return the path of an Alertmanager that starts here, None if there is none."""
    found = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if found is None or subprocess.run([found, "--version"], capture_output=True, check=False).returncode != 0:
        return None
    return found


class Alertmanager:
    """What an Alertmanager at this address makes of alerts."""

    def __init__(self, url: str) -> None:
        self._api = f"{url}/api/v2"

    def inhibited(self, alerts: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        """Return those among these alerts (their labels) that are silent while all of them fire; ask once only."""
        self._ask("/alerts", [{"labels": labels} for labels in alerts])
        # Alertmanager takes alerts in one after the other, in a thread of its own: an answer holds when it stays.
        answers = [self._inhibited(len(alerts))]
        deadline = time.monotonic() + 10
        while answers[-_STEADY:] != [answers[-1]] * _STEADY or answers[-1] is None:
            assert time.monotonic() < deadline, answers[-1]
            time.sleep(0.05)
            answers.append(self._inhibited(len(alerts)))
        return answers[-1]

    def _inhibited(self, expected: int) -> list[dict[str, str]] | None:
        """Return the labels of what is inhibited now; None as long as Alertmanager does not know all alerts."""
        known = self._ask("/alerts")
        assert len(known) <= expected
        if len(known) < expected:
            return None
        return [alert["labels"] for alert in known if alert["status"]["inhibitedBy"]]

    def is_ready(self) -> bool:
        """Tell whether it answers."""
        try:
            self._ask("/status")
        except OSError:
            return False
        return True

    def _ask(self, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._api + path, data, {"Content-Type": "application/json"})  # noqa: S310 - http
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - http
            return json.loads(answer.read() or b"null")


@contextmanager
def running(program: str, folder: Path) -> Iterator[Alertmanager]:
    """Run an Alertmanager that keeps its data in `folder` and sends nothing: nobody waits out its `group_wait`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    # Without a cluster address, or it would listen on all interfaces.
    argv = [program, f"--config.file={CONFIG}", f"--storage.path={folder}", f"--web.listen-address={address}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*argv, "--cluster.listen-address="], stdout=log, stderr=log)
    try:
        alertmanager = Alertmanager(f"http://{address}")
        deadline = time.monotonic() + 20
        while not alertmanager.is_ready():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield alertmanager
    finally:
        process.kill()
        process.wait()
