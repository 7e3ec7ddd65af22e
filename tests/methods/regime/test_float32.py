"""Features in float32: what they save, and what they err by."""

import tracemalloc

import numpy as np
import pytest

from methods.regime import KernelBarlowTwins, KernelSpectral, KernelVICReg

EVERY_LOSS = pytest.mark.parametrize("cls", [KernelSpectral, KernelVICReg, KernelBarlowTwins])


def fitted(cls, given, **parameters):
    estimator = cls(4, base_kernel=given.kernel, center=True, random_state=0, **parameters)
    return estimator.fit(given.rows, groups=given.groups)


def error(estimator, exact, rows):
    expected = exact.kernel(rows)
    return np.linalg.norm(estimator.kernel(rows) - expected) / np.linalg.norm(expected)


@EVERY_LOSS
@pytest.mark.parametrize("basis", ["exact", "uniform", "fourier"])
@pytest.mark.parametrize("ridge", [1e-4, 1e-2])
def test_the_induced_kernel_errs_by_less_than_1e_4(cls, basis, ridge, problem):
    given = problem(n_images=130, width=6)
    parameters = {"basis": basis, "basis_size": 200, "ridge": ridge}
    exact, estimator = (fitted(cls, given, dtype=dtype, **parameters) for dtype in ("float64", "float32"))
    assert 0 < error(estimator, exact, given.new) < 1e-4
    np.testing.assert_allclose(estimator.eigenvalues_, exact.eigenvalues_, rtol=1e-4)
    assert estimator.components_.dtype == estimator.transform(given.new).dtype == np.float64


@EVERY_LOSS
def test_the_exact_basis_takes_about_half_the_memory(cls, problem, monkeypatch):
    monkeypatch.setattr("methods.regime.kernels.BLOCK_ENTRIES", 1 << 18)
    given = problem(n_images=300)
    peaks = {}
    for dtype in ("float64", "float32"):
        tracemalloc.start()
        fitted(cls, given, dtype=dtype, ridge=0.1)
        peaks[dtype] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks["float32"] < 0.65 * peaks["float64"]


def test_streaming_sums_in_float64(problem):
    given = problem(n_images=100)
    exact, estimator = (
        KernelSpectral(4, base_kernel=given.kernel, basis=given.rows[::9], ridge=0.01, dtype=dtype)
        for dtype in ("float64", "float32")
    )
    for rows, groups in zip(np.split(given.rows, 20), np.split(given.groups, 20), strict=True):
        exact.partial_fit(rows, groups=groups)
        estimator.partial_fit(rows, groups=groups)
    assert error(estimator, exact, given.new) < 1e-5


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"dtype": "float16"}, "dtype='float16' is unknown: give float64 or float32"),
        ({"dtype": "float32", "ridge": 1e-5}, "ridge == 1e-05, must be at least 0.0001 with dtype='float32'"),
    ],
)
def test_what_float32_cannot_do_is_refused(parameters, message, problem):
    given = problem()
    with pytest.raises(ValueError, match=message):
        KernelSpectral(2, **parameters).fit(given.rows, groups=given.groups)
