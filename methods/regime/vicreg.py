"""The VICReg variant with a fixed kernel, in closed form."""

from __future__ import annotations

import warnings
from numbers import Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_scalar

from .moments import Sums
from .quadratic import QuadraticSSL
from .relations import laplacian, smallest_clique


class KernelVICReg(QuadraticSSL):
    """The VICReg variant of [K]: min ‖ZᵀCnZ − I‖²_F + β tr ZᵀLZ + λ‖W‖²_F, Cn = I − 11ᵀ/N, L = D_A − A.

    Without ridge and on the exact basis the induced kernel is k*(x, x') = k_x K⁻¹ (Cn − (β/2)L)₊ K⁻¹ k_x'ᵀ. On cliques
    of m views and β ≥ 2/m that is the contrastive kernel divided by m, centred: a warning says so. The loss does not
    see a constant added to z: this z is centred on the training rows, while among all with the same loss the one of
    smallest norm, found with ``center`` and in the limit of a small ridge, is not before its mean is taken off.
    ``eigenvalues_``: μ = 1 − ν/2, those of the in-sample CnZZᵀCn.
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        beta: float = 0.1,
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
        self.beta = beta

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_scalar(self.beta, "beta", Real, min_val=0.0)

    def _target(self, A_NN: sp.csr_array) -> sp.csr_array:
        """I − (β/2)L, which centring turns into Cn − (β/2)L."""
        self._warn_of_a_large_beta(smallest_clique(A_NN))
        return sp.csr_array(sp.eye_array(A_NN.shape[0]) - (self.beta / 2) * laplacian(A_NN))

    def _warn_of_a_large_beta(self, clique: int | None) -> None:
        if clique is not None and self.beta >= 2 / clique:
            warnings.warn(
                f"beta={self.beta:g} is at least 2/m on cliques of m={clique} views, where the VICReg variant and the "
                "spectral contrastive loss coincide (exactly so without ridge on the exact basis): use beta < 2/m",
                stacklevel=4,
            )

    @property
    def _centred(self) -> bool:
        return True

    @property
    def _kernel_free(self) -> bool:
        return True

    def _bound(self, sums: Sums) -> float:
        return 1.0

    def _objective(self, mu_d: np.ndarray, ridge: float, sums: Sums) -> float:
        return (self.n_components or len(mu_d)) - float(mu_d @ mu_d)
