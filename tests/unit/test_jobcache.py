"""The local job cache: whose return it holds, as every Salt line writes it, and where it cannot tell."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from salt_exporter.errors import SourceError
from salt_exporter.master import jobcache
from salt_exporter.master.ask import ask
from salt_exporter.master.jobcache import JobCache, NotKept
from salt_exporter.master.settings import _NAMES, MasterSettings, _settings
from tests.unit.salts import RAW, every_salt
from tests.unit.tools import public_folder, unprivileged

if TYPE_CHECKING:
    from collections.abc import Sequence

JID = "20261123100000000000"

# What a master does with a job and the returns to it, with Salt's own code.
_MASTER = """
import json, os, sys
import salt.config, salt.utils.atomicfile
from salt.returners import local_cache
wanted = json.load(sys.stdin)
local_cache.__opts__ = {**salt.config.DEFAULT_MASTER_OPTS, **wanted["options"]}
jid = local_cache.prep_jid(nocache=wanted["nocache"], passed_jid=wanted["jid"])
local_cache.save_load(jid, {"fun": "test.ping", "jid": jid, "tgt": "*"}, minions=wanted["minions"] + ["absent"])
local_cache.save_minions(jid, ["below"], syndic_id="syndic1")
for minion in wanted["minions"]:
    load = {"id": minion, "jid": jid, "return": True, "retcode": 0, "success": True, "out": "nested"}
    local_cache.returner(load)
    local_cache.returner(load)  # a duplicate
local_cache.update_endtime(jid, "later")
if wanted["half"]:
    job = local_cache.salt.utils.jid.jid_dir(jid, local_cache._job_dir(), wanted["options"]["hash_type"])
    os.mkdir(os.path.join(job, wanted["half"]))
    file = salt.utils.atomicfile.atomic_open(os.path.join(job, wanted["half"], "return.p"), "w+b")
    file.write(b"half")
    file.flush()
    os._exit(0)
"""


def store(
    python: Path,
    cachedir: Path,
    minions: Sequence[str],
    hash_type: str = "sha256",
    half: str = "",
    *,
    nocache: bool = False,
) -> None:
    """Store returns with the code of a real Salt; of `half` only a part is written when it dies."""
    wanted = {
        "options": {"cachedir": str(cachedir), "hash_type": hash_type},
        "jid": JID,
        "minions": list(minions),
        "half": half,
        "nocache": nocache,
    }
    subprocess.run([str(python), "-c", _MASTER], input=json.dumps(wanted), text=True, check=True, capture_output=True)


def job_folder(cachedir: Path, jid: str = JID) -> Path:
    """Return the directory of a job, made."""
    digest = hashlib.sha256(jid.encode("utf-8", "surrogatepass")).hexdigest()
    folder = cachedir / "jobs" / digest[:2] / digest[2:]
    folder.mkdir(parents=True)
    return folder


def put(folder: Path, minion: str, content: bytes = b"\x81") -> None:
    """Make a minion's return in a job's directory."""
    (folder / minion).mkdir()
    (folder / minion / "return.p").write_bytes(content)


def cache(cachedir: Path) -> JobCache:
    """Return the cache of a master with the default options."""
    return JobCache(cachedir / "jobs", "sha256")


def settings(**options: object) -> MasterSettings:
    """Return the settings of a master of 3008 with these options."""
    answer = {"version": "3008.3", "files": [], "patterns": [], "options": RAW | {"job_cache": True} | options}
    return _settings(answer, "master", Path("/etc/salt"), None)


# --- real Salts ---


@every_salt
@pytest.mark.parametrize("hash_type", ["sha256", "md5", "sha512"])
def test_returns_that_a_real_salt_stores_are_found(line: int, folder: Path, hash_type: str, tmp_path: Path) -> None:
    """Each line's own returner, with any hash: exactly the minions that returned, not those expected or half there."""
    minions = ["web1", "Web-2.example.com", "blåbær", ".hidden", "with space"]
    store(folder / "python", tmp_path, minions, hash_type, half="dying")

    assert set(minions) == JobCache(tmp_path / "jobs", hash_type).returned(JID), line
    (half,) = tmp_path.glob("jobs/*/*/dying")
    assert list(half.iterdir())  # it was there


