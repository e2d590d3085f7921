"""Events as Salt 3007 and 3008 put them on the bus: made up, but in every field what real ones hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgpack

from salt_exporter.master.events import TAG_END

if TYPE_CHECKING:
    from collections.abc import Sequence

_STAMP = "2025-11-22T10:11:12.131415+00:00"
_JID = 20251122101112131415


def job_new(job: int, minions: Sequence[str]) -> bytes:
    """Return the event with which a `state.apply` on these minions is published."""
    data = {"jid": f"{_JID + job}", "tgt_type": "glob", "tgt": "*", "user": "root", "fun": "state.apply", "arg": []}
    return _frame(f"salt/job/{_JID + job}/new", data | {"minions": list(minions), "missing": [], "_stamp": _STAMP})


def empty_return(job: int, minion: str) -> bytes:
    """Return a minion's answer to it, which has had nothing to do."""
    return _return(job, minion, "state.apply", [], {})


def command_return(number: int) -> bytes:
    """Return what a command of some lines of output gives: 1 kB."""
    output = "/dev/mapper/vg0-root  ext4  97G  41G  52G  45% /\n" * 16
    return _return(0, f"minion-{number:05}", "cmd.run", ["df -h"], output)


def state_return(number: int) -> bytes:
    """Return what 100 states give, of which one has changed a file: 30 kB."""
    states = {
        f"file_|-/etc/app/conf.d/{state:02}.conf_|-/etc/app/conf.d/{state:02}.conf_|-managed": {
            "name": f"/etc/app/conf.d/{state:02}.conf",
            "changes": {"diff": "-old line\n+new line\n" * 20} if state == number else {},
            "result": True,
            "comment": f"File /etc/app/conf.d/{state:02}.conf is in the correct state",
            "__sls__": "app.config",
            "__run_num__": state,
            "start_time": "10:11:12.131415",
            "duration": 12.345,
            "__id__": f"/etc/app/conf.d/{state:02}.conf",
        }
        for state in range(100)
    }
    return _return(0, f"minion-{number:05}", "state.apply", ["app.config"], states)


def _return(job: int, minion: str, function: str, arguments: list[str], result: object) -> bytes:
    data = {
        "cmd": "_return",
        "id": minion,
        "success": True,
        "return": result,
        "retcode": 0,
        "jid": f"{_JID + job}",
        "fun": function,
        "fun_args": arguments,
        "user": "root",
        "ts": 1763806272,
        "_stamp": _STAMP,
    }
    return _frame(f"salt/job/{_JID + job}/ret/{minion}", data)


def _frame(tag: str, data: dict[str, Any]) -> bytes:
    return bytes(msgpack.packb({"head": {}, "body": tag.encode() + TAG_END + msgpack.packb(data)}))
