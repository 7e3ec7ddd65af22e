"""Which form a loss is computed in, and the cost model that chooses it.

Flop of value and gradient on one of W ranks, N rows in all, a view (sphere kernels, VICReg) or a pair (Barlow Twins):

| form | sphere kernels, spectra | VICReg, FroSSL | Barlow Twins |
|---|---|---|---|
| dual, W = 1 | 3 N² D | 3.25 N² D | 6.5 N² D |
| dual, W > 1 | 4 N² D / W | 4 N² D / W | 8 N² D / W |
| primal | 4 N D² / W | 4 N D² / W | 6 N D² / W |

Losses of spectra take eigenvalues and eigenvectors beside, of a D x D or an N x N matrix, the same on every rank:
`eigen` times its third power.

Sliced tests have one form, 4 N D S / W a view for S directions.

What is moved, once, in the forward pass: dual and row-wise forms gather the V N D embeddings in the type of matrix
products or their own; primal ones sum one D x D float32 matrix over the ranks for each view, or pair; VISReg swaps the
projections N S / W of a rank's rows, there and back. The rest is numbers by row, column or direction.
`tests/methods/engine/test_per_rank.py` counts flop and bytes on one rank of four.

Both forms run close to the machine's matrix-product rate, so that flop stands for time. What is done elementwise on the
N x N tiles counts as if D were larger by `entry`. This and `eigen` are :class:`Constants` of a device.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Constants:
    """What of the cost model is the device's. As they come they are a CPU's."""

    entry: float = 128.0  # N and D from 256 to 2048: dual over primal time within a fifth of the model's
    eigen: float = 40.0  # flop for which the time of `torch.linalg.eigh` stands: 36 to 50 on a core at 256 and 512


_in_force = [Constants()]


def constants() -> Constants:
    """Those in force."""
    return _in_force[-1]


@contextmanager
def calibrated(measured: Constants) -> Iterator[None]:
    """Inside, the cost model has these constants: the same on all ranks, which must choose alike."""
    _in_force.append(measured)
    try:
        yield
    finally:
        _in_force.pop()


def choose_form(form: str, costs: Mapping[str, float]) -> str:
    """The form to use: the one asked for, or for "auto" the cheapest. `costs` holds what the loss has, with its flop.

    Raises ValueError where the loss has no such form.
    """
    if form == "auto":
        return min(costs, key=lambda name: costs[name])
    if form not in costs:
        raise ValueError(f"this loss has no form {form!r}: it takes {', '.join(('auto', *costs))}")
    return form


def kernel_costs(count: int, dim: int, world: int, primal: bool) -> dict[str, float]:
    """Of a kernel's pair sums, N = `count`; primal where the kernel has that form."""
    costs = _costs(3.0 if world == 1 else 4.0, 4.0, count, dim, world)
    return costs if primal else {"dual": costs["dual"]}


def covariance_costs(count: int, dim: int, world: int) -> dict[str, float]:
    """Of VICReg's covariance term."""
    return _costs(3.25 if world == 1 else 4.0, 4.0, count, dim, world)


def spectral_costs(count: int, dim: int, world: int) -> dict[str, float]:
    """Of a function of the spectrum of points on the sphere: mostly the smaller matrix's eigenvalues."""
    products = _costs(3.25 if world == 1 else 4.0, 4.0, count, dim, world)
    eigen = constants().eigen
    return {"dual": products["dual"] + eigen * count**3, "primal": products["primal"] + eigen * dim**3}


def correlation_costs(count: int, dim: int, world: int) -> dict[str, float]:
    """Of Barlow Twins' cross-correlation."""
    return _costs(6.5 if world == 1 else 8.0, 6.0, count, dim, world)


def _costs(dual: float, primal: float, count: int, dim: int, world: int) -> dict[str, float]:
    """The table's, from its factors."""
    return {"dual": dual * count**2 * (dim + constants().entry) / world, "primal": primal * count * dim**2 / world}