@every_salt
def test_job_of_a_real_salt_that_is_not_cached(line: int, folder: Path, tmp_path: Path) -> None:
    """With `nocache` nothing is known of the returns, and that is said."""
    store(folder / "python", tmp_path, ["web1"], nocache=True)

    with pytest.raises(NotKept, match="nocache"):
        cache(tmp_path).returned(JID)
    assert line


@every_salt
def test_options_of_a_real_salt_lead_to_its_cache(line: int, folder: Path, tmp_path: Path) -> None:
    """Every line resolves the options that say where returns are kept."""
    (tmp_path / "master").write_text(f"cachedir: {tmp_path}/cache\n")
    answer = ask(folder / "python", tmp_path, _NAMES)
    found = JobCache.of(_settings(answer, "master", tmp_path, None))

    assert JobCache(tmp_path / "cache" / "jobs", "sha256") == found, line
    (tmp_path / "master").write_text(
        "ext_job_cache: redis\nhash_type: MD5\nmaster_job_cache: mysql\njob_cache: False\n"
    )
    resolved = _settings(ask(folder / "python", tmp_path, _NAMES), "master", tmp_path, None)
    assert ("redis", "md5", "mysql", 0.0) == (
        resolved.ext_job_cache,
        resolved.hash_type,
        resolved.master_job_cache,
        resolved.options["job_cache"],
    )


# --- what counts as a return ---


def test_only_whole_returns_count(tmp_path: Path) -> None:
    """A directory without a return, an empty one after a crash, files and links are no returns."""
    folder = job_folder(tmp_path)
    put(folder, "whole")
    put(folder, "empty", b"")
    (folder / "without").mkdir()
    (folder / "temporary").mkdir()
    (folder / "temporary" / ".___atomic_writex").write_bytes(b"\x81")
    (folder / "linked").symlink_to(folder / "whole")
    (folder / "link inside").mkdir()
    (folder / "link inside" / "return.p").symlink_to(folder / "whole" / "return.p")
    (folder / "directory inside" / "return.p").mkdir(parents=True)
    for name in ("jid", ".load.p", ".minions.p", "endtime"):
        (folder / name).write_bytes(b"\x81")

    assert {"whole"} == cache(tmp_path).returned(JID)


def test_minion_called_nocache_is_one(tmp_path: Path) -> None:
    """The marker is a file; a minion may have any name."""
    put(job_folder(tmp_path), "nocache")

    assert {"nocache"} == cache(tmp_path).returned(JID)


def test_names_that_are_no_utf8_are_listed(tmp_path: Path) -> None:
    """A directory of any name is listed as Python writes it."""
    name = os.fsdecode(b"web\xff")
    put(job_folder(tmp_path), name)

    assert {name} == cache(tmp_path).returned(JID)


def test_job_that_nobody_returned_to_is_empty(tmp_path: Path) -> None:
    """A job that is known and has no return is not one that is not kept."""
    job_folder(tmp_path)

    assert frozenset() == cache(tmp_path).returned(JID)


def test_many_returns_are_one_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All minions of a job come from a single listing of its directory, however many they are."""
    folder = job_folder(tmp_path)
    for number in range(2000):
        put(folder, f"web{number}")
    listings = []
    scandir = os.scandir

    def noting(path: int) -> object:
        listings.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", noting)

    assert 2000 == len(cache(tmp_path).returned(JID))
    assert 1 == len(listings)


def test_listing_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that answers too slowly does not keep us for ever."""
    put(job_folder(tmp_path), "web1")
    monkeypatch.setattr(jobcache, "_LONGEST", -1.0)

    with pytest.raises(SourceError, match="did not list"):
        cache(tmp_path).returned(JID)


# --- jids that are none ---


