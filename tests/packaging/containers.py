"""The image, built and run as users do it, on a machine without a container service.

buildah builds it and podman runs it, with everything they keep below one folder. The official Python image under it is
not to be had everywhere: Debian's own Python stands in for it under its name.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT: Final = Path(__file__).parents[2]
IMAGE: Final = "localhost/salt-exporter:test"
BASE: Final = "docker.io/library/python:3.11-slim-bookworm"
TOOLS: Final = ("buildah", "podman", "mmdebstrap", "nsenter", "setpriv", "ip")

# It takes the mirrors half a minute to give; `rm -r .tools/image` has it made anew.
_BASE_FILES: Final = ROOT / ".tools/image/bookworm-python.tar"
_BASE_RECIPE: Final = """\
FROM scratch
ADD base.tar /
COPY files /
RUN ln -s /usr/bin/python3 /usr/local/bin/python
ENV PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
"""

# What needs rights or services that a test's machine may lack: own limits, own cgroups for podman's helper, journald.
_CONFIG: Final = """\
[containers]
cgroups = "no-conmon"
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
"""
_STORAGE: Final = """\
[storage]
driver = "overlay"
graphroot = "{folder}/store"
runroot = "{folder}/run"
"""
_REGISTRY_SETTINGS: Final = ("cert", "extra-index-url", "index-url", "proxy", "timeout", "trusted-host")


def lacking() -> str:
    """Return why no image can be built and run here, "" if one can."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"no {', '.join(missing)} on the PATH (Debian: buildah, podman, runc, mmdebstrap, util-linux, iproute2)"
    return "" if os.geteuid() == 0 else "containers beside a master's network namespace need root"


def environment(folder: Path) -> dict[str, str]:
    """Return the variables with which buildah and podman keep everything below a folder, after making their files."""
    config, storage = folder / "containers.conf", folder / "storage.conf"
    # crun refuses the hybrid of both cgroup versions that some machines have; runc takes it.
    runtime = 'runtime = "runc"\n' if shutil.which("runc") else ""
    config.write_text(_CONFIG + runtime)
    storage.write_text(_STORAGE.format(folder=folder))
    return {
        "CONTAINERS_CONF": str(config),
        "CONTAINERS_STORAGE_CONF": str(storage),
        "DISABLE_HC_SYSTEMD": "true",  # health checks when we ask for them, not by timers of systemd
        "TMPDIR": str(folder),
    }


def build(folder: Path) -> None:
    """Build the image with the Dockerfile of this repository, and the stand-in under it."""
    context = folder / "base"
    (context / "files/etc").mkdir(parents=True)
    if not _BASE_FILES.exists():
        _BASE_FILES.parent.mkdir(parents=True, exist_ok=True)
        made = _BASE_FILES.with_suffix(f".{os.getpid()}")
        packages = "python3,python3-venv,ca-certificates"
        run("mmdebstrap", "--format=tar", "--variant=minbase", f"--include={packages}", "bookworm", str(made))
        made.replace(_BASE_FILES)
    shutil.copy(_BASE_FILES, context / "base.tar")
    _take_over_registry(context / "files")
    (context / "Containerfile").write_text(_BASE_RECIPE)
    bud = ("buildah", "bud", "--isolation=chroot", "--pull-never", "--format=docker")
    run(*bud, "--tag", BASE, str(context))
    shutil.rmtree(context)
    run(*bud, "--tag", IMAGE, str(ROOT))


def _take_over_registry(files: Path) -> None:
    """Have the pip of the image use the package registry that this machine's pip uses."""
    settings = {name: value for name, value in _pip_settings().items() if name in _REGISTRY_SETTINGS}
    lines = [f"{name} = {value}\n" for name, value in settings.items()]
    (files / "etc/pip.conf").write_text("[global]\n" + "".join(lines))
    if "cert" in settings:
        copy = files / settings["cert"].lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(settings["cert"], copy)


def _pip_settings() -> Mapping[str, str]:
    """Return what `pip config list` says in lines such as `global.cert='/x'`; variables come last, and win."""
    said = run(sys.executable, "-m", "pip", "config", "list").splitlines()
    pairs = [line.partition("=") for line in sorted(said, key=lambda line: line.startswith(":env:"))]
    return {key.rpartition(".")[2]: str(ast.literal_eval(value)) for key, _, value in pairs}


def run(*argv: str) -> str:
    """Run a program to its end and return its standard output; AssertionError with what it said if it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{argv}: {(done.stdout + done.stderr)[-2000:]}"
    return done.stdout
