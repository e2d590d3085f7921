"""Which minions' returns the master's local job cache holds.

Layout of `master_job_cache: local_cache` in 3006, 3007 and 3008 (salt/returners/local_cache.py; jid_dir in
salt/utils/jid.py), h being the hexadecimal `hash_type` of the jid:

* `<cachedir>/jobs/<h[:2]>/<h[2:]>/` is one job: files about it, and a directory for each minion that has returned
* `<minion id>/return.p` is the return, written to a temporary name and renamed; only the first one is kept
* `.minions.p` is the list of the minions that it was published for, `.minions.<syndic>.p` those below a syndic
* `nocache` marks a job whose returns are not kept

Nothing that came over the network is made part of a path: the jid is hashed, and minions are listed, not asked for.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgpack

from salt_exporter.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from salt_exporter.master.settings import MasterSettings

_RETURN: Final = "return.p"
_NO_CACHE: Final = "nocache"
_MINIONS: Final = ".minions*.p"  # the master's own list, and those of its syndics
_MAX_MINIONS_SIZE: Final = 64 << 20  # bytes
_LONGEST: Final = 10.0  # seconds for one job: 20,000 minions take a fifth of one, a slow network file system all


class NotKept(SourceError):  # noqa: N818 - no failure: the cache is read, and says nothing about this job
    """The cache keeps no returns of one job: it was published with `nocache`, or has been cleaned away."""


@dataclass(frozen=True, slots=True)
class JobCache:
    """The local job cache of one master. Stateless: may be asked from any thread, and takes as long as its disk."""

    directory: Path  # <cachedir>/jobs
    hash_type: str

    @classmethod
    def of(cls, settings: MasterSettings) -> JobCache:
        """Return the cache of a master. Raises SourceError where it keeps its returns elsewhere, or nowhere."""
        if not settings.options.get("job_cache", 1):
            raise SourceError("the master runs with job_cache: False and keeps no returns: set it to True to compare")
        if settings.ext_job_cache:
            raise SourceError(
                f"the minions return to ext_job_cache: {settings.ext_job_cache}, which cannot be read: returns are "
                "compared with the local job cache only"
            )
        if settings.master_job_cache != "local_cache":
            raise SourceError(
                f"the master keeps returns with master_job_cache: {settings.master_job_cache}, which cannot be read: "
                "returns are compared with local_cache only"
            )
        # As salt/utils/jid.py does, getattr(hashlib, hash_type): names of OpenSSL's own are none there.
        if settings.hash_type not in hashlib.algorithms_guaranteed or settings.hash_type.startswith("shake"):
            raise SourceError(f"the master's hash_type {settings.hash_type} cannot name a job: use sha256, the default")
        return cls(settings.cachedir / "jobs", settings.hash_type)

    def check(self) -> None:
        """Raise SourceError if the cache cannot be read at all."""
        try:
            os.scandir(self.directory).close()
            os.stat(f"{self.directory}/.")  # noqa: PTH116 - whether we may look for files in it; a Path drops the dot
        except OSError as error:
            raise self._unreadable(error) from error

    def returned(self, jid: str) -> frozenset[str]:
        """Return the ids of all minions whose return to a job is in the cache.

        Raises SourceError where that cannot be looked up, and NotKept where the cache says nothing about the job.
        """
        try:
            job = os.open(self._path(jid), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, UnicodeEncodeError) as error:  # Salt cannot have named a directory after the latter
            self.check()
            raise NotKept("the job cache does not hold this job (any more)") from error
        except OSError as error:
            raise self._unreadable(error) from error
        try:
            return frozenset(_returned(job))
        except OSError as error:
            raise self._unreadable(error) from error
        finally:
            os.close(job)

    def expected(self, jid: str) -> frozenset[str]:
        """Return the ids of the minions that a job was published for. Raises SourceError where that is not known.

        The event that tells them is cut when it would exceed `max_event_size`: beyond some 40,000 minions by default.
        """
        found: set[str] = set()
        try:
            for file in self._path(jid).glob(_MINIONS):
                if file.stat().st_size > _MAX_MINIONS_SIZE:
                    raise SourceError(f"the list of minions of a job takes more than {_MAX_MINIONS_SIZE} bytes")
                found.update(_ids(file.read_bytes()))
        except OSError as error:
            raise self._unreadable(error) from error
        except UnicodeEncodeError as error:
            raise NotKept("the job cache does not hold this job") from error
        return frozenset(found)

    def _path(self, jid: str) -> Path:
        digest = hashlib.new(self.hash_type, jid.encode(), usedforsecurity=False).hexdigest()
        return self.directory / digest[:2] / digest[2:]

    def _unreadable(self, error: OSError) -> SourceError:
        return SourceError(
            f"cannot read the job cache in {self.directory} ({error.strerror}): "
            "run the exporter as the user the salt-master runs as"
        )


def _ids(packed: bytes) -> list[str]:
    """Read a list of minion ids. Raises SourceError."""
    try:
        ids = msgpack.unpackb(packed)
    except (msgpack.UnpackException, ValueError, TypeError, RecursionError) as error:
        raise SourceError(f"the list of minions of a job is none: {error}") from error
    if not isinstance(ids, list) or not all(isinstance(minion, str) for minion in ids):
        raise SourceError("the list of minions of a job is none")
    return ids


def _returned(job: int) -> Iterator[str]:
    """Yield the minions with a whole return below an open job directory. Raises NotKept, SourceError and OSError."""
    deadline = time.monotonic() + _LONGEST
    with os.scandir(job) as entries:
        for entry in entries:
            if entry.name == _NO_CACHE and entry.is_file(follow_symlinks=False):
                raise NotKept("the job was published with nocache: its returns are not kept")
            if entry.is_dir(follow_symlinks=False) and _is_whole(f"{entry.name}/{_RETURN}", job):
                yield entry.name
            if time.monotonic() > deadline:
                raise SourceError(f"the job cache did not list one job's returns within {_LONGEST:.0f} s")


def _is_whole(name: str, job: int) -> bool:
    """Tell whether a return is there. A crash of the host can leave an empty file where a rename was on its way."""
    try:
        status = os.stat(name, dir_fd=job, follow_symlinks=False)
    except FileNotFoundError:  # being written, or the write failed: Salt does not try again
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size > 0
