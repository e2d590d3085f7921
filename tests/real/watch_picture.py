"""Take the picture of the terminal view for the documentation: `python -m tests.real.watch_picture CONFIG STATE`.

CONFIG is the config dir of a master and STATE the state directory of an exporter beside it; `salt-exporter demo` prints
both. The picture is taken as soon as responses are missing and events fill the list, so that there is something to see.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Final

from salt_exporter.config import Config
from salt_exporter.watch.app import WatchApp
from salt_exporter.watch.source import Master
from tests.real.chromium import Chromium

_FILE: Final = Path(__file__).parents[2] / "docs/pictures/watch.png"
_TERMINAL: Final = (110, 32)  # columns, lines
_MARGIN: Final = 16  # pixels that a browser leaves around the picture
_PATIENCE: Final = 300  # looks, a second apart


async def draw(master: Master) -> str:
    """Return the view as SVG."""
    app = WatchApp(master)
    async with app.run_test(size=_TERMINAL) as pilot:
        for _ in range(_PATIENCE):
            await pilot.pause(1.0)
            drawn = app.export_screenshot(title="salt-exporter watch")
            if "not_connected" in drawn and app.history.events > _TERMINAL[1]:
                return drawn
    raise SystemExit("no response is missing")


def photograph(drawn: str) -> bytes:
    """Return an SVG as PNG."""
    # The fonts that it names would be fetched from elsewhere.
    drawn = re.sub(r"@font-face\s*\{.*?\}", "", drawn, flags=re.DOTALL).replace("Fira Code", "DejaVu Sans Mono")
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawn)
    assert found
    width, height = (round(float(length)) + _MARGIN for length in found.groups())
    with tempfile.TemporaryDirectory(prefix="salt-exporter-") as folder:
        page = Path(folder) / "watch.html"
        page.write_text(f'<body style="width: {width - _MARGIN}px">{drawn}', encoding="utf-8")
        with closing(Chromium(Path(folder) / "profile")) as chromium:
            chromium.screen(width, height)
            chromium.open(page.as_uri())
            return chromium.picture()


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("state", type=Path)
    parser.add_argument("--file", type=Path, default=_FILE)
    arguments = parser.parse_args()
    master = Master(Config(salt_config_dir=arguments.config, state_directory=arguments.state))
    master.start()
    drawn = asyncio.run(draw(master))
    master.stop()
    arguments.file.write_bytes(photograph(drawn))


if __name__ == "__main__":
    main()
