"""How embeddings lie in their space: alignment, uniformity, effective rank, spectrum; a kernel in the plane."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from benchmark.data import ImageSet, Points
from benchmark.data.images import evenly
from benchmark.networks.base import FrozenModule
from benchmark.networks.kernel import FrozenKernel, Rows, plain_rows
from benchmark.probes.base import Figures, Found, Probe, register
from benchmark.probes.subject import Features, Subject
from benchmark.views import recipe
from results.record import Metric

UNIFORMITY_T = 2
RANKME_EPSILON = 1e-7
# Singular values of more embeddings take minutes, and change the rank little.
MOST_IMAGES = 4096
# Points along each axis of the picture of a kernel in the plane, and eigenvalues kept of a spectrum.
GRID, SPECTRUM = 72, 128


@register
class Geometry(Probe):
    """Of the embedding, on the images that are measured, at most ``MOST_IMAGES`` of them, evenly spaced.

    Alignment on two views of each by the augmentation that the network was trained with; uniformity and rank on the
    plain images, the rank of the features beside.
    """

    name = "embedding"
    needs = frozenset({"embedding"})

    batch_size: int = Field(256, ge=1, description="images whose views are drawn together")

    def figures(self) -> Figures:
        return [("alignment", {}), ("uniformity", {}), ("rankme", {"features": "embedding"}), ("rankme", {})]

    def measure(self, subject: Subject) -> Found:
        queries, name = subject.queries(), subject.network.name
        if not subject.process.is_main:
            return Found()
        assert subject.augmentation is not None
        images = subject.queries_images
        rows = evenly(len(images), MOST_IMAGES)
        chosen = torch.from_numpy(rows).to(subject.device)
        some = Features(queries.x[chosen], queries.labels[chosen])
        with subject.frozen():
            z_ND = subject.embedded(some).x
            aligned = alignment(self._pairs(subject, images.subset(rows), subject.augmentation))
        place = {"images": len(rows), **subject.place("embedding")}
        of_pairs, of_points = {"augmentation": subject.augmentation, **place}, {"t": UNIFORMITY_T, **place}
        metrics = [Metric(metric="alignment", protocol=of_pairs, value=aligned, unit="squared distance")]
        with subject.requests.at_once():
            metrics.append(Metric(metric="uniformity", protocol=of_points, value=uniformity(z_ND), unit="nats"))
            for features, x_ND in (("embedding", z_ND), (name, some.x)):
                protocol = {"epsilon": RANKME_EPSILON, **place, "features": features}
                metrics.append(Metric(metric="rankme", protocol=protocol, value=rankme(x_ND), unit="dimensions"))
        return Found(metrics)

    def _pairs(self, subject: Subject, images: ImageSet, augmentation: str) -> Iterator[list[Tensor]]:
        """Embeddings of the first two views of ``images``, in even batches, so that hardly an image is dropped."""
        network, projector = subject.network, subject.projector
        assert isinstance(network, FrozenModule)
        batch_size = len(images) // -(-len(images) // self.batch_size)
        loader = subject.views(images, recipe(augmentation), batch_size, shared=False)
        for batch in loader.epoch(0):
            subject.requests.check()
            yield [projector(subject.through(network.module, view)).float() for view in batch.views[:2]]


def alignment(pairs: Iterable[Sequence[Tensor]]) -> float:
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


@register
class Spectrum(Probe):
    """The largest eigenvalues of the covariance of z over the measured images, as shares of the sum of all."""

    name = "spectrum"
    needs = frozenset({"kernel"})

    def measure(self, subject: Subject) -> Found:
        z_Nd = subject.queries().x.numpy()
        if not subject.process.is_main:
            return Found()
        with subject.requests.at_once():
            variances_d = np.linalg.svd(z_Nd - z_Nd.mean(axis=0), compute_uv=False) ** 2
        shares = variances_d / (variances_d.sum() or 1.0)
        return Found(details={"eigenvalues": [float(f"{share:.4g}") for share in shares[:SPECTRUM]]})


@register
class KernelPicture(Probe):
    """Of points in the plane: over a grid of x the cosine of z(x) and z(x₀), and of φ.

    x₀ is the training point at the middle of the first class. Images have no such picture: there is nothing to find.
    """

    name = "kernel_picture"
    needs = frozenset({"kernel"})

    def measure(self, subject: Subject) -> Found:
        """The picture, rounded to what a reader can see."""
        images, network = subject.data.train, subject.network
        if not isinstance(images, Points) or images.rows.shape[1] != 2 or not subject.process.is_main:
            return Found()
        assert isinstance(network, FrozenKernel)
        points, labels = images.rows, images.labels
        first = np.flatnonzero(labels == labels[0])
        origin = points[first[len(first) // 2]][None]
        edge = 1.05 * float(np.abs(points).max())
        ticks = np.linspace(-edge, edge, GRID)
        plane = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
        with subject.requests.at_once():
            base = _cosines(network.base(plain_rows(images)).transform, plane, origin)
            induced = _cosines(network.map.transform, plane, origin)
        return Found(
            details={
                "points": points.round(4).tolist(),
                "labels": labels.tolist(),
                "origin": origin[0].round(4).tolist(),
                "edge": round(edge, 4),
                "base": base,
                "induced": induced,
            }
        )


def _cosines(transform: Callable[[Rows], Rows], plane: Rows, origin: Rows) -> list[list[float]]:
    z_Gd, z_1d = transform(plane), transform(origin)
    lengths = np.linalg.norm(z_Gd, axis=1) * np.linalg.norm(z_1d)
    cosines = (z_Gd @ z_1d[0]) / np.where(lengths > 0, lengths, 1.0)
    return cosines.reshape(GRID, GRID).round(3).tolist()
