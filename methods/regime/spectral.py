"""Spectral contrastive learning with a fixed kernel, in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from .moments import Sums
from .quadratic import QuadraticSSL
from .relations import check_symmetric_graph, normalised_adjacency


class KernelSpectral(QuadraticSSL):
    """Spectral contrastive loss (HaoChen et al., NeurIPS 2021; [K]): min ‖ZZᵀ − T‖²_F + λ‖W‖²_F.

    ``target``: T = I + A ("adjacency"), D^−½(I + A)D^−½ with D the degrees of I + A ("normalised"), or the graph given
    to ``fit`` itself ("graph": symmetric, of any sign, with any diagonal).
    Without ridge and on the exact basis the induced kernel is k*(x, x') = k_x K⁻¹ T₊ K⁻¹ k_x'ᵀ, and on cliques
    z(x) = k_x K⁻¹ Y with Y the image identity. ``eigenvalues_``: μ, the eigenvalues of the in-sample ZZᵀ.
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        target: str = "adjacency",
        base_kernel: Any = "rbf",
        basis: Any = "exact",
        basis_size: int = 500,
        ridge: float = 1e-3,
        extension_ridge: float = 0.0,
        center: bool = False,
        random_state: Any = None,
    ) -> None:
        super().__init__(
            n_components,
            base_kernel=base_kernel,
            basis=basis,
            basis_size=basis_size,
            ridge=ridge,
            extension_ridge=extension_ridge,
            center=center,
            random_state=random_state,
        )
        self.target = target

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.target not in ("adjacency", "normalised", "graph"):
            raise ValueError(f"target={self.target!r} is unknown: give adjacency, normalised or graph")

    def _relation(self, n_rows: int, groups: Any, graph: Any) -> sp.csr_array:
        if self.target != "graph":
            return super()._relation(n_rows, groups, graph)
        if graph is None or groups is not None:
            raise ValueError("target='graph' takes the target matrix from fit's graph, and no groups")
        return check_symmetric_graph(graph, n_rows)

    def _target(self, A_NN: sp.csr_array) -> sp.csr_array:
        if self.target == "graph":
            return A_NN
        T_NN = sp.csr_array(sp.eye_array(A_NN.shape[0]) + A_NN)
        return T_NN if self.target == "adjacency" else normalised_adjacency(T_NN)

    @property
    def _centred(self) -> bool:
        return self.center

    @property
    def _kernel_free(self) -> bool:
        return not self.center

    def _objective(self, mu_d: np.ndarray, ridge: float, sums: Sums) -> float:
        return sums.target_square - float(mu_d @ mu_d)
