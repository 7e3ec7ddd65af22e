"""The forms of a loss: what they take in memory and arithmetic, and which is chosen."""

import weakref
from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from methods import barlow_twins, frossl, mmcr, mmd, registry, sfrik, simclr, spectral, vicreg, vne, wasserstein
from methods.engine.forms import Constants, calibrated, choose_form, constants, covariance_costs, spectral_costs
from methods.kernels.kernel import rbf


class LiveBytes(TorchDispatchMode):
    """Bytes of storage created inside and alive, and their peak."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {id(a.untyped_storage()) for a in torch.utils._pytree.tree_leaves((args, kwargs)) if torch.is_tensor(a)}
        result = func(*args, **(kwargs or {}))
        for tensor in filter(torch.is_tensor, torch.utils._pytree.tree_leaves(result)):
            self._track(tensor.untyped_storage(), given)
        return result

    def _track(self, storage, given):
        if storage.data_ptr() in self.seen or id(storage) in given:
            return
        self.seen.add(storage.data_ptr())
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, storage.data_ptr(), storage.nbytes())

    def _forget(self, pointer, size):
        self.seen.discard(pointer)
        self.now -= size


@pytest.mark.parametrize("name", registry.names())
def test_extra_memory_is_at_most_twice_the_embeddings(name):
    batch = [torch.randn(256, 2048, requires_grad=True) for _ in range(2)]
    method = registry.get(name)
    resolved = method.resolve({}, 2048)
    with LiveBytes() as live:
        method(batch, **resolved).value.backward()
    embeddings = sum(view.numel() * 4 for view in batch)
    assert embeddings < live.peak <= 2 * embeddings  # the gradients, and not much more


@pytest.mark.parametrize(
    ("name", "products"),
    [
        ("sfrik_l3", 2 * 3.25),
        ("auh", 2 * 3.25),
        ("simclr", 4 * 3.25),
        ("vicreg", 2 * 3.25),
        ("barlow_twins", 2 * 3.25),
        ("frossl", 2 * 3.25),
        ("wasserstein", 2 * 3.5),
        ("mmcr", 3.5),
    ],
)
def test_arithmetic_of_value_and_gradient(name, products):
    """In units of N² D: 3 a view and a little for blocks on the diagonal; SimCLR has 2N rows, Barlow Twins 2 Grams."""
    count, width = 256, 2048
    batch = [torch.randn(count, width, requires_grad=True) for _ in range(2)]
    method = registry.get(name)
    resolved = method.resolve({}, width)
    with FlopCounterMode(display=False) as counter:
        method(batch, **resolved).value.backward()
    assert counter.get_total_flops() <= products * count**2 * width


def test_a_form_that_does_not_exist_is_refused(make_views):
    batch = make_views(6, 4)
    with pytest.raises(ValueError, match="no form 'primal': it takes auto, dual"):
        sfrik(batch, form="primal")
    with pytest.raises(ValueError, match="it takes auto, rowwise"):
        simclr(batch, form="dual")
    with pytest.raises(ValueError, match="kernel is of dimension 5, the embeddings of 4"):
        mmd(batch, kernel=rbf(1.0, 5))


def test_what_a_device_measured_moves_the_choice_and_ends_with_its_block():
    shape = (512, 512)
    assert choose_form("auto", covariance_costs(*shape, 1)) == "primal"
    with calibrated(Constants(entry=0.0)):
        assert choose_form("auto", covariance_costs(*shape, 1)) == "dual"
        assert vicreg([torch.randn(*shape)] * 2).form == "dual"
    costs = spectral_costs(64, 64, 1)
    with calibrated(Constants(eigen=400.0)):
        dearer = spectral_costs(64, 64, 1)
    assert all(dearer[form] - costs[form] == 360 * 64**3 for form in costs)
    assert constants() == Constants()


def test_the_cheaper_form_is_chosen():
    wide, tall = ([torch.randn(n, d)] * 2 for n, d in ((16, 64), (128, 8)))
    for loss in (partial(sfrik, weights=(1, 40)), spectral, vicreg, barlow_twins, frossl, wasserstein, vne, mmcr):
        assert loss(wide).form == "dual"
        assert loss(tall).form == "primal"
