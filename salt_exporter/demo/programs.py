"""Salt's own programs, found on disk and started as processes: nothing of Salt is imported here."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path


class NoSaltError(Exception):
    """There is no complete installation of Salt where one was looked for."""


@dataclass(frozen=True, slots=True)
class SaltPrograms:
    """One installation of Salt: the folder that holds salt-master, salt-minion, salt and salt-run.

    Raises NoSaltError if one of them is missing.
    """

    bin_dir: Path

    def __post_init__(self) -> None:
        for program in (self.master, self.minion, self.cli, self.runner):
            if not Path(program).is_file():
                raise NoSaltError(f"there is no {program}: install Salt there, or name another folder")

    @classmethod
    def find(cls) -> SaltPrograms:
        """Return the Salt of this Python: a virtualenv's, a onedir package's, else what PATH offers."""
        beside = Path(sys.executable).parent
        # The onedir packages keep python in /opt/saltstack/salt/bin and the programs one level up.
        for folder in (beside, beside.parent):
            if (folder / "salt-master").is_file():
                return cls(folder)
        if on_path := shutil.which("salt-master"):
            return cls(Path(on_path).resolve().parent)
        raise NoSaltError(
            f"there is no salt-master beside {sys.executable} nor on the PATH: "
            f"install Salt into the same environment ({sys.executable} -m pip install salt)"
        )

    @property
    def master(self) -> str:
        """The path of salt-master."""
        return str(self.bin_dir / "salt-master")

    @property
    def minion(self) -> str:
        """The path of salt-minion."""
        return str(self.bin_dir / "salt-minion")

    @property
    def cli(self) -> str:
        """The path of salt, the command that publishes jobs."""
        return str(self.bin_dir / "salt")

    @property
    def runner(self) -> str:
        """The path of salt-run."""
        return str(self.bin_dir / "salt-run")

    @property
    def python(self) -> str:
        """The path of a Python that can import Salt: the one beside the programs, else our own."""
        beside = self.bin_dir / "python3"
        return str(beside) if beside.is_file() else sys.executable
