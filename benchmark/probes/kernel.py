"""What a fitted Run of the kernel regime is worth: every other Run's probes, its spectrum, its kernel's picture."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.data import DataSet, ImageSet, Points
from benchmark.networks.kernel import Embedding, base_features
from benchmark.networks.kernel_rows import Rows, plain_rows, views_of
from benchmark.probes.evaluate import evaluated, place
from benchmark.probes.features import Features
from benchmark.probes.frozen import FrozenProbes
from benchmark.suite.run import Run
from results.record import KERNEL_NAME, SPECTRUM_NAME, Metric, write_atomically

# Points along each axis of the picture of a kernel in the plane, and eigenvalues kept of a spectrum.
GRID, SPECTRUM = 72, 128


def measure(embedding: Embedding, data: DataSet, run: Run) -> Iterator[Metric]:
    """The metrics of ``run.evaluation.probes`` on z, with k*(x, y) = z(x)ᵀz(y), trained on ``data.labelled``.

    With labelled views each labelled image gives its views to learn from; queries are always the images themselves.
    """
    queries = evaluated(data, run)
    bank, views = _bank(data, run)
    probes = FrozenProbes(
        bank=Features(torch.from_numpy(embedding.transform(bank[0])), torch.from_numpy(bank[1])),
        queries=_features(embedding, queries),
        spec=run.evaluation,
        classes=data.classes,
        place=place(run, "kernel"),
        views=views,
    )
    for probe in run.evaluation.probes:
        yield from getattr(probes, probe)()


def _bank(data: DataSet, run: Run) -> tuple[tuple[Rows, NDArray[np.int64]], int]:
    if run.method != "base_kernel_augmented":
        return (plain_rows(data.labelled), data.labelled.labels), 1
    assert run.regime is not None
    rows, image = views_of(data.labelled, run)
    return (rows, data.labelled.labels[image]), run.regime.n_views


def _features(embedding: Embedding, images: ImageSet) -> Features:
    return Features(torch.from_numpy(embedding.transform(plain_rows(images))), torch.from_numpy(images.labels))


def write_spectrum(embedding: Embedding, data: DataSet, run: Run, folder: Path) -> None:
    """``spectrum.json``: the eigenvalues of the covariance of z over the evaluated images, as shares of their sum."""
    z_Nd = embedding.transform(plain_rows(evaluated(data, run)))
    variances_d = np.linalg.svd(z_Nd - z_Nd.mean(axis=0), compute_uv=False) ** 2
    shares = variances_d / (variances_d.sum() or 1.0)
    content = {"eigenvalues": [float(f"{share:.4g}") for share in shares[:SPECTRUM]]}
    write_atomically(folder / SPECTRUM_NAME, (json.dumps(content) + "\n").encode())


def write_picture(embedding: Embedding, data: DataSet, run: Run, folder: Path) -> None:
    """``kernel.npz``, of points in the plane: over a grid of x the cosine of z(x) and z(x₀), and of φ.

    x₀ is the training point at the middle of the first class. Images have no such picture: nothing is written.
    """
    if not isinstance(data.train, Points) or data.train.rows.shape[1] != 2:
        return
    points, labels = data.train.rows, data.train.labels
    first = np.flatnonzero(labels == labels[0])
    origin = points[first[len(first) // 2]][None]
    edge = 1.05 * np.abs(points).max()
    ticks = np.linspace(-edge, edge, GRID)
    plane = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    content = io.BytesIO()
    np.savez_compressed(
        content,
        points=points.astype(np.float32),
        labels=labels.astype(np.int8),
        origin=origin[0].astype(np.float32),
        edge=np.float32(edge),
        base=_cosines(base_features(run, data), plane, origin),
        induced=_cosines(embedding, plane, origin),
    )
    write_atomically(folder / KERNEL_NAME, content.getvalue())


def _cosines(embedding: Embedding, plane: Rows, origin: Rows) -> NDArray[np.float16]:
    z_Gd, z_1d = embedding.transform(plane), embedding.transform(origin)
    lengths = np.linalg.norm(z_Gd, axis=1) * np.linalg.norm(z_1d)
    cosines = (z_Gd @ z_1d[0]) / np.where(lengths > 0, lengths, 1.0)
    return cosines.reshape(GRID, GRID).astype(np.float16)
