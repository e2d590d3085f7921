"""Take the pictures of the status page that the documentation shows: `python -m tests.real.pictures URL`.

URL is the page of an exporter, that of `salt-exporter demo` for instance. The pictures are taken as soon as a minion is
not present and responses are missing, so that there is something to see.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Final

from tests.real.chromium import Chromium
from tests.unit.daemons import eventually

_FOLDER: Final = Path(__file__).parents[2] / "docs/pictures"
# name → width, height, dark; cut where the tables begin to repeat themselves
_PICTURES: Final = {
    "status-light": (1360, 1500, False),
    "status-dark": (1360, 1500, True),
    "status-phone": (390, 1900, False),
}
_PATIENCE: Final = 300.0  # seconds


def take(url: str, folder: Path) -> None:
    """Write the pictures of the page into a folder."""
    with tempfile.TemporaryDirectory(prefix="salt-exporter-") as profile, closing(Chromium(Path(profile))) as chromium:
        assert eventually(lambda: _has_something_to_show(chromium.open(url)), _PATIENCE), "no minion went away"
        for name, (width, height, dark) in _PICTURES.items():
            chromium.screen(width, height, dark=dark)
            chromium.open(url)
            (folder / f"{name}.png").write_bytes(chromium.picture())


def _has_something_to_show(document: str) -> bool:
    return 'class="state not-present"' in document and document.count('data-label="Missing since"') > 5


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--folder", type=Path, default=_FOLDER)
    arguments = parser.parse_args()
    take(arguments.url, arguments.folder)
