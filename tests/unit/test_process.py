"""Finding the running master, whoever else calls himself one, and whether its Python may be trusted."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from salt_exporter.master import process
from salt_exporter.master.process import MasterProcess, config_dir_of, distrust, running_masters
from tests.unit.tools import NOBODY, public_folder, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files and processes to others")


# --- arguments ---


@pytest.mark.parametrize(
    ("arguments", "config_dir"),
    [
        ([], "/etc/salt"),
        (["-d"], "/etc/salt"),
        (["-l", "debug", "MainProcess"], "/etc/salt"),
        (["-c", "/srv/salt"], "/srv/salt"),
        (["-c/srv/salt"], "/srv/salt"),
        (["-d", "-c", "/srv/salt/", "MainProcess"], "/srv/salt"),
        (["-dc", "/srv/salt"], "/srv/salt"),
        (["-dc/srv/salt"], "/srv/salt"),
        (["--config-dir", "/srv/salt"], "/srv/salt"),
        (["--config-dir=/srv/salt"], "/srv/salt"),
        (["--config=/srv/salt"], "/srv/salt"),
        (["--c", "/srv/salt"], "/srv/salt"),
        (["-c", "/a", "--config-dir=/b"], "/b"),
        (["--config-dir=/b", "-c", "/a"], "/a"),
        (["-c", "/srv/x/../salt//"], "/srv/salt"),
        (["-c"], "/etc/salt"),
        (["--config-dir"], "/etc/salt"),
        (["--config-dirs=/a"], "/etc/salt"),
        (["--", "-"], "/etc/salt"),
        (["-lc", "/a"], "/etc/salt"),  # the level "c"
        (["-c", "etc"], "etc"),
    ],
)
def test_config_dir_in_all_spellings(arguments: list[str], config_dir: str) -> None:
    """Whatever optparse takes for -c and --config-dir is understood, and the last one counts."""
    assert Path(config_dir) == config_dir_of(arguments)


@pytest.mark.parametrize(
    ("words", "program"),
    [
        (["/usr/bin/python3", "/usr/bin/salt-master"], 1),
        (["/opt/saltstack/salt/bin/python3.10", "/usr/bin/salt-master", "-d", "MainProcess"], 1),
        (["/usr/bin/python3", "-I", "-s", "/usr/bin/salt-master"], 3),
        (["/usr/bin/python3", "/usr/bin/salt-minion"], 0),
        (["/usr/bin/python3", "/usr/bin/vim", "salt-master"], 0),
        (["/usr/bin/vim", "/etc/salt-master"], 0),
        (["python3", "/usr/bin/salt-master"], 0),  # found by a search path that is not ours
        (["/usr/bin/python3", "-I", "-s", "-u", "/usr/bin/salt-master"], 0),
        (["/usr/bin/python3"], 0),
        (["EventPublisher"], 0),
        ([], 0),
    ],
)
def test_master_is_told_by_its_words(words: list[str], program: int) -> None:
    """A master is a Python that runs a program called salt-master, not anything else that has the word in it."""
    assert program == process._program(words)


# --- processes ---


class Impostors:
    """Starts processes that look like masters."""

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        self._program = folder / "salt-master"
        # Gives itself to a user, and says when it has.
        self._program.write_text(
            "import os, sys, time\nos.setresuid(*[int(sys.argv[-1])] * 3)\nprint(flush=True)\ntime.sleep(60)"
        )

    def start(self, *arguments: str, uid: int = os.geteuid(), python: str = sys.executable, cwd: str = "/") -> int:
        """Start one that runs as `uid` and says that `python` is what it was started with; return its pid."""
        process = subprocess.Popen(
            [python, str(self._program), *arguments, str(uid)],
            executable=sys.executable,
            cwd=cwd,
            stdout=subprocess.PIPE,
        )
        self._stack.callback(process.communicate)
        self._stack.callback(process.kill)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.02)  # the kernel counts the start of processes in hundredths
        return process.pid

    def close(self) -> None:
        """End them all."""
        self._stack.close()


@pytest.fixture
def impostors() -> Iterator[Impostors]:
    """Yield a starter of impostors in a folder of their own."""
    with public_folder() as folder:
        impostors = Impostors(folder)
        yield impostors
        impostors.close()


def found(config_dir: Path) -> list[MasterProcess]:
    """Return the masters with a config dir."""
    return [master for master in running_masters() if master.config_dir == config_dir]


def test_running_master_is_found(impostors: Impostors, tmp_path: Path) -> None:
    """Its process says who it is, since when, with which Python and which config dir."""
    before = time.time()
    pid = impostors.start("-d", "-c", str(tmp_path))
    (master,) = found(tmp_path)

    assert (pid, os.geteuid(), os.getegid(), Path(sys.executable)) == (
        master.pid,
        master.uid,
        master.gid,
        master.python,
    )
    assert abs(master.started - before) < 2.0


def test_config_dir_is_relative_to_where_the_master_was_started(impostors: Impostors, tmp_path: Path) -> None:
    """`salt-master -c etc` in a checkout means the folder there."""
    pid = impostors.start("-c", "etc/../salt", cwd=str(tmp_path))

    assert [pid] == [master.pid for master in found(tmp_path / "salt")]


def test_oldest_process_is_the_master(impostors: Impostors, tmp_path: Path) -> None:
    """A master's children have its words too: the parent is the oldest."""
    pids = [impostors.start("-c", str(tmp_path)) for _ in range(3)]

    assert [pids[0]] == [master.pid for master in found(tmp_path)]


