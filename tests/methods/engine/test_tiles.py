"""Over several tiles and blocks the losses are still their textbook forms."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from methods import mmd, registry
from methods.engine.tiles import LEAST_COLUMNS
from methods.kernels.kernel import distance

pytestmark = pytest.mark.usefixtures("small_tiles")


class Dispatched(TorchDispatchMode):
    """Counts operations."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


MANY = 64 + 12  # rows: more than a tile
TWO_FORMS = ("sfrik_l1", "sfrik_l2", "spectral", "vicreg", "barlow_twins", "frossl", "wasserstein", "vne", "mmcr")
TILED = [(name, form) for name in TWO_FORMS for form in ("primal", "dual")]
TILED += [(name, "auto") for name in ("sfrik_l3", "auh", "simclr", "simclr_sfrik", "dcl")]


@pytest.mark.parametrize(("name", "form"), TILED)
def test_several_tiles_equal_the_textbook_form(name, form, make_views, assert_is_the_textbook):
    assert_is_the_textbook(name, make_views(MANY, 6), form=form)


@pytest.mark.parametrize("name", ["vicreg", "barlow_twins", "frossl", "mmcr", "wasserstein"])
def test_several_blocks_of_columns_equal_the_textbook_form(name, make_views, assert_is_the_textbook):
    assert_is_the_textbook(name, make_views(MANY, 2 * LEAST_COLUMNS + 88), form="dual")


@pytest.mark.parametrize(("name", "count", "dim", "most"), [("sfrik_l2", 64, 8192, 270), ("sigreg", 64, 64, 320)])
def test_in_a_gpus_sizes_a_small_batch_is_one_block(
    name, count, dim, most, make_views, assert_is_the_textbook, monkeypatch
):
    """What is dispatched costs a GPU's host more than the small blocks of a CPU save: on the CPU here."""
    for module in ("tiles", "matmul", "slices"):
        monkeypatch.setattr(f"methods.engine.{module}.kind_of", lambda device: "cuda")
    views = make_views(count, dim)
    assert_is_the_textbook(name, views)
    method = registry.get(name)
    with Dispatched() as dispatched:
        method.loss(views, **method.resolve({}, dim)).value.backward()
    assert dispatched.count <= most


def test_a_kernel_that_is_not_smooth_where_rows_agree(make_views):
    """The distance kernel's slope is infinite at 1: equal rows must give a finite gradient."""
    batch = make_views(20, 8, dtype=torch.float32)
    with torch.no_grad():
        batch[0][3] = batch[0][4]
    value = mmd(batch, kernel=distance(1.0, 8)).value
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(value, batch))
