"""SimCLR: InfoNCE of a Gram matrix, and its two solvers: a convex program over H ⪰ 0, and factors W of limited rank.

With G = ΦHΦᵀ, H = WᵀW, and weights w_ij = A_ij/ΣA of the positive pairs,
    f(G) = Σ_i w_i log Σ_{k∈C(i)} exp G_ik − Σ_ij w_ij G_ij,   w_i = Σ_j w_ij,
C(i) all rows but i itself, and i too where i is its own positive. A temperature would only rescale z, which is not
normalised here. f is convex and bounded below, and f + λ tr H has a minimiser where λ > 0 (without it, separable
images drive the scale of z to infinity).
"""

import warnings
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import NamedTuple, Self

import numpy as np
import scipy.sparse as sp
from scipy.linalg import eigh
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state, check_scalar, gen_batches

from .base import KernelSSL, Solution, extend
from .eigen import fix_signs, largest_eigenvalue, largest_pairs
from .graphs import degrees

SWEEP = 10  # fISTA iterations between two polishings and evaluations of the optimality gap
ROWS = 64  # of a softmax at a time: a block of them stays in the cache from one operation to the next


@dataclass(frozen=True)
class InfoNCE:
    """f above, for the features Φ (N, p) and the positive pairs' weights w (N x N, sum 1)."""

    phi: np.ndarray
    weight: sp.csr_array

    @classmethod
    def of(cls, phi_NP: np.ndarray, A_NN: sp.csr_array) -> Self:
        return cls(phi_NP, sp.csr_array(A_NN / A_NN.sum()))

    @property
    def lower_bound(self) -> float:
        """Σ_ij w_ij log(w_i/w_ij) ≤ f: a cross-entropy is at least the entropy of the positives."""
        pairs = self.weight.tocoo()
        return float(pairs.data @ np.log(degrees(self.weight)[pairs.row] / pairs.data))

    def gram(self, H_PP: np.ndarray) -> np.ndarray:
        """Return G = ΦHΦᵀ."""
        return self.phi @ H_PP @ self.phi.T

    def value_and_share(self, G_NN: np.ndarray) -> tuple[float, np.ndarray]:
        """Return f(G) and the shares P_ik = w_i exp G_ik / Σ_{l∈C(i)} exp G_il in G's place; ∂f/∂G is P − w."""
        row_weight_N = degrees(self.weight)
        attraction = self.weight.multiply(G_NN).sum()
        np.fill_diagonal(G_NN, np.where(self.weight.diagonal() > 0, G_NN.diagonal(), -np.inf))
        normaliser_N = np.empty(len(G_NN))
        for rows in gen_batches(len(G_NN), ROWS):
            block = G_NN[rows]
            largest = block.max(axis=1)
            block -= largest[:, None]
            np.exp(block, out=block)
            total = block.sum(axis=1)
            block *= (row_weight_N[rows] / total)[:, None]
            normaliser_N[rows] = largest + np.log(total)
        return float(row_weight_N @ normaliser_N - attraction), G_NN

    def gradient(self, P_NN: np.ndarray) -> np.ndarray:
        """Return ∂f/∂H, the symmetric part of Φᵀ(P − w)Φ."""
        half_PP = self.phi.T @ (P_NN @ self.phi - self.weight @ self.phi)
        return (half_PP + half_PP.T) / 2

    def gradient_by_z(self, P_NN: np.ndarray, z_Nd: np.ndarray) -> np.ndarray:
        """Return ∂f/∂z at G = zzᵀ."""
        return P_NN @ z_Nd + P_NN.T @ z_Nd - 2 * (self.weight @ z_Nd)

    def ascent_at_zero(self) -> np.ndarray:
        """Return −∂f/∂H at H = 0; its largest eigenvalue is the smallest λ for which H = 0 is optimal."""
        return -self.gradient(self.value_and_share(np.zeros((len(self.phi),) * 2))[1])


@dataclass(frozen=True)
class Minimum:
    """Rows of W in decreasing norm and orthogonal, the objective there, and the iterations it took."""

    W: np.ndarray
    objective: float
    n_iter: int


class Iterate(NamedTuple):
    """A point H with its Gram matrix G (kept beside it: both are linear, so steps need no product with Φ)."""

    H: np.ndarray
    G: np.ndarray


