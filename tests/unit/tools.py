"""What several tests need: to wait for something, and to be nobody in particular for a moment."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOBODY = 65534
_DATA = Path(__file__).parents[1] / "data"


def recorded_chunks(name: str) -> list[bytes]:
    """Return what each `recv` of the dump tests/data/<name>.bin gave."""
    data = (_DATA / f"{name}.bin").read_bytes()
    chunks = []
    while data:
        end = 4 + int.from_bytes(data[:4], "little")
        chunks.append(data[4:end])
        data = data[end:]
    return chunks


def wait_until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Return as soon as a condition holds, fail if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.002)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Run the block without root's rights, all threads of this process; nothing changes for other users."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def public_folder() -> Iterator[Path]:
    """Yield a folder that everybody may look into (pytest's `tmp_path` is for its user only)."""
    folder = Path(tempfile.mkdtemp(prefix="salt-exporter-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
