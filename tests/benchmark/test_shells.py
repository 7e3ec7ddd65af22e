"""The command in shells as they are: encodings, homes, folders that cannot be written, modules that lie beside."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.data.remembered import SETTLED_NS
from tests.benchmark.layouts import write_class_folders

ROOT = Path(__file__).parents[2]
INSTALLED = "import sys; sys.path.append({root!r}); from benchmark.cli import main; main()"


def call(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """``spherebench`` in a process of its own, found where installed packages are."""
    code = INSTALLED.format(root=str(ROOT))
    command = [sys.executable, "-P", "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, check=False)


@pytest.mark.parametrize(("encoding", "mean"), [("latin-1", "Mean ± 95 %"), ("cp437", "Mean ± 95 %"), ("koi8-r", "+-")])
def test_what_cannot_be_encoded_is_spelled(undisturbed: Path, tmp_path: Path, encoding: str, mean: str) -> None:
    done = call("tables", undisturbed, cwd=tmp_path, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode(encoding)
    assert mean in text
    assert "-: not measured" in text
    assert "?" not in text


@pytest.mark.parametrize("variables", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_a_jobs_log_in_ascii_takes_every_name(tmp_path: Path, variables: dict[str, str]) -> None:
    code = "from benchmark.runtime.output import spell_out; spell_out(); print('Zo\\xeb \\xb1 \\udcff \\u732b')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONCOERCECLOCALE": "0", **variables}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert done.stdout == b"Zoe +- ? ?\n"


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A folder with modules of the user's own, of which none may be imported."""
    for name in ("results/__init__.py", "slurm/__init__.py", "methods.py", "random.py", "torch.py", "click.py"):
        path = tmp_path / "work" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("raise RuntimeError('the user\\'s own')\n")
    return tmp_path / "work"


def test_what_lies_in_the_folder_that_python_m_is_called_in_does_not_matter(beside: Path, undisturbed: Path) -> None:
    for arguments in (("tables", undisturbed), ("--help",), ("status", undisturbed)):
        command = [sys.executable, "-m", "benchmark", *map(str, arguments)]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(command, cwd=beside, env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["results", "methods.py", "slurm"])
def test_what_lies_before_a_package_of_ours_is_named(beside: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "first").mkdir()
    (beside / name).rename(tmp_path / "first" / name)
    for arguments in (("suites",), ("--help",)):
        done = call(*arguments, cwd=tmp_path, PYTHONPATH=str(tmp_path / "first"))
        assert done.returncode == 2
        assert f"{tmp_path / 'first' / name} would be imported for {name.removesuffix('.py')!r}" in done.stderr.decode()
        assert b"Traceback" not in done.stderr


def test_no_figure_takes_a_folder_to_write_into_or_changes_with_a_notebooks_shell_or_a_users_matplotlibrc(
    undisturbed: Path, tmp_path: Path
) -> None:
    nowhere = tmp_path / "a-file"
    nowhere.write_text("")
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nbackend: GTK4Agg\nfont.size: 30\n")
    names = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "TORCH_HOME", "PYTHONPYCACHEPREFIX", "TMPDIR")
    shell = dict.fromkeys(names, f"{nowhere}/x") | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    done = call("plots", undisturbed, "--out", "plots", cwd=tmp_path, **shell)
    assert done.returncode == 0, done.stderr
    drawn, expected = (
        {path.name: path.read_bytes() for path in folder.iterdir()}
        for folder in (tmp_path / "plots", undisturbed / "plots")
    )
    assert drawn == expected


def test_nobody_without_a_home_is_turned_away(
    tmp_path: Path, spherebench: Callable[..., Any], tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "USER", "LOGNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr("benchmark.data.remembered.SETTLED_NS", -SETTLED_NS)  # so that it would be remembered
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        write_class_folders(tmp_path / "images" / split, ["one", "two"], 4, side=20)
    less = ("--set", "data.limit=null", "--set", "data.image_size=8", "--set", "batch_size=2", "--set", "epochs=1")
    one = ("--set", "method=sfrik_l2", "--set", f"data.source=folder:{tmp_path / 'images'}", *less)
    result = spherebench("submit", tiny, "--cluster", "debug", "--out", "runs", *one)
    assert list((tmp_path / "runs").glob("*/network.json")), result.output
    assert not (tmp_path / "~").exists()
    result = spherebench("submit", tiny, "--cluster", "no-such", "--out", "others", *one)
    assert result.exit_code == 2
    assert "your own in ~/.config/spherebench/profiles" in " ".join(result.output.split())
