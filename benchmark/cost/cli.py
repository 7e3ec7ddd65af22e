"""The commands ``cost`` and ``plan``."""

from pathlib import Path
from typing import Any

import click
from pydantic import ByteSize, TypeAdapter, ValidationError

from benchmark.cli import TypedPath, damage_told, echo_table, echo_written, format_option, set_option
from benchmark.runtime.output import outlive_readers


def names(text: str) -> tuple[str, ...]:
    """A list with commas."""
    return tuple(part.strip() for part in text.split(","))


def numbers(text: str) -> tuple[int, ...]:
    """A list of whole numbers with commas."""
    if not all(part.isdigit() for part in names(text)):
        raise click.BadParameter(f"is {text!r}, must be whole numbers with commas between them, such as 512,2048")
    return tuple(map(int, names(text)))


def size(text: str) -> int:
    """The bytes of a size such as 32GB or 80GiB."""
    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError as error:
        raise click.BadParameter(f"is {text!r}, must be a size such as 32GB or 80GiB") from error


_NAMES: dict[str, Any] = {"type": names, "metavar": "A,B,..."}
_NUMBERS: dict[str, Any] = {"type": numbers, "metavar": "N,N,..."}
_SCOPES = (
    "A loss and its gradient; their errors against float64; a training step; an epoch of a suite's data, beside "
    "lightly; a fit in the kernel regime; views of images in files; the fits of the probe transfer."
)
_LOSSES: dict[str, tuple[Any, ...]] = {
    "method": ("sfrik_l3", "auh", "simclr", "vicreg", "barlow_twins"),
    "batch_size": (1024,),
    "embedding_dim": (512, 2048, 8192),
}
_DEFAULTS = {
    "loss": _LOSSES,
    "errors": _LOSSES,
    "step": _LOSSES | {"batch_size": (256,)},
    "epoch": {"method": ("simclr",), "batch_size": (256,), "embedding_dim": (2048,)},
    "views": {"method": ("vicreg",), "batch_size": (64,), "embedding_dim": (224,)},
    "fit": {"method": ("exact", "streaming"), "batch_size": (1000, 2000, 4000), "embedding_dim": (64,)},
    "probe": {"method": ("ridge_path",), "batch_size": (10_000,), "embedding_dim": (512,)},
}


@click.command()
@click.option("--embedding-dim", **_NUMBERS, help="D; of a fit components, of a probe features, of views their side.")
@click.option("--batch-size", **_NUMBERS, help="N; of a fit or a probe, rows; of views, images.")
@click.option(
    "--method",
    **_NAMES,
    help="Losses; of a fit exact, streaming, each with _float32; of a probe ridge_path; of views recipes.",
)
@click.option("--form", **_NAMES, default="auto", show_default=True, help="auto, primal or dual.")
@click.option("--precision", **_NAMES, default="fp32", show_default=True, help="fp32, tf32, bf16 or fp16.")
@click.option("--scope", type=click.Choice(list(_DEFAULTS)), default="loss", show_default=True, help=_SCOPES)
@click.option("--suite", default="cifar10", show_default=True, help="Of a step or epoch: network, optimiser, images.")
@set_option
@click.option("--data", type=TypedPath(), help="Of views: photographs.  [default: data/imagenette2-160]")
@click.option("--reference", is_flag=True, help="Measure the textbook forms, and installed peers, beside ours.")
@click.option("--device", default="auto", show_default=True)
@click.option("--calibrate", is_flag=True, help="Measure the constants that choose the form, for runs on this device.")
@click.option("--out", type=TypedPath(file_okay=False), help="Keep the cells there, and measure only what is missing.")
@format_option
def cost(
    assignments: tuple[str, ...], data: Path | None, out: Path | None, format_: str, calibrate: bool, **asked: Any
) -> None:
    """Measure time, memory and flop of losses or training steps, each cell in a process of its own; errors; views."""
    if calibrate:
        _calibrate(asked["device"], format_)
        return
    from benchmark.cost.sweep import cells, sweep
    from benchmark.runtime.devices import resolve_device
    from results.cell import line, render
    from results.outputs import check_writable, write_cells

    resolve_device(asked["device"])
    axes = {name: asked.pop(name) for name in ("method", "form", "precision", "batch_size", "embedding_dim")}
    axes |= {name: axes[name] or default for name, default in _DEFAULTS[asked["scope"]].items()}
    if asked["scope"] == "views":
        data = data or Path("data/imagenette2-160")
    chosen, skipped = cells(axes, {**asked, "settings": assignments, "data": str(data) if data else None})
    for sentence in skipped:
        click.echo(f"skipped {sentence}", err=True)
    if out:
        with damage_told():
            check_writable(out)
    outlive_readers()
    found = sweep(chosen, out, lambda cell: click.echo(line(cell), err=True))
    click.echo(render(found, format_), nl=False)
    with damage_told():
        echo_written(write_cells(out) if out else (), err=True)
    raise SystemExit(0 if all(cell.status == "done" for cell in found) else 1)


