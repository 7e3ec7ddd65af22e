"""The probe transfer's fits over a path of ridges, beside scikit-learn's on the same features: what a process does."""

import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TITLES = {"ridge_path": "Regression over a path of ridges"}
REFERENCES = {"ridge_path": "sklearn_path"}
CLASSES, RIDGES = 100, 45
# Rows that are made, and whose scores are held, at once; fits whose objectives are compared, evenly along the path.
_ROWS, _COMPARED = 8192, 5

Floats = NDArray[Any]
Fits = Iterator[tuple[float, Floats, Floats]]  # a ridge, weight (C, F) and bias (C,)


def fit(method: str, n: int, features: int, ridges: int = RIDGES) -> dict[str, Any]:
    """All fits of ``method``, of ``TITLES`` or ``REFERENCES``, to ``n`` rows of 100 classes, float32.

    Returns the fields of a Measurement, ``seconds`` of the fits and ``peak_bytes`` resident beyond the features; and
    some fits' objectives.
    """
    x_NF, labels_N = synthetic(n, features)
    path: Callable[..., Fits] = _ours if method in TITLES else _scikit_learns
    list(path(x_NF[: 2 * CLASSES, :2], labels_N[: 2 * CLASSES], [1.0]))  # what is loaded once is no part of it
    kept = np.linspace(0, ridges - 1, _COMPARED).round().astype(int)
    before, began = _resident(), time.perf_counter()
    fitted = enumerate(path(x_NF, labels_N, np.geomspace(1e5, 1e-6, ridges)))
    found = [one for place, one in fitted if place in kept]
    seconds, after = time.perf_counter() - began, _resident()
    once = {"median": seconds, "q1": seconds, "q3": seconds, "n": 1}
    measured = {"seconds": once, "peak_bytes": after - before, "peak_rss_bytes": after}
    return {"measured": measured, "objectives": [_objective(x_NF, labels_N, *one) for one in found]}


def synthetic(n: int, features: int) -> tuple[Floats, NDArray[np.int64]]:
    """Clouds whose variance falls as 1/k along the k-th of their axes, of mean square 1, centred."""
    random, labels_N = np.random.default_rng(0), np.arange(n) % CLASSES
    axes_FF, _ = np.linalg.qr(random.standard_normal((features, features)).astype(np.float32))
    axes_FF /= np.sqrt(np.arange(1, features + 1, dtype=np.float32))[:, None]
    centres_CF = 0.5 * random.standard_normal((CLASSES, features)).astype(np.float32)
    x_NF = np.empty((n, features), np.float32)
    for start in range(0, n, _ROWS):
        own = labels_N[start : start + _ROWS]
        noise_nF = random.standard_normal((len(own), features), dtype=np.float32)
        x_NF[start : start + _ROWS] = (centres_CF[own] + noise_nF) @ axes_FF
    x_NF -= x_NF.mean(axis=0)
    x_NF /= np.sqrt(np.vdot(x_NF, x_NF) / x_NF.size)
    return x_NF, labels_N


def _ours(x_NF: Floats, labels_N: NDArray[np.int64], ridges: Sequence[float]) -> Fits:
    import torch

    from benchmark.probes.multinomial import Regression, Scaling, fits
    from benchmark.probes.subject import Features
    from benchmark.runtime.process import Process

    rows = Features(torch.from_numpy(x_NF), torch.from_numpy(labels_N))
    scaling = Scaling(torch.zeros(x_NF.shape[1], dtype=torch.float64), 1.0)
    regression = Regression([rows], scaling, Process(torch.device("cpu")), lambda: None)
    for ridge, fitted in zip(ridges, fits(regression, ridges, CLASSES), strict=True):
        yield float(ridge), fitted.weight.numpy(), fitted.bias.numpy()


def _scikit_learns(x_NF: Floats, labels_N: NDArray[np.int64], ridges: Sequence[float]) -> Fits:
    """Each fit begun where the last one ended. By its own tolerance, 1e-4, it would not leave where it begins."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(warm_start=True, tol=1e-6, max_iter=1000)
    for ridge in ridges:
        model.set_params(C=1 / ridge)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x_NF, labels_N)
        yield float(ridge), model.coef_, model.intercept_


def _objective(x_NF: Floats, labels_N: NDArray[np.int64], ridge: float, weight_CF: Floats, bias_C: Floats) -> float:
    """In float64, whatever it was fitted in."""
    from scipy.special import logsumexp

    weight_FC, total = weight_CF.astype(np.float64).T, 0.0
    for start in range(0, len(x_NF), _ROWS):
        scores_nC = x_NF[start : start + _ROWS].astype(np.float64) @ weight_FC + bias_C
        own = scores_nC[np.arange(len(scores_nC)), labels_N[start : start + _ROWS]]
        total += float((logsumexp(scores_nC, axis=1) - own).sum())
    return total + ridge / 2 * float(np.vdot(weight_FC, weight_FC))


def _resident() -> int:
    """The most that the program has held so far, in bytes. What ``getrusage`` tells begins with its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024
