"""What figures of the kernel regime are drawn of: the spectrum of an embedding, and a kernel's picture in the plane."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmark.data import ImageSet, Points
from benchmark.networks.kernel import FrozenKernel, Rows, plain_rows
from benchmark.probes.base import Found, Probe, register
from benchmark.probes.subject import Subject

# Points along each axis of the picture of a kernel in the plane, and eigenvalues kept of a spectrum.
GRID, SPECTRUM = 72, 128


@register
class Spectrum(Probe):
    """The eigenvalues of the covariance of z over the measured images, as shares of their sum."""

    name: ClassVar[str] = "spectrum"
    needs: ClassVar[frozenset[str]] = frozenset({"kernel"})

    def measure(self, subject: Subject) -> Found:
        """The largest of them."""
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

    name: ClassVar[str] = "kernel_picture"
    needs: ClassVar[frozenset[str]] = frozenset({"kernel"})

    def measure(self, subject: Subject) -> Found:
        """The picture, rounded to what a reader can see."""
        images, network = subject.data.train, subject.network
        if not _in_the_plane(images) or not subject.process.is_main:
            return Found()
        assert isinstance(images, Points)
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
        details: dict[str, Any] = {
            "points": points.round(4).tolist(),
            "labels": labels.tolist(),
            "origin": origin[0].round(4).tolist(),
            "edge": round(edge, 4),
            "base": base,
            "induced": induced,
        }
        return Found(details=details)


def _in_the_plane(images: ImageSet) -> bool:
    return isinstance(images, Points) and images.rows.shape[1] == 2


def _cosines(transform: Any, plane: Rows, origin: Rows) -> list[list[float]]:
    z_Gd: NDArray[np.float64] = transform(plane)
    z_1d: NDArray[np.float64] = transform(origin)
    lengths = np.linalg.norm(z_Gd, axis=1) * np.linalg.norm(z_1d)
    cosines = (z_Gd @ z_1d[0]) / np.where(lengths > 0, lengths, 1.0)
    return cosines.reshape(GRID, GRID).round(3).tolist()
