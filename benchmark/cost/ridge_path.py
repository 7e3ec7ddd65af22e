"""The probe transfer's fits over a path of ridges, beside scikit-learn's on the same features: what a process does.

Solvers end by measures of their own, so scikit-learn's goes on at every ridge until its objective is ours, or as near.
Along the weaker ridges that can take it hours: it stops after some times our time, and is told as far as it came.
"""

import re
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TITLES = {"ridge_path": "Regression over a path of ridges"}
REFERENCES = {"ridge_path": "sklearn_path"}
CLASSES, RIDGES = 100, 45
# Rows that are made, and whose scores are held, at once.
_ROWS = 1024
# Objectives that differ by less than this part are equal; ours' time over which the reference stops.
EQUAL, PATIENCE = 1e-3, 10

Floats = NDArray[Any]
Fits = Iterator[tuple[float, Floats, Floats]]  # a ridge, weight (C, F) and bias (C,)


def fit(
    method: str, n: int, features: int, ridges: int = RIDGES, targets: Sequence[float] = (), budget: float = np.inf
) -> dict[str, Any]:
    """All fits of ``method``, of ``TITLES`` or ``REFERENCES``, to ``n`` rows of 100 classes, float32.

    A reference's each to an objective of ``targets``, until ``budget`` seconds are over. Returns the fields of a
    Measurement, ``seconds`` of this process's CPU time and ``peak_bytes`` resident beyond the features; and the
    objectives of the fits.
    """
    x_NF, labels_N = synthetic(n, features)

    def path(rows: int, columns: int, ridges: Sequence[float]) -> Fits:
        x_nF, labels_n = x_NF[:rows, :columns], labels_N[:rows]
        return _ours(x_nF, labels_n, ridges) if method in TITLES else _scikit_learns(x_nF, labels_n, ridges, targets)

    for one in path(2 * CLASSES, 2, [1.0]):  # what is loaded once is no part of it
        _objective(x_NF[: 2 * CLASSES, :2], labels_N[: 2 * CLASSES], *one)
    before, seconds = _resident(), 0.0
    objectives: list[float] = []
    fits = path(n, features, np.geomspace(1e5, 1e-6, ridges).tolist())
    while not objectives or seconds < budget:
        began = time.process_time()
        one_ridge = next(fits, None)
        seconds += time.process_time() - began
        if one_ridge is None:
            break
        after = _resident()
        objectives.append(_objective(x_NF, labels_N, *one_ridge))
    once = {"median": seconds, "q1": seconds, "q3": seconds, "n": 1}
    measured = {"seconds": once, "peak_bytes": after - before, "peak_rss_bytes": after}
    return {"measured": measured, "objectives": objectives}


def synthetic(n: int, features: int) -> tuple[Floats, NDArray[np.int64]]:
    """Clouds that overlap, whose variance falls as 1/k along the k-th of their axes, of mean square 1, centred."""
    random, labels_N = np.random.default_rng(0), np.arange(n) % CLASSES
    axes_FF, _ = np.linalg.qr(random.standard_normal((features, features)).astype(np.float32))
    axes_FF /= np.sqrt(np.arange(1, features + 1, dtype=np.float32))[:, None]
    centres_CF = 4 / features**0.5 * random.standard_normal((CLASSES, features)).astype(np.float32)
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


def _scikit_learns(
    x_NF: Floats, labels_N: NDArray[np.int64], ridges: Sequence[float], targets: Sequence[float]
) -> Fits:
    """Each fit begun where the last one ended, its tolerance lowered until its objective is ours, or cannot be."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(warm_start=True, max_iter=1000)
    for place, ridge in enumerate(ridges):
        for tolerance in (1e-4, 1e-5, 1e-6, 1e-7, 1e-8):
            model.set_params(C=1 / ridge, tol=tolerance)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(x_NF, labels_N)
            found = ridge, model.coef_, model.intercept_
            if place >= len(targets) or _objective(x_NF, labels_N, *found) <= (1 + EQUAL) * targets[place]:
                break
        yield found


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
