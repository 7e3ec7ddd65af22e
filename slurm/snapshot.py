"""The code that runs is the code that was submitted: a copy of the packages, named by its content.

Beside the copy lie ``source.json`` (the commit, and whether files differed from it) and ``diff.patch`` where they did.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from slurm.manifest import FOLDER, Source

_PACKAGES = ("benchmark", "methods", "results", "slurm")
_CODE = {".py", ".yaml"}
_SOURCE_NAME = "source.json"


def take(runs: Path) -> Source:
    """Copy the packages to ``RUNS/jobs/code-<digest>``, unless the same code is there already."""
    digest = hashlib.sha256()
    for path, name in _files():
        digest.update(f"{name}\0".encode() + path.read_bytes())
    commit, diff = _commit_and_diff()
    digest.update(f"{commit}\0".encode() + diff)
    folder = runs / FOLDER / f"code-{digest.hexdigest()[:12]}"
    source = Source(folder=str(folder), commit=commit, dirty=None if commit is None else bool(diff))
    if not folder.exists():
        _copy(folder, source, diff)
    return source


def _files() -> Iterator[tuple[Path, str]]:
    for package in _PACKAGES:
        root = _root(package)
        for path in sorted(root.rglob("*")):
            if path.suffix in _CODE and "__pycache__" not in path.parts:
                yield path, str(Path(package) / path.relative_to(root))


def _root(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _copy(folder: Path, source: Source, diff: bytes) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".code-") as holder:
        beside = Path(holder) / "code"
        for path, name in _files():
            (beside / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, beside / name)
        (beside / _SOURCE_NAME).write_text(json.dumps({"commit": source.commit, "dirty": source.dirty}))
        if diff:
            (beside / "diff.patch").write_bytes(diff)
        beside.replace(folder)


def _commit_and_diff() -> tuple[str | None, bytes]:
    """The commit checked out and what differs from it, new files included; (None, nothing) outside a checkout."""
    try:
        _git("ls-files", "--error-unmatch", "benchmark/__init__.py")
        commit = _git("rev-parse", "HEAD").decode().strip()
        untracked = _git("ls-files", "--others", "--exclude-standard", *_PACKAGES)
        return commit, _git("diff", "--binary", "HEAD", "--", *_PACKAGES) + untracked
    except (OSError, subprocess.CalledProcessError):
        return None, b""


def _git(*arguments: str) -> bytes:
    root = _root("benchmark").parent
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, timeout=60).stdout
