"""Views whose positive-pair kernel is known: the ground truth that a representation can be held against.

An image x is drawn, then its views, independently, from p(a|x). With p(a) = E_x p(a|x) the positive-pair kernel is

    k₊(a, a') = E_x[p(a|x) p(a'|x)] / (p(a) p(a')),   E_{a'}[k₊(a, a') f_i(a')] = λ_i f_i(a),   E[f_i f_j] = δ_ij,

1 = λ_0 ≥ λ_1 ≥ … ≥ 0 with f_0 = 1. λ_i is the correlation of f_i between two views of an image. The d eigenfunctions
after the constant are the best d dimensions: of all representations they leave linear prediction the smallest worst
error on targets that views agree on (Johnson, El Hanchi & Maddison, ICLR 2023, arXiv 2210.01883), and they span what
minimises the population's spectral contrastive loss (HaoChen, Wei, Gaidon & Ma, NeurIPS 2021, arXiv 2106.04156).
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Protocol

import numpy as np
from scipy.linalg import eigh, orth, svdvals
from scipy.special import softmax
from sklearn.utils import gen_batches

from .eigen import TIE

NODES = 10  # of the quadrature along each axis
MOST_AXES = 3  # beyond, a tensor of nodes is no way to integrate
BLOCK_ENTRIES = 1 << 22  # of a posterior at a time: 32 MiB


class Chain(Protocol):
    """Images, views of them, and the eigenfunctions of their positive-pair kernel."""

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return ``count`` views a ~ p(a), each of an image of its own."""
        ...

    def view(self, rows_ND: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a view a ~ p(a|x) of every row x."""
        ...

    def eigenfunctions(self, rows_ND: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (λ (count,), f (N, count)) at the rows, decreasing, without the constant.

        Raises ValueError where ``count`` cuts among equal eigenvalues: the best ``count`` dimensions are not unique.
        """
        ...


@dataclass(frozen=True)
class CircleNoise:
    """Noise on circles: images uniform on the product of ``circles`` unit circles, rows (cos θ_1, sin θ_1, cos θ_2, …).

    A view turns the j-th circle, j = 1, 2, …, by a normal angle of deviation j·``strength``. So k₊ is a product of
    wrapped normal densities over 1/2π, its eigenfunctions are the harmonics √2 cos kᵀθ and √2 sin kᵀθ of whole k, and
    λ_k = exp(−Σ_j (j · strength · k_j)²).
    """

    strength: float
    circles: int = 1

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        return _on_circles(rng.uniform(0, 2 * np.pi, (count, self.circles)))

    def view(self, rows_ND: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        angle_Nc = self._angles(rows_ND)
        return _on_circles(angle_Nc + self._deviations * rng.standard_normal(angle_Nc.shape))

    def eigenfunctions(self, rows_ND: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        reach = range(-count, count + 1)
        # Of k and −k, which give the same functions, the one whose first number that is not 0 is positive.
        half = [k for k in product(reach, repeat=self.circles) if k > (0,) * self.circles]
        exponent_h = ((np.array(half) * self._deviations) ** 2).sum(axis=1)
        order_h = np.argsort(exponent_h, kind="stable")[: count // 2 + 1]
        value_h = np.exp(-exponent_h[order_h])
        phase_Nh = self._angles(rows_ND) @ np.array(half)[order_h].T
        pairs_N2h = np.sqrt(2) * np.stack([np.cos(phase_Nh), np.sin(phase_Nh)], axis=2).reshape(len(rows_ND), -1)
        return _leading(np.repeat(value_h, 2), pairs_N2h, count)

    @property
    def _deviations(self) -> np.ndarray:
        return self.strength * np.arange(1, self.circles + 1)

    def _angles(self, rows_ND: np.ndarray) -> np.ndarray:
        if rows_ND.shape[1] != 2 * self.circles:
            raise ValueError(f"rows of {rows_ND.shape[1]} columns, must have two for each of {self.circles} circles")
        return np.arctan2(rows_ND[:, 1::2], rows_ND[:, ::2])


def _on_circles(angle_Nc: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angle_Nc), np.sin(angle_Nc)], axis=2).reshape(len(angle_Nc), -1)


@dataclass(frozen=True, eq=False)
class GaussianNoise:
    """Normal noise of deviation ``strength`` on each coordinate of n images, the rows x_i of ``centres`` (n, D), D ≤ 3.

    With the posterior q_i(a) = softmax_i(−‖a − x_i‖²/(2 strength²)), k₊(a, a') = n Σ_i q_i(a) q_i(a'). An eigenvector u
    of M_ij = E[q_j(a) | x_i], ‖u‖ = 1, is f(a) = √(n/λ) Σ_i u_i q_i(a). The expectation is a Gauss-Hermite quadrature.
    """

    strength: float
    centres: np.ndarray

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        return self.view(self.centres[rng.integers(0, len(self.centres), count)], rng)

    def view(self, rows_ND: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return rows_ND + self.strength * rng.standard_normal(rows_ND.shape)

    def eigenfunctions(self, rows_ND: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        images = len(self.centres)
        if count + 1 >= images:
            raise ValueError(f"{count} eigenfunctions of {images} images: there are {images - 1}, give fewer")
        top = (images - count - 1, images - 1)
        value_k, u_nk = eigh(self.transition - 1 / images, subset_by_index=top)  # less the constant, whose λ is 1
        value_k, u_nk = value_k[::-1], u_nk[:, ::-1]
        return _leading(value_k, self.posterior(rows_ND) @ u_nk * np.sqrt(images / value_k), count)

    def posterior(self, rows_ND: np.ndarray) -> np.ndarray:
        """Return q (N, n), the share of each image in every row."""
        closeness_Nn = rows_ND @ self.centres.T - (self.centres**2).sum(axis=1) / 2
        return softmax(closeness_Nn / self.strength**2, axis=1)

    @cached_property
    def transition(self) -> np.ndarray:
        """M (n, n), symmetric with rows that sum to one: from an image, over a view of it, to an image of that view."""
        images, axes = self.centres.shape
        if axes > MOST_AXES:
            raise ValueError(f"centres have {axes} columns, must have at most {MOST_AXES}: views are integrated over")
        node_k, weight_k = np.polynomial.hermite_e.hermegauss(NODES)
        steps_KD = self.strength * np.array(list(product(node_k, repeat=axes)))
        weights_K = np.array([np.prod(each) for each in product(weight_k / weight_k.sum(), repeat=axes)])
        M_nn = np.empty((images, images))
        for rows in gen_batches(images, max(1, BLOCK_ENTRIES // (len(steps_KD) * images))):
            views_BKD = self.centres[rows, None] + steps_KD
            q_BKn = self.posterior(views_BKD.reshape(-1, axes)).reshape(*views_BKD.shape[:2], images)
            M_nn[rows] = np.einsum("k,bkn->bn", weights_K, q_BKn)
        return (M_nn + M_nn.T) / 2


def _leading(value_k: np.ndarray, f_Nk: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first ``count`` of more than as many, where they are told from the next."""
    if value_k[count - 1] - value_k[count] <= TIE:
        apart = [number for number in range(1, count) if value_k[number - 1] - value_k[number] > TIE]
        raise ValueError(f"{count} eigenfunctions cut among equal eigenvalues: give one of {apart}, or more")
    return value_k[:count], f_Nk[:, :count]


def recovery(z_Nd: np.ndarray, f_Nk: np.ndarray) -> np.ndarray:
    """Return cos² (k,) of the principal angles between the spans of z and of f over N rows, the largest first.

    Both are centred. The mean is the share of the variance of an orthonormal basis of f that is linear in z; with
    d < k the missing angles are right ones.
    """
    cosines = svdvals(orth(f_Nk - f_Nk.mean(axis=0)).T @ orth(z_Nd - z_Nd.mean(axis=0)))
    found_k = np.zeros(f_Nk.shape[1])
    found_k[: len(cosines)] = np.minimum(cosines, 1.0) ** 2
    return found_k
