"""Fire the events of jobs and all their returns as fast as Salt can: a program for Salt's own Python.

return_storm.py <config dir of the master> <jobs> <minions>
"""

from __future__ import annotations

import sys

import salt.config
import salt.utils.event


def main(config_dir: str, jobs: int, minions: int) -> None:
    """Fire one `new` event for each job and one return for each of its minions; say so when done."""
    opts = salt.config.client_config(f"{config_dir}/master")
    names = [f"storm{number:05}" for number in range(minions)]
    with salt.utils.event.get_event("master", opts=opts, sock_dir=opts["sock_dir"], listen=False) as bus:
        for job in range(jobs):
            jid = f"20990101{job:012}"
            fields = {"jid": jid, "fun": "test.storm"}
            bus.fire_event({**fields, "minions": names, "missing": [], "user": "root"}, f"salt/job/{jid}/new")
            for name in names:
                answer = {"id": name, "return": True, "retcode": 0, "success": True, "cmd": "_return"}
                bus.fire_event({**fields, **answer}, f"salt/job/{jid}/ret/{name}")
    print("fired", flush=True)  # noqa: T201 - that is the answer


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
