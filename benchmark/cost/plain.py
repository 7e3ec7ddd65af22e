"""A training step written plainly, for comparison: torchvision's network, a textbook loss, a loop over parameters.

What a user has who follows the papers' code on one device, without this project: the channels first, one forward pass
a view, autograd through the loss, LARS parameter by parameter.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.cost.textbook import textbook_loss
from benchmark.networks.backbones import Encoder, build_encoder
from benchmark.networks.step import AUTOCAST
from benchmark.suite.run import OptimizerSpec, Run


class PlainStep:
    """The same Run's step; ``forward``, ``backward`` and ``update`` in this order, as of a TrainingStep."""

    def __init__(self, run: Run, channels: int, device: torch.device) -> None:
        self.run, self.device = run, device
        self.encoder = _channels_first(build_encoder(run, channels)).to(device)
        self.optimizer = _optimizer(run.optimizer, self.encoder)
        self.scaler = torch.amp.GradScaler(device.type, enabled=run.precision == "fp16")

    def forward(self, views: tuple[Tensor, ...]) -> Tensor:
        """The loss of two views."""
        dtype = AUTOCAST[self.run.precision]
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32):
            first, second = (self.encoder(view)[1] for view in views)
            return textbook_loss(self.run.method, (first, second), dict(self.run.loss))

    def backward(self, loss: Tensor) -> None:
        """Gradients of the parameters, and through the loss."""
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()

    def update(self) -> None:
        """The optimiser's step."""
        self.scaler.step(self.optimizer)
        self.scaler.update()


class PlainLARS(torch.optim.Optimizer):
    """LARS one parameter after the other, as in the published code."""

    def __init__(self, module: nn.Module, spec: OptimizerSpec) -> None:
        super().__init__(module.parameters(), {"lr": spec.base_lr})
        self.spec = spec

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all parameters."""
        for group in self.param_groups:
            for param in group["params"]:
                update = param.grad
                if param.ndim > 1:
                    update = update.add(param, alpha=self.spec.weight_decay)
                    weight_norm, update_norm = param.norm(), update.norm()
                    ratio = self.spec.trust_coefficient * weight_norm / update_norm
                    one = torch.ones_like(weight_norm)
                    ratio = torch.where(weight_norm > 0, torch.where(update_norm > 0, ratio, one), one)
                    update = update.mul(ratio)
                state = self.state[param]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(param)
                state["momentum"].mul_(self.spec.momentum).add_(update)
                param.add_(state["momentum"], alpha=-group["lr"])


def _optimizer(spec: OptimizerSpec, module: nn.Module) -> torch.optim.Optimizer:
    if spec.name == "lars":
        return PlainLARS(module, spec)
    if spec.name == "adamw":
        return torch.optim.AdamW(module.parameters(), spec.base_lr, weight_decay=spec.weight_decay)
    return torch.optim.SGD(module.parameters(), spec.base_lr, spec.momentum, weight_decay=spec.weight_decay)


def _channels_first(encoder: Encoder) -> Encoder:
    """torchvision's own layout of the weights: the input follows them."""
    for param in encoder.parameters():
        if param.ndim == 4:
            param.data = param.data.clone(memory_format=torch.contiguous_format)
    return encoder
