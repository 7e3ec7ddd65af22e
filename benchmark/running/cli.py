"""The commands around networks that are there: evaluate, export, clean, pack."""

from __future__ import annotations

from pathlib import Path

import click

from benchmark.cli import damage_told, download_option, execute_and_report, set_option
from benchmark.runtime.errors import UserError

_folder = click.Path(path_type=Path)
_WEIGHTS_RUNS = Path("runs") / "weights"


@click.command()
@click.argument("runs")
@set_option
@click.option("--data", "source", help="Measure on this data set instead: a name, npz:PATH or folder:PATH.")
@click.option("--out", type=_folder, help="Of weights: the runs folder.  [default: runs/weights]")
@download_option
@click.option("--retry", type=click.Choice(["failed"]), help="Redo measurements that failed or ran out of memory.")
def evaluate(
    runs: str,
    assignments: tuple[str, ...],
    source: str | None,
    out: Path | None,
    download: tuple[str, ...],
    retry: str | None,
) -> None:
    """Measure networks that exist: of the folder RUNS, or of one file, weights:PATH. Nothing is trained.

    Of a folder, what is listed and has no record is measured; with --set evaluation.KEY=VALUE also what differs from
    it in that. A file needs --data.
    """
    from benchmark.running.evaluate import suite_of_folder, suite_of_weights

    given = [*assignments, *download]
    is_file = runs.startswith("weights:")
    if is_file:
        suite, folder = suite_of_weights(Path(runs.removeprefix("weights:")), source, given), out or _WEIGHTS_RUNS
    elif out is None:
        suite, folder = suite_of_folder(Path(runs), source, given), Path(runs)
    else:
        raise UserError("--out: is for weights:PATH; what is measured on a runs folder stays in it")
    execute_and_report(suite, folder, retry=retry is not None, train=is_file)


@click.command()
@click.argument("network", type=_folder)
@click.option("--to", "to", type=_folder, required=True, help="A .pth or .safetensors file.")
def export(network: Path, to: Path) -> None:
    """Write the backbone of the network in the folder NETWORK (RUNS/ID) as torchvision.models reads it."""
    from benchmark.running.export import export as write

    click.echo(write(network, to))


@click.command()
@click.argument("runs", type=_folder)
def clean(runs: Path) -> None:
    """Delete the weights of the finished networks in RUNS; their records stay, measuring more means training again."""
    from benchmark.running.export import clean as remove

    count, size = remove(runs)
    click.echo(f"removed the weights of {count} networks, {size / 1e6:.1f} MB")


@click.command()
@click.argument("runs", type=_folder)
@click.option("--to", "to", type=_folder, required=True, help="A .jsonl file; every command reads it in place of RUNS.")
def pack(runs: Path, to: Path) -> None:
    """Write the records, measurements and curves of RUNS, or the cells of a cost sweep's folder, as one file."""
    from results.cell import cells_in, pack_cells
    from results.runs import pack as write

    with damage_told():
        if cells := cells_in(runs):
            pack_cells(cells, to)
            count, what = len(cells), "cells"
        else:
            count, what = write(runs, to), "networks"
    click.echo(f"packed {count} {what}, {to.stat().st_size / 1e6:.2f} MB, into {to}")