@hypothesis(deadline=None)
@given(
    st.one_of(st.text(st.characters(exclude_categories=())), st.sampled_from(["../../x", "/etc", "a" * 10**5, "\0"]))
)
def test_no_jid_leads_out_of_the_cache(jid: str) -> None:
    """Whatever stands for a jid, the directory is two levels below the cache, or there is none."""
    root = Path("/cache/jobs")
    try:
        path = JobCache(root, "sha256")._path(jid)
    except UnicodeEncodeError:
        assert any("\ud800" <= letter <= "\udfff" for letter in jid)
        return
    assert root == path.parent.parent
    assert {2, 62} == {len(path.parent.name), len(path.name)}
    assert set(path.parent.name + path.name) <= set("0123456789abcdef")


@pytest.mark.parametrize("jid", ["../outside", "", "\udcff", "x" * 10_000, "\0", JID])
def test_job_that_the_cache_does_not_hold(jid: str, tmp_path: Path) -> None:
    """Of a job that was never there, or is no more, nothing is known; that is no failure of the cache."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "outside").mkdir()
    put(tmp_path / "outside", "web1")

    with pytest.raises(NotKept, match="does not hold"):
        cache(tmp_path).returned(jid)
    cache(tmp_path).check()


# --- where it cannot tell ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"job_cache": False}, "job_cache: False"),
        ({"ext_job_cache": "redis"}, "ext_job_cache: redis"),
        ({"master_job_cache": "mysql"}, "master_job_cache: mysql"),
        ({"hash_type": "sha1000"}, "hash_type sha1000"),
        ({"hash_type": "shake_128"}, "hash_type shake_128"),
    ],
)
def test_returns_that_are_kept_elsewhere_are_not_compared(options: dict[str, object], message: str) -> None:
    """Where the master keeps its returns elsewhere, or nowhere, one sentence says so."""
    with pytest.raises(SourceError, match=message):
        JobCache.of(settings(**options))


def test_default_options_are_enough() -> None:
    """A master that sets none of the options has the cache that all lines have by default."""
    assert JobCache(Path("/cache/jobs"), "sha256") == JobCache.of(settings())
    assert "md5" == JobCache.of(settings(hash_type="md5")).hash_type


def test_missing_cache_is_told(tmp_path: Path) -> None:
    """A directory that no master has made is not an empty cache."""
    for look in (cache(tmp_path).check, lambda: cache(tmp_path).returned(JID)):
        with pytest.raises(SourceError, match="No such file") as found:
            look()
        assert not isinstance(found.value, NotKept)


def test_file_in_the_place_of_a_directory_is_told(tmp_path: Path) -> None:
    """What is no job cache is not taken for one."""
    folder = job_folder(tmp_path)
    folder.rmdir()
    folder.touch()

    with pytest.raises(SourceError, match="Not a directory"):
        cache(tmp_path).returned(JID)


def test_link_in_the_place_of_a_job_is_not_followed(tmp_path: Path) -> None:
    """Salt makes directories; whatever a link leads to is no job."""
    folder = job_folder(tmp_path)
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir()
    put(tmp_path / "elsewhere", "web1")
    folder.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(SourceError):
        cache(tmp_path).returned(JID)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take rights away from itself")
@pytest.mark.parametrize("closed", ["jobs", "jobs/*", "jobs/*/*", "jobs/*/*/web1"])
def test_unreadable_cache_is_told(closed: str) -> None:
    """A directory that may not be read is one sentence that says what to do, at whichever level it is."""
    with public_folder() as cachedir:
        put(job_folder(cachedir), "web1")
        (place,) = cachedir.glob(closed)
        place.chmod(0o700)
        with unprivileged():
            with pytest.raises(SourceError, match=r"Permission denied.*run the exporter as the user") as found:
                cache(cachedir).returned(JID)
            assert not isinstance(found.value, NotKept)
            if closed == "jobs":
                with pytest.raises(SourceError, match="Permission denied"):
                    cache(cachedir).check()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take rights away from itself")
def test_cache_that_may_be_listed_but_not_entered_is_told() -> None:
    """The check finds out that files cannot be looked up, before a job is asked for."""
    with public_folder() as cachedir:
        job_folder(cachedir)
        (cachedir / "jobs").chmod(0o744)
        with unprivileged(), pytest.raises(SourceError, match="Permission denied"):
            cache(cachedir).check()
