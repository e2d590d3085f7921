"""The page that draws a dashboard with Grafana's own UI packages, built and photographed."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SOURCES: Final = Path(__file__).with_name("page")


class Page:
    """The built page below `work`, which keeps the Node modules (half a gigabyte) for the next time."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._out = work / "out"

    def build(self) -> None:
        """Install what package.json names and bundle the page. Raises subprocess.CalledProcessError."""
        shutil.copytree(SOURCES, self._work, dirs_exist_ok=True)
        # Grafana's packages disagree about their peers; nobody installs them but Grafana.
        self._run("npm", "install", "--legacy-peer-deps", "--no-package-lock", "--no-audit", "--no-fund")
        self._run("npx", "vite", "build", "--logLevel=warn")
        icons = self._work / "node_modules" / "@grafana" / "ui" / "dist" / "public" / "img"
        shutil.copytree(icons, self._out / "build" / "img", dirs_exist_ok=True)

    def shoot(self, dashboards: Mapping[Path, Path], **settings: str) -> None:
        """Write a picture of each dashboard; `settings` are those of src/settings.js, `dashboards` JSON -> PNG.

        Raises subprocess.CalledProcessError if a page fails or a panel has no data.
        """
        pairs: list[str] = []
        with _served(self._out) as address:
            for dashboard, picture in dashboards.items():
                shutil.copy(dashboard, self._out)
                pairs += [f"{address}/?{urlencode({**settings, 'dashboard': dashboard.name})}", str(picture.absolute())]
            self._run("node", "shoot.mjs", shutil.which("chromium") or "chromium", *pairs)

    def _run(self, *command: str) -> None:
        subprocess.run(command, cwd=self._work, check=True, stdin=subprocess.DEVNULL)  # noqa: S603 - our own words


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """Serve a folder to this host only; yield the address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - called so by its base class
        pass
