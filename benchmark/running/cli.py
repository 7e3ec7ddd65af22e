"""The commands around networks that are there: evaluate, export, clean, pack."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmark.cli import TypedPath, damage_told, download_option, execute_and_report, set_option
from benchmark.runtime.errors import UserError
from benchmark.runtime.paths import typed

if TYPE_CHECKING:
    from benchmark.data import Input
    from benchmark.networks.backbones import BackboneSpec

_folder, _file = TypedPath(), TypedPath(dir_okay=False)


@click.command()
@click.argument("runs", nargs=-1, required=True)
@click.option("--suite", help="Measure what it lists, such as transfer, on all of its data sets that are there.")
@set_option
@click.option("--data", "source", help="Measure on this data set instead: a name, or npz:, folder: or hf:PATH.")
@click.option("--out", type=_folder, help="Of weights: the runs folder.  [default: runs/weights]")
@download_option
@click.option("--retry", type=click.Choice(["failed"]), help="Redo measurements that failed or ran out of memory.")
def evaluate(
    runs: tuple[str, ...],
    suite: str | None,
    assignments: tuple[str, ...],
    source: str | None,
    out: Path | None,
    retry: str | None,
) -> None:
    """Measure networks that exist: of the folder RUNS, or of one file, weights:PATH, which stay as they are.

    Of a folder, what is listed and has no record is measured; with --set evaluation.KEY=VALUE also what differs from
    it in that. A file needs --data. With --suite, RUNS may be a folder and any number of files; data sets that are not
    there are skipped, and said how to get, and --data names the ones that are wanted, with commas.
    """
    from benchmark.running.evaluate import WEIGHTS, WEIGHTS_RUNS, suite_of_folder, suite_of_listed, suite_of_weights

    if suite is not None:
        loaded, folder = suite_of_listed(suite, runs, source, assignments, out)
    elif len(runs) > 1:
        raise UserError("RUNS: is one folder or one file; several are measured by a suite, with --suite")
    elif runs[0].startswith(WEIGHTS):
        loaded, folder = suite_of_weights(runs[0], source, assignments), out or WEIGHTS_RUNS
    elif out is None:
        folder = Path(typed(runs[0], "RUNS"))
        loaded = suite_of_folder(folder, source, assignments)
    else:
        raise UserError("--out: only for weights:PATH; measurements of a runs folder are written into it")
    execute_and_report(loaded, folder, retry=retry is not None, train=False)


@click.command()
@click.argument("network", type=_folder)
@click.option("--to", "to", type=_file, required=True, help="A .pth or .safetensors file.")
def export(network: Path, to: Path) -> None:
    """Write the backbone of the network in the folder NETWORK (RUNS/ID) as torchvision.models reads it."""
    from benchmark.networks.backbones import TIMM
    from benchmark.networks.base import load_weights, part_of
    from benchmark.networks.kinds import parse_network
    from benchmark.networks.layouts import write_backbone, write_state
    from benchmark.networks.trained import Trained
    from benchmark.running.folder import read_record
    from results.record import NetworkRecord, network_path

    record = read_record(NetworkRecord, network_path(network))
    if record is None or record.status != "done":
        raise UserError(f"{network}: holds no network that is done, give RUNS/NETWORK")
    made = parse_network(record.network)
    if not isinstance(made, Trained):
        raise UserError(f"{network}: is of kind {made.kind}, only a trained network has a backbone to export")
    state, input = load_weights(network)
    write = write_state if made.backbone.name.startswith(TIMM) else write_backbone
    write(part_of(state, "backbone."), to)
    use = _how_to_load(made.backbone, input)
    click.echo(f"wrote {to}: {use}; normalise images by mean {input.mean}, std {input.std}")


def _how_to_load(backbone: BackboneSpec, input: Input) -> str:
    from benchmark.networks.backbones import TIMM, timm_config

    name, channels = backbone.name, input.channels
    if name.startswith(TIMM):
        size = f", img_size={input.image_size}" if timm_config(name).fixed_input_size else ""
        model = f"timm.create_model({name.removeprefix(TIMM)!r}, num_classes=0, in_chans={channels}{size})"
        return f"{model} takes it with load_state_dict"
    if name == "small_cnn":
        return "this project's small CNN, for evaluate weights:FILE"
    first = ""
    if backbone.stem == "small":
        first = f" with conv1 = Conv2d({channels}, 64, 3, padding=1, bias=False), maxpool = Identity()"
    elif channels != 3:
        first = f" with conv1 = Conv2d({channels}, 64, 7, 2, 3, bias=False)"
    return f"torchvision.models.{name}(){first} takes it with load_state_dict(..., strict=False); it has no fc"


@click.command()
@click.argument("runs", type=_folder)
def clean(runs: Path) -> None:
    """Delete the weights of the finished networks in RUNS; their records stay, measuring more means training again."""
    from benchmark.networks.base import WEIGHTS_NAME
    from benchmark.running.folder import read_record
    from results.record import NETWORK_NAME, NetworkRecord

    paths, removed = sorted(runs.glob(f"*/{NETWORK_NAME}")), []
    if not paths:
        raise UserError(f"{runs}: holds no networks")
    for path in paths:
        record, weights = read_record(NetworkRecord, path), path.parent / WEIGHTS_NAME
        if record is not None and record.status == "done" and weights.exists():
            removed.append(weights.stat().st_size)
            weights.unlink()
    click.echo(f"removed the weights of {len(removed)} networks, {sum(removed) / 1e6:.1f} MB")


@click.command()
@click.argument("runs", type=_folder)
@click.option("--to", "to", type=_file, required=True, help="A .jsonl file: tables, plots and report take it for RUNS.")
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
