"""The house: data flows one way, a room knows only the rooms to its left, and no Salt in the daemon."""

from __future__ import annotations

import ast
import re
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import pytest

import salt_exporter

PACKAGE = Path(salt_exporter.__file__).parent

# The rooms from left to right, each with the rooms it may know. What only types need counts too.
SOURCES = {"kernel", "master"}
WATCHERS = {"intake", "sampler", "rollcall", "publisher", "prober", "closing", "world"}
ROOMS: dict[str, set[str]] = {
    # the vocabulary
    "version": set(),
    "errors": set(),
    "config": set(),
    "log": set(),
    "metric": set(),
    # sources: formats, no metrics
    "kernel": {"errors"},
    "master": {"errors", "kernel"},
    # what outlives a restart
    "journal": {"errors"},
    # analysis: decisions, no I/O
    "analysis": {"metric", *SOURCES},
    "probes": {"errors", "metric", "analysis", "master"},
    # what is watched, put together
    "intake": {"analysis", "master", "probes"},
    "sampler": {"errors", "analysis", "probes", *SOURCES},
    "rollcall": {"errors", "analysis", "sampler", *SOURCES},
    "publisher": {"errors", "analysis", "probes", "sampler", *SOURCES},
    "prober": {"errors", "config", "master", "probes"},
    "closing": {"errors", "analysis", "journal", "master"},
    "world": {"errors", "config", "journal", "analysis", "probes", *SOURCES, *(WATCHERS - {"world"})},
    # what becomes a metric
    "collectors": {"version", "errors", "log", "metric", "analysis", "sampler", "rollcall", "world", *SOURCES},
    # exposition: isolation, text formats, HTTP
    "scrape": {"errors", "metric", "collectors"},
    "exposition": {"metric"},
    "web_config": {"config"},
    "web": {"version", "scrape", "exposition", "web_config"},
    "server": set(),
    "notify": set(),
    "memory": set(),
    # what a person starts
    "commands": {
        *("errors", "config", "metric", "journal", "analysis", "sampler", "rollcall", "world"),
        *("collectors", "scrape", "exposition", "web"),
        *SOURCES,
    },
    "api": {"errors", "config", "journal", "analysis", "world", "scrape", "exposition", "web", "commands"},
    "status": {
        *("version", "errors", "analysis", "master", "sampler", "world", "collectors", "scrape", "exposition"),
        *("web", "commands", "api"),
    },
    "daemon": {
        "version",
        "errors",
        "config",
        "log",
        "journal",
        "world",
        "collectors",
        "scrape",
        "web",
        "web_config",
        "server",
        "notify",
        "memory",
        "api",
        "status",
    },
    "watch": {
        *("errors", "config", "journal", "master", "world", "collectors", "scrape", "commands", "api", "status"),
    },
    "demo": set(),
    "cli": {"version", "config", "log", "web_config", "memory", "commands", "daemon", "watch", "demo"},
    "__main__": {"cli"},
    # what is generated, for whoever develops
    "completion": {"config", "analysis", "cli"},
    "manual": {"version", "config", "cli"},
    "docs": {"config", "metric", "analysis", "collectors", "completion", "manual"},
}

