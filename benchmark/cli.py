"""The command ``spherebench``. Each command imports the room it needs when it is called."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmark.runtime.errors import UserError
from benchmark.runtime.output import outlive_readers, spell_out
from benchmark.runtime.paths import is_of_job, typed

if TYPE_CHECKING:
    from benchmark.suite.expand import Suite
    from results.cell import CostCell

# Commands that lie in other modules, which are imported when they are called.
_ELSEWHERE = {
    "benchmark.cost.cli": ("cost", "plan", "family"),
    "benchmark.running.cli": ("evaluate", "export", "clean", "pack"),
    "slurm.cli": ("submit", "status", "cancel", "retry", "logs", "doctor"),
}
FORMATS = ("plain", "md", "csv", "json", "latex")


class TypedPath(click.Path):
    """A path of which ``~`` and ``$VAR`` are expanded: shells leave them where they stand after ``--out=``."""

    def __init__(self, **checks: bool) -> None:
        super().__init__(path_type=Path, **checks)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str):
            name = param.opts[0] if param is not None and param.opts[0].startswith("-") else "path"
            value = typed(value, name)
            if is_of_job(value):
                raise UserError(f"{name} {value}: cannot differ from job to job; $$VAR is for data")
        return super().convert(value, param, ctx)


format_option = click.option(
    "--format", "format_", type=click.Choice(FORMATS), default="plain", show_default=True, help="How to print tables."
)
set_option = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    callback=lambda ctx, _, given: (*given, *(["download=true"] if ctx.params.pop("download", False) else [])),
    help="Override a setting, e.g. epochs=10; a list (embedding_dim=512,2048) becomes an axis. May be repeated.",
)
# One of those settings, and so looked at before them.
download_option = click.option(
    "--download", is_flag=True, is_eager=True, help="Fetch the data set where it is missing."
)
runs_argument = click.argument("runs", nargs=-1, required=True, type=TypedPath())


class Commands(click.Group):
    """Turns a user's error into one sentence and exit code 2, and lists commands in the order they are used."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        spell_out()
        _check_own_packages()
        return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        printed: set[str] = set()

        def print_once(message: Warning | str, *_: object, **__: object) -> None:
            """Each warning the first time only: Python's own memory of them ends with every ``catch_warnings``."""
            if str(message) not in printed:
                printed.add(str(message))
                click.echo(f"warning: {message}", err=True)

        with warnings.catch_warnings():
            warnings.showwarning = print_once
            try:
                return super().invoke(ctx)
            except UserError as error:
                raise click.UsageError(str(error)) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.commands, *(name for names in _ELSEWHERE.values() for name in names)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = next((module for module, names in _ELSEWHERE.items() if cmd_name in names), None)
        return getattr(importlib.import_module(module), cmd_name) if module else super().get_command(ctx, cmd_name)


def _check_own_packages() -> None:
    """Raise :class:`click.UsageError` where Python would import another's package in place of one of ours."""
    root = Path(__file__).resolve().parents[1]
    for name in ("methods", "results", "slurm"):
        spec = importlib.util.find_spec(name)
        found = [*(spec.submodule_search_locations or [spec.origin or ""])] if spec else ["nothing"]
        if root / name not in [Path(place).resolve() for place in found]:
            raise click.UsageError(
                f"{found[0]} would be imported for {name!r}, which is a package of spherebench: rename it, or take its "
                "folder out of PYTHONPATH"
            )


