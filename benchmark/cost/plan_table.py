"""The plans of a suite, as rows for programs and for readers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmark.cost.cell import no_such_form
from benchmark.cost.plan import Plan, forms, largest_dimension, plan
from benchmark.networks.kernel_spec import KERNEL_METHODS
from benchmark.runtime.errors import UserError
from benchmark.suite.expand import Suite
from benchmark.suite.run import BASELINES, Run
from benchmark.suite.titles import title

GB, TERA = 1e9, 1e12
NOTE = (
    "Peak of one training step on each GPU: parameters, optimiser, gradients in DistributedDataParallel's buckets, "
    "activations, loss; without the CUDA context and the workspaces of cuBLAS and cuDNN. As published: with the "
    "gradients kept and copied into the buckets, as in the published code. FLOP: of one GPU, forward and backward."
)


def predict(suite: Suite, gpus: int, report: Callable[[str], None]) -> list[Plan]:
    """A plan for every Run of the suite that trains, whatever its seed, in the form it will take and the published one.

    Raises :class:`UserError` where none is left.
    """
    plans: list[Plan] = []
    for run in _different(suite):
        reason = no_such_form(run.method, run.form)
        if reason is not None:
            report(f"skipped {run.method}: {reason}")
        else:
            plans += {made.form: made for made in (plan(formed, gpus) for formed in forms(run))}.values()
    if not plans:
        raise UserError(f"suite {suite.name}: nothing in it trains a network in this form, so there is nothing to plan")
    return plans


def _different(suite: Suite) -> list[Run]:
    """The Runs that train, one for all its seeds."""
    runs = [cell.run.model_copy(update={"seed": 0}) for cell in suite.cells]
    trained = [run for run in runs if run.method not in (*BASELINES, *KERNEL_METHODS)]
    return list({run.digest: run for run in trained}.values())


def rows(plans: Sequence[Plan], memory: int | None, rate: float | None) -> list[dict[str, Any]]:
    """One row a plan, in full precision: bytes, flop, and where they were asked for, what fits and GPU-hours."""
    return [
        {
            "method": own.run.method,
            "form": own.form,
            "embedding_dim": own.run.embedding_dim,
            "batch_size": own.run.batch_size,
            "precision": own.run.precision,
            "gpus": own.gpus,
            "peak_bytes": own.peak_bytes,
            "peak_bytes_published": own.peak_bytes_published,
            "flop_per_step": own.flop_per_step,
            "steps": own.steps,
            **({"gpu_hours": own.gpu_hours(rate * TERA)} if rate else {}),
            **(_room(own, memory) if memory else {}),
        }
        for own in plans
    ]


def _room(own: Plan, memory: int) -> dict[str, Any]:
    fits = own.peak_bytes <= memory
    return {"fits": fits, "largest_embedding_dim": largest_dimension(own.run, own.gpus, memory)}


def heading(suite: str, plans: Sequence[Plan]) -> str:
    """What all plans have in common."""
    gpus, precisions = plans[0].gpus, sorted({own.run.precision for own in plans})
    return f"{suite}: {gpus} GPU{'s' if gpus > 1 else ''}, {', '.join(precisions)}"


def readable(row: dict[str, Any]) -> dict[str, str]:
    """A row for reading: in GB and TFLOP."""
    cells = {
        "Method": title(row["method"]),
        "Form": row["form"],
        "D": str(row["embedding_dim"]),
        "Batch": str(row["batch_size"]),
        "Peak (GB)": f"{row['peak_bytes'] / GB:.3g}",
        "As published (GB)": f"{row['peak_bytes_published'] / GB:.3g}",
        "TFLOP a step": f"{row['flop_per_step'] / TERA:.3g}",
        "Steps": f"{row['steps']:,}",
    }
    if "gpu_hours" in row:
        cells["GPU-hours"] = f"{row['gpu_hours']:.0f}"
    if "fits" in row:
        largest = row["largest_embedding_dim"]
        cells |= {"Fits": "yes" if row["fits"] else "NO", "Largest D": "none" if largest is None else str(largest)}
    return cells
