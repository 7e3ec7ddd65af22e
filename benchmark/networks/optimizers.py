"""LARS and the learning-rate schedule as published with VICReg and SFRIK; AdamW and SGD beside them."""

from collections.abc import Iterable
from math import cos, pi
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from benchmark.networks.backbones import undecayed
from benchmark.runtime.spec import Spec


class OptimizerSpec(Spec):
    """LARS as published, or AdamW or SGD. The learning rate is ``base_lr * batch_size / 256``."""

    name: Literal["lars", "adamw", "sgd"] = "lars"
    base_lr: float = Field(gt=0)
    weight_decay: float = Field(1e-6, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    trust_coefficient: float = Field(0.001, gt=0)
    warmup_epochs: float = Field(10, ge=0)
    final_lr_fraction: float = Field(0.001, ge=0, le=1)


def learning_rate(step: int, *, steps_per_epoch: int, epochs: int, spec: OptimizerSpec, batch_size: int) -> float:
    """Linear warm-up from 0 by step, then a cosine down to ``final_lr_fraction`` of the peak.

    The peak is base_lr · batch_size / 256. A run as long as its warm-up ends before the peak, as published.
    """
    peak = spec.base_lr * batch_size / 256
    warmup_steps = spec.warmup_epochs * steps_per_epoch
    if step < warmup_steps:
        return peak * step / warmup_steps
    share = (step - warmup_steps) / (epochs * steps_per_epoch - warmup_steps)
    cosine = 0.5 * (1 + cos(pi * share))
    return peak * cosine + peak * spec.final_lr_fraction * (1 - cosine)


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017), in the variant published with VICReg.

    For a weight w with gradient g: u = g + weight_decay · w;  u ← trust_coefficient · ‖w‖/‖u‖ · u, where neither norm
    is zero;  m ← momentum · m + u;  w ← w - lr · m. Parameters of one dimension (biases, batch normalisation), and
    those of a group with ``plain``, take u = g: neither weight decay nor trust ratio.

    A step overwrites the gradients by u instead of holding a copy of the parameters' size.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
    ) -> None:
        own = {"momentum": momentum, "weight_decay": weight_decay, "trust_coefficient": trust_coefficient}
        super().__init__(params, {"lr": lr, **own})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            if not params:
                continue
            if weights := [param for param in params if param.ndim > 1 and not group.get("plain")]:
                _scale_gradients(weights, group["weight_decay"], group["trust_coefficient"])
            momenta = [self._momentum(param) for param in params]
            torch._foreach_mul_(momenta, group["momentum"])
            torch._foreach_add_(momenta, [param.grad for param in params])
            torch._foreach_add_(params, momenta, alpha=-group["lr"])

    def _momentum(self, param: Tensor) -> Tensor:
        state = self.state[param]
        if not state:
            state["momentum"] = torch.zeros_like(param)
        return state["momentum"]


def _scale_gradients(weights: list[Tensor], weight_decay: float, trust_coefficient: float) -> None:
    """g ← trust_coefficient · ‖w‖/‖u‖ · u with u = g + weight_decay · w, all tensors in few launches."""
    grads = [param.grad for param in weights if param.grad is not None]
    torch._foreach_add_(grads, weights, alpha=weight_decay)
    weight_norms = torch.stack(torch._foreach_norm(weights))
    update_norms = torch.stack(torch._foreach_norm(grads))
    ratios = trust_coefficient * weight_norms / update_norms
    ratios = torch.where((weight_norms > 0) & (update_norms > 0), ratios, torch.ones_like(ratios))
    torch._foreach_mul_(grads, ratios.unbind())


def build_optimizer(spec: OptimizerSpec, module: nn.Module) -> Optimizer:
    """The optimiser of ``spec``. Its lr is for the schedule to set.

    Parameters of one dimension, and those that the backbone's library lists, get no weight decay.
    """
    named, listed = dict(module.named_parameters()), undecayed(module)
    if spec.name == "lars":
        own = {name: getattr(spec, name) for name in ("momentum", "weight_decay", "trust_coefficient")}
        adapted: dict[str, Any] = {"params": [param for name, param in named.items() if name not in listed]}
        plain: dict[str, Any] = {"params": [param for name, param in named.items() if name in listed], "plain": True}
        return LARS([adapted, plain] if plain["params"] else [adapted], spec.base_lr, **own)
    decayed = {name for name, param in named.items() if param.ndim > 1 and name not in listed}
    params = list(named.values())
    groups: list[dict[str, Any]] = [
        {"params": [named[name] for name in named if name in decayed], "weight_decay": spec.weight_decay},
        {"params": [named[name] for name in named if name not in decayed], "weight_decay": 0.0},
    ]
    if spec.name == "adamw":
        return AdamW(groups, lr=spec.base_lr, fused=True)
    optimizer = SGD(groups, lr=spec.base_lr, momentum=spec.momentum, fused=True)
    # A fused first step makes buffers of whatever lay in memory; one that overflows in half precision leaves them so.
    for param in params if spec.momentum else ():
        optimizer.state[param]["momentum_buffer"] = torch.zeros_like(param)
    return optimizer
