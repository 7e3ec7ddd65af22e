"""Sufficient statistics of features under a graph: all that the quadratic losses need, additive over batches.

For Φ (N x p) and a sparse symmetric B (N x N) they are N, Φᵀ1, ΦᵀB1, 1ᵀB1, ‖B‖²_F, ‖B‖_∞ and the matrices ΦᵀΦ and
ΦᵀBΦ. Rows of different batches are unrelated, so B is block-diagonal over batches and the statistics of the whole are
sums: one pass, O(N p²) time and O(p²) memory whatever N. On cliques of m views ΦᵀBΦ comes from the sums of an image's
features, ΦᵀLΦ = mS − Σ sᵢsᵢᵀ; a sparse B does the same in O(nnz·p).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from sklearn.utils import gen_batches

PANEL = 512


@dataclass(frozen=True)
class Sums:
    """The small statistics; ``norm_bound`` = max row sum of |B| ≥ the largest eigenvalue of B."""

    count: int
    feature_sum: np.ndarray
    target_sum: np.ndarray
    target_total: float
    target_square: float
    norm_bound: float

    @classmethod
    def of(cls, phi_NP: np.ndarray, B_NN: sp.csr_array) -> Sums:
        """Return those of one batch."""
        row_sums_N = np.asarray(B_NN.sum(axis=1)).ravel()
        return cls(
            count=len(phi_NP),
            feature_sum=phi_NP.sum(axis=0),
            target_sum=phi_NP.T @ row_sums_N,
            target_total=float(row_sums_N.sum()),
            target_square=float((B_NN.data**2).sum()),
            norm_bound=float(np.asarray(abs(B_NN).sum(axis=1)).max(initial=0.0)),
        )

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.count + other.count,
            self.feature_sum + other.feature_sum,
            self.target_sum + other.target_sum,
            self.target_total + other.target_total,
            self.target_square + other.target_square,
            max(self.norm_bound, other.norm_bound),
        )

    @property
    def mean(self) -> np.ndarray:
        """φ̄, the mean feature."""
        return self.feature_sum / self.count


@dataclass(frozen=True)
class Statistics:
    """All of them, float64."""

    sums: Sums
    gram: np.ndarray
    target: np.ndarray

    @classmethod
    def of(cls, phi_NP: np.ndarray, B_NN: sp.csr_array) -> Statistics:
        """Return those of one batch."""
        return cls(Sums.of(phi_NP, B_NN), phi_NP.T @ phi_NP, quadratic_form(phi_NP, B_NN))

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(self.sums + other.sums, self.gram + other.gram, self.target + other.target)

    def copy(self) -> Statistics:
        """Return statistics whose matrices may be overwritten."""
        return Statistics(self.sums, self.gram.copy(), self.target.copy())

    def centre(self) -> None:
        """Turn ΦᵀΦ into ΦᵀCnΦ and ΦᵀBΦ into ΦᵀCnBCnΦ, Cn = I − 11ᵀ/N, in their own memory."""
        mean_P, sums = self.sums.mean, self.sums
        add_outer(self.gram, sums.feature_sum, -mean_P)
        add_outer(self.target, mean_P, sums.target_total * mean_P - sums.target_sum)
        add_outer(self.target, sums.target_sum, -mean_P)


def add_outer(A_PP: np.ndarray, a_P: np.ndarray, b_P: np.ndarray) -> None:
    """A += abᵀ in A's own memory."""
    for panel in gen_batches(len(A_PP), PANEL):
        A_PP[panel] += np.outer(a_P[panel], b_P)


def quadratic_form(phi_NP: np.ndarray, B_NN: sp.csr_array) -> np.ndarray:
    """Return ΦᵀBΦ, by panels of columns: O(N·panel) extra memory, and half the arithmetic for B = Bᵀ."""
    size = phi_NP.shape[1]
    M_PP = np.empty((size, size))
    for panel in gen_batches(size, PANEL):
        M_PP[: panel.stop, panel] = phi_NP[:, : panel.stop].T @ (B_NN @ phi_NP[:, panel])
        M_PP[panel, : panel.stop] = M_PP[: panel.stop, panel].T
    return M_PP