def test_masters_with_several_config_dirs_are_several(impostors: Impostors, tmp_path: Path) -> None:
    """Each config dir has its master."""
    pids = [impostors.start("-c", str(tmp_path / name)) for name in ("a", "b")]

    assert pids == [master.pid for name in ("a", "b") for master in found(tmp_path / name)]


@needs_root
def test_nobody_else_can_put_himself_before_the_master(impostors: Impostors, tmp_path: Path) -> None:
    """An older process of another user does not hide the one that runs as root or as we do."""
    impostors.start("-c", str(tmp_path), uid=NOBODY)
    assert [NOBODY] == [master.uid for master in found(tmp_path)]

    pid = impostors.start("-c", str(tmp_path))
    assert [pid] == [master.pid for master in found(tmp_path)]


def test_ended_processes_are_no_masters(impostors: Impostors, tmp_path: Path) -> None:
    """When it is gone, it is gone."""
    impostors.start("-c", str(tmp_path))
    assert found(tmp_path)
    impostors.close()

    wait_until(lambda: not found(tmp_path))


# --- trust ---


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder with an executable of ours."""
    with public_folder() as folder:
        (folder / "bin").mkdir()
        (folder / "bin/python3").write_text("#!/bin/sh\n")
        (folder / "bin/python3").chmod(0o755)
        yield folder


def test_executable_of_ours_is_trusted(folder: Path) -> None:
    """It, the folders above it and the sticky /tmp they are in may be used."""
    assert "" == distrust(folder / "bin/python3")


def test_links_of_ours_are_trusted(folder: Path) -> None:
    """A virtualenv's python is a link, often to another."""
    (folder / "bin/python").symlink_to("python3")
    (folder / "venv").symlink_to(folder / "bin")

    assert "" == distrust(folder / "venv/python")
    assert "" == distrust(Path(sys.executable))


@needs_root
@pytest.mark.parametrize("foreign", ["bin/python3", "bin", "."])
def test_foreign_owner_is_not_trusted(folder: Path, foreign: str) -> None:
    """Whoever owns the file, or a folder it is in, decides what would be run."""
    os.chown(folder / foreign, NOBODY, -1)

    assert f"{folder / foreign} belongs to uid {NOBODY}, neither root nor the exporter's user" == distrust(
        folder / "bin/python3"
    )


@needs_root
@pytest.mark.parametrize("foreign", ["link", "there/bin/python3", "there/bin", "there"])
def test_foreign_part_behind_a_link_is_not_trusted(folder: Path, foreign: str) -> None:
    """A link must be ours, and where it leads to as well."""
    (folder / "there").mkdir()
    (folder / "bin").rename(folder / "there/bin")
    (folder / "link").symlink_to("there/bin")
    os.chown(folder / foreign, NOBODY, -1, follow_symlinks=False)

    assert f"{Path(foreign).name} belongs to uid {NOBODY}" in distrust(folder / "link/python3")


@needs_root
@pytest.mark.parametrize("foreign", ["middle/link", "middle"])
def test_foreign_link_in_a_chain_is_not_trusted(folder: Path, foreign: str) -> None:
    """Between our link and our executable nobody else's link may decide, though it points to the right place today."""
    (folder / "middle").mkdir()
    (folder / "middle/link").symlink_to(folder / "bin/python3")
    (folder / "python").symlink_to("middle/link")
    assert "" == distrust(folder / "python")
    os.chown(folder / foreign, NOBODY, -1, follow_symlinks=False)

    assert f"{folder / foreign} belongs to uid {NOBODY}" in distrust(folder / "python")


@pytest.mark.parametrize("open_to_all", ["bin/python3", "bin", "."])
def test_what_everybody_may_write_is_not_trusted(folder: Path, open_to_all: str) -> None:
    """A file or a folder that is open to all may hold anything in a moment."""
    (folder / open_to_all).chmod(0o777)

    assert f"{folder / open_to_all} may be written by everybody" == distrust(folder / "bin/python3")


def test_sticky_folder_is_trusted(folder: Path) -> None:
    """In a folder such as /tmp nobody can replace the files of others."""
    (folder / "bin").chmod(0o1777)

    assert "" == distrust(folder / "bin/python3")


def test_what_is_not_there_is_not_trusted(folder: Path) -> None:
    """A missing executable, or a link to nowhere, is told."""
    (folder / "python").symlink_to("nowhere")

    assert f"{folder}/none: No such file or directory" == distrust(folder / "none")
    assert f"{folder}/nowhere: No such file or directory" == distrust(folder / "python")


def test_links_that_go_round_are_not_followed_for_ever(folder: Path) -> None:
    """A loop of links ends."""
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a/b")

    assert "symbolic links" in distrust(folder / "a")
