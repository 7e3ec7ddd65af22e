"""What to expect of an augmentation, without labels: how far a kernel and an embedding agree on the views of an image.

T, the average over another view of the same image, acts on functions of a view: ⟨g, Tg⟩ = E g(a) g(a') for two views of
one image, ‖g‖² = E g². Its eigenvalues 1 = λ_0 ≥ λ_1 ≥ … belong to the constant and to what views agree on next.

[Z] Zhai, Liu, Risteski, Kolter, Ravikumar, *Understanding Augmentation-based Self-Supervised Representation Learning
via RKHS Approximation and Regression*, ICLR 2024 (arXiv 2306.00788): the augmentation complexity κ, κ² = sup_x K(x, x)
of the kernel K(x, x') = Σ_i λ_i ψ_i(x) ψ_i(x') on images; and of an encoder Φ of d dimensions with G = E ΦΦᵀ and
F = E ΦΦ'ᵀ, over pairs of views, the trace gap τ² = λ_0 + … + λ_d − tr G⁻¹F, which is λ_d for the best encoder. Here Φ
is all of z; where the infimum over encoders of fewer dimensions in its span is meant, this is an upper bound of it.
[C] Cabannes, Kiani, Balestriero, LeCun, Bietti, *The SSL Interplay*, ICML 2023 (arXiv 2302.02774): an unlabelled loss
weighs the invariance of functions, by T, against their RKHS norm, by K⁻¹ of the base kernel's operator: ours are
quadratic problems in T − (λ/2) K⁻¹ (see ``dual``). Of a component f = ⟨θ, φ⟩ of z, centred and of variance one, these
are the two terms, λ = ⟨f, Tf⟩ and ‖θ‖² = ⟨f, K⁻¹f⟩, measured: what came of the trade, with no name of their own there.

A rich kernel tells every image from every other one, whatever the augmentation: with ‖g‖² alone all λ_i of n images
are 1 and κ² is n. Both are therefore taken of ‖g‖² + ρ‖g‖²_RKHS over the functions of the base kernel; ρ = 0 gives [Z].
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from scipy.linalg import eigh, solve_triangular
from sklearn.utils import check_consistent_length, column_or_1d

from .eigen import largest_eigenvalue
from .graphs import group_indicator

SMOOTHING = 1e-3  # ρ where none is given, relative to the largest eigenvalue of the features' covariance


@dataclass(frozen=True, eq=False)
class Views:
    """Which rows are views of which image, of the images with several views: all others say nothing of T."""

    rows: np.ndarray
    member: sp.csr_array

    @classmethod
    def of(cls, groups: Any, n_rows: int) -> Self:
        """Raises ValueError where labels are missing, are not one a row, or no image has two views."""
        Y_NI = group_indicator(groups, n_rows)
        sizes_I = np.asarray(Y_NI.sum(axis=0)).ravel()
        several = np.flatnonzero(sizes_I > 1)
        if not len(several):
            raise ValueError("groups: no image has two views, so nothing is known of what views agree on")
        member = sp.csr_array(Y_NI[:, several])
        rows = np.flatnonzero(np.diff(member.indptr))
        return cls(rows, sp.csr_array(member[rows]))

    def pairs(self, x_NP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (G, F) of the centred rows: E xxᵀ over rows, and E xx'ᵀ over pairs of different views of an image."""
        x_NP = x_NP[self.rows] - x_NP[self.rows].mean(axis=0)
        sum_IP, size_I = self.member.T @ x_NP, np.asarray(self.member.sum(axis=0)).ravel()
        # An image of m views weighs m rows; its pairs are m sums, less each row with itself, over m − 1.
        scaled_IP = sum_IP / np.sqrt(size_I - 1)[:, None]
        own_NP = x_NP / np.sqrt(self.member @ (size_I - 1))[:, None]
        return x_NP.T @ x_NP / len(x_NP), (scaled_IP.T @ scaled_IP - own_NP.T @ own_NP) / len(x_NP)


