"""A linear classifier trained beside the network on its detached features: accuracy while there is still time to stop.

It changes nothing of the network: it has its own optimiser, its features no history, its initial weights a key.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.data import DataSet
from benchmark.runtime.errors import UserError
from benchmark.runtime.process import Process
from benchmark.runtime.seeds import generator

LEARNING_RATE = 1e-3
UNLABELLED = -1


def initial_head(feature_dim: int, classes: int, device: torch.device, what: str = "linear") -> nn.Linear:
    """Weights from N(0, 0.01²), the same for every network, and a bias of zero."""
    head = nn.utils.skip_init(nn.Linear, feature_dim, classes)
    with torch.no_grad():
        head.weight.normal_(0, 0.01, generator=generator(what, "init"))
        head.bias.zero_()
    return head.to(device)


class OnlineProbe:
    """AdamW on the cross-entropy of every batch's first view, summed over the processes; ``read`` tells accuracy.

    Each image is classified before the probe has learnt of it. Raises :class:`UserError` where no image has a label.
    """

    def __init__(self, feature_dim: int, data: DataSet, process: Process) -> None:
        if not (data.train.labels != UNLABELLED).any():
            raise UserError(f"online_probe: the images that {data.name} trains on have no labels; leave it off")
        self.process = process
        self.head = initial_head(feature_dim, data.classes, process.device, "online probe")
        self.optimizer = torch.optim.AdamW(self.head.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
        self.counts_3 = torch.zeros(3, device=process.device)  # summed loss, right, seen; since the last `read`

    def learn(self, features_nF: Tensor, labels_n: Tensor) -> None:
        """One step on this process's part of a batch."""
        labels_n = labels_n.to(self.process.device, non_blocking=True)
        seen_n = labels_n != UNLABELLED
        with torch.enable_grad():
            scores_nK = self.head(features_nF.float())
            loss = F.cross_entropy(scores_nK, labels_n, ignore_index=UNLABELLED, reduction="sum")
        right = ((scores_nK.argmax(1) == labels_n) & seen_n).sum()
        counts_3 = self.process.all_reduce_sum(torch.stack([loss.detach(), right.float(), seen_n.sum().float()]))
        self.optimizer.zero_grad()
        loss.backward()
        for param in self.head.parameters():
            assert param.grad is not None
            self.process.all_reduce_sum(param.grad).div_(counts_3[2].clamp(min=1))
        self.optimizer.step()
        self.counts_3 += counts_3

    def read(self) -> dict[str, float]:
        """Cross-entropy and accuracy of the images since this was last read."""
        loss, right, seen = self.counts_3.tolist()
        self.counts_3.zero_()
        return {"loss": loss / seen, "top1": right / seen} if seen else {}

    def state_dict(self) -> dict[str, Any]:
        return {"head": self.head.state_dict(), "optimizer": self.optimizer.state_dict(), "counts": self.counts_3}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.counts_3.copy_(state["counts"])
