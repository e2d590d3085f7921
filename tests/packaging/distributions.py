"""The sdist and the wheel as they are published, and virtualenvs that they are installed into."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.packaging.containers import run

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT: Final = Path(__file__).parents[2]


class Distributions(NamedTuple):
    """What is published."""

    sdist: Path
    wheel: Path  # made from the sdist alone


def build(folder: Path) -> None:
    """Build both below an empty folder, with the pinned build tools, the wheel from the unpacked sdist."""
    tools = folder / "tools"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--target", str(tools))
    run(*pip, "--constraint", str(ROOT / "constraints-build.txt"), "hatchling")
    hatchling = (f"PYTHONPATH={tools}", sys.executable, "-m", "hatchling", "build", "-d", str(folder))
    run("env", "-C", str(ROOT), *hatchling, "-t", "sdist")
    (sdist,) = folder.glob("*.tar.gz")
    source = unpack(sdist, folder / "source")
    run("env", "-C", str(source), *hatchling, "-t", "wheel")
    shutil.rmtree(source)


def unpack(sdist: Path, folder: Path) -> Path:
    """Unpack an sdist below a folder and return its one directory."""
    with tarfile.open(sdist) as archive:
        if hasattr(tarfile, "data_filter"):  # Python 3.11.4 has it, Debian 12's 3.11.2 has not
            archive.extractall(folder, filter="data")
        else:
            archive.extractall(folder)  # noqa: S202 - built here a moment ago
    (found,) = folder.iterdir()
    return found


class Virtualenv:
    """An empty virtualenv that sees the packages in the folders `beside` as if they were installed in it."""

    def __init__(
        self, folder: Path, beside: Sequence[Path], python: str = sys.executable, *, pip: bool = False
    ) -> None:
        self.folder = folder
        run(python, "-m", "venv", *(() if pip else ("--without-pip",)), str(folder))
        (site,) = folder.glob("lib/python*/site-packages")
        # Without their own .pth files, one of which would lead to this repository's source.
        (site / "beside.pth").write_text("".join(f"{path}\n" for path in beside))

    def program(self, name: str) -> str:
        """Return the path of a program in it."""
        return str(self.folder / "bin" / name)

    def pip(self, *arguments: str) -> str:
        """Run pip for it and return what it printed."""
        return run(sys.executable, "-m", "pip", "--python", self.program("python"), *arguments)

    def attempt(self, program: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program of it far from the source tree, with nothing but these variables, and return how it ended."""
        argv = [self.program(program), *arguments]
        environment = {"PATH": os.defpath, **variables}
        return subprocess.run(argv, cwd="/", env=environment, capture_output=True, text=True, check=False)

    def run(self, program: str, *arguments: str, **variables: str) -> str:
        """Do the same, and return the standard output; AssertionError if it fails."""
        done = self.attempt(program, *arguments, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def registry() -> dict[str, str]:
    """Return the variables that tell a pip without our environment which package registry this machine uses."""
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name == "SSL_CERT_FILE"}


def dependencies() -> Path:
    """Return the folder with everything that the tests' own Python has installed."""
    return Path(sysconfig.get_path("purelib"))


def publish(shared: Path) -> Distributions:
    """Build once for all processes of a test run, which share a folder."""
    shared.mkdir(exist_ok=True)
    done = shared / "done"
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            made = Path(tempfile.mkdtemp(dir=shared))
            build(made)
            made.rename(done)
    (sdist,), (wheel,) = done.glob("*.tar.gz"), done.glob("*.whl")
    return Distributions(sdist, wheel)
