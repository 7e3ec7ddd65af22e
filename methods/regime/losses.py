"""The losses with a closed form for a fixed kernel: spectral contrastive, VICReg and Barlow Twins."""

import warnings
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_scalar

from .eigen import Pairs, largest_eigenvalue, symmetric_pairs
from .graphs import adjacency, check_symmetric_graph, laplacian, normalised_adjacency, smallest_clique
from .quadratic import QuadraticSSL, Statistics, Sums


@dataclass(eq=False, repr=False, kw_only=True)
class KernelSpectral(QuadraticSSL):
    """Spectral contrastive loss (HaoChen et al., NeurIPS 2021; [K]): min ‖ZZᵀ − T‖²_F + λ‖W‖²_F.

    ``target``: T = I + A ("adjacency"), D^−½(I + A)D^−½ with D the degrees of I + A ("normalised"), or the graph given
    to ``fit`` itself ("graph": symmetric, of any sign, with any diagonal).
    Without ridge and on the exact basis the induced kernel is k*(x, x') = k_x K⁻¹ T₊ K⁻¹ k_x'ᵀ, and on cliques
    z(x) = k_x K⁻¹ Y with Y the image identity. ``eigenvalues_``: μ, the eigenvalues of the in-sample ZZᵀ.
    """

    target: str = "adjacency"
    _sees_mean = True

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.target not in ("adjacency", "normalised", "graph"):
            raise ValueError(f"target={self.target!r} is unknown: give adjacency, normalised or graph")

    def _target(self, n_rows: int, groups: Any, graph: Any) -> sp.csr_array:
        if self.target == "graph":
            if graph is None or groups is not None:
                raise ValueError("target='graph' takes the target matrix from fit's graph, and no groups")
            return check_symmetric_graph(graph, n_rows)
        T_NN = sp.csr_array(sp.eye_array(n_rows) + adjacency(n_rows, groups, graph))
        return T_NN if self.target == "adjacency" else normalised_adjacency(T_NN)

    def _objective(self, mu_d: np.ndarray, ridge: float, sums: Sums) -> float:
        return sums.target_square - float(mu_d @ mu_d)


@dataclass(eq=False, repr=False, kw_only=True)
class KernelVICReg(QuadraticSSL):
    """The VICReg variant of [K]: min ‖ZᵀCnZ − I‖²_F + β tr ZᵀLZ + λ‖W‖²_F, Cn = I − 11ᵀ/N, L = D_A − A.

    Without ridge and on the exact basis the induced kernel is k*(x, x') = k_x K⁻¹ (Cn − (β/2)L)₊ K⁻¹ k_x'ᵀ. On cliques
    of m views and β ≥ 2/m that is the contrastive kernel divided by m, centred: a warning says so. The loss does not
    see a constant added to z: this z is centred on the training rows, while among all with the same loss the one of
    smallest norm, found with ``center`` and in the limit of a small ridge, is not before its mean is taken off.
    ``eigenvalues_``: μ = 1 − ν/2, those of the in-sample CnZZᵀCn.
    """

    beta: float = 0.1

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_scalar(self.beta, "beta", Real, min_val=0.0)

    def _target(self, n_rows: int, groups: Any, graph: Any) -> sp.csr_array:
        """I − (β/2)L, which centring turns into Cn − (β/2)L."""
        A_NN = adjacency(n_rows, groups, graph)
        clique = smallest_clique(A_NN)
        if clique is not None and self.beta >= 2 / clique:
            warnings.warn(
                f"beta={self.beta:g} is at least 2/m on cliques of m={clique} views, where the VICReg variant and the "
                "spectral contrastive loss coincide (exactly so without ridge on the exact basis): use beta < 2/m",
                stacklevel=4,
            )
        return sp.csr_array(sp.eye_array(n_rows) - (self.beta / 2) * laplacian(A_NN))

    def _bound(self, sums: Sums) -> float:
        return 1.0

    def _objective(self, mu_d: np.ndarray, ridge: float, sums: Sums) -> float:
        return (self.n_components or len(mu_d)) - float(mu_d @ mu_d)


class KernelBarlowTwins(QuadraticSSL):
    """Barlow Twins without its normalisation: min ‖WΓWᵀ − I‖²_F + λ‖W‖²_F, Γ = ΦᵀCnACnΦ/ΣA [K].

    Γ is the cross-covariance of related rows; a row without relations is its own. The rows of W are √((1 − λ/2μ)/μ) u
    for the eigenpairs μ > λ/2 of Γ. ``eigenvalues_``: μ.
    """

    _kernel_free = False

    def _critical_ridge(self, statistics: Statistics) -> float:
        return 2 * largest_eigenvalue(statistics.target) / statistics.sums.target_total

    def _directions(self, statistics: Statistics, ridge: float) -> Pairs:
        total = statistics.sums.target_total
        mu_d, U_Pd = symmetric_pairs(statistics.target, ridge / 2 * total, self.n_components)
        return mu_d / total, U_Pd

    def _row_norms(self, mu_d: np.ndarray, ridge: float) -> np.ndarray:
        return np.sqrt((1 - ridge / (2 * mu_d)) / mu_d)

    def _objective(self, mu_d: np.ndarray, ridge: float, sums: Sums) -> float:
        missing = (self.n_components or len(mu_d)) - len(mu_d)
        return missing + float((ridge / mu_d - (ridge / mu_d) ** 2 / 4).sum())
