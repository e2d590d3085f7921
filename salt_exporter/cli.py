"""The command line: arguments to frozen settings to one command."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from salt_exporter import __version__, config, log
from salt_exporter.config import Config, ConfigError, duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_EPILOG: Final = (
    "Every flag is also an environment variable (--web.listen-address is SALT_EXPORTER_WEB_LISTEN_ADDRESS) and a key "
    "of the YAML file (web: {listen-address: ...}); see docs/configuration.md."
)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line; flags may stand before or behind the command."""
    flags = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    config.add_flags(flags.add_argument_group("settings"))
    top = argparse.ArgumentParser(
        prog="salt-exporter",
        description="A Prometheus exporter for Salt masters that finds, measures and explains lost Salt messages.",
        epilog=_EPILOG,
        parents=[flags],
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"salt-exporter {__version__}")
    top.add_argument(
        "--once", action="store_true", help="print one scrape to standard output; exit 1 if a collector failed"
    )
    top.add_argument(
        "--config.check", dest="config_check", action="store_true", help="check the configuration and exit"
    )
    commands = top.add_subparsers(dest="command", metavar="command")
    commands.add_parser("serve", help="run the daemon (the default)", parents=[flags], allow_abbrev=False)
    check = commands.add_parser(
        "check",
        help="report on the master: exit 0 if all is well, 1 with findings, 2 if it could not look",
        parents=[flags],
        allow_abbrev=False,
    )
    minions = commands.add_parser(
        "minions", help="who is present, with the evidence", parents=[flags], allow_abbrev=False
    )
    minions.add_argument("--absent", action="store_true", help="only minions that are not present")
    losses = commands.add_parser(
        "losses",
        help="missing responses with their causes, from the daemon's journal",
        parents=[flags],
        allow_abbrev=False,
    )
    losses.add_argument("--since", type=_since, metavar="DURATION", help="only the last 15m, 1h, 7d... (default: all)")
    losses.add_argument("--minion", metavar="ID", help="only of this minion")
    losses.add_argument("--jid", help="only of this job")
    losses.add_argument("--cause", help="only with this cause")
    losses.add_argument("--limit", type=_positive, default=1000, metavar="N", help="the newest N (default: 1000)")
    commands.add_parser(
        "watch",
        help="the message path and the events as they pass, live in a terminal",
        parents=[flags],
        allow_abbrev=False,
    )
    for command in (check, minions, losses):
        command.add_argument("--json", action="store_true", help="print JSON")
    demo = commands.add_parser(
        "demo", help="a private master with minions on loopback, to look at", parents=[flags], allow_abbrev=False
    )
    demo.add_argument("--minions", type=int, default=4, help="how many minions to start (default: 4)")
    return top


def _since(text: str) -> float:
    """Read an argument such as 1h, as settings are read."""
    try:
        return duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1 << 63:
        raise argparse.ArgumentTypeError("expected a whole number, 1 or more")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    try:
        status = _run(arguments)
        print(end="", flush=True)
    except BrokenPipeError:  # `| head` has read enough: what is still in the buffer goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return status


def _run(arguments: Sequence[str] | None) -> int:
    options = parser().parse_args(arguments)

    def read() -> Config:
        return config.load(vars(options), os.environ)

    try:
        settings = read()
    except ConfigError as error:
        print(f"salt-exporter: {error}", file=sys.stderr)
        return 2
    if options.config_check:
        return _check_config(settings)
    if options.once:
        return _once(settings)
    commands: dict[str, Callable[[], int]] = {
        "check": lambda: _check(settings, as_json=options.json),
        "minions": lambda: _minions(settings, only_absent=options.absent, as_json=options.json),
        "losses": lambda: _losses(settings, options),
        "watch": lambda: _watch(settings),
        "demo": lambda: _demo(options),
    }
    return commands.get(options.command or "serve", lambda: _serve(settings, read))()


# Each command imports what it needs: `minions` must answer in the time that importing a web server takes.


def _serve(settings: Config, read: Callable[[], Config]) -> int:
    from salt_exporter.memory import without_curses  # noqa: PLC0415

    without_curses()
    from salt_exporter.daemon import run  # noqa: PLC0415

    return run(settings, read)


def _check_config(settings: Config) -> int:
    from salt_exporter.web_config.file import read  # noqa: PLC0415
    from salt_exporter.web_config.live import activate  # noqa: PLC0415

    try:
        if settings.web_config_file:
            activate(read(settings.web_config_file))
    except ConfigError as error:
        print(f"salt-exporter: {error}", file=sys.stderr)
        return 2
    print(f"configuration is good ({settings.file or 'no file'})")
    return 0


def _once(settings: Config) -> int:
    from salt_exporter.commands.once import once  # noqa: PLC0415

    log.set_up(settings.log_level, settings.log_format)
    return once(settings)


def _check(settings: Config, *, as_json: bool) -> int:
    from salt_exporter.commands.check import check  # noqa: PLC0415

    log.set_up("error", settings.log_format)  # what is wrong stands in the report
    return check(settings, as_json=as_json)


def _minions(settings: Config, *, only_absent: bool, as_json: bool) -> int:
    from salt_exporter.commands.minions import minions  # noqa: PLC0415

    log.set_up("error", settings.log_format)
    return minions(settings, only_absent=only_absent, as_json=as_json)


def _losses(settings: Config, options: argparse.Namespace) -> int:
    from salt_exporter.commands.losses import Wanted, losses  # noqa: PLC0415

    log.set_up("error", settings.log_format)
    wanted = Wanted(options.since, options.minion, options.jid, options.cause, options.limit)
    return losses(settings, wanted, as_json=options.json)


def _watch(settings: Config) -> int:
    from salt_exporter.watch.command import watch  # noqa: PLC0415

    log.set_up("error", settings.log_format)
    return watch(settings)


def _demo(options: argparse.Namespace) -> int:
    from salt_exporter.demo.demo import DemoSettings, run_demo  # noqa: PLC0415

    demo = DemoSettings(minions=options.minions)
    address = vars(options).get("web.listen-address")
    return run_demo(replace(demo, listen_address=address) if address else demo)
