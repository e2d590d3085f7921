"""Whether the tests of `salt_exporter/analysis/` would notice a fault: `python -m tests.mutation ledger pipe`.

Seeds faults into a copy of a module, one at a time, and runs the unit tests that reach it. Prints how many were noticed
and which were not. Moved boundaries are counted apart, for many of them are no faults: `now < end` and `now <= end` are
the same for moments that no clock shows.
"""

from __future__ import annotations

import argparse
import ast
import queue
import random
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ROOT: Final = Path(__file__).parent.parent
_ANALYSIS: Final = Path("salt_exporter/analysis")
_NEEDED: Final = ("salt_exporter", "tests", "pyproject.toml")
_PATIENCE: Final = 300  # seconds until a fault that makes an endless loop counts as noticed
_PAIRS: Final[list[tuple[type[ast.AST], type[ast.AST]]]] = [
    (ast.Lt, ast.GtE),
    (ast.Gt, ast.LtE),
    (ast.Eq, ast.NotEq),
    (ast.Is, ast.IsNot),
    (ast.In, ast.NotIn),
    (ast.And, ast.Or),
    (ast.Add, ast.Sub),
    (ast.Mult, ast.FloorDiv),
    (ast.BitOr, ast.BitAnd),
    (ast.LShift, ast.RShift),
]
_SWAPS: Final = dict(_PAIRS) | {second: first for first, second in _PAIRS} | {ast.Div: ast.Mult}
_MOVED: Final[dict[type[ast.AST], type[ast.AST]]] = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
_SWAPPED_CALLS: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}


class Fault(NamedTuple):
    """A node of a module with something else for one of its fields."""

    node: ast.expr | ast.stmt
    field: str
    value: object
    boundary: bool = False  # is only moved by it

    def seeded(self, tree: ast.Module) -> tuple[str, str]:
        """Return the module's text with this fault, and what it is in a line."""
        right, before = getattr(self.node, self.field), ast.unparse(self.node)
        setattr(self.node, self.field, self.value)
        try:
            text, after = ast.unparse(ast.fix_missing_locations(tree)), ast.unparse(self.node)
        finally:
            setattr(self.node, self.field, right)
        return text, f"line {self.node.lineno}: {_one_line(before)}  →  {_one_line(after)}"


def faults(node: ast.AST) -> Iterator[Fault]:
    """Yield every fault that can be seeded below a node."""
    for name, value in ast.iter_fields(node):
        # What types and decorators say is mypy's to check; imports for types alone never run.
        if name in {"annotation", "returns", "decorator_list"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_for_types(child):
                yield from _of(child)
                yield from faults(child)


def _of(node: ast.AST) -> Iterator[Fault]:
    match node:
        case ast.Compare(ops=[operator, *more]) if type(operator) in _SWAPS:
            yield Fault(node, "ops", [_SWAPS[type(operator)](), *more])
            if type(operator) in _MOVED:
                yield Fault(node, "ops", [_MOVED[type(operator)](), *more], boundary=True)
        case ast.BinOp(op=operator) | ast.AugAssign(op=operator) | ast.BoolOp(op=operator) if type(operator) in _SWAPS:
            yield Fault(node, "op", _SWAPS[type(operator)]())
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            yield Fault(node, "test", ast.UnaryOp(ast.Not(), test))
        case ast.Call(func=ast.Name(id=name)) if name in _SWAPPED_CALLS:
            yield Fault(node, "func", ast.Name(_SWAPPED_CALLS[name]))
        case ast.Expr(value=ast.Call()):
            yield Fault(node, "value", ast.Constant(None))
        case ast.Constant(value=bool() as value):
            yield Fault(node, "value", not value)
        case ast.Constant(value=int() | float() as value):
            yield Fault(node, "value", value * 2 if value > 8 else value + 1)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _one_line(code: str) -> str:
    return re.sub(r"\s+", " ", code)[:90]


def reaching(module: str) -> list[str]:
    """Return the unit tests that import a module of the analysis, or one that uses it; its own come first."""
    users, seen = [module], set[str]()
    while users:
        name = users.pop()
        seen.add(name)
        users += [path.stem for path in (_ROOT / _ANALYSIS).glob("*.py") if path.stem not in seen and _uses(path, name)]
    paths = [path for path in (_ROOT / "tests/unit").glob("test_*.py") if any(_uses(path, name) for name in seen)]
    paths.sort(key=lambda path: (path.stem != f"test_{module}", path.stem))
    return [str(path.relative_to(_ROOT)) for path in paths]


def _uses(path: Path, module: str) -> bool:
    return bool(re.search(rf"salt_exporter\.analysis(\.| import ){module}\b", path.read_text()))


class _Copies:
    """Copies of the project to seed faults in, one for each of those that work at the same time."""

    def __init__(self, folder: Path, number: int) -> None:
        self._free: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for index in range(number):
            copy = folder / str(index)
            copy.mkdir()
            for name in _NEEDED:
                source = _ROOT / name
                if source.is_dir():
                    shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(source, copy / name)
            self._free.put(copy)

    def notices(self, module: str, text: str, tests: Sequence[str]) -> bool:
        """Tell whether a test fails with this text of the module."""
        copy = self._free.get()
        path = copy / _ANALYSIS / f"{module}.py"
        right = path.read_text()
        path.write_text(text)
        argv = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-n0", "-p", "no:cacheprovider", *tests]
        try:
            done = subprocess.run(
                argv, cwd=copy, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=False
            )
        except subprocess.TimeoutExpired:
            return True
        finally:
            path.write_text(right)
            self._free.put(copy)
        return done.returncode != 0


def examine(module: str, copies: _Copies, workers: ThreadPoolExecutor, number: int, seed: int) -> str:
    """Seed so many faults into a module, and return what came of it."""
    right = (_ROOT / _ANALYSIS / f"{module}.py").read_text()
    tests = reaching(module)
    if copies.notices(module, right, tests):
        return f"{module}: its tests fail without a fault: {' '.join(tests)}"
    if not copies.notices(module, "raise RuntimeError", tests):
        return f"{module}: no test reaches it"
    tree = ast.parse(right)
    possible = list(faults(tree))
    chosen = random.Random(seed).sample(possible, min(number, len(possible)))  # noqa: S311 - which ones is no secret
    texts = [fault.seeded(tree) for fault in chosen]
    noticed = list(workers.map(lambda text: copies.notices(module, text[0], tests), texts))
    lines = [f"{module}: {len(possible)} faults can be seeded"]
    for boundary, kind in ((False, "faults"), (True, "moved boundaries")):
        seen = [
            (known, what)
            for fault, known, (_, what) in zip(chosen, noticed, texts, strict=True)
            if fault.boundary == boundary
        ]
        lines.append(f"  {sum(known for known, _ in seen)} of {len(seen)} {kind} noticed")
        lines += sorted(f"    {what}" for known, what in seen if not known)
    return "\n".join(lines)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    modules = sorted(path.stem for path in (_ROOT / _ANALYSIS).glob("*.py") if path.stem != "__init__")
    parser.add_argument("modules", nargs="*", default=modules, metavar="MODULE", help=", ".join(modules))
    parser.add_argument("--faults", type=int, default=40, help="in each module (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="chooses the faults (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="at the same time (default: %(default)s)")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="salt-exporter-mutation-") as folder,
        ThreadPoolExecutor(arguments.workers) as workers,
    ):
        copies = _Copies(Path(folder), arguments.workers)
        for module in arguments.modules:
            print(examine(module, copies, workers, arguments.faults, arguments.seed), flush=True)  # noqa: T201 - a command


if __name__ == "__main__":
    _main()
