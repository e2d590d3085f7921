"""Publish jobs at a constant pace, also while the master comes and goes: a program for Salt's own Python.

pacer.py <config dir of the master> <seconds between jobs> prints a line of JSON for each attempt, until it is ended:
{"at": Unix seconds, "jid": …}, or "error" in the place of "jid" where no master took the job.
"""

from __future__ import annotations

import itertools
import json
import sys
import time

import salt.client
import salt.exceptions

# Quick and slow ones, small and large, for everybody and for some.
JOBS: tuple[tuple[str, str, str, list[object]], ...] = (
    ("*", "glob", "test.ping", []),
    ("*", "glob", "test.arg", ["x" * 2000]),
    ("m1,m3,m5", "list", "cmd.run", ["echo salt"]),
    ("*", "glob", "test.sleep", [1]),
    ("m2,m4", "list", "test.fib", [10]),
)


def main(config_dir: str, pace: float) -> None:
    """Publish until ended."""
    client = None
    for number in itertools.count():
        began = time.time()
        target, target_type, function, arguments = JOBS[number % len(JOBS)]
        try:
            # A master that has been restarted has a new key for local clients.
            client = client or salt.client.LocalClient(f"{config_dir}/master")
            said = {"jid": client.run_job(target, function, arguments, tgt_type=target_type)["jid"]}
        except (salt.exceptions.SaltException, KeyError, OSError) as error:
            client = None
            said = {"error": repr(error)}
        print(json.dumps({"at": began, **said}), flush=True)  # noqa: T201 - that is the answer
        time.sleep(max(0.0, began + pace - time.time()))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
