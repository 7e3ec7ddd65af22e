"""What a Run will take, told without a GPU and without running it.

The real training step runs on fake tensors, which have shapes and no memory, while storages are counted: parameters,
optimiser state, activations and the loss, on one rank of a group whose collectives move nothing. The one part that
cannot be had so is DistributedDataParallel; what it holds is put in its place (:func:`_hold_buckets`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmark.cost.flop import FlopCounter
from benchmark.cost.steps import input_of, source_of
from benchmark.cost.sweep import no_such_form
from benchmark.data.datasets import SOURCES
from benchmark.networks.step import TrainingStep
from benchmark.networks.trained import Trained
from benchmark.probes.base import Measurement, Precision, Shape
from benchmark.probes.classifiers import SIMILARITIES
from benchmark.probes.finetune import FineTune
from benchmark.probes.training import backward
from benchmark.runtime.errors import UserError
from benchmark.runtime.memory import PeakMemory
from benchmark.runtime.process import Process
from benchmark.suite.expand import Suite
from methods import registry

TERA = 1e12
NOTE = (
    "Peak of one training step on each GPU: parameters, optimiser, gradients in DistributedDataParallel's buckets, "
    "activations, loss; without the CUDA context and the workspaces of cuBLAS and cuDNN. As published: with the "
    "gradients kept and copied into the buckets, as in the published code. Measured: the features of all labelled and "
    "test images, a tile of kNN's similarities and the weights, while probes run; without a batch's activations. "
    "Transfer, Multi-label: the most that these hold on their data, features included. "
    "Fine-tuned: one step of it, the network itself included. FLOP: of one GPU, forward and backward."
)


@dataclass(frozen=True)
class Plan:
    """What one Run takes on each of its GPUs, without the CUDA context and the workspaces of cuBLAS and cuDNN."""

    network: Trained
    gpus: int
    form: str
    peak_bytes: int
    parameter_bytes: int
    evaluation_bytes: int
    feature_dim: int
    flop_per_step: int  # of one GPU: matrix products and convolutions, forward and backward
    steps: int
    # Where the suite asks for it; and what probes that say so hold, the most of each.
    finetune_bytes: int | None = None
    probe_bytes: Mapping[str, int] = field(default_factory=dict)

    @property
    def peak_bytes_published(self) -> int:
        """The peak with DistributedDataParallel as in the published code: one more copy of the gradients.

        There gradients are zeroed and kept from step to step and copied into the buckets that are communicated; here
        they lie in the buckets. One process has no buckets.
        """
        return self.peak_bytes + (self.parameter_bytes if self.gpus > 1 else 0)


def plan(network: Trained, gpus: int) -> Plan:
    """What one step of a network takes on each of ``gpus`` GPUs, not compiled; asked again, it is not computed again.

    Raises :class:`UserError` where the batch does not divide over the GPUs, or the data set is one's own.
    """
    # torch.compile has nothing to compile on tensors without memory.
    return _planned(network.model_copy(update={"compile": False}).model_dump_json(), gpus)


@cache
def _planned(dumped: str, gpus: int) -> Plan:
    network = Trained.model_validate_json(dumped)
    if network.batch_size % gpus:
        raise UserError(f"batch_size is {network.batch_size}, must be a multiple of the number of GPUs, {gpus}")
    if network.batch_size // gpus < 2:
        raise UserError(f"batch_size is {network.batch_size}, must be at least two images for each of {gpus} GPUs")
    source, input, limit = source_of(network), input_of(network), network.data.limit
    with _pretended_group(gpus) as group, FakeTensorMode():
        step = TrainingStep(network, input.channels, Process(torch.device("cpu")))
        step.encoder.train()
        # The loss gathers the rows of all ranks, the batch normalisation is one rank's: its statistics are small.
        step.process = Process(torch.device("cpu"), 0, gpus, group)
        params = list(step.encoder.parameters())
        buckets = _hold_buckets(params) if gpus > 1 else []
        sides = step.recipe.sides(input.image_size)
        views = tuple(torch.empty(network.batch_size // gpus, input.channels, side, side) for side in sides)
        with FlopCounter() as flop, PeakMemory(step.encoder, step.optimizer, *views, *buckets) as memory:
            # The update that ends the step before makes the optimiser's state, and leaves no gradients. Without the
            # scaler, which would look at values.
            for place, param in enumerate(params):
                param.grad = buckets[place] if buckets else torch.empty_like(param)
            step.optimizer.step()
            step.optimizer.zero_grad(set_to_none=True)
            loss = step.forward(views)
            step.backward(loss)
    train_images = source.train_images(network.data.tune_fraction)
    parameter_bytes = sum(param.numel() * param.element_size() for param in params)
    # What probes hold: float32 features of the bank and of the test images, kNN's tile, the weights.
    bank = min(source.labelled_images, limit or source.labelled_images)
    tile = min(SIMILARITIES, bank * source.test_images)
    return Plan(
        network=network,
        gpus=gpus,
        form=loss.form,
        peak_bytes=memory.baseline_bytes + memory.peak_bytes,
        parameter_bytes=parameter_bytes,
        evaluation_bytes=4 * ((bank + source.test_images) * step.encoder.feature_dim + tile) + parameter_bytes,
        feature_dim=step.encoder.feature_dim,
        flop_per_step=flop.total,
        steps=network.epochs * (min(train_images, limit or train_images) // network.batch_size),
    )


def finetuning_bytes(network: Trained, gpus: int, batch_size: int, precision: Precision) -> int:
    """What a step of fine-tuning takes on each GPU: the network, a copy with classifier, gradients, momenta, a batch.

    Raises as :func:`plan` where the data set is one's own.
    """
    classes, input = source_of(network).classes, input_of(network)
    with FakeTensorMode():
        encoder, tuned = network.build(input.channels), network.build(input.channels).backbone
        model = nn.Sequential(tuned, nn.Linear(encoder.feature_dim, classes)).train()
        optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        x_NCHW = torch.empty(-(-batch_size // gpus), input.channels, input.image_size, input.image_size)
        labels_N = torch.zeros(len(x_NCHW), dtype=torch.int64)
        with PeakMemory(encoder, model, x_NCHW, labels_N) as memory:
            for _ in range(2):  # the first makes the momenta
                backward(model, x_NCHW, labels_N, batch_size, precision, scaler)
                optimizer.step()
                optimizer.zero_grad()
    return memory.baseline_bytes + memory.peak_bytes


def probe_bytes(measurements: Iterable[Measurement], feature_dim: int) -> dict[str, int]:
    """The most that each probe that says so holds, on named data sets of images."""
    found: dict[str, int] = {}
    for own in measurements:
        source = SOURCES.get(own.data.source)
        if source is None or not source.image_size:
            continue
        learnt = min(source.labelled_images, own.data.limit or source.labelled_images)
        shape = Shape(learnt, source.tune_images, source.test_images, feature_dim, source.classes)
        if (held := own.probe.planned_bytes(shape)) is not None:
            found[own.probe.name] = max(held, found.get(own.probe.name, 0))
    return found


def _hold_buckets(params: Sequence[nn.Parameter]) -> list[Tensor]:
    """What DistributedDataParallel holds with ``gradient_as_bucket_view``: room for all gradients, all the time.

    Each gradient, once it is made, is copied to its place there and let go.
    """
    buckets: dict[Tensor, Tensor] = {param: torch.empty_like(param) for param in params}

    def move_to_bucket(param: Tensor) -> None:
        param.grad = buckets[param]

    for param in buckets:
        param.register_post_accumulate_grad_hook(move_to_bucket)
    return list(buckets.values())


@contextmanager
def _pretended_group(gpus: int) -> Iterator[dist.ProcessGroup | None]:
    """A group of processes of which only this one exists; None for a process alone."""
    if gpus == 1:
        yield None
        return
    # torch's own stand-in, made for its tests; it has no public name.
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=gpus, store=FakeStore())
    try:
        yield dist.group.WORLD
    finally:
        dist.destroy_process_group()


def largest_dimension(network: Trained, gpus: int, memory_bytes: float) -> int | None:
    """The largest embedding dimension, a power of two, whose step fits; None where not even D = 2 does.

    Found from above, by doubling and halving from the network's own.
    """

    def fits(dim: int) -> bool:
        return plan(network.model_copy(update={"embedding_dim": dim}), gpus).peak_bytes <= memory_bytes

    dim = network.embedding_dim
    while dim >= 2 and not fits(dim):
        dim //= 2
    while dim >= 2 and fits(2 * dim):
        dim *= 2
    return dim if dim >= 2 else None


def predict(suite: Suite, gpus: int, report: Callable[[str], None]) -> list[Plan]:
    """A plan for every network of the suite that is trained, whatever its seed.

    In the form it will take; where that is left to the cost model, in the published one too.
    Raises :class:`UserError` where none is left.
    """
    trained = [cell.run.network for cell in suite.cells if isinstance(cell.run.network, Trained)]
    alike = [network.model_copy(update={"seed": 0}) for network in trained]
    measurements = [measurement for cell in suite.cells for measurement in cell.run.measurements]
    tuned = {(own.probe.batch_size, own.precision) for own in measurements if isinstance(own.probe, FineTune)}
    plans: list[Plan] = []
    for network in {network.digest: network for network in alike}.values():
        if reason := no_such_form(network.method, network.form):
            report(f"skipped {network.method}: {reason}")
            continue
        published = registry.get(network.method).published_form if network.form == "auto" else None
        asked = [network, *([network.model_copy(update={"form": published})] if published else [])]
        most = max((finetuning_bytes(network, gpus, *how) for how in tuned), default=None)
        made = [replace(plan(formed, gpus), finetune_bytes=most) for formed in asked]
        held = probe_bytes(measurements, made[0].feature_dim)
        plans += {own.form: replace(own, probe_bytes=held) for own in made}.values()
    if not plans:
        raise UserError(f"suite {suite.name}: nothing in it trains a network in this form, so there is nothing to plan")
    return plans


def row(own: Plan, memory: int | None, rate: float | None) -> dict[str, Any]:
    """A plan in full precision: bytes, flop, and where they were asked for, what fits and GPU-hours."""
    network = own.network
    found: dict[str, Any] = {"method": network.method, "form": own.form}
    found |= {name: getattr(network, name) for name in ("embedding_dim", "batch_size", "precision")}
    predicted = ("gpus", "peak_bytes", "peak_bytes_published", "evaluation_bytes", "flop_per_step", "steps")
    found |= {name: getattr(own, name) for name in predicted}
    if own.finetune_bytes is not None:
        found["finetune_bytes"] = own.finetune_bytes
    found |= {f"{name}_bytes": held for name, held in own.probe_bytes.items()}
    if rate:  # of each GPU; the hours of all together
        found["gpu_hours"] = own.flop_per_step * own.steps * own.gpus / (rate * TERA) / 3600
    if memory:
        found["fits"] = own.peak_bytes <= memory
        found["largest_embedding_dim"] = largest_dimension(network, own.gpus, memory)
    return found


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.3g}"


# Columns for reading, by the key of a row.
_SHOWN: dict[str, tuple[str, Callable[[Any], str]]] = {
    "method": ("Method", lambda name: registry.get(name).title),
    "form": ("Form", str),
    "embedding_dim": ("D", str),
    "batch_size": ("Batch", str),
    "peak_bytes": ("Peak (GB)", _gigabytes),
    "peak_bytes_published": ("As published (GB)", _gigabytes),
    "evaluation_bytes": ("Measured (GB)", _gigabytes),
    "finetune_bytes": ("Fine-tuned (GB)", _gigabytes),
    "transfer_bytes": ("Transfer (GB)", _gigabytes),
    "multilabel_bytes": ("Multi-label (GB)", _gigabytes),
    "flop_per_step": ("TFLOP a step", lambda flop: f"{flop / TERA:.3g}"),
    "steps": ("Steps", "{:,}".format),
    "gpu_hours": ("GPU-hours", "{:.0f}".format),
    "fits": ("Fits", lambda fits: "yes" if fits else "NO"),
    "largest_embedding_dim": ("Largest D", lambda dim: "none" if dim is None else str(dim)),
}


def readable(row: dict[str, Any]) -> dict[str, str]:
    """A row for reading: in GB and TFLOP."""
    return {title: show(row[key]) for key, (title, show) in _SHOWN.items() if key in row}
