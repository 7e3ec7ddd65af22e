"""Tangent kernels: the empirical NTK of a torch module, and the network whose limit :class:`NTK` is.

Jacot, Gabriel, Hongler, *Neural tangent kernel*, NeurIPS 2018 (arXiv 1806.07572): trained by gradient flow a wide
network moves little, f(x; θ) ≈ f(x; θ₀) + ⟨∂f(x; θ₀)/∂θ, θ − θ₀⟩, and so is linear in the features ∂f(x; θ₀)/∂θ.
"""

from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from sklearn.utils import gen_batches
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from .kernels import Kernel

ENTRIES = 1 << 25  # of derivatives held at a time: 256 MiB


@dataclass(eq=False, repr=False)
class EmpiricalNTK(Kernel):
    """k(x, y) = (1/C) Σ_c ⟨∂f_c(x)/∂θ, ∂f_c(y)/∂θ⟩ of a module f: (N, D) → (N, C), at the parameters that it has.

    The module is put in evaluation mode and computed in float64, by itself as a copy: no parameter changes. Only those
    that require a gradient count. O(NM·CP) time for P parameters, and memory that does not grow with N or M.
    """

    module: nn.Module

    def features(self, X_ND: np.ndarray) -> np.ndarray:
        """Return φ (N, C·P) with φ(x)ᵀφ(y) = k(x, y): the derivatives of one output after those of another, over √C."""
        tangents = _Tangents(self.module)
        rows_ND, outputs = torch.from_numpy(X_ND), tangents.outputs(X_ND)
        parts = [tangents.of(name, c, rows_ND) for c in range(outputs) for name in tangents.moved]
        return torch.cat(parts, dim=1).div_(outputs**0.5).numpy()

    def matrix(self, X_ND: np.ndarray, Y_MD: np.ndarray) -> np.ndarray:
        tangents, same = _Tangents(self.module), X_ND is Y_MD
        outputs, x_ND, y_MD = tangents.outputs(X_ND), torch.from_numpy(X_ND), torch.from_numpy(Y_MD)
        K_NM = np.zeros((len(X_ND), len(Y_MD)))
        for name, parameter in tangents.moved.items():
            size = max(1, ENTRIES // parameter.numel())
            for c in range(outputs):
                for rows in gen_batches(len(X_ND), size):
                    of_rows = tangents.of(name, c, x_ND[rows])
                    for columns in gen_batches(len(Y_MD), size):
                        of_columns = of_rows if same and rows == columns else tangents.of(name, c, y_MD[columns])
                        K_NM[rows, columns] += (of_rows @ of_columns.T).numpy()
        return K_NM / outputs


class _Tangents:
    """The derivatives of a module's outputs, one parameter and one output at a time."""

    def __init__(self, module: nn.Module) -> None:
        self.module = deepcopy(module).cpu().double().eval()
        self.moved = {name: p.detach() for name, p in self.module.named_parameters() if p.requires_grad}

    def outputs(self, X_ND: np.ndarray) -> int:
        """C, checked on the first row. Raises ValueError where rows or outputs are no vectors."""
        with torch.no_grad():
            shape = self.module(torch.from_numpy(X_ND[:1])).shape
        if len(shape) != 2:
            raise ValueError(f"the module of EmpiricalNTK maps (N, D) to {tuple(shape)}, must be (N, C): flatten it")
        return int(shape[1])

    def of(self, name: str, c: int, rows_ND: Tensor) -> Tensor:
        """∂f_c/∂θ_name (N, P_name)."""

        def output(parameter: Tensor, x_D: Tensor) -> Tensor:
            return functional_call(self.module, {**self.moved, name: parameter}, (x_D[None],))[0, c]

        return vmap(grad(output), in_dims=(None, 0))(self.moved[name], rows_ND).flatten(1)


class WideReLU(nn.Module):
    """f(x) = √(2/n) V σ(h_L), h_{l+1} = √(2/n) W_l σ(h_l), h_1 = W_0 x: ``depth`` hidden layers of n = ``width`` ReLUs.

    All weights are standard normal, drawn from ``seed``, and there are no biases: as the width grows the tangent kernel
    of every output becomes ``NTK(depth)``, and that of two outputs zero.
    """

    def __init__(self, inputs: int, width: int, depth: int, outputs: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        sizes = [inputs, *[width] * depth, outputs]
        drawn = [torch.randn(after, before, generator=generator) for before, after in pairwise(sizes)]
        self.weights = nn.ParameterList(map(nn.Parameter, drawn))

    def forward(self, x_ND: Tensor) -> Tensor:
        first, *others = self.weights
        h_Nn = x_ND @ first.T
        for weight in others:
            h_Nn = h_Nn.relu() @ weight.T * (2 / weight.shape[1]) ** 0.5
        return h_Nn
