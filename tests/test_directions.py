"""The directions of import: methods <- benchmark <- slurm, and results, of which they see records and their reader.

Within benchmark they follow the way of the data, from a process to what is left in a folder of runs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {"methods", "benchmark", "slurm", "results"}
ALLOWED = {
    "methods": {"methods"},
    "benchmark": {"benchmark", "methods", "results.record", "results.cell", "results.runs"},
    "slurm": {"slurm", "benchmark", "methods", "results.record"},
    "results": {"results"},
}
# Each may import those before it.
WITHIN_BENCHMARK = ("runtime", "data", "views", "networks", "probes", "suite", "cost", "running")
# The command line sits on top: it imports each room inside the command that needs it.
ON_TOP = {"benchmark/cli.py", "benchmark/cost/cli.py", "benchmark/running/cli.py", "slurm/cli.py"}
HEAVY = {"torch", "torchvision", "sklearn", "submitit"}


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Every module that a file imports, at its head or inside a function; ``from a import b`` counts as ``a.b``."""
    return names_in(ast.walk(ast.parse(path.read_text(encoding="utf-8"))), path)


def names_in(nodes: Iterable[ast.AST], path: Path) -> set[str]:
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            module = ".".join([*package, *filter(None, [node.module])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def within(name: str, modules: set[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_imports_only_what_is_above_it(room: str) -> None:
    files = [path for path in sources(room) if path.relative_to(ROOT).as_posix() not in ON_TOP]
    wrong = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in files
        for name in imported(path)
        if name.split(".")[0] in ROOMS and not within(name, ALLOWED[room])
    }
    assert not wrong


def test_the_parts_of_benchmark_are_these() -> None:
    folders = {
        path.relative_to(ROOT).parts[1] for path in sources("benchmark") if len(path.relative_to(ROOT).parts) > 2
    }
    assert folders == set(WITHIN_BENCHMARK)


@pytest.mark.parametrize("part", WITHIN_BENCHMARK)
def test_a_part_of_benchmark_imports_only_those_before_it(part: str) -> None:
    files = [path for path in sources("benchmark") if path.relative_to(ROOT).parts[1] == part]
    allowed = {f"benchmark.{name}" for name in WITHIN_BENCHMARK[: WITHIN_BENCHMARK.index(part) + 1]}
    wrong = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in files
        if path.relative_to(ROOT).as_posix() not in ON_TOP
        for name in imported(path)
        if within(name, {"benchmark"}) and not within(name, allowed)
    }
    assert files
    assert not wrong


@pytest.mark.parametrize("file", sorted(ON_TOP))
def test_the_command_line_imports_rooms_inside_its_commands(file: str) -> None:
    head = names_in(ast.parse((ROOT / file).read_text(encoding="utf-8")).body, ROOT / file)
    assert head
    head -= {"results.__version__"}  # of the room's name alone
    assert not {name for name in head if within(name, {"methods", "slurm", "results"} | HEAVY)}


def test_results_needs_no_torch() -> None:
    files = sources("results")
    assert files
    assert not {name for path in files for name in imported(path) if within(name, HEAVY)}
