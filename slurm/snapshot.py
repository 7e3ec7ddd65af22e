"""The code that runs is the code that was submitted: a copy of the packages, named by its content.

Beside the copy lie ``source.json`` (the commit, and whether files differed from it) and ``diff.patch`` where they did.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from pathlib import Path

from benchmark.runtime.provenance import SOURCE_NAME
from slurm.manifest import FOLDER, Source

_ROOT = Path(__file__).parents[1]
_PACKAGES = ("benchmark", "methods", "results", "slurm")


def take(runs: Path) -> Source:
    """Copy the packages to ``RUNS/jobs/code-<digest>``, unless the same code is there already."""
    paths = [path for package in _PACKAGES for path in sorted((_ROOT / package).rglob("*"))]
    files = {str(path.relative_to(_ROOT)): path.read_bytes() for path in paths if path.suffix in {".py", ".yaml"}}
    commit, diff = _commit_and_diff()
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0".encode() + content)
    digest.update(f"{commit}\0".encode() + diff)
    folder = runs / FOLDER / f"code-{digest.hexdigest()[:12]}"
    source = Source(folder=str(folder), commit=commit, dirty=None if commit is None else bool(diff))
    if folder.exists():
        return source
    files[SOURCE_NAME] = json.dumps({"commit": source.commit, "dirty": source.dirty}).encode()
    if diff:
        files["diff.patch"] = diff
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".code-") as holder:
        beside = Path(holder) / "code"
        for name, content in files.items():
            (beside / name).parent.mkdir(parents=True, exist_ok=True)
            (beside / name).write_bytes(content)
        beside.replace(folder)
    return source


def _commit_and_diff() -> tuple[str | None, bytes]:
    """The commit checked out and what differs from it, new files included; (None, nothing) outside a checkout."""

    def git(*arguments: str) -> bytes:
        return subprocess.run(["git", *arguments], cwd=_ROOT, check=True, capture_output=True, timeout=60).stdout

    try:
        git("ls-files", "--error-unmatch", "benchmark/__init__.py")
        commit = git("rev-parse", "HEAD").decode().strip()
        untracked = git("ls-files", "--others", "--exclude-standard", *_PACKAGES)
        return commit, git("diff", "--binary", "HEAD", "--", *_PACKAGES) + untracked
    except (OSError, subprocess.CalledProcessError):
        return None, b""
