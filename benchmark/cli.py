"""The command ``spherebench``. Each command imports the room it needs when it is called."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from benchmark.runtime.errors import UserError

if TYPE_CHECKING:
    from benchmark.suite.expand import Suite
    from results.cell import CostCell

T = TypeVar("T")
# Commands that lie in other modules, which are imported when they are called.
_ELSEWHERE = {
    "benchmark.cost.cli": ("cost", "plan"),
    "slurm.cli": ("submit", "status", "cancel", "retry", "logs", "doctor"),
}
FORMATS = ("plain", "md", "csv", "json", "latex")

format_option = click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    default="plain",
    show_default=True,
    help="How to print tables.",
)
set_option = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a setting, e.g. epochs=10; a list (embedding_dim=512,2048) becomes an axis. May be repeated.",
)
download_option = click.option("--download", is_flag=True, help="Fetch the data set where it is missing.")
runs_argument = click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))


class Commands(click.Group):
    """Turns a user's error into one sentence and exit code 2, and lists commands in the order they are used."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with warnings.catch_warnings():
            warnings.showwarning = _print_warning
            try:
                return super().invoke(ctx)
            except UserError as error:
                raise click.UsageError(str(error)) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Commands in the order of their definition, and those that lie elsewhere."""
        return [*self.commands, *(name for names in _ELSEWHERE.values() for name in names)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by its name."""
        for module, names in _ELSEWHERE.items():
            if cmd_name in names:
                command: click.Command = getattr(importlib.import_module(module), cmd_name)
                return command
        return super().get_command(ctx, cmd_name)


def _print_warning(message: Warning | str, *_: object, **__: object) -> None:
    click.echo(f"warning: {message}", err=True)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="spherebench")
def main() -> None:
    """Benchmark of self-supervised learning with kernel regularisers: from a suite file to comparison tables."""


@main.command()
@click.argument("suite")
@click.option("--out", type=click.Path(path_type=Path), help="Runs folder.  [default: runs/SUITE]")
@set_option
@download_option
@click.option("--retry", type=click.Choice(["failed"]), help="Redo what failed, diverged or ran out of memory.")
def run(suite: str, out: Path | None, assignments: tuple[str, ...], download: bool, retry: str | None) -> None:
    """Train and evaluate every run of SUITE (a name or a YAML file) that has no record yet; write tables and plots."""
    from benchmark.suite.expand import load_suite

    loaded = load_suite(suite, [*assignments, *_fetching(download)])
    folder = out or Path("runs") / loaded.name
    finished = _execute(loaded, folder, retry=retry is not None)
    if finished is None:
        return
    from results.report import is_current, write

    if is_current(folder):
        click.echo(f"tables and plots in {folder} are up to date")
    else:
        for path in write(folder):
            click.echo(f"wrote {path}")
    raise SystemExit(0 if finished else 1)


def _fetching(download: bool) -> list[str]:
    return ["download=true"] if download else []


@main.command()
@click.argument("suite")
@click.option("--out", type=click.Path(path_type=Path), help="Runs folder.  [default: runs/SUITE-tune]")
@set_option
@download_option
@format_option
def tune(suite: str, out: Path | None, assignments: tuple[str, ...], download: bool, format_: str) -> None:
    """Choose each method's hyper-parameters on the tune split, with the same budget for every method."""
    from benchmark.suite.expand import parse_overrides, read_suite, suite_path
    from benchmark.suite.tune import choose, scores, tuning_suite, write_choice
    from results.formats import format_table

    path = suite_path(suite)
    file = read_suite(path)
    candidates = tuning_suite(
        file, parse_overrides([*assignments, *_fetching(download)]), name=path.stem, where=path.name
    )
    folder = out or Path("runs") / candidates.name
    if _execute(candidates, folder, retry=False, quiet=format_ != "plain") is None:
        return
    assert file.tune is not None
    found = scores(candidates, file.tune, folder)
    rows = [
        {
            "method": score.method,
            **{key: score.candidate.get(key) for key in _keys(file.tune.candidates.values())},
            file.tune.metric: score.value,
            "seeds": score.seeds,
            "note": score.note,
        }
        for score in found
    ]
    click.echo(format_table(rows, format_))
    written = write_choice(choose(found), folder)
    if format_ == "plain":
        click.echo(f"wrote {written}")


def _keys(mappings: Any) -> list[str]:
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))