def _calibrate(name: str, format_: str) -> None:
    """Measure, keep and tell the constants of the cost model."""
    from dataclasses import asdict

    from benchmark.cost.calibrate import measure
    from benchmark.runtime.calibration import keep_constants
    from benchmark.runtime.devices import check_usable, resolve_device
    from benchmark.runtime.numerics import computing_in

    device = resolve_device(name)
    check_usable(device)
    with computing_in("fp32"):
        found, measured = measure(device)
    rows = [asdict(choice) for choice in found]
    echo_table(rows, format_)
    path = keep_constants(device, measured, choices=rows)
    click.echo(f"entry {measured.entry:.0f}, eigen {measured.eigen:.0f}: wrote {path}, which runs here read", err=True)


@click.command()
@click.option("--out", type=TypedPath(), required=True, help="The folder of two tables and two figures.")
def family(out: Path) -> None:
    """Tell kernels apart by the degrees that they weigh, and random slices from their exact limit: tables, figures."""
    from benchmark.cost.family import degree_weights, slices_beside_their_limit
    from results import family as drawn
    from results.formats import format_table
    from results.record import write_atomically

    with damage_told():
        out.mkdir(parents=True, exist_ok=True)
        for name, rows in ((drawn.WEIGHTS, [*degree_weights()]), (drawn.SLICES, slices_beside_their_limit())):
            write_atomically(out / name, format_table(rows, "csv").encode())
            echo_table(rows, "plain")
        echo_written(drawn.write(out), err=True)


@click.command()
@click.argument("suite")
@set_option
@click.option("--gpus", type=click.IntRange(min=1), help="GPUs of each run.  [default: the suite's]")
@click.option(
    "--memory", type=size, metavar="SIZE", help="Of one GPU, e.g. 32GB: tells what fits, and the largest D that does."
)
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="TFLOP/s of one GPU: tells GPU-hours.")
@format_option
def plan(suite: str, gpus: int | None, format_: str, assignments: tuple[str, ...], **asked: Any) -> None:
    """Predict memory and flop of every run of SUITE, without a GPU and without running."""
    from benchmark.cost.plan import NOTE, predict, readable, row
    from benchmark.suite.expand import load_suite

    loaded = load_suite(suite, assignments)
    gpus = gpus or loaded.gpus
    plans = predict(loaded, gpus, lambda sentence: click.echo(sentence, err=True))
    rows = [row(plan, **asked) for plan in plans]
    shown = rows if format_ in ("csv", "json") else list(map(readable, rows))
    precisions = ", ".join(sorted({plan.network.precision for plan in plans}))
    title = f"{suite}: {gpus} GPU{'s' if gpus > 1 else ''}, {precisions}"
    echo_table(shown, format_, title=title, notes=[NOTE])
