"""Minion keys: listed by state, at once when something changes, and cheaply when nothing does."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from salt_exporter.errors import SourceError
from salt_exporter.master.keys import DIRECTORIES, Keys, KeyStore
from tests.unit.tools import public_folder, unprivileged

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    """Return a pki_dir as a master makes it: all four directories, no key."""
    for name in DIRECTORIES.values():
        (tmp_path / name).mkdir()
    return tmp_path


def age(directory: Path) -> None:
    """Make a directory look as if nothing had changed in it for long."""
    os.utime(directory, (1_700_000_000, 1_700_000_000))


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the directories that are listed from now on."""
    names: list[str] = []
    listdir = os.listdir

    def noting(directory: Path) -> list[str]:
        names.append(directory.name)
        return listdir(directory)

    monkeypatch.setattr(os, "listdir", noting)
    return names


def test_keys_are_told_apart_by_state(pki: Path) -> None:
    """Each directory of the pki_dir is one state."""
    for state, name in DIRECTORIES.items():
        for number in range(2):
            (pki / name / f"{state}-{number}").touch()

    expected = Keys(**{state: frozenset((f"{state}-0", f"{state}-1")) for state in DIRECTORIES})
    assert expected == KeyStore().read(pki)


def test_dotfiles_are_no_keys(pki: Path) -> None:
    """Salt's `.key_cache` and an editor's leavings are no minions."""
    for name in (".key_cache", ".web1.swp", "web1"):
        (pki / "minions" / name).touch()

    assert {"web1"} == KeyStore().read(pki).accepted


def test_names_that_are_no_utf8_are_read(pki: Path) -> None:
    """A file of any name is a key: the number of accepted keys must be that of the master."""
    os.close(os.open(os.fsencode(pki / "minions") + b"/web\xff", os.O_CREAT))

    assert {"web\udcff"} == KeyStore().read(pki).accepted


@pytest.mark.parametrize("state", [state for state in DIRECTORIES if state != "accepted"])
def test_a_missing_directory_is_an_empty_one(pki: Path, state: str) -> None:
    """A directory that a master makes when it is needed may not be there yet, and may come and go."""
    store = KeyStore()
    (pki / DIRECTORIES[state]).rmdir()
    assert frozenset() == getattr(store.read(pki), state)

    (pki / DIRECTORIES[state]).mkdir()
    (pki / DIRECTORIES[state] / "web1").touch()
    age(pki / DIRECTORIES[state])
    assert {"web1"} == getattr(store.read(pki), state)

    (pki / DIRECTORIES[state] / "web1").unlink()
    (pki / DIRECTORIES[state]).rmdir()
    assert frozenset() == getattr(store.read(pki), state)


@pytest.mark.parametrize("missing", ["minions", ""])
def test_a_missing_directory_of_accepted_keys_is_told(tmp_path: Path, missing: str) -> None:
    """Without accepted keys this is no pki_dir: the sentence asks for the right config dir."""
    pki = tmp_path / "pki"
    if missing:
        pki.mkdir()

    with pytest.raises(SourceError, match=f"{pki}/minions does not exist: is this the master's pki_dir .*config-dir"):
        KeyStore().read(pki)


@pytest.mark.parametrize("closed", ["", "minions", "minions_denied"])
def test_keys_of_another_user_are_told(closed: str) -> None:
    """What may not be listed is no empty directory: the sentence says as whom to run, and goes with the cause."""
    store = KeyStore()
    with public_folder() as pki:
        for name in DIRECTORIES.values():
            (pki / name).mkdir()
        (pki / closed).chmod(0o700)

        with (
            unprivileged(),
            pytest.raises(SourceError, match=r"Permission denied.*run the exporter as the user the salt"),
        ):
            store.read(pki)

        (pki / closed).chmod(0o755)
        with unprivileged():
            assert frozenset() == store.read(pki).accepted


def test_a_file_in_the_place_of_a_directory_is_told(pki: Path) -> None:
    """Another kind of trouble is a sentence too."""
    (pki / "minions").rmdir()
    (pki / "minions").touch()

    with pytest.raises(SourceError, match=r"cannot list the minion keys in .*/minions \(Not a directory\)"):
        KeyStore().read(pki)


def test_every_change_is_seen_at_once(pki: Path) -> None:
    """Keys that come and go in quick succession are all seen."""
    store = KeyStore()
    for number in range(300):
        (pki / "minions" / f"minion-{number}").touch()
        assert f"minion-{number}" in store.read(pki).accepted
        if number % 3 == 0:
            (pki / "minions" / f"minion-{number}").rename(pki / "minions_rejected" / f"minion-{number}")
            keys = store.read(pki)
            assert f"minion-{number}" not in keys.accepted
            assert f"minion-{number}" in keys.rejected


def test_two_changes_within_one_tick_of_the_clock_are_both_seen(pki: Path) -> None:
    """Where the file system's clock is too coarse to show the second change, it is found all the same."""
    store = KeyStore()
    for number in range(20):
        tick = time.time_ns()
        for name in (f"a-{number}", f"b-{number}"):
            (pki / "minions" / name).touch()
            os.utime(pki / "minions", ns=(tick, tick))
            assert name in store.read(pki).accepted


def test_a_change_after_a_long_quiet_is_seen_at_once(pki: Path) -> None:
    """What was remembered of an unchanged directory holds until it changes, and no longer."""
    store = KeyStore()
    (pki / "minions" / "web1").touch()
    age(pki / "minions")
    store.read(pki)

    (pki / "minions" / "web2").touch()
    assert {"web1", "web2"} == store.read(pki).accepted
    (pki / "minions" / "web1").unlink()
    assert {"web2"} == store.read(pki).accepted


def test_unchanged_directories_are_not_listed_again(pki: Path, listed: list[str]) -> None:
    """Fifty thousand keys are listed when a key changes, not every few seconds."""
    store = KeyStore()
    for name in DIRECTORIES.values():
        age(pki / name)
    first = store.read(pki)
    assert list(DIRECTORIES.values()) == listed

    assert first == store.read(pki)
    assert list(DIRECTORIES.values()) == listed

    (pki / "minions_pre" / "web1").touch()
    store.read(pki)
    assert [*DIRECTORIES.values(), "minions_pre"] == listed


def test_a_fresh_directory_is_listed_again(pki: Path, listed: list[str]) -> None:
    """A directory whose last change is no older than a clock may be wrong is not trusted to stay as it is."""
    store = KeyStore()
    store.read(pki)
    store.read(pki)

    assert 2 == listed.count("minions")


def test_another_pki_dir_is_another_matter(pki: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """After a change of the configuration nothing of the old pki_dir is left."""
    store = KeyStore()
    (pki / "minions" / "web1").touch()
    age(pki / "minions")
    store.read(pki)
    other = tmp_path_factory.mktemp("pki")
    (other / "minions").mkdir()
    age(other / "minions")

    assert Keys(*(frozenset[str]() for _ in DIRECTORIES)) == store.read(other)