def _execute(suite: Suite, folder: Path, *, retry: bool, quiet: bool = False) -> bool | None:
    """Run what is missing. True: everything is done; False: not everything; None: another process reports."""
    from benchmark.running.sweep import execute_suite
    from benchmark.runtime.process import process
    from benchmark.runtime.signals import stop_requests

    with process(suite.execution.device) as this, stop_requests() as requests:
        say = click.echo if this.is_main and not quiet else _say_nothing
        for axes, reason in suite.skipped:
            say(f"skipped {', '.join(f'{axis}={value}' for axis, value in axes.items())}: {reason}")
        finished = execute_suite(suite, folder, this, requests, retry=retry, report=say)
    if finished is not None and requests.suite_must_end:
        click.echo("stopped; the same command goes on where this one ended", err=True)
        raise SystemExit(130)
    return finished


def _say_nothing(text: str) -> None:
    """Drop ``text``: another process speaks, or the output is for a program."""


@main.command()
@format_option
def suites(format_: str) -> None:
    """List the suites that come with spherebench."""
    from benchmark.suite.expand import read_suite, suite_names, suite_path
    from results.formats import format_table

    rows = [
        {"suite": name, "what it is": read_suite(suite_path(name)).description.partition("\n")[0]}
        for name in suite_names()
    ]
    click.echo(format_table(rows, format_))


@main.command()
@format_option
def methods(format_: str) -> None:
    """List the methods, their defaults and where they come from."""
    from benchmark.networks.kernel_spec import kernel_methods_table
    from methods import registry
    from results.formats import format_table

    rows = [
        {
            "method": method.name,
            "title": method.title,
            "defaults": ", ".join(f"{option}={value}" for option, value in method.defaults.items()),
            "source": method.source,
        }
        for method in map(registry.get, registry.names())
    ]
    click.echo(format_table(rows + kernel_methods_table(), format_))


@main.command()
@format_option
def datasets(format_: str) -> None:
    """List the data sets and how to get them."""
    from benchmark.data import datasets_table
    from results.formats import format_table

    click.echo(format_table(datasets_table(), format_))


@main.command()
@runs_argument
@format_option
@click.option("--metric", help="Show this metric instead of the headline ones; `all` shows every one.")
def tables(runs: tuple[Path, ...], format_: str, metric: str | None) -> None:
    """Print accuracy and cost tables of the runs folders RUNS, or the table of a cost sweep's folder."""
    from results import cell_tables
    from results.tables import render

    cells = _cost_cells(runs)
    if cells:
        click.echo(cell_tables.render(cells, format_), nl=False)
    else:
        click.echo(_of_records(runs, lambda collection: render(collection, format_, metric)), nl=False)


@main.command()
@runs_argument
@click.option("--out", type=click.Path(path_type=Path), help="Where to write.  [default: plots/ in the first folder]")
def plots(runs: tuple[Path, ...], out: Path | None) -> None:
    """Draw the figures of the runs folders RUNS, or of a cost sweep's folder, as PNG and PDF."""
    from results import cell_plots
    from results.plots import write

    folder, cells = out or runs[0] / "plots", _cost_cells(runs)
    written = cell_plots.write(cells, folder) if cells else _of_records(runs, lambda found: write(found, folder))
    for path in written:
        click.echo(f"wrote {path}")
    if not written:
        click.echo("nothing to draw: the tables say what there is")


@main.command()
@runs_argument
@format_option
def compare(runs: tuple[Path, ...], format_: str) -> None:
    """Print the figures of RUNS beside published ones, protocol beside protocol."""
    from results.compare import render

    click.echo(_of_records(runs, lambda collection: render(collection, format_)), nl=False)


def _cost_cells(runs: tuple[Path, ...]) -> list[CostCell]:
    """The cells of the cost sweeps among ``runs``; a damaged one is the user's error."""
    from results.cell import cells_in

    try:
        found = {folder: cells_in(folder) for folder in runs}
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error
    others = [str(folder) for folder, cells in found.items() if not cells]
    if 0 < len(others) < len(found):
        raise UserError(f"{', '.join(others)}: no cost sweep, as the others are; give the two kinds apart")
    return [cell for cells in found.values() for cell in cells]


def _of_records(runs: tuple[Path, ...], make: Callable[[Any], T]) -> T:
    """What ``make`` makes of the records in ``runs``; a folder without records is the user's error."""
    from results.collect import collect

    try:
        return make(collect(runs))
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error
