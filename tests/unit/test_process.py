"""Finding the running master, and which executable may be run on somebody else's word."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from salt_exporter.master.process import DEFAULT_CONFIG_DIR, config_dir_of, distrust, running_masters
from tests.unit.tools import NOBODY, public_folder, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

_as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder of ours that all may look into."""
    with public_folder() as folder:
        yield folder


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], DEFAULT_CONFIG_DIR),
        (["MainProcess"], DEFAULT_CONFIG_DIR),
        (["-c", "/srv/salt"], Path("/srv/salt")),
        (["-c/srv/salt"], Path("/srv/salt")),
        (["--config-dir", "/srv/salt"], Path("/srv/salt")),
        (["--config-dir=/srv/salt", "MainProcess"], Path("/srv/salt")),
        (["-l", "debug", "-c", "/srv//salt/", "MainProcess"], Path("/srv/salt")),
    ],
)
def test_config_dir_of_every_spelling(arguments: list[str], expected: Path) -> None:
    """The config dir is found however it was given, normalised; without one it is Salt's default."""
    assert expected == config_dir_of(arguments)


def test_own_python_is_trusted() -> None:
    """The Python that runs this test belongs to root or to us, all the way up."""
    assert "" == distrust(Path(sys.executable))


@_as_root
@pytest.mark.parametrize("part", ["", "bin", "bin/python3"])
def test_foreign_owner_is_distrusted(folder: Path, part: str) -> None:
    """An executable, or a directory above it, that belongs to another user is refused, and named."""
    executable = folder / "bin" / "python3"
    executable.parent.mkdir()
    executable.touch(0o755)
    assert "" == distrust(executable)

    os.chown(folder / part, NOBODY, NOBODY)

    assert f"{folder / part} belongs to uid {NOBODY}, neither root nor the exporter's user" == distrust(executable)


@_as_root
def test_foreign_link_to_a_good_executable_is_distrusted(folder: Path) -> None:
    """A link of another user decides which virtualenv runs, even if it ends at a Python of root's."""
    link = folder / "python3"
    link.symlink_to(sys.executable)
    assert "" == distrust(link)

    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)

    assert "belongs to uid" in distrust(link)


def test_directory_open_to_all_is_distrusted(folder: Path) -> None:
    """In a directory that everybody may write to, everybody can swap the executable, unless it is sticky."""
    executable = folder / "python3"
    executable.touch(0o755)
    folder.chmod(0o777)
    assert f"{folder} may be written by everybody" == distrust(executable)

    folder.chmod(0o1777)

    assert "" == distrust(executable)


def test_missing_executable_is_distrusted(folder: Path) -> None:
    """What is not there cannot be run: say so instead of trying."""
    assert f"{folder / 'python3'}: No such file or directory" == distrust(folder / "python3")


def test_running_master_is_found(folder: Path) -> None:
    """A process that looks like a salt-master is found with its Python and config dir, and gone when it has ended."""
    script = folder / "salt-master"
    script.write_text("import time; time.sleep(60)")
    with subprocess.Popen([sys.executable, str(script), "-c", str(folder / "conf")]) as process:
        try:
            wait_until(lambda: any(master.pid == process.pid for master in running_masters()))
            (master,) = [master for master in running_masters() if master.pid == process.pid]
            assert (Path(sys.executable), folder / "conf", os.geteuid()) == (
                master.python,
                master.config_dir,
                master.uid,
            )
        finally:
            process.kill()
    assert not any(master.config_dir == folder / "conf" for master in running_masters())


@_as_root
@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="no Python that every user may run")
def test_master_of_another_user_does_not_hide_ours(folder: Path) -> None:
    """Whoever starts a process with the same config dir earlier than the true master does not get in its place."""
    script = folder / "salt-master"
    script.write_text("import time; time.sleep(60)")
    command = ["/usr/bin/python3", str(script), "-c", str(folder / "conf")]  # ours may lie where nobody else may look
    with subprocess.Popen(command, user=NOBODY, group=NOBODY) as foreign:
        try:
            wait_until(lambda: any(master.pid == foreign.pid for master in running_masters()))
            with subprocess.Popen(command) as own:
                try:
                    wait_until(lambda: any(master.pid == own.pid for master in running_masters()))
                finally:
                    own.kill()
        finally:
            foreign.kill()