# At run time the analysis takes nothing but these from the sources: constants, and types that it makes distinctions by.
FROM_SOURCES = {
    "kernel.inet_diag": {
        *("BYTES_RETRANSMITTED", "COOKIE", "ESTABLISHED", "LAST_RECEIVED_MS", "PEER", "RETRANSMITS", "SEND_QUEUE"),
        *("STATE", "TIMER", "TIME_WAIT", "address"),
    },
    "master.events": {"JobNew", "JobReturn", "JobStart", "WorkerStats"},
}
# Decoders and state machines: bytes and events in, answers out, time passed in.
PURE = {"analysis", "kernel.inet_diag", "kernel.netlink", "kernel.unix_diag", "master.events", "master.options"} | {
    *("master.titles", "master.wire", "metric")
}
PURE_LIBRARIES = {
    *("__future__", "abc", "array", "bisect", "collections", "dataclasses", "datetime", "enum", "errno", "fnmatch"),
    "functools",
    *("itertools", "math", "msgpack", "os", "pathlib", "re", "socket", "struct", "sys", "threading", "typing", "zlib"),
}
# Of these libraries only what neither asks nor tells the system anything.
PURE_USES = re.compile(
    r"os\.(strerror|fsdecode)|pathlib\.PurePath|sys\.(byteorder|intern)"
    r"|socket\.((AF|SOCK|IPPROTO)_\w+|AddressFamily|inet_[np]to[np]|[nh]to[nh][sl])"
)
# Run by another Python than the daemon's, in a process of its own.
WITH_SALT = {
    "master.resolve": {"salt.config", "salt.version"},
    "demo.publisher": {"salt.client", "salt.exceptions"},
    "demo.ping": {"salt.client", "salt.exceptions", "salt.utils.jid"},
}
START_PROCESSES = re.compile(
    r"subprocess(\..*)?|multiprocessing(\..*)?|pty(\..*)?|asyncio\.create_subprocess_\w+"
    r"|os\.(system|popen|fork|forkpty|(exec|spawn|posix_spawn)\w*)"
)


class Import(NamedTuple):
    """One name that a module imports, of which module, and whether it does so at run time."""

    module: str
    name: str
    at_run_time: bool


class Module:
    """One module, by its name without the package."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.tree = ast.parse(source)
        self.imports = self._imports(self.tree, at_run_time=True)

    def _imports(self, node: ast.AST, *, at_run_time: bool) -> list[Import]:
        if isinstance(node, ast.Import):
            return [Import(alias.name, "", at_run_time) for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            return [Import(str(node.module), alias.name, at_run_time) for alias in node.names]
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            at_run_time = False
        children = [self._imports(child, at_run_time=at_run_time) for child in ast.iter_child_nodes(node)]
        return [found for child in children for found in child]

    @property
    def room(self) -> str:
        """The room this module is in: its folder, or itself."""
        return self.name.partition(".")[0]

    def is_one_of(self, names: set[str]) -> bool:
        """Tell whether the module or its room is named."""
        return bool({self.name, self.room} & names)

    @cached_property
    def own(self) -> list[Import]:
        """What it imports of this package, the modules named without it."""
        found = []
        for module, name, at_run_time in self.imports:
            package, _dot, rest = module.partition(".")
            if package == "salt_exporter":
                is_module = not rest and (PACKAGE / f"{name}.py").exists()
                found.append(Import(name if is_module else rest or "version", "" if is_module else name, at_run_time))
        return found

    @cached_property
    def uses(self) -> set[str]:
        """What it uses of other libraries at run time, with their names: `os.stat`."""
        libraries = {module for module, name, at_run_time in self.imports if at_run_time and not name}
        attributes = {
            f"{node.value.id}.{node.attr}"
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in libraries
        }
        return attributes | {f"{module}.{name}" for module, name, at_run_time in self.imports if at_run_time and name}


def name_of(path: Path) -> str:
    """Return the name that the rules have for a file of the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "version"


MODULES = [Module(name_of(path), path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))]
every_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)


def test_every_module_is_in_a_room() -> None:
    """There is no module that these rules do not speak of, and no rule that speaks of nothing."""
    assert set(ROOMS) == {module.room for module in MODULES}


def test_rooms_are_in_order() -> None:
    """A room may know only rooms that stand before it, so data cannot flow in a circle."""
    order = list(ROOMS)
    assert [] == [
        (room, other) for room, known in ROOMS.items() for other in known if order.index(other) >= order.index(room)
    ]


@every_module
def test_module_knows_only_rooms_to_its_left(module: Module) -> None:
    """A module imports only from its own room and from those that its room may know."""
    known = {imported.module.partition(".")[0] for imported in module.own} - {module.room}

    assert known <= ROOMS[module.room]


@every_module
def test_nothing_imports_salt(module: Module) -> None:
    """No module imports Salt, not even in a function, but the two that another Python runs, alone."""
    salt = {imported.module for imported in module.imports if imported.module.partition(".")[0] == "salt"}

    assert salt == WITH_SALT.get(module.name, set())