def minimise_convex(loss: InfoNCE, ridge: float, tol: float, max_iter: int) -> Minimum:
    """Minimise f(ΦHΦᵀ) + λ tr H over H = WᵀW ⪰ 0, of whatever rank the optimum has.

    FISTA finds the support of H quickly and its entries slowly; every few iterations its point is therefore handed to
    L-BFGS over factors of the same rank, and goes on from there. The gap is of first order in the gradient where the
    objective is of second, hence tol² for L-BFGS. What is returned is certified: its objective is at
    most a fraction ``tol`` above the optimum (``optimality_gap``), or a ConvergenceWarning says what was reached.
    """
    size = loss.phi.shape[1]
    point = Iterate(np.zeros((size, size)), np.zeros((len(loss.phi),) * 2))
    # ∂f/∂H has a Lipschitz constant: rows of softmax have Hessian ≤ w_i/2, Φ enters squared.
    widest = float(eigh(loss.phi.T @ loss.phi, eigvals_only=True)[-1])
    step = 1.0 / (0.5 * float(degrees(loss.weight).max()) * widest**2)
    for n_iter in range(SWEEP, max_iter + SWEEP, SWEEP):
        point, step = fista_sweep(loss, point, ridge, step)
        found = replace(minimise_factor(loss, leading_factor(point.H), ridge, 1e-3 * tol**2), n_iter=n_iter)
        point = Iterate(found.W.T @ found.W, loss.gram(found.W.T @ found.W))
        gap = optimality_gap(loss, point, ridge)
        if gap <= tol * found.objective:
            break
    else:
        warnings.warn(
            f"max_iter={max_iter} iterations of FISTA leave the objective up to {gap / found.objective:.1e} relative "
            "above its optimum: raise max_iter, ridge or tol",
            ConvergenceWarning,
            stacklevel=2,
        )
    return found


def minimise_low_rank(
    loss: InfoNCE, ridge: float, rank: int, tol: float, n_init: int, rng: np.random.RandomState
) -> Minimum:
    """Minimise f(ΦWᵀWΦᵀ) + λ‖W‖² over W of ``rank`` rows: the best of ``n_init`` local minima.

    The first start is the leading directions of −∂f/∂H at 0, the others are normal; all have tr ΦWᵀWΦᵀ = N.
    """
    directions_dP = largest_pairs(loss.ascent_at_zero(), -np.inf, rank)[1].T
    starts = [directions_dP, *(rng.standard_normal(directions_dP.shape) for _ in range(n_init - 1))]
    scaled = (W * np.sqrt(len(loss.phi)) / np.linalg.norm(loss.phi @ W.T) for W in starts)
    return min((minimise_factor(loss, W, ridge, 1e-3 * tol) for W in scaled), key=lambda found: found.objective)


def fista_sweep(loss: InfoNCE, start: Iterate, ridge: float, step: float) -> tuple[Iterate, float]:
    """Return (point, step) after SWEEP accelerated projected gradient steps (Beck and Teboulle 2009, with restarts)."""
    current = ahead = start
    momentum = 1.0
    for _ in range(SWEEP):
        new, step = _proximal_step(loss, ahead, ridge, step)
        if np.vdot(ahead.H - new.H, new.H - current.H) > 0:
            momentum = 1.0
        next_momentum = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        beyond = (momentum - 1) / next_momentum  # Nesterov's extrapolation
        ahead = Iterate(new.H + beyond * (new.H - current.H), new.G + beyond * (new.G - current.G))
        current, momentum = new, next_momentum
    return current, step


def leading_factor(H_PP: np.ndarray, count: int | None = None) -> np.ndarray:
    """Return W (d, p) with WᵀW = H, or its best approximation of rank ``count``, the largest row first."""
    values, vectors = largest_pairs(H_PP.copy(), 0.0, count)
    kept = values > 1e-7 * values.max(initial=0.0)
    return (vectors[:, kept] * np.sqrt(values[kept])).T


def _proximal_step(loss: InfoNCE, at: Iterate, ridge: float, step: float) -> tuple[Iterate, float]:
    """One projected gradient step; the step length grows each time and is halved until the model bounds the loss."""
    value, P_NN = loss.value_and_share(at.G.copy())
    gradient_PP = loss.gradient(P_NN) + ridge * np.eye(len(at.H))
    step *= 2.0
    while True:
        values, vectors = eigh(at.H - step * gradient_PP, driver="evd", check_finite=False)
        positive = values > 0  # the nearest positive semi-definite matrix
        H_PP = (vectors[:, positive] * values[positive]) @ vectors[:, positive].T
        new = Iterate(H_PP, loss.gram(H_PP))
        change = H_PP - at.H
        model = value + np.vdot(gradient_PP, change) - ridge * np.trace(change) + np.vdot(change, change) / (2 * step)
        if loss.value_and_share(new.G.copy())[0] <= model + 1e-14 * abs(value):
            return new, step
        step /= 2.0


