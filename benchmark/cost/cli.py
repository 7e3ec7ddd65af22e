"""The commands ``cost`` and ``plan``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from pydantic import ByteSize, TypeAdapter, ValidationError

from benchmark.cli import format_option, set_option


class Names(click.ParamType[tuple[Any, ...]]):
    """A list with commas."""

    name = "A,B,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Its parts."""
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else tuple(value)


class Numbers(Names):
    """A list of whole numbers with commas."""

    name = "N,N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Its numbers."""
        parts = super().convert(value, param, ctx)
        if not all(str(part).isdigit() for part in parts):
            self.fail(f"is {value!r}, must be whole numbers with commas between them, such as 512,2048", param, ctx)
        return tuple(map(int, parts))


_SCOPES = "A loss and its gradient; their errors against float64; a training step; a fit in the kernel regime."
_LOSSES = {"method": "sfrik_l3,auh,simclr,vicreg,barlow_twins", "batch_size": "1024", "embedding_dim": "512,2048,8192"}
_DEFAULTS = {
    "loss": _LOSSES,
    "errors": _LOSSES,
    "step": _LOSSES | {"batch_size": "256"},
    "fit": {"method": "exact,streaming", "batch_size": "1000,2000,4000", "embedding_dim": "64"},
}


@click.command()
@click.option("--embedding-dim", type=Numbers(), help="D; of a fit, components.")
@click.option("--batch-size", type=Numbers(), help="N; of a fit, rows.")
@click.option("--method", type=Names(), help="Losses; of a fit, exact or streaming.")
@click.option("--form", type=Names(), default="auto", show_default=True, help="auto, primal or dual.")
@click.option("--precision", type=Names(), default="fp32", show_default=True, help="fp32, bf16 or fp16.")
@click.option("--scope", type=click.Choice(list(_DEFAULTS)), default="loss", show_default=True, help=_SCOPES)
@click.option("--suite", default="cifar10", show_default=True, help="Of a step: its network, optimiser and images.")
@set_option
@click.option("--reference", is_flag=True, help="Measure the textbook forms, and installed peers, beside ours.")
@click.option("--device", default="auto", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Keep the cells there, and measure only what is missing.")
@format_option
def cost(assignments: tuple[str, ...], out: Path | None, format_: str, **asked: Any) -> None:
    """Measure time, memory and flop of losses or training steps, each cell in a process of its own; or errors."""
    from benchmark.cost.cell import cells
    from benchmark.cost.sweep import sweep
    from benchmark.runtime.process import resolve_device
    from results.cell_report import write
    from results.cell_tables import line, render

    resolve_device(asked["device"])
    axes = {name: asked.pop(name) for name in ("method", "form", "precision", "batch_size", "embedding_dim")}
    for name, text in _DEFAULTS[asked["scope"]].items():
        axes[name] = axes[name] or (Names() if name == "method" else Numbers()).convert(text, None, None)
    chosen = cells(axes, {**asked, "settings": assignments})
    for sentence in chosen.skipped:
        click.echo(f"skipped {sentence}", err=True)
    found = sweep(chosen.measured, out, lambda cell: click.echo(line(cell), err=True))
    click.echo(render(found, format_), nl=False)
    for path in write(out) if out else ():
        click.echo(f"wrote {path}", err=True)
    raise SystemExit(0 if all(cell.status == "done" for cell in found) else 1)


class Bytes(click.ParamType[int]):
    """A size such as 32GB or 80GiB."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Its bytes."""
        try:
            return int(TypeAdapter(ByteSize).validate_python(value))
        except ValidationError:
            return self.fail(f"is {value!r}, must be a size such as 32GB or 80GiB", param, ctx)


@click.command()
@click.argument("suite")
@set_option
@click.option("--gpus", type=click.IntRange(min=1), help="GPUs of each run.  [default: the suite's]")
@click.option("--memory", type=Bytes(), help="Of one GPU, e.g. 32GB: tells what fits, and the largest D that does.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="TFLOP/s of one GPU: tells GPU-hours.")
@format_option
def plan(suite: str, gpus: int | None, format_: str, assignments: tuple[str, ...], **asked: Any) -> None:
    """Predict memory and flop of every run of SUITE, without a GPU and without running."""
    from benchmark.cost.plan_table import NOTE, heading, predict, readable, rows
    from benchmark.suite.expand import load_suite
    from results.formats import format_table

    loaded = load_suite(suite, assignments)
    plans = predict(loaded, gpus or loaded.gpus, lambda sentence: click.echo(sentence, err=True))
    found = rows(plans, **asked)
    shown = found if format_ in ("csv", "json") else [readable(row) for row in found]
    click.echo(format_table(shown, format_, title=heading(suite, plans), notes=[NOTE]), nl=False)
