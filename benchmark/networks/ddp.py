"""Training over several processes: all views in one call, batch statistics over all processes, averaged gradients."""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from benchmark.runtime.process import Process


class _SumOverProcesses(torch.autograd.Function):
    """y = Σ_r x_r, on every process. Every process's loss depends on y, so that dL/dx_r = Σ_s dL_s/dy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _summed(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        return _summed(gradient)


def _summed(x: Tensor) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def sum_over_processes(x: Tensor) -> Tensor:
    """The sum of all processes' ``x``, of one shape on all of them; carries gradients, once."""
    total: Tensor = _SumOverProcesses.apply(x)
    return total


class SyncBatchNormCPU(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over the batches of all processes, on the CPU, where torch's SyncBatchNorm does not run.

    Mean and variance come from the all-reduced sums of x and x²; the all-reduce carries gradients.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.dim()}")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``input`` (N, C, ...) over all dimensions but C, of all processes."""
        if not self.training:
            return super().forward(input)
        axes = [axis for axis in range(input.dim()) if axis != 1]
        x = input.float() if input.dtype in {torch.float16, torch.bfloat16} else input
        count = x.numel() // x.shape[1] * dist.get_world_size()
        mean = sum_over_processes(x.sum(axes)) / count
        centred = x - _per_channel(mean, x)
        variance = sum_over_processes(centred.square().sum(axes)) / count
        self._update_running(mean.detach(), variance.detach() * count / (count - 1))
        y = centred * _per_channel((variance + self.eps).rsqrt() * self.weight, x) + _per_channel(self.bias, x)
        return y.to(input.dtype)

    def _update_running(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum)


def _per_channel(values_C: Tensor, like: Tensor) -> Tensor:
    return values_C.view(1, -1, *([1] * (like.dim() - 2)))


def synchronise_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """Replace every batch normalisation in ``module`` by one over all processes, with the same parameters."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            synchronised = SyncBatchNormCPU(child.num_features, child.eps, child.momentum)
            synchronised.load_state_dict(child.state_dict())
            setattr(module, name, synchronised)
        else:
            synchronise_batch_norm(child, device)
    return module


class Views(nn.Module):
    """The embeddings of several views in one call: one forward pass a view as published, or one joint pass.

    One call, because DistributedDataParallel expects one forward pass before each backward pass.
    """

    def __init__(self, encoder: nn.Module, joint: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.joint = joint

    def forward(self, views: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Embeddings (n, D) of each view (n, C, H, W)."""
        if self.joint:
            _, embeddings = self.encoder(torch.cat(views))
            return embeddings.chunk(len(views))
        return tuple(self.encoder(view)[1] for view in views)


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
