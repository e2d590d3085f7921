"""Fire the events of jobs and all their returns as fast as the master takes them: a program for Salt's own Python.

return_storm.py <config dir of the master> <jobs> <minions>

Each event is framed as `SaltEvent.fire_event` frames it (salt/utils/event.py, salt/transport/frame.py) and written to
the same socket; that function's event loop would take a millisecond for each.
"""

from __future__ import annotations

import socket
import sys
from datetime import datetime, timezone
from pathlib import Path

import salt.config
import salt.payload
import salt.transport.frame


def _event(tag: str, fields: dict[str, object]) -> bytes:
    fields["_stamp"] = datetime.now(timezone.utc).isoformat()
    packed = salt.payload.dumps(fields, use_bin_type=True)
    frame: bytes = salt.transport.frame.frame_msg_ipc(tag.encode() + b"\n\n" + packed, raw_body=True)
    return frame


def main(config_dir: str, jobs: int, minions: int) -> None:
    """Fire one `new` event for each job and one return for each of its minions; print "fired" when done."""
    opts = salt.config.client_config(f"{config_dir}/master")
    names = [f"storm{number:05}" for number in range(minions)]
    with socket.socket(socket.AF_UNIX) as bus:
        bus.connect(str(Path(opts["sock_dir"]) / "master_event_pull.ipc"))
        for job in range(jobs):
            jid = f"20990101{job:012}"
            fields = {"jid": jid, "fun": "test.storm"}
            bus.sendall(_event(f"salt/job/{jid}/new", {**fields, "minions": names, "missing": [], "user": "root"}))
            for name in names:
                answer = {"id": name, "return": True, "retcode": 0, "success": True, "cmd": "_return"}
                bus.sendall(_event(f"salt/job/{jid}/ret/{name}", {**fields, **answer}))
    print("fired", flush=True)  # noqa: T201 - that is the answer


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
