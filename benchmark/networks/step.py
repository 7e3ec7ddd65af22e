"""One training step, the same for a training run, for measuring its cost, and for predicting it without a device."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.networks.ddp import embed_views
from benchmark.networks.optimizers import build_optimizer
from benchmark.networks.trained import Trained
from benchmark.runtime.process import Process
from methods import registry
from methods.losses.base import Loss

AUTOCAST = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TrainingStep:
    """A network's encoder, loss and optimiser on one process, and what a step does with them.

    ``forward``, ``backward`` and ``update`` in this order are a step; calling it does all three.
    """

    def __init__(self, network: Trained, channels: int, process: Process) -> None:
        self.network, self.process = network, process
        self.loss = registry.get(network.method).loss  # whose options the network has resolved
        encoder = network.build(channels)  # on the CPU; Module.to takes no fake tensors, not even to where they are
        self.encoder = encoder if process.device.type == "cpu" else encoder.to(process.device)
        if network.compile:
            self.encoder.compile()
        self.views = embed_views(self.encoder, network.joint_forward, process)
        self.optimizer = build_optimizer(network.optimizer, self.encoder)
        self.scaler = torch.amp.GradScaler(process.device.type, enabled=network.precision == "fp16")

    def __call__(self, views: tuple[Tensor, ...]) -> Loss:
        """A whole step on the views (n, C, H, W) of this process."""
        loss = self.forward(views)
        self.backward(loss)
        self.update()
        return loss

    def forward(self, views: tuple[Tensor, ...]) -> Loss:
        """The loss of the views, with the gradient of the embeddings, which the losses compute along with the value."""
        dtype = AUTOCAST[self.network.precision]
        with torch.autocast(self.process.device.type, dtype=dtype, enabled=dtype != torch.float32):
            embeddings = self.views(views)
        return self.loss(embeddings, **self.network.loss, form=self.network.form, group=self.process.group)

    def backward(self, loss: Loss) -> None:
        """Gradients of the parameters, averaged over the processes."""
        self.scaler.scale(loss.value).backward()

    def update(self) -> None:
        """The optimiser's step, none where half precision overflowed; the gradients are let go before the next step."""
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
