"""How embeddings lie in their space: alignment and uniformity on the sphere, effective rank off it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

UNIFORMITY_T = 2
RANKME_EPSILON = 1e-7


def alignment(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """mean_i ‖u_i − v_i‖², u and v the normalised embeddings of two views of image i (Wang & Isola, ICML 2020).

    ``pairs``: batches of two views' embeddings (n, D) each, not normalised. Between 0 and 4.
    """
    distances = [(F.normalize(a_ND) - F.normalize(b_ND)).square().sum(dim=1) for a_ND, b_ND in pairs]
    return torch.cat(distances).double().mean().item()


def uniformity(z_ND: Tensor) -> float:
    """log mean_{i<j} exp(−t ‖u_i − u_j‖²), u = z / ‖z‖, t = 2 (Wang & Isola, ICML 2020).

    0 where all embeddings are one point; as D grows, uniform points approach −2t = −4.
    """
    u_ND, n = F.normalize(z_ND), len(z_ND)
    distances_NN = 2 - 2 * (u_ND @ u_ND.T).double()
    kernel_NN = distances_NN.mul_(-UNIFORMITY_T).exp_().fill_diagonal_(0)
    return math.log(kernel_NN.sum().item() / (n * (n - 1)))


def rankme(z_ND: Tensor) -> float:
    """exp(−Σ_k p_k log p_k), p_k = σ_k / ‖σ‖₁ + ε, σ the singular values of ``z_ND``, ε = 1e-7.

    Effective rank, between 1 and min(N, D) (Garrido et al., ICML 2023, equation 1; arXiv 2210.02885).
    """
    # Singular values by the smaller Gram matrix, in float64: its error, 1e-8 of the largest, is below ε.
    tall = z_ND.double() if z_ND.shape[0] >= z_ND.shape[1] else z_ND.double().T
    sigma = torch.linalg.eigvalsh(tall.T @ tall).clamp(min=0).sqrt()
    p = sigma / sigma.sum() + RANKME_EPSILON
    return math.exp(-(p * p.log()).sum().item())
