"""The commands of the documents: what stands in fenced blocks of the languages `sh` and `console`, and inline."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
_PATTERNS: Final = ("*.md", "docs/**/*.md", "alerts/**/*.md", "grafana/**/*.md", "deploy/**/*.md")

_FENCE: Final = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w-]*)\n(?P<body>.*?)^(?P=indent)```", re.DOTALL | re.MULTILINE
)
_HEADING: Final = re.compile(r"^#+ +(.+)$", re.MULTILINE)
# `$` is the prompt of the master's host, `web1$` that of another machine.
_PROMPT: Final = re.compile(r"(?P<machine>[\w.-]*)\$ (?P<command>.+)")
_INLINE: Final = re.compile(r"(?<!`)`([^`]+)`(?!`)")


class Command(NamedTuple):
    """One command line, which may have several lines, and what the document shows of its output."""

    document: str
    line: int
    section: str  # the heading above it
    machine: str  # by its prompt; empty where there is none or no name in it
    text: str
    output: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Where it stands."""
        return f"{self.document}:{self.line}"


class Block(NamedTuple):
    """A fenced block, whose commands are run one after the other."""

    document: str
    line: int  # of the first line within
    section: str
    language: str
    body: str
    commands: tuple[Command, ...]


@cache
def documents() -> tuple[str, ...]:
    """Return all Markdown files for users and contributors, relative to the repository."""
    found = {path for pattern in _PATTERNS for path in ROOT.glob(pattern)}
    return tuple(sorted(str(path.relative_to(ROOT)) for path in found))


@cache
def blocks() -> tuple[Block, ...]:
    """Return every fenced block of every document."""
    return tuple(block for document in documents() for block in _blocks(document))


@cache
def commands() -> tuple[Command, ...]:
    """Return every command of every fenced block."""
    return tuple(command for block in blocks() for command in block.commands)


@cache
def inline(programs: tuple[str, ...]) -> tuple[Command, ...]:
    """Return what stands inline as code and begins with one of these programs and an argument."""
    found = []
    for document in documents():
        text = _prose((ROOT / document).read_text(encoding="utf-8"))
        for match in _INLINE.finditer(text):
            said = re.sub(r"\s+", " ", match[1])
            if said.partition(" ")[0] in programs and " " in said and not said.endswith("."):  # a sentence
                found.append(Command(document, text.count("\n", 0, match.start()) + 1, "", "", said))
    return tuple(found)


@cache
def anchors(path: Path) -> frozenset[str]:
    """Return the names of a document's headings as GitHub makes them."""
    headings = _HEADING.findall(_prose(path.read_text(encoding="utf-8")))
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)


def _prose(text: str) -> str:
    """Return a text with as many blanks in the place of each fence."""
    return _FENCE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def _blocks(document: str) -> list[Block]:
    text = (ROOT / document).read_text(encoding="utf-8")
    headings = [(match.start(), match[1].strip()) for match in _HEADING.finditer(_prose(text))]
    found = []
    for match in _FENCE.finditer(text):
        section = next((title for start, title in reversed(headings) if start < match.start()), "")
        line = text.count("\n", 0, match.start("body")) + 1
        body = re.sub(f"^{match['indent']}", "", match["body"], flags=re.MULTILINE)
        block = Block(document, line, section, match["language"], body, ())
        found.append(block._replace(commands=tuple(read(block))))
    return found


def read(block: Block) -> list[Command]:
    """Return the commands of a fenced block."""
    readers = {"sh": _of_script, "console": _of_session}
    return readers[block.language](block) if block.language in readers else []


def _of_script(block: Block) -> list[Command]:
    """Cut a script into commands, each of as many lines as the shell needs to understand it."""
    found = []
    lines = block.body.splitlines()
    at = 0
    while at < len(lines):
        length = _length(lines[at:])
        text = "\n".join(lines[at : at + length])
        if text.strip() and not text.lstrip().startswith("#"):
            found.append(Command(block.document, block.line + at, block.section, "", text))
        at += length
    return found


def _of_session(block: Block) -> list[Command]:
    """Cut a session into commands, which follow a prompt, and their output, which is the rest."""
    found: list[Command] = []
    lines = block.body.splitlines()
    at = 0
    while at < len(lines):
        length = 1
        if prompt := _PROMPT.fullmatch(lines[at]):
            rest = [prompt["command"], *(line.removeprefix("> ") for line in lines[at + 1 :])]
            length = _length(rest)
            text = "\n".join(rest[:length])
            found.append(Command(block.document, block.line + at, block.section, prompt["machine"], text))
        elif found:
            found[-1] = found[-1]._replace(output=(*found[-1].output, lines[at]))
        at += length
    return found


def _length(lines: list[str]) -> int:
    """Return how many lines the first command has."""
    for length in range(1, len(lines) + 1):
        text = "\n".join(lines[:length])
        if not text.endswith("\\") and not complaint(text):
            return length
    return 1  # wrong, or cut off: a test says so


@cache
def complaint(text: str) -> str:
    """Return what the shell has to say against a command, without running it; nothing if it is well-formed."""
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    return done.stderr
