"""Time as a regulariser: gradient flow of the closed forms, stopped before its end.

In the coordinates of the features every loss quadratic in zzᵀ is, up to a constant,
    L(W) = ‖WSWᵀ‖² − 2 tr WMWᵀ + λ‖W‖²,   Ẇ = −∇L = 4WM − 4(WSWᵀ)WS − 2λW,
with S = ΦᵀΦ, M = ΦᵀTΦ (spectral), S = ΦᵀCnΦ, M = ΦᵀCn(I − (β/2)L)CnΦ (VICReg) and S = M = Γ (Barlow Twins).

Where S is M each mode goes by itself. For w = s u, Γu = γu, q = s² this is q̇ = rq(1 − q/q_∞) with r = 8γ − 4λ and
q_∞ = (1 − λ/2γ)/γ, so
    q(t) = q_∞ / (1 + (q_∞/q₀ − 1) e^{−rt}),
without ridge s²(t) = e^{8γt} / (1/s₀² + γ(e^{8γt} − 1)), learned in a step at τ = −ln(γs₀²)/(8γ) (Simon et al., *On the
stepwise nature of self-supervised learning*, ICML 2023, arXiv 2303.15438). The other two have no such form, since S and
M have different eigenvectors, and are integrated.

The flow starts from W(0) = s₀Uᵀ, U the leading eigenvectors of M: near zero Ẇ = W(4M − 2λ), which turns any small start
towards them.
"""

from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

RTOL = 1e-10  # of a step of the integration; what it adds up to is tested


def logistic(gamma_d: np.ndarray, start: float | np.ndarray, ridge: float, t: float) -> np.ndarray:
    """Return q(t) (d,) of modes with eigenvalues γ above λ/2, each from q₀ = ``start``."""
    limit_d = (1 - ridge / (2 * gamma_d)) / gamma_d
    return limit_d / (1 + (limit_d / start - 1) * np.exp(-(8 * gamma_d - 4 * ridge) * t))


def learned_at(gamma_d: np.ndarray, start: float | np.ndarray, ridge: float = 0.0) -> np.ndarray:
    """Return the times τ = ln(q_∞/q₀)/r at which modes are half learned, to first order in q₀/q_∞."""
    return np.log((1 - ridge / (2 * gamma_d)) / (gamma_d * start)) / (8 * gamma_d - 4 * ridge)


def integrate(S_PP: np.ndarray, M_PP: np.ndarray, W_dP: np.ndarray, ridge: float, t: float) -> np.ndarray:
    """Return W(t) of the flow from ``W_dP``: Dormand and Prince's method of order 8, O(dp²) a step.

    Steps grow in number with t and with the condition of S on what was learned.
    """

    def velocity(_: float, flat: np.ndarray) -> Any:
        w_dP = flat.reshape(W_dP.shape)
        image_dP = w_dP @ S_PP
        return (4 * (w_dP @ M_PP) - 4 * (image_dP @ w_dP.T) @ image_dP - 2 * ridge * w_dP).ravel()

    size = float(np.abs(W_dP).max())
    found = solve_ivp(velocity, (0.0, t), W_dP.ravel(), method="DOP853", rtol=RTOL, atol=RTOL * size, t_eval=[t])
    if not found.success:
        raise ValueError(f"the gradient flow could not be followed to t={t:g}: {found.message}")
    return found.y[:, -1].reshape(W_dP.shape)
