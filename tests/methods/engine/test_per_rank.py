"""What one rank of several computes and moves, counted on a group whose collectives move nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from methods import registry

WORLD, COUNT, DIM = 4, 64, 512


@pytest.fixture
def group() -> Iterator[dist.ProcessGroup | None]:
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=1, world_size=WORLD, store=FakeStore())
    yield dist.group.WORLD
    dist.destroy_process_group()


class _Moved(TorchDispatchMode):
    """Bytes that collectives hand to this rank: of a gather the gathered, of a reduction the reduced, of a swap all."""

    def __init__(self) -> None:
        super().__init__()
        self.gathered = self.reduced = self.swapped = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            sizes = [leaf.numel() * leaf.element_size() for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
            if "gather" in func.name():
                self.gathered += max(sizes)
            elif "allreduce" in func.name():
                self.reduced += sum(sizes)
            elif "alltoall" in func.name():
                self.swapped += max(sizes)
        return func(*args, **(kwargs or {}))


def _counted(method: str, form: str, rows: int, group: dist.ProcessGroup | None) -> tuple[int, _Moved]:
    views = [torch.randn(rows, DIM).requires_grad_() for _ in range(2)]
    with _Moved() as moved, FlopCounterMode(display=False) as flop:
        registry.get(method)(views, form=form, group=group).value.backward()
    return flop.get_total_flops(), moved


# Of both views together, the whole batch's N rows: as `methods.engine.forms` states them.
@pytest.mark.parametrize(
    ("method", "form", "flop"),
    [
        ("sfrik_l3", "dual", 2 * 4 * COUNT**2 * DIM),
        ("auh", "dual", 2 * 4 * COUNT**2 * DIM),
        ("sfrik_l2", "primal", 2 * 4 * COUNT * DIM**2),
        ("simclr", "auto", 4 * (2 * COUNT) ** 2 * DIM),
        ("vicreg", "dual", 2 * 4 * COUNT**2 * DIM),
        ("vicreg", "primal", 2 * 4 * COUNT * DIM**2),
        ("barlow_twins", "dual", 8 * COUNT**2 * DIM),
        ("barlow_twins", "primal", 6 * COUNT * DIM**2),
        ("frossl", "dual", 2 * 4 * COUNT**2 * DIM),
        ("frossl", "primal", 2 * 4 * COUNT * DIM**2),
    ],
)
def test_each_rank_does_its_share_and_gathers_once(
    method: str, form: str, flop: int, group: dist.ProcessGroup | None
) -> None:
    counted, moved = _counted(method, form, COUNT // WORLD, group)
    assert counted == pytest.approx(flop / WORLD, rel=0.02)
    if form == "primal":
        # One D x D sum a view (VICReg, kernels) or a pair (Barlow Twins), and numbers by row and column.
        matrices = 1 if method == "barlow_twins" else 2
        assert moved.reduced == pytest.approx(matrices * 4 * DIM**2, rel=0.05)
        assert moved.gathered < 0.1 * moved.reduced
    else:
        assert moved.gathered == pytest.approx(2 * 4 * COUNT * DIM, rel=0.02)
        assert moved.reduced < 0.2 * moved.gathered


# How many matrices, and views that are gathered.
@pytest.mark.parametrize(("method", "matrices"), [("wasserstein", 2), ("vne", 2), ("mmcr", 1)])
@pytest.mark.parametrize("form", ["primal", "dual"])
def test_spectra_share_the_products_and_every_rank_has_the_whole_matrix(
    method: str, matrices: int, form: str, group: dist.ProcessGroup | None
) -> None:
    counted, moved = _counted(method, form, COUNT // WORLD, group)
    size = DIM if form == "primal" else COUNT
    own = COUNT * DIM**2 if form == "primal" else COUNT**2 * DIM
    # The function of the matrix from its eigenvectors is made on every rank.
    assert counted == pytest.approx(matrices * (4 * own / WORLD + 2 * size**3), rel=0.02)
    if form == "primal":
        assert moved.reduced == pytest.approx(matrices * 4 * DIM**2, rel=0.05)
        assert moved.gathered < 0.1 * moved.reduced
    else:
        assert moved.gathered == pytest.approx(2 * 4 * COUNT * DIM + matrices * 4 * COUNT**2, rel=0.02)
        assert moved.reduced < 0.1 * moved.gathered


@pytest.mark.parametrize(("method", "slices"), [("sigreg", 1024), ("susreg", 1024), ("visreg", 4096)])
def test_sliced_tests_gather_no_embedding(method: str, slices: int, group: dist.ProcessGroup | None) -> None:
    counted, moved = _counted(method, "auto", COUNT // WORLD, group)
    # Of a row by a direction two products of size D; of the sines two with 5 by 7 sums, and of these, a direction, two
    # with the 2 · 17 of its knots.
    sines, knots = (0, 0) if method == "visreg" else (4 * 5 * 7, 4 * 5 * 7 * 2 * 17)
    assert counted == pytest.approx(2 * slices * (COUNT // WORLD * (4 * DIM + sines) + knots), rel=0.02)
    assert moved.gathered <= 2 * 2 * COUNT * 8  # the distances of aligned views
    if method == "visreg":  # the projections of this rank's rows, there and back
        assert moved.swapped == 2 * 2 * (COUNT // WORLD) * slices * 4
        assert moved.reduced < 0.5 * moved.swapped
    else:
        assert moved.swapped == 0
        assert moved.reduced == pytest.approx(2 * slices * 5 * 7 * 8, rel=0.02)


def test_the_backward_pass_moves_nothing(group: dist.ProcessGroup | None) -> None:
    views = [torch.randn(COUNT // WORLD, DIM).requires_grad_() for _ in range(2)]
    value = registry.get("sfrik_l3")(views, group=group).value
    with _Moved() as moved:
        value.backward()
    assert (moved.gathered, moved.reduced) == (0, 0)
