"""Ask minions for `test.ping` until all of them have answered: a program for Salt's own Python, run as a process.

ping.py <config dir of the master> <minion>...

It prints a line for each attempt that failed, and "all have answered" at the end. A minion that was not subscribed yet
never gets the job, so the silent ones are asked again. `salt` would wait for them, and ask all others what they run.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import salt.client
import salt.exceptions
import salt.utils.jid

_PATIENCE = 3.0  # seconds for the answers to one job
_PAUSE = 0.05


def _have_returned(opts: dict[str, str], jid: str, minions: set[str]) -> set[str]:
    """Return which minions' returns are in the job cache (salt/returners/local_cache.py)."""
    job = Path(salt.utils.jid.jid_dir(jid, f"{opts['cachedir']}/jobs", opts["hash_type"]))
    return {minion for minion in minions if (job / minion / "return.p").exists()}


def main(config_dir: str, *minions: str) -> None:
    """Ask until all have answered."""
    silent = set(minions)
    client = None
    while silent:
        try:
            client = client or salt.client.LocalClient(f"{config_dir}/master")
            jid = client.run_job(sorted(silent), "test.ping", tgt_type="list")["jid"]
        except (salt.exceptions.SaltException, KeyError) as error:
            # A master that has just started may not have written the key for local clients yet, or answer nothing.
            client = None
            print(f"{type(error).__name__}: {error}", flush=True)
            time.sleep(_PAUSE)
            continue
        end = time.monotonic() + _PATIENCE
        while (returned := _have_returned(client.opts, jid, silent)) < silent and time.monotonic() < end:
            time.sleep(_PAUSE)
        silent -= returned
    print("all have answered", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
