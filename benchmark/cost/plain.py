"""A training step written plainly, for comparison: torchvision's network, a textbook loss, a loop over parameters.

What a user has who follows the papers' code on one device, without this project: the channels first, one forward pass
a view, autograd through the loss, LARS parameter by parameter.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.networks.optimizers import LARS, OptimizerSpec
from benchmark.networks.step import AUTOCAST
from benchmark.networks.trained import Trained
from methods import registry


class PlainStep:
    """The same Run's step; ``forward``, ``backward`` and ``update`` in this order, as of a TrainingStep."""

    def __init__(self, network: Trained, channels: int, device: torch.device) -> None:
        textbook = registry.get(network.method).textbook
        assert textbook is not None  # a cell that has none is not compared
        self.network, self.device, self.textbook = network, device, textbook
        encoder = network.build(channels)
        for param in encoder.parameters():
            if param.ndim == 4:  # torchvision's own layout of the weights: the input follows them
                param.data = param.data.clone(memory_format=torch.contiguous_format)
        self.encoder = encoder.to(device)
        self.optimizer = _optimizer(network.optimizer, self.encoder)
        self.scaler = torch.amp.GradScaler(device.type, enabled=network.precision == "fp16")

    def forward(self, views: tuple[Tensor, ...]) -> Tensor:
        """The loss of two views."""
        dtype = AUTOCAST[self.network.precision]
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32):
            return self.textbook([self.encoder(view)[1] for view in views], **self.network.loss)

    def backward(self, loss: Tensor) -> None:
        """Gradients of the parameters, and through the loss."""
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()

    def update(self) -> None:
        """The optimiser's step."""
        self.scaler.step(self.optimizer)
        self.scaler.update()


class PlainLARS(LARS):
    """LARS one parameter after the other, as in the published code."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all parameters."""
        (group,) = self.param_groups
        for param in group["params"]:
            update = param.grad
            if param.ndim > 1:
                update = update.add(param, alpha=group["weight_decay"])
                weight_norm, update_norm = param.norm(), update.norm()
                ratio = group["trust_coefficient"] * weight_norm / update_norm
                one = torch.ones_like(weight_norm)
                ratio = torch.where(weight_norm > 0, torch.where(update_norm > 0, ratio, one), one)
                update = update.mul(ratio)
            momentum = self._momentum(param)
            momentum.mul_(group["momentum"]).add_(update)
            param.add_(momentum, alpha=-group["lr"])


def _optimizer(spec: OptimizerSpec, module: nn.Module) -> torch.optim.Optimizer:
    decay = spec.weight_decay
    if spec.name == "lars":
        trust = spec.trust_coefficient
        return PlainLARS(
            module.parameters(), spec.base_lr, momentum=spec.momentum, weight_decay=decay, trust_coefficient=trust
        )
    if spec.name == "adamw":
        return torch.optim.AdamW(module.parameters(), spec.base_lr, weight_decay=decay)
    return torch.optim.SGD(module.parameters(), spec.base_lr, spec.momentum, weight_decay=decay)