def _tell_version(ctx: click.Context, param: click.Parameter, asked: bool) -> None:
    """Not click's own option: that asks for an installed package, and a checkout runs without."""
    if asked:
        from results import __version__  # not before it was checked that this is ours

        click.echo(f"spherebench, version {__version__}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_tell_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Benchmark of self-supervised learning with kernel regularisers: from a suite file to comparison tables."""
    # Figures are files: a notebook's shell names a backend that may not be there, and matplotlib would not start.
    os.environ["MPLBACKEND"] = "agg"


@main.command()
@click.argument("suite")
@click.option("--out", type=TypedPath(), help="Runs folder.  [default: runs/SUITE]")
@set_option
@download_option
@click.option("--retry", type=click.Choice(["failed"]), help="Redo what failed, diverged or ran out of memory.")
def run(suite: str, out: Path | None, assignments: tuple[str, ...], retry: str | None) -> None:
    """Train every network of SUITE (a name or a YAML file) that is not there, measure what is missing; write tables.

    On a CPU small networks are trained side by side, one on each core; --set jobs=N says how many at a time.
    """
    from benchmark.suite.expand import load_suite

    loaded = load_suite(suite, assignments)
    execute_and_report(loaded, out or Path("runs") / loaded.name, retry=retry is not None)


def execute_and_report(suite: Suite, folder: Path, *, retry: bool, train: bool = True) -> None:
    """Run what is missing, then write tables and plots where they are not those of the records; exit 1 of a failure."""
    from results.outputs import check_writable, is_current, write
    from results.record import NETWORK_NAME

    with damage_told():
        check_writable(folder)
    finished = execute(suite, folder, retry=retry, train=train)
    if finished is None:
        return
    if not any(folder.glob(f"*/{NETWORK_NAME}")):  # all of it is another program's
        raise SystemExit(1)
    if is_current(folder):
        click.echo(f"tables and plots in {folder} are up to date")
    else:
        with damage_told():
            echo_written(write(folder))
    raise SystemExit(0 if finished else 1)


def echo_table(rows: Sequence[Mapping[str, Any]], format_: str, **told: Any) -> None:
    """Print rows as the user asked, with a title and notes where the format is for people."""
    from results.formats import format_table

    click.echo(format_table(rows, format_, **told), nl=False)


def echo_written(paths: Iterable[Path], *, err: bool = False) -> None:
    for path in paths:
        if path.exists():  # a figure may have failed
            click.echo(f"wrote {path}", err=err)


@main.command()
@click.argument("suite")
@click.option("--out", type=TypedPath(), help="Runs folder.  [default: runs/SUITE-tune]")
@set_option
@download_option
@format_option
def tune(suite: str, out: Path | None, assignments: tuple[str, ...], format_: str) -> None:
    """Choose each method's hyper-parameters on the tune split, with the same budget for every method."""
    from benchmark.suite.expand import parse_overrides, read_suite, suite_path
    from benchmark.suite.tune import MISSING, choose, scores, tuning_suite, write_choice

    path = suite_path(suite)
    file, overrides = read_suite(path), parse_overrides(assignments)
    candidates = tuning_suite(file, overrides, name=path.stem, where=path.name)
    folder = out or Path("runs") / candidates.name
    assert file.tune is not None
    score = partial(scores, candidates, file.tune, folder)
    # Also after each candidate: what only a measurement shows of the metric is told after the first, not the last.
    if execute(candidates, folder, retry=False, quiet=format_ != "plain", after_each=score) is None:
        return
    found = score()
    keys = dict.fromkeys(key for tried in file.tune.candidates.values() for key in tried)
    rows = [
        {
            "method": score.method,
            **{key: score.candidate.get(key) for key in keys},
            file.tune.metric: score.value,
            "seeds": score.seeds,
            "note": score.note,
        }
        for score in found
    ]
    echo_table(rows, format_)
    if any(score.note == MISSING for score in found):
        click.echo("nothing is chosen: candidates are missing, and the same command tries them", err=True)
        raise SystemExit(1)
    written = write_choice(choose(found), folder)
    if format_ == "plain":
        click.echo(f"wrote {written}")


def execute(suite: Suite, folder: Path, *, retry: bool, quiet: bool = False, **options: Any) -> bool | None:
    """Run what is missing. True: everything is done; False: not everything; None: another process reports."""
    from benchmark.running.runner import execute_suite
    from benchmark.runtime.process import process
    from benchmark.runtime.signals import Interrupted, stop_requests

    def say(text: str) -> None:
        if this.is_main and not quiet:
            click.echo(text)

    outlive_readers()
    with process(suite.execution.device) as this, stop_requests() as requests:
        for axes, reason in suite.skipped:
            say(f"skipped {', '.join(f'{axis}={value}' for axis, value in axes.items())}: {reason}")
        try:
            finished = execute_suite(suite, folder, this, requests, retry=retry, report=say, **options)
        except (Interrupted, KeyboardInterrupt):
            finished, requests.suite_must_end = False, True
    if finished is not None and requests.suite_must_end:
        click.echo("stopped; run the same command again to resume", err=True)
        raise SystemExit(130)
    return finished


@main.command()
@format_option
def suites(format_: str) -> None:
    """List the suites that come with spherebench."""
    from benchmark.suite.expand import read_suite, suite_names, suite_path

    files = {name: read_suite(suite_path(name)) for name in suite_names()}
    rows = [{"suite": name, "what it is": file.description.partition("\n")[0]} for name, file in files.items()]
    echo_table(rows, format_)


@main.command()
@format_option
def methods(format_: str) -> None:
    """List the methods, their defaults and where they come from."""
    from benchmark.networks.kernel import kernel_methods_table
    from benchmark.networks.wide import wide_methods_table
    from methods import registry

    rows = [
        {
            "method": method.name,
            "title": method.title,
            "defaults": "; ".join(f"{name}={value} ({method.origin[name]})" for name, value in method.defaults.items()),
            "source": method.source,
        }
        for method in map(registry.get, registry.names())
    ]
    echo_table(rows + kernel_methods_table() + wide_methods_table(), format_)


@main.command()
@format_option
def probes(format_: str) -> None:
    """List the probes and their options, keys of a suite's `evaluation`, with their defaults."""
    from benchmark.probes.base import probes

    rows = [
        {
            "probe": name,
            "what it measures": (kind.__doc__ or "").partition("\n")[0],
            "options": ", ".join(f"{option}={value}" for option, value in kind()),
        }
        for name, kind in probes().items()
    ]
    echo_table(rows, format_)


@main.command()
@format_option
def datasets(format_: str) -> None:
    """List the data sets and how to get them."""
    from benchmark.data import datasets_table

    echo_table(datasets_table(), format_)


@main.command()
@runs_argument
@format_option
@click.option("--metric", help="Show this metric instead of the headline ones; `all` shows every one.")
@click.option("--against", metavar="METHOD", help="Show every method's paired difference to METHOD, tested, instead.")
def tables(runs: tuple[Path, ...], format_: str, metric: str | None, against: str | None) -> None:
    """Print accuracy and cost tables of the runs folders RUNS, or the table of a cost sweep's folder."""
    from results import cell
    from results.collect import collect
    from results.formats import for_programs
    from results.tables import render

    with damage_told():
        cells = _cost_cells(runs, against)
        collection = None if cells else collect(runs)
        text = render(collection, format_, metric, against) if collection else cell.render(cells, format_)
    click.echo(text, nl=False)
    if collection and not (metric or against or for_programs(format_)):
        names = ", ".join(collection.metrics["metric"].unique()) or "nothing"
        click.echo(f"\n--metric NAME, or all, shows what else was measured: {names}", err=True)


@main.command()
@runs_argument
@click.option("--out", type=TypedPath(file_okay=False), help="Where to write.  [default: plots/ in the first folder]")
@click.option("--against", metavar="METHOD", help="Draw every method's paired difference to METHOD instead.")
def plots(runs: tuple[Path, ...], out: Path | None, against: str | None) -> None:
    """Draw the figures of the runs folders RUNS, or of a cost sweep's folder, as PNG and PDF."""
    from results import cell_plots, difference_plots
    from results import plots as accuracy_plots
    from results.collect import collect

    folder = out or runs[0] / "plots"
    with damage_told():
        cells = _cost_cells(runs, against)
        if cells:
            written = cell_plots.write(cells, folder)
        elif against:
            written = difference_plots.write(collect(runs), folder, against)
        else:
            written = accuracy_plots.write(collect(runs), folder)
    echo_written(written)
    if not written:
        click.echo("nothing to draw: the tables say what there is")


@main.command()
@runs_argument
@format_option
def compare(runs: tuple[Path, ...], format_: str) -> None:
    """Print the figures of RUNS beside published ones, protocol beside protocol."""
    from results.collect import collect
    from results.compare import render

    with damage_told():
        text = render(collect(runs), format_)
    click.echo(text, nl=False)


@main.command()
@runs_argument
@click.option(
    "--out", type=TypedPath(dir_okay=False), help="The HTML file to write.  [default: report.html in the first folder]"
)
@click.option("--serve", is_flag=True, help="Show the page over HTTP instead, and follow the runs while they go.")
@click.option("--host", help="With --serve: the address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="With --serve.  [default: 8321]")
def report(runs: tuple[Path, ...], out: Path | None, serve: bool, host: str | None, port: int | None) -> None:
    """Write one self-contained HTML page of RUNS: runs folders, cost sweeps, or a folder of these."""
    if serve and out:
        raise UserError("--out: with --serve nothing is written")
    if not serve and (host is not None or port is not None):
        raise UserError(f"--{'host' if host is not None else 'port'}: only with --serve")
    with damage_told():
        if serve:
            _serve(runs, host or "127.0.0.1", 8321 if port is None else port)
        else:
            from results.report import page

            first = runs[0] if runs[0].is_dir() else runs[0].parent
            echo_written([page.write(runs, out or first / page.NAME)])


def _serve(runs: tuple[Path, ...], host: str, port: int) -> None:
    from results.report.serve import Server

    if missing := [str(place) for place in runs if not place.exists()]:
        raise UserError(f"{', '.join(missing)}: there is no such folder")
    try:
        server = Server(runs, host, port)
    except OSError as error:
        raise UserError(f"--host {host} --port {port}: cannot be listened on: {error.strerror or error}") from error
    with server, suppress(KeyboardInterrupt):
        if not server.is_local:
            click.echo(
                f"warning: whoever can reach {server.url} reads all of these runs: records, settings, paths, host "
                "names and logs of failures, with no password and in plain text; `ssh -L 8321:127.0.0.1:8321 HOST` "
                "shows them to you alone",
                err=True,
            )
        click.echo(f"{server.url} follows {', '.join(map(str, runs))}; Ctrl-C ends it")
        server.serve_forever()


@contextmanager
def damage_told() -> Iterator[None]:
    """Records that are damaged, or not there, are the user's error."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from error
    except ValueError as error:
        raise UserError(str(error)) from error


def _cost_cells(runs: tuple[Path, ...], against: str | None) -> list[CostCell]:
    """The cells of the cost sweeps among ``runs``, which have nothing that could be compared ``against`` a method."""
    from results.cell import cells_in

    found = {folder: cells_in(folder) for folder in runs}
    others = [str(folder) for folder, cells in found.items() if not cells]
    if 0 < len(others) < len(found):
        raise UserError(f"{', '.join(others)}: no cost sweep, as the others are; give the two kinds apart")
    if against and any(found.values()):
        raise UserError("--against compares accuracies, and a cost sweep has none")
    return [cell for cells in found.values() for cell in cells]
