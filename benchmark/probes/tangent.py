"""How far a trained network is from what the kernel regime says of it."""

from itertools import product

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from benchmark.data.images import evenly
from benchmark.networks.kernel import Rows, plain_rows
from benchmark.networks.wide import FrozenWide
from benchmark.probes.base import Figures, Found, Probe, register
from benchmark.probes.subject import Subject
from results.record import Metric

DIGITS = 6  # kept of what is drawn


@register
class KernelLimit(Probe):
    """Distance from the closed form of the network's own tangent kernel, and of the infinite network's.

    ‖G − G*‖_F / ‖G*‖_F of the inner products G of z: among the training rows, and of measured images with these, which
    are predictions. Beside it, for Barlow Twins, each mode's way: the network's, and that of gradient flow on its own
    kernel from the same start.
    """

    name = "kernel_limit"
    needs = frozenset({"tangent"})

    limit_images: int = Field(64, ge=1, description="at most so many of the measured images, evenly spaced")

    def figures(self) -> Figures:
        both = product(("own", "infinite"), ("gram", "predictions"))
        return [("kernel_distance", {"kernel": kernel, "of": what}) for kernel, what in both]

    def measure(self, subject: Subject) -> Found:
        from methods.regime import NTK, EmpiricalNTK

        network = subject.network
        assert isinstance(network, FrozenWide)
        if not subject.process.is_main:
            return Found()
        with subject.requests.at_once():
            rows_ND, image_N = network.track.rows, network.track.image
            images = subject.queries_images
            chosen = evenly(len(images), self.limit_images)
            new_MD = plain_rows(images.subset(chosen))
            z_Nd, z_Md = network.embed(rows_ND), network.embed(new_MD)
            kernels = {"own": EmpiricalNTK(network.origin), "infinite": NTK(network.settings.mlp.depth)}
            found = Found()
            for name, kernel in kernels.items():
                gram_NN, gram_MN = kernel(rows_ND), kernel(new_MD, rows_ND)
                rival = network.settings.rival(gram_NN, image_N)
                told = {"gram": distance(z_Nd, z_Nd, rival.transform(gram_NN), rival.transform(gram_NN))}
                told["predictions"] = distance(z_Md, z_Nd, rival.transform(gram_MN), rival.transform(gram_NN))
                for what, value in told.items():
                    protocol = {"kernel": name, "of": what, "images": len(chosen), **subject.place()}
                    found.metrics.append(
                        Metric(metric="kernel_distance", protocol=protocol, value=value, unit="relative")
                    )
                if name == "own" and network.settings.closed_form == "kernel_barlow_twins":
                    found.details = stepwise(network, gram_NN, image_N, rival.ridge_)
        return found


def distance(a_Md: Rows, b_Nd: Rows, c_Md: Rows, d_Nd: Rows) -> float:
    """‖abᵀ − cdᵀ‖_F / ‖cdᵀ‖_F."""
    wanted_MN = c_Md @ d_Nd.T
    return float(np.linalg.norm(a_Md @ b_Nd.T - wanted_MN) / np.linalg.norm(wanted_MN))


def stepwise(network: FrozenWide, gram_NN: Rows, image_N: NDArray[np.int64], ridge: float) -> dict[str, list[object]]:
    """The eigenvalues of Γ_z by time, the network's and those of the linear flow from the same start on ``gram_NN``.

    Beside them when each mode should be half learned: of a small start W(0) s_j(0) = |R_jj| counts, QR = W(0)U with the
    modes in the columns of U in decreasing order (Simon et al. 2023). Times are relative, as the estimators'.
    """
    from methods.regime.flow import integrate, learned_at
    from methods.regime.graphs import clique_graph

    track, settings, A_NN = network.track, network.settings, clique_graph(image_N)
    values, vectors = np.linalg.eigh(gram_NN)
    phi_NP = vectors * np.sqrt(values.clip(min=0.0))
    phi_NP -= phi_NP.mean(axis=0)
    gamma_P, U_PP = np.linalg.eigh(phi_NP.T @ (A_NN @ phi_NP) / A_NN.sum())
    kept = np.flatnonzero(np.abs(gamma_P) > 1e-9 * gamma_P[-1])[::-1]
    gamma_P, U_PP = gamma_P[kept], U_PP[:, kept]
    # W(0)u = z(0)ᵀv with u = Φᵀv, v = AΦu/(γ ΣA): well conditioned, whatever the kernel.
    w_dP = track.start.T.astype(float) @ ((A_NN @ phi_NP) @ U_PP / (gamma_P * A_NN.sum()))
    start_d = np.diag(np.linalg.qr(w_dP).R) ** 2
    critical = ridge / settings.regime.ridge
    step = settings.descent.rate / (4 * critical)
    unit = -np.log(settings.descent.init_scale) / (4 * critical)
    flow = []
    for passed in np.diff(track.moments, prepend=0):
        w_dP = integrate(np.diag(gamma_P), np.diag(gamma_P), w_dP, ridge, step * passed) if passed else w_dP
        flow.append(np.linalg.eigvalsh((w_dP * gamma_P) @ w_dP.T)[::-1])
    growing = int((gamma_P[: len(start_d)] > ridge / 2).sum())
    told = {
        "time": track.moments * step / unit,
        "network": track.modes,
        "flow": np.stack(flow),
        "learned_at": learned_at(gamma_P[:growing], start_d[:growing], ridge) / unit,
    }
    return {name: np.asarray(values, dtype=float).round(DIGITS).tolist() for name, values in told.items()}
