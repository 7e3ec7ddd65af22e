"""Inside `methods`, each part imports only those before it: pairing, kernels, engine, losses, registry, modules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

METHODS = Path(__file__).resolve().parents[2] / "methods"
# Of its own, beside the standard library and third-party packages.
ALLOWED = {
    "pairing": set(),
    "kernels": {"kernels"},
    "engine": {"pairing", "kernels", "engine"},
    "losses": {"pairing", "kernels", "engine", "losses"},
    "options": {"kernels", "engine", "losses"},
    "method": {"pairing", "kernels", "engine", "losses", "options"},
    "registry": {"pairing", "kernels", "engine", "losses", "options", "method"},
    "modules": {"pairing", "losses", "method", "registry"},
    "regime": {"kernels", "regime"},
}


def imported(path: Path) -> Iterator[str]:
    """The parts of `methods` that a file imports, at its head or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(METHODS.parent).parts[: -node.level] if node.level else ()
            module = ".".join([*package, *filter(None, [node.module])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("methods."))


def test_every_part_has_its_place() -> None:
    assert {path.stem for path in METHODS.iterdir() if path.name[0] not in "._" and path.suffix != ".md"} == set(
        ALLOWED
    )


@pytest.mark.parametrize("part", ALLOWED)
def test_a_part_imports_only_those_before_it(part: str) -> None:
    files = sorted((METHODS / part).rglob("*.py")) or [METHODS / f"{part}.py"]
    wrong = {f"{path.relative_to(METHODS)}: {name}" for path in files for name in set(imported(path)) - ALLOWED[part]}
    assert not wrong
