"""Completion of the command line for shells, from its parser and the settings; static files, made by shtab.

For whoever develops: shtab is none of the exporter's dependencies.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

from salt_exporter.analysis.causes import CAUSES
from salt_exporter.cli import parser
from salt_exporter.config import Choice, declared

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# shell → name of the file, as the shell finds it
SHELLS: Final = {"bash": "salt-exporter", "zsh": "_salt-exporter", "fish": "salt-exporter.fish"}
_CAUSES: Final = tuple(cause.value for cause in CAUSES)


def script(shell: str) -> str:
    """Return the completion for a shell."""
    import shtab  # noqa: PLC0415 - only whoever writes the files has it

    whole = parser()
    choices = {"cause": _CAUSES, **dict(_choices())}
    for action in _actions(whole):
        if action.dest in choices:
            action.choices = choices[action.dest]
        elif action.metavar in ("PATH", "FILE"):
            action.complete = shtab.FILE
        elif action.metavar in ("DIR", "DIRECTORY"):
            action.complete = shtab.DIRECTORY
    return str(shtab.complete(whole, shell))


def _choices() -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the settings that are one of a few words."""
    for item in declared():
        read = item.metadata["parse"]
        if isinstance(read, Choice):
            yield item.metadata["name"], read.allowed


def _actions(whole: argparse.ArgumentParser) -> Iterator[Any]:
    """Yield the arguments of a parser and of its commands."""
    for action in whole._actions:  # noqa: SLF001 - argparse has no other way to ask, and shtab asks so too
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above
            for command in action.choices.values():
                yield from _actions(command)