def test_nobody_imports_what_imports_salt() -> None:
    """The two modules that import Salt are run as programs and imported by nobody."""
    imported = {found.module for module in MODULES for found in module.own}
    imported |= {f"{found.module}.{found.name}" for module in MODULES for found in module.own}

    assert imported & set(WITH_SALT) == set()


@every_module
def test_libraries_of_a_few_are_imported_by_no_other(module: Module) -> None:
    """What draws on terminals is for the view alone, and what writes completions is not even a dependency."""
    libraries = {imported.module.partition(".")[0] for imported in module.imports}

    assert not libraries & {"textual", "rich"} or module.room == "watch"
    assert "shtab" not in libraries or module.name == "completion"


@every_module
def test_no_other_program_is_started(module: Module) -> None:
    """Only the question to the master's Python and the demo start processes."""
    started = {use for use in module.uses if START_PROCESSES.fullmatch(use)}
    started |= {imported.module for imported in module.imports if START_PROCESSES.fullmatch(imported.module)}

    assert not started or module.is_one_of({"master.ask", "demo"})


@every_module
def test_nobody_reads_arguments_or_environment(module: Module) -> None:
    """Settings come from the command line's module alone; programs of their own, and systemd, have their own."""
    read = module.uses & {"os.environ", "os.environb", "os.getenv", "os.putenv", "sys.argv"}

    assert not read or module.is_one_of({"cli", "demo", "docs", "master.resolve", "notify"})


@pytest.mark.parametrize(
    "module", [module for module in MODULES if module.is_one_of(PURE)], ids=lambda module: module.name
)
def test_decoders_and_analysis_are_pure(module: Module) -> None:
    """They ask nobody, wait for nothing, and do not know what time it is."""
    libraries = {
        imported.module.partition(".")[0]
        for imported in module.imports
        if imported.at_run_time and imported.module.partition(".")[0] != "salt_exporter"
    }
    impure = {use for use in module.uses if use.partition(".")[0] in ("os", "pathlib", "socket", "sys")}
    calls = {
        node.func.id for node in ast.walk(module.tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }

    assert libraries <= PURE_LIBRARIES
    assert {use for use in impure if not PURE_USES.fullmatch(use)} == set()
    assert calls & {"open", "print", "input", "exec", "eval", "__import__"} == set()


@pytest.mark.parametrize(
    "module", [module for module in MODULES if module.room == "analysis"], ids=lambda module: module.name
)
def test_analysis_takes_only_words_from_the_sources(module: Module) -> None:
    """Beside types, the analysis imports a few constants and event types of the decoders, and none of their work."""
    taken = [(found.module, found.name) for found in module.own if found.at_run_time]

    assert [] == [
        (source, name)
        for source, name in taken
        if source.partition(".")[0] in SOURCES and name not in FROM_SOURCES.get(source, set())
    ]


def test_pure_modules_exist() -> None:
    """The rules above are about modules that there are."""
    names = {module.name for module in MODULES} | {module.room for module in MODULES}

    assert PURE | set(FROM_SOURCES) | set(WITH_SALT) <= names


def test_imports_and_uses_are_found_wherever_they_stand() -> None:
    """The rules see what a function imports, what only types need, and what is used of a library."""
    module = Module(
        "analysis.example",
        """
from typing import TYPE_CHECKING
import os
if TYPE_CHECKING:
    from salt_exporter.world import World
def decide():
    import salt.config
    from salt_exporter import log, __version__
    from time import time
    return os.popen("date")
""",
    )

    assert module.own == [
        Import("world", "World", at_run_time=False),
        Import("log", "", at_run_time=True),
        Import("version", "__version__", at_run_time=True),
    ]
    assert Import("salt.config", "", at_run_time=True) in module.imports
    assert {"os.popen", "time.time"} <= module.uses
    assert START_PROCESSES.fullmatch("os.popen")
    assert not PURE_USES.fullmatch("os.popen")