@dataclass(frozen=True, eq=False)
class Agreement:
    """T on the features φ (N, P) of a base kernel, in coordinates x = R⁻¹φ of which ‖g‖² + ρ‖g‖²_RKHS is |R ᵀg|²."""

    views: Views
    x: np.ndarray
    root: np.ndarray

    @classmethod
    def of(cls, phi_NP: np.ndarray, groups: Any, smoothing: float) -> Self:
        if not 0 <= smoothing < np.inf:
            raise ValueError(f"smoothing == {smoothing}, must be at least 0 and finite")
        views = Views.of(groups, len(phi_NP))
        some_NP = phi_NP[views.rows]
        gram_PP = np.cov(some_NP, rowvar=False, bias=True)
        rho = smoothing * largest_eigenvalue(gram_PP)
        gram_PP.flat[:: len(gram_PP) + 1] += rho + len(gram_PP) * np.finfo(float).eps * np.trace(gram_PP)
        root_PP = np.linalg.cholesky(gram_PP)
        return cls(views, solve_triangular(root_PP, phi_NP.T, lower=True, check_finite=False).T, root_PP)

    @cached_property
    def operator(self) -> np.ndarray:
        """T in these coordinates."""
        return self.views.pairs(self.x)[1]

    @cached_property
    def _pairs(self) -> tuple[np.ndarray, np.ndarray]:
        values, vectors = eigh(self.operator, driver="evd", check_finite=False)
        return values[::-1], vectors[:, ::-1]

    @property
    def eigenvalues(self) -> np.ndarray:
        """λ_1, λ_2, … of T, decreasing, the constant's λ_0 = 1 left out; rounding and few images make some negative."""
        return self._pairs[0]

    @property
    def complexity(self) -> float:
        """κ², the largest K(x, x) over the images that were given.

        λ_i ψ_i(x)² = E[f_i | x]² for the eigenfunctions f_i of T. Of m views the mean f̄_i has the mean square
        λ_i + (1 − λ_i)/m, so f̄_i² is shrunk by λ_i over that: K(x, x) is then right on average, and what views hardly
        agree on adds little noise to the largest.
        """
        values, vectors = self._pairs
        kept = values > 0
        f_NP = (self.x[self.views.rows] - self.x[self.views.rows].mean(axis=0)) @ vectors[:, kept]
        size_I1 = np.asarray(self.views.member.sum(axis=0)).reshape(-1, 1)
        mean_IP = (self.views.member.T @ f_NP) / size_I1
        share_IP = values[kept] / (values[kept] + np.maximum(1 - values[kept], 0) / size_I1)
        return 1 + float((share_IP * mean_IP**2).sum(axis=1).max())

    @property
    def trace(self) -> float:
        """Σ λ_i with the constant: the mean of K(x, x), the number of dimensions that views agree on."""
        return 1 + float(np.maximum(self.eigenvalues, 0).sum())

    def trace_gap(self, W_dP: np.ndarray) -> float:
        """τ² of z = Wφ beside a constant: λ_1 + … + λ_{d+1} − tr G⁻¹F, at least λ_{d+1}."""
        W_dx = W_dP @ self.root
        q_xd, _ = np.linalg.qr(W_dx.T)
        return float(self.eigenvalues[: len(W_dP) + 1].sum() - np.trace(q_xd.T @ self.operator @ q_xd))


def component_invariances(z_Nd: np.ndarray, groups: Any) -> np.ndarray:
    """Return λ (d,) of each component, E z(a) z(a')/E z² of z less its mean: 1 where views of an image agree."""
    G_dd, F_dd = Views.of(groups, len(z_Nd)).pairs(z_Nd)
    variance_d = np.diag(G_dd)
    return np.divide(np.diag(F_dd), variance_d, out=np.zeros_like(variance_d), where=variance_d > 0)


def component_norms(z_Nd: np.ndarray, W_dP: np.ndarray) -> np.ndarray:
    """Return ‖θ‖² (d,), the squared RKHS norm of each component, of z = Wφ, divided by its variance over the rows."""
    variance_d = z_Nd.var(axis=0)
    norm_d = (W_dP**2).sum(axis=1)
    return np.divide(norm_d, variance_d, out=np.full_like(norm_d, np.inf), where=variance_d > 0)


def label_alignment(z_Nd: np.ndarray, labels: Any) -> float:
    """Return the centred alignment of the kernel zᵀz with the labels', ⟨K, YYᵀ⟩/(‖K‖‖YYᵀ‖) of centred z and one-hot Y.

    Between 0 and 1 (Cortes, Mohri & Rostamizadeh, JMLR 13, 2012, definition 4); no N x N matrix is made.
    """
    labels_N = column_or_1d(labels)
    check_consistent_length(z_Nd, labels_N)
    Y_NC = (labels_N[:, None] == np.unique(labels_N)).astype(float)
    z_Nd, Y_NC = z_Nd - z_Nd.mean(axis=0), Y_NC - Y_NC.mean(axis=0)
    scale = np.linalg.norm(z_Nd.T @ z_Nd) * np.linalg.norm(Y_NC.T @ Y_NC)
    return float(np.linalg.norm(z_Nd.T @ Y_NC) ** 2 / scale) if scale > 0 else 0.0
