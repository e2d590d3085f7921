"""Which programs a command line calls with which flags, and whether these programs say that they have them."""

from __future__ import annotations

import re
import shlex
import subprocess
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMMENT: Final = re.compile(r"(?<!\S)#.*")
_HELP: Final = {"ps": ("--help", "all")}


def calls(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield program and arguments of each call of a command line, seen through `timeout 5` and the like."""
    line = _COMMENT.sub("", text.replace("\\\n", " "))
    words = shlex.shlex(line, posix=True, punctuation_chars="|&;()<>")
    words.commenters = ""
    call: list[str] = []
    for word in (*words, ";"):
        if set(word) <= set("|&;()"):
            if call := _within(call):
                yield call[0], call[1:]
            call = []
        else:
            call.append(word)


def _within(call: list[str]) -> list[str]:
    """Return the call that another program is told to make, or the call itself."""
    while call:
        if re.fullmatch(r"\w+=.*|time", call[0]):
            call = call[1:]
        elif call[0] == "timeout":
            call = call[2:]
        elif call[0] == "runuser" and "--" in call:
            call = call[call.index("--") + 1 :]
        else:
            break
    return call


def unknown_flags(program: str, arguments: list[str]) -> list[str]:
    """Return the flags that an installed program's `--help`, and that of its subcommand, does not mention."""
    subcommands = [word for word in arguments[:2] if word.isalpha()]
    helps = [_help(program, *subcommands[:number]) for number in range(len(subcommands) + 1)]
    flags = [word.partition("=")[0] for word in arguments if re.match(r"--?[\w?]", word)]
    return [flag for flag in flags if not any(_mentions(text, flag) for text in helps)]


def _mentions(text: str, flag: str) -> bool:
    """Tell whether a help text has a flag, or each letter of a bundle such as -tln."""
    letters = [f"-{letter}" for letter in flag[1:]] if not flag.startswith("--") else []
    return any(
        all(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) for name in names)
        for names in ([flag], letters)
        if names
    )


@cache
def _help(program: str, *subcommands: str) -> str:
    argv = [program, *subcommands, *_HELP.get(program, ("--help",))]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL)
    return done.stdout + done.stderr
