"""One training step, the same for a training run, for measuring its cost, and for predicting it without a device.

Over several processes: all views in one call, batch statistics over all processes, averaged gradients.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from benchmark.networks.optimizers import build_optimizer
from benchmark.runtime.numerics import AUTOCAST
from benchmark.runtime.process import Process
from benchmark.runtime.seeds import key
from benchmark.views import recipe
from methods import registry
from methods.losses.base import Loss

if TYPE_CHECKING:  # which builds on this module
    from benchmark.networks.trained import Trained


class TrainingStep:
    """A network's encoder, loss and optimiser on one process, and what a step does with them.

    ``forward``, ``backward`` and ``update`` in this order are a step; calling it does all three.
    """

    def __init__(self, network: Trained, channels: int, process: Process) -> None:
        self.network, self.process = network, process
        self.method = registry.get(network.method)  # whose options the network has resolved
        encoder = network.build(channels)  # on the CPU; Module.to takes no fake tensors, not even to where they are
        self.encoder = encoder if process.device.type == "cpu" else encoder.to(process.device)
        if network.compile:
            self.encoder.compile()
        self.recipe = recipe(network.augmentation)
        self.views = embed_views(self.encoder, network.joint_forward or self.recipe.joint, process)
        self.features_nF: Tensor | None = None  # of the first view, by the last forward pass, without its history
        self.optimizer = build_optimizer(network.optimizer, self.encoder)
        self.scaler = torch.amp.GradScaler(process.device.type, enabled=network.precision == "fp16")

    def __call__(self, views: tuple[Tensor, ...], step: int = 0) -> Loss:
        """A whole step on the views (n, C, H, W) of this process; a loss draws by the seed and the step's number."""
        loss = self.forward(views, step)
        self.backward(loss)
        self.update()
        return loss

    def forward(self, views: tuple[Tensor, ...], step: int = 0) -> Loss:
        """The loss of the views, with the gradient of the embeddings, which the losses compute along with the value."""
        dtype, self.features_nF = AUTOCAST[self.network.precision], None
        with torch.autocast(self.process.device.type, dtype=dtype, enabled=dtype != torch.float32):
            embeddings, self.features_nF = self.views(views)
        drawn = {"seed": key(self.network.seed, "loss", step)} if self.method.draws else {}
        options = {**self.network.loss, **drawn, "pairing": self.recipe.pairing}
        return self.method.loss(embeddings, **options, form=self.network.form, group=self.process.group)

    def backward(self, loss: Loss) -> None:
        """Gradients of the parameters, averaged over the processes."""
        self.scaler.scale(loss.value).backward()

    def update(self) -> None:
        """The optimiser's step, none where half precision overflowed; the gradients are let go before the next step."""
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)


class Views(nn.Module):
    """The embeddings of several views in one call: one forward pass a view, or one for all views of a size.

    One call, because DistributedDataParallel expects one forward pass before each backward pass.
    """

    def __init__(self, encoder: nn.Module, joint: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.joint = joint

    def forward(self, views: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """Embeddings (n, D) of each view (n, C, H, W); and the backbone's features (n, F) of the first, detached."""
        passes: dict[Any, list[int]] = {}
        for number, view in enumerate(views):
            passes.setdefault(view.shape if self.joint else number, []).append(number)
        embeddings: dict[int, Tensor] = {}
        first_nF: Tensor | None = None
        for numbers in passes.values():
            together = torch.cat([views[number] for number in numbers]) if self.joint else views[numbers[0]]
            features, embedded = self.encoder(together)
            first_nF = features.detach()[: len(views[0])] if first_nF is None else first_nF
            embeddings |= zip(numbers, embedded.chunk(len(numbers)), strict=True)
        assert first_nF is not None
        return tuple(embeddings[number] for number in range(len(views))), first_nF


def embed_views(encoder: nn.Module, joint: bool, process: Process) -> nn.Module:
    """The module to train: all views in one call, its gradients averaged over the processes where there are several."""
    if process.group is None:
        return Views(encoder, joint)
    views = Views(synchronise_batch_norm(encoder, process.device), joint)
    devices = [process.device] if process.device.type == "cuda" else None
    # Every process computes the same running statistics: there is nothing to broadcast before a forward pass. Newer
    # versions of torch give it the first name, and warn of the old one.
    known = inspect.signature(DistributedDataParallel).parameters
    broadcast = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {"device_ids": devices, "gradient_as_bucket_view": True, broadcast: False}
    return DistributedDataParallel(views, **options)


def synchronise_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """Replace every batch normalisation in ``module`` by one over all processes, with the same parameters."""
    if device.type == "cuda":
        if "timm" in sys.modules:  # whose own batch normalisations have their activation inside
            return import_module("timm.layers").convert_sync_batchnorm(module)
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for name, child in list(module.named_modules()):
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            after = nn.Sequential(*(part for part in map(child._modules.get, ("drop", "act")) if part is not None))
            sizes = child.num_features, child.eps, child.momentum, child.affine
            synchronised = SyncBatchNormCPU(*sizes, after=after)
            synchronised.load_state_dict(child.state_dict())
            module.set_submodule(name, synchronised)
    return module


class _SumOverProcesses(torch.autograd.Function):
    """y = Σ_r x_r, on every process. Every process's loss depends on y, so that dL/dx_r = Σ_s dL_s/dy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return sum_over_processes(*gradients)


# The sum of all processes' tensors, of one shape on all of them; carries gradients, once.
sum_over_processes: Callable[[Tensor], Tensor] = _SumOverProcesses.apply


class SyncBatchNormCPU(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over the batches of all processes, on the CPU, where torch's SyncBatchNorm does not run.

    Mean and variance come from the all-reduced sums of x and (x − mean)²; the all-reduce carries gradients. Processes
    may have parts of any size, or none. ``after`` is what follows inside the same module in timm's networks, without
    parameters.
    """

    def __init__(self, *sizes: Any, after: nn.Module | None = None) -> None:
        super().__init__(*sizes)
        self.after = nn.Identity() if after is None else after

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.dim()}")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``input`` (N, C, ...) over all dimensions but C, of all processes."""
        if not self.training:
            return self.after(super().forward(input))
        axes = [axis for axis in range(input.dim()) if axis != 1]
        by_channel = [1, -1, *[1] * (input.dim() - 2)]
        x = input.float() if input.dtype in {torch.float16, torch.bfloat16} else input
        own_count = torch.tensor(x.numel() // x.shape[1])
        dist.all_reduce(own_count)
        count = int(own_count)
        mean = sum_over_processes(x.sum(axes)) / count
        centred = x - mean.view(by_channel)
        variance = sum_over_processes(centred.square().sum(axes)) / count
        unbiased = variance.detach() * count / (count - 1)
        for running, found in ((self.running_mean, mean.detach()), (self.running_var, unbiased)):
            assert running is not None
            assert self.momentum is not None
            running.lerp_(found.to(running.dtype), self.momentum)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        scale = (variance + self.eps).rsqrt()
        if not self.affine:
            return self.after((centred * scale.view(by_channel)).to(input.dtype))
        scale = scale * self.weight
        return self.after((centred * scale.view(by_channel) + self.bias.view(by_channel)).to(input.dtype))
