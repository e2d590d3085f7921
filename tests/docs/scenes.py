"""What has happened at the site when a document's commands are run: one fault after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from tests.docs.site import Job, large_jobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.docs.commands import Command
    from tests.docs.site import Site

_WORKERS: Final = "pgrep -f '[M]Worker-'"
_DROP_IN: Final = "/etc/systemd/system/salt-exporter.service.d/user.conf"


class Scene(NamedTuple):
    """A state of the site: how it comes about, and how it ends so that the next one can begin."""

    name: str
    begin: Callable[[Site], None]
    end: Callable[[Site], None]


def _an_ordinary_day(site: Site) -> None:
    """Stop a minion, which is missed by jobs and stays away, run a long job, have a program be slow. A key waits."""
    site.start_sleepy_consumer()
    site.machines["web2"].must("systemctl stop salt-minion")
    site.wait_metric("web2 is not there", 'salt_presence_minion_not_present{minion="web2"} 1.0')
    functions = ("test.ping", "test.version", "grains.items")
    jobs = [Job(["web1", "web2", "web3"], function) for function in functions]
    *_, site.jid = site.publish(Job(["web1", "web3"], "test.sleep", [600]), *jobs)
    site.publish(large_jobs(60, 5_000))  # for the slow program not to keep up with
    site.wait("losses of web2", lambda: site.losses("--minion web2").count("not_connected") >= 3)


def _end_of_an_ordinary_day(site: Site) -> None:
    site.master.must("systemctl stop sleepy")


def _workers_stopped(site: Site) -> None:
    site.master.must(f"kill -STOP $({_WORKERS})")
    site.wait_metric("the probe fails", 'salt_probe_success{probe="request"} 0.0')


def _workers_go_on(site: Site) -> None:
    site.master.must(f"kill -CONT $({_WORKERS})")
    site.wait_metric("the probe succeeds", 'salt_probe_success{probe="request"} 1.0')


def _wrong_user(site: Site) -> None:
    site.master.write(_DROP_IN, "[Service]\nUser=nobody\nGroup=nogroup\n")
    site.master.must("systemctl daemon-reload && systemctl restart salt-exporter")
    site.wait_metric("the bus cannot be opened", "salt_exporter_eventbus_connected 0.0")


def _right_user(site: Site) -> None:
    site.master.must(f"rm {_DROP_IN} && systemctl daemon-reload && systemctl restart salt-exporter")
    site.wait_metric("the bus can be opened", "salt_exporter_eventbus_connected 1.0")


def _frozen(site: Site) -> None:
    """Freeze a minion while its queue fills and overflows."""
    site.machines["web1"].must("systemctl kill --signal=STOP salt-minion")
    both = ["web1", "web3"]
    before, after = ("test.ping", "grains.items"), ("grains.ls", "test.version")
    *_, site.jid = site.publish(
        *(Job(both, function) for function in before),
        large_jobs(100, 20_000),
        *(Job(both, function) for function in after),
    )
    site.wait("causes", lambda: site.losses("--minion web1").count("publisher_drop") >= 2)
    site.wait_metric("silence", "salt_publish_silent_subscribers 1.0")


def _thawed(site: Site) -> None:
    site.machines["web1"].must("systemctl kill --signal=CONT salt-minion")
    site.wait_minions("web1")


def _frozen_with_a_longer_queue(site: Site) -> None:
    """Raise `pub_hwm`, and do the same again."""
    site.master.write("/etc/salt/master.d/queues.conf", "pub_hwm: 1000\n")
    site.master.must("systemctl restart salt-master")
    site.wait_minions("web1", "web3")
    site.machines["web1"].must("systemctl kill --signal=STOP salt-minion")
    both = ["web1", "web3"]
    *_, jid = site.publish(Job(both, "test.ping"), large_jobs(100, 20_000), Job(both, "test.version"))
    site.wait("the loss", lambda: "publisher_queue" in site.losses(f"--jid {jid}"))


def _all_came_late(site: Site) -> None:
    _thawed(site)
    site.wait("the return that was missing", lambda: "recovered" in site.losses("--since 5m --cause publisher_queue"))


def _master_down(site: Site) -> None:
    """Have another program take one of its ports."""
    site.master.must("systemctl stop salt-master && systemd-run --unit=squatter python3 -m http.server 4505")
    site.wait("its port is taken", lambda: ":4505" in site.master.run("ss -ltn").output)
    site.master.run("systemctl start salt-master")
    site.wait_metric("the master is down", "salt_master_up 0.0")


def _master_up(site: Site) -> None:
    site.master.must("systemctl stop squatter && systemctl start salt-master")
    site.wait_metric("the master is up", "salt_master_up 1.0")


def _exporter_down(site: Site) -> None:
    site.master.write("/etc/salt-exporter/config.yml", "web: {listen-adress: ':4507'}\n")
    site.master.run("systemctl restart salt-exporter")


def _nothing(_: Site) -> None:
    pass


ORDINARY: Final = Scene("ordinary", _an_ordinary_day, _end_of_an_ordinary_day)
SCENES: Final = (
    ORDINARY,
    Scene("workers stopped", _workers_stopped, _workers_go_on),
    Scene("exporter runs as the wrong user", _wrong_user, _right_user),
    Scene("frozen", _frozen, _thawed),
    Scene("frozen, longer queue", _frozen_with_a_longer_queue, _nothing),
    Scene("all came late", _all_came_late, _nothing),
    Scene("master down", _master_down, _master_up),
    Scene("exporter down", _exporter_down, _nothing),
)

# Where the commands of a document or of one of its sections are not those of an ordinary day.
PLACES: Final = {
    "alerts/runbooks/SaltRequestProbeFailing.md": "workers stopped",
    "alerts/runbooks/SaltRequestQueueNotEmpty.md": "workers stopped",
    "alerts/runbooks/SaltExporterCollectorFailing.md": "exporter runs as the wrong user",
    "alerts/runbooks/SaltEventBusDisconnected.md": "exporter runs as the wrong user",
    "alerts/runbooks/SaltMessagesDropped.md": "frozen",
    "alerts/runbooks/SaltPublishQueueNearlyFull.md": "frozen",
    "alerts/runbooks/SaltResponsesMissing.md": "frozen",
    "alerts/runbooks/SaltResponsesMissingByCause.md": "frozen",
    "alerts/runbooks/SaltSubscribersStalled.md": "frozen",
    "docs/operating.md#The burst": "frozen",
    "docs/operating.md#The same burst again": "frozen, longer queue",
    "docs/operating.md#When web1 reads again": "all came late",
    "alerts/runbooks/SaltMasterDown.md": "master down",
    "alerts/runbooks/SaltExporterDown.md": "exporter down",
}


def place(command: Command) -> str:
    """Return the key of PLACES that decides about a command; empty if none does."""
    for key in (f"{command.document}#{command.section}", command.document):
        if key in PLACES:
            return key
    return ""


def scene_of(command: Command) -> str:
    """Return the name of the scene in which a command is run."""
    return PLACES.get(place(command), ORDINARY.name)