def optimality_gap(loss: InfoNCE, at: Iterate, ridge: float) -> float:
    """Return a bound on objective − optimum at H.

    With S = ∂f/∂H + λI, convexity gives objective − optimum ≤ ⟨S, H − H*⟩ ≤ ⟨S, H⟩ + max(0, −λ_min S)·tr H*, and a
    lower bound of f gives tr H* ≤ (objective − bound)/λ.
    """
    value, P_NN = loss.value_and_share(at.G.copy())
    objective = value + ridge * float(np.trace(at.H))
    gradient_PP = loss.gradient(P_NN) + ridge * np.eye(len(at.H))
    lowest = float(eigh(gradient_PP, eigvals_only=True, subset_by_index=(0, 0))[0])
    return float(np.vdot(gradient_PP, at.H)) + max(0.0, -lowest) * (objective - loss.lower_bound) / ridge


def minimise_factor(loss: InfoNCE, start_dP: np.ndarray, ridge: float, ftol: float) -> Minimum:
    """Return the local minimum of f(ΦWᵀWΦᵀ) + λ‖W‖² that L-BFGS reaches from ``start_dP``.

    It stops where an iteration lowers the objective by less than a fraction ``ftol``.
    """

    shared_NN = np.empty((len(loss.phi),) * 2)  # so large that the system would clear new memory each time

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        W_dP = flat.reshape(start_dP.shape)
        z_Nd = loss.phi @ W_dP.T
        value, P_NN = loss.value_and_share(np.matmul(z_Nd, z_Nd.T, out=shared_NN))
        gradient = loss.gradient_by_z(P_NN, z_Nd).T @ loss.phi + 2 * ridge * W_dP
        return value + ridge * float(np.vdot(W_dP, W_dP)), gradient.ravel()

    options = {"maxiter": 500, "ftol": ftol, "gtol": 1e-10, "maxcor": 20}
    found = minimize(objective, start_dP.ravel(), jac=True, method="L-BFGS-B", options=options)
    W_dP = found.x.reshape(start_dP.shape)
    return Minimum(leading_factor(W_dP.T @ W_dP, len(W_dP)), float(found.fun), int(found.nit))


@dataclass(eq=False, repr=False, kw_only=True)
class KernelSimCLR(KernelSSL):
    """InfoNCE over all rows: min Σ_ij w_ij (log Σ_k exp zᵢᵀz_k − zᵢᵀz_j) + λ‖W‖²_F, w = A/ΣA, see above.

    There is no closed form. With n_components None the program is convex in H = WᵀW and is solved to a certified
    relative gap ``tol`` in at most ``max_iter`` iterations of FISTA. With n_components it is not convex: L-BFGS over W
    finds local minima to about ``tol``, of which the best of ``n_init`` is kept. ``ridge`` must be positive: without it
    the scale of z grows without end. O(N²) memory and time a step; a row without relations is its own positive.
    ``eigenvalues_``: those of H.
    """

    ridge: float = 1e-2
    tol: float = 1e-6
    max_iter: int = 200
    n_init: int = 4

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_scalar(self.ridge, "ridge", Real, min_val=0.0, max_val=1.0, include_boundaries="neither")
        check_scalar(self.tol, "tol", Real, min_val=0.0)
        check_scalar(self.max_iter, "max_iter", Integral, min_val=1)
        check_scalar(self.n_init, "n_init", Integral, min_val=1)

    def _solve_features(self, phi_NP: np.ndarray, target_NN: sp.csr_array) -> Solution:
        offset_P = phi_NP.mean(axis=0) if self.center else np.zeros(phi_NP.shape[1])
        loss = InfoNCE.of(phi_NP - offset_P, target_NN)
        critical = largest_eigenvalue(loss.ascent_at_zero())
        if critical <= 10 * np.finfo(float).eps * np.vdot(phi_NP, phi_NP):
            self._check_rank(0)
        ridge = self.ridge * critical
        if self.n_components is None:
            found = minimise_convex(loss, ridge, self.tol, self.max_iter)
        else:
            rng = check_random_state(self.random_state)
            found = minimise_low_rank(loss, ridge, self.n_components, self.tol, self.n_init, rng)
        self.n_iter_ = found.n_iter
        self._check_rank(len(found.W))
        W_dP = fix_signs(found.W.T).T
        if self.extension_ridge > 0:
            W_dP = extend(W_dP, loss.phi.T @ loss.phi, self.extension_ridge)
        return Solution((found.W**2).sum(axis=1), W_dP, offset_P, found.objective, ridge)
