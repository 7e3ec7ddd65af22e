"""What a Run will take, told without a GPU and without running it.

The real training step runs on fake tensors, which have shapes and no memory, while storages are counted: parameters,
optimiser state, activations and the loss, on one rank of a group whose collectives move nothing. The one part that
cannot be had so is DistributedDataParallel; what it holds is put in its place (:func:`_hold_buckets`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from benchmark.cost.steps import source_of
from benchmark.cost.textbook import PUBLISHED_FORMS
from benchmark.networks.step import TrainingStep
from benchmark.runtime.errors import UserError
from benchmark.runtime.memory import PeakMemory
from benchmark.runtime.process import Process
from benchmark.suite.run import Run


@dataclass(frozen=True)
class Plan:
    """What one Run takes on each of its GPUs, without the CUDA context and the workspaces of cuBLAS and cuDNN."""

    run: Run
    gpus: int
    form: str
    peak_bytes: int
    parameter_bytes: int
    flop_per_step: int  # of one GPU: matrix products and convolutions, forward and backward
    steps: int

    @property
    def peak_bytes_published(self) -> int:
        """The peak with DistributedDataParallel as in the published code: one more copy of the gradients.

        There gradients are zeroed and kept from step to step and copied into the buckets that are communicated; here
        they lie in the buckets. One process has no buckets.
        """
        return self.peak_bytes + (self.parameter_bytes if self.gpus > 1 else 0)

    def gpu_hours(self, flop_per_second: float) -> float:
        """GPU-hours of training, all GPUs together, at this rate on each."""
        return self.flop_per_step * self.steps * self.gpus / flop_per_second / 3600


def plan(run: Run, gpus: int) -> Plan:
    """What one step of ``run`` takes on each of ``gpus`` GPUs, not compiled; asked again, it is not computed again.

    Raises :class:`UserError` where the batch does not divide over the GPUs, or the data set is one's own.
    """
    # torch.compile has nothing to compile on tensors without memory.
    return _planned(run.model_copy(update={"compile": False}).model_dump_json(), gpus)


@cache
def _planned(dumped: str, gpus: int) -> Plan:
    run = Run.model_validate_json(dumped)
    if run.batch_size % gpus:
        raise UserError(f"batch_size is {run.batch_size}, must be a multiple of the number of GPUs, {gpus}")
    if run.batch_size // gpus < 2:
        raise UserError(f"batch_size is {run.batch_size}, must be at least two images for each of {gpus} GPUs")
    source = source_of(run)
    side = run.data.image_size or source.image_size
    shape = (run.batch_size // gpus, len(source.mean), side, side)
    with _pretended_group(gpus) as group, FakeTensorMode():
        step = TrainingStep(run, len(source.mean), Process(torch.device("cpu")))
        step.encoder.train()
        # The loss gathers the rows of all ranks, the batch normalisation is one rank's: its statistics are small.
        step.process = Process(torch.device("cpu"), 0, gpus, group)
        buckets = _hold_buckets(step.encoder) if gpus > 1 else []
        views = tuple(torch.empty(shape) for _ in range(2))
        with FlopCounterMode(display=False) as flop, PeakMemory(step.encoder, *views, *buckets) as memory:
            _update(step, buckets)
            loss = step.forward(views)
            step.backward(loss)
    return Plan(
        run=run,
        gpus=gpus,
        form=loss.form,
        peak_bytes=memory.baseline_bytes + memory.peak_bytes,
        parameter_bytes=sum(param.numel() * param.element_size() for param in step.encoder.parameters()),
        flop_per_step=flop.get_total_flops(),
        steps=run.epochs * (_training_images(run) // run.batch_size),
    )


def forms(run: Run) -> tuple[Run, ...]:
    """A Run that leaves the form to the cost model, as it is and in the published form; any other Run as it is."""
    published = PUBLISHED_FORMS.get(run.method)
    if run.form != "auto" or published is None:
        return (run,)
    return (run, run.model_copy(update={"form": published}))


def largest_dimension(run: Run, gpus: int, memory_bytes: float) -> int | None:
    """The largest embedding dimension, a power of two, whose step fits; None where not even D = 2 does.

    Found from above, by doubling and halving from the Run's own.
    """
    dim = run.embedding_dim or 2
    fits = _fits(run, gpus, memory_bytes, dim)
    step = 2 if fits else 0.5
    while True:
        following = int(dim * step)
        if following < 2:
            return None
        if _fits(run, gpus, memory_bytes, following) != fits:
            return dim if fits else following
        dim = following


def _fits(run: Run, gpus: int, memory_bytes: float, dim: int) -> bool:
    return plan(run.model_copy(update={"embedding_dim": dim}), gpus).peak_bytes <= memory_bytes


def _hold_buckets(module: nn.Module) -> list[Tensor]:
    """What DistributedDataParallel holds with ``gradient_as_bucket_view``: room for all gradients, all the time.

    Each gradient, once it is made, is copied to its place there and let go.
    """
    buckets = []
    for param in module.parameters():
        buckets.append(torch.empty_like(param))
        param.register_post_accumulate_grad_hook(partial(_move_to_bucket, bucket=buckets[-1]))
    return buckets


def _move_to_bucket(param: Tensor, bucket: Tensor) -> None:
    param.grad = bucket


def _update(step: TrainingStep, buckets: list[Tensor]) -> None:
    """The update that ends the step before: it makes the optimiser's state, and leaves no gradients.

    Without the scaler, which would look at values.
    """
    for place, param in enumerate(step.encoder.parameters()):
        param.grad = buckets[place] if buckets else torch.empty_like(param)
    step.optimizer.step()
    step.optimizer.zero_grad(set_to_none=True)


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


def _training_images(run: Run) -> int:
    """Images that an epoch draws its batches from."""
    source = source_of(run)
    held_out = 0.0 if source.trained_whole else run.data.tune_fraction
    images = int(source.train_images * (1 - held_out))
    return min(images, run.data.limit or images)
