"""The engine itself: tiles, precision, memory, arithmetic and what it hands to autograd."""

import weakref
from functools import partial

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from methods import auh, barlow_twins, mmd, registry, sfrik, simclr, simclr_sfrik, spectral, vicreg
from methods.kernels import distance, legendre, rbf
from methods.products import CPU_TILE

MANY = CPU_TILE + 76  # rows: more than a tile


def plain(textbook, width):
    """(ours, the plain form) of every loss."""
    return {
        "sfrik": (
            partial(sfrik, align_weight=0.5),
            lambda v: textbook.kernel_loss(v, legendre((1, 40, 40), width), 0.5),
        ),
        "auh": (
            partial(auh, align_weight=0.5),
            lambda v: textbook.kernel_loss(v, rbf(2.5, width), 0.5, statistic="U", log=True),
        ),
        "simclr": (partial(simclr, temperature=0.2), lambda v: textbook.nt_xent(v, 0.2)),
        "simclr_sfrik": (partial(simclr_sfrik, temperature=0.2), lambda v: textbook.nt_xent_sfrik(v, 0.2)),
        "spectral": (partial(spectral, form="dual", reg_weight=3.0), lambda v: textbook.spectral(v, 3.0)),
        "vicreg": (partial(vicreg, form="dual", align_weight=0.1), lambda v: textbook.vicreg(v, 0.1)),
        "barlow_twins": (partial(barlow_twins, form="dual"), textbook.barlow_twins),
    }


LOSSES = ("sfrik", "auh", "simclr", "simclr_sfrik", "spectral", "vicreg", "barlow_twins")


@pytest.mark.parametrize(("count", "width", "views"), [(40, 90, 2), (40, 90, 3), (300, 20, 2)])
@pytest.mark.parametrize("name", LOSSES)
def test_equals_the_plain_form(name, count, width, views, textbook, make_views, assert_same_derivative):
    batch = make_views(count, width, views)
    ours, reference = plain(textbook, width)[name]
    assert_same_derivative(batch, ours(batch).value, reference(batch))


@pytest.mark.parametrize("name", LOSSES)
def test_several_tiles_equal_the_plain_form(name, textbook, make_views, assert_same_derivative):
    batch = make_views(MANY, 6)
    ours, reference = plain(textbook, 6)[name]
    assert_same_derivative(batch, ours(batch).value, reference(batch))


@pytest.mark.parametrize("loss", ["vicreg", "barlow_twins"])
def test_several_blocks_of_columns_equal_the_plain_form(loss, textbook, make_views, assert_same_derivative):
    batch = make_views(MANY, 2000)
    ours, reference = plain(textbook, 2000)[loss]
    assert_same_derivative(batch, ours(batch).value, reference(batch))


def test_a_kernel_that_is_not_smooth_where_rows_agree(make_views):
    """The distance kernel's slope is infinite at 1: equal rows must give a finite gradient."""
    batch = make_views(20, 8, dtype=torch.float32)
    with torch.no_grad():
        batch[0][3] = batch[0][4]
    value = mmd(batch, kernel=distance(1.0, 8)).value
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(value, batch))


CASES = [(name, "auto") for name in registry.names()]
CASES += [(name, "primal") for name in ("sfrik_l1", "sfrik_l2", "spectral", "vicreg", "barlow_twins")]


def gradients(name, batch, **options):
    method = registry.get(name)
    loss = method(batch, **options)
    return loss.value, torch.cat(torch.autograd.grad(loss.value, batch)).double()


def error_of(name, dtype, autocast=None, form="auto"):
    """Relative error of value and gradient against float64 for the same embeddings."""
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(256, 512, generator=generator)
    batch = [(shared + 0.5 * torch.randn(256, 512, generator=generator)).to(dtype) for _ in range(2)]
    exact, expected = gradients(name, [view.double().requires_grad_() for view in batch])
    with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
        value, got = gradients(name, [view.requires_grad_() for view in batch], form=form)
    assert value.dtype == torch.float32
    return (value - exact).abs() / exact.abs(), (got - expected).norm() / expected.norm()


@pytest.mark.parametrize(("name", "form"), CASES)
def test_float32_is_right_to_its_rounding(name, form):
    value, gradient = error_of(name, torch.float32, form=form)
    assert value < 1e-6
    assert gradient < 3e-6


@pytest.mark.parametrize(("name", "form"), CASES)
@pytest.mark.parametrize(
    ("dtype", "autocast"),
    [
        (torch.bfloat16, None),
        (torch.float16, None),
        (torch.float32, torch.bfloat16),
        (torch.float32, torch.float16),
        (torch.bfloat16, torch.bfloat16),
    ],
)
def test_half_precision_keeps_the_gradient_within_a_percent(name, form, dtype, autocast):
    value, gradient = error_of(name, dtype, autocast, form)
    assert value < 2e-3
    assert gradient < 1e-2


@pytest.mark.parametrize("name", ["sfrik_l3", "simclr", "vicreg"])
def test_small_gradients_survive_float16_with_a_scaled_loss(name):
    """A gradient scaler multiplies the loss so that gradients do not vanish: the product comes before the rounding."""
    views = [torch.randn(64, 256, generator=torch.Generator().manual_seed(seed)).half() for seed in range(2)]
    _, expected = gradients(name, [view.double().requires_grad_() for view in views])
    views = [view.requires_grad_() for view in views]
    method = registry.get(name)
    value = method(views).value
    (value * 2.0**14).backward()
    got = torch.cat([view.grad for view in views]).double() / 2.0**14
    assert (got - expected).norm() < 1e-2 * expected.norm()


def test_upstream_factors_scale_the_gradient(make_views):
    batch = make_views(20, 8)
    value = sfrik(batch).value
    once = torch.autograd.grad(value, batch, retain_graph=True)
    thrice = torch.autograd.grad(3 * value, batch, retain_graph=True)
    torch.testing.assert_close(thrice, tuple(3 * gradient for gradient in once))
    torch.testing.assert_close(torch.autograd.grad(value, batch), once)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(value, batch)


@pytest.mark.parametrize("name", registry.names())
def test_second_derivatives_are_refused(name, make_views):
    batch = make_views(12, 6)
    value = registry.get(name)(batch).value
    gradient, *_ = torch.autograd.grad(value, batch, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        gradient.square().sum().backward()


@pytest.mark.parametrize("name", registry.names())
def test_only_the_gradients_are_kept_for_backward(name, make_views):
    batch, kept = make_views(12, 6), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        registry.get(name)(batch)
    small = 3 * 12 * 4  # the few numbers an image that the outer function works on
    assert sorted(tensor.numel() for tensor in kept if tensor.numel() > small) == []
    assert [tensor.shape for tensor in kept if tensor.shape == (12, 6)] == [(12, 6)] * 2


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
    [("sfrik_l3", 2 * 3.25), ("auh", 2 * 3.25), ("simclr", 4 * 3.25), ("vicreg", 2 * 3.25), ("barlow_twins", 2 * 3.25)],
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


@pytest.mark.parametrize("name", registry.names())
def test_runs_without_data(name):
    """Under FakeTensorMode, as memory is predicted: no value is ever looked at."""
    with FakeTensorMode():
        batch = [torch.randn(64, 256, requires_grad=True) for _ in range(2)]
        method = registry.get(name)
        method(batch).value.backward()
        assert batch[0].grad.shape == (64, 256)


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ([torch.randn(4, 3)], "at least 2 views"),
        ([torch.randn(4, 3), torch.randn(4, 5)], "of one shape"),
        ([torch.randn(4, 3), torch.randn(4, 3).double()], "of one shape, type and device"),
        ([torch.ones(4, 3, dtype=torch.int64)] * 2, "floating-point"),
        ([torch.randn(4, 1)] * 2, "D >= 2"),
        ([torch.randn(1, 3)] * 2, "at least 2 rows"),
    ],
)
@pytest.mark.parametrize("loss", [sfrik, auh, vicreg, barlow_twins, simclr, spectral])
def test_views_that_do_not_match_are_refused(loss, views, message):
    with pytest.raises(ValueError, match=message):
        loss(views)


def test_a_form_that_does_not_exist_is_refused(make_views):
    batch = make_views(6, 4)
    with pytest.raises(ValueError, match="no form 'primal': it takes auto, dual"):
        sfrik(batch, form="primal")
    with pytest.raises(ValueError, match="it takes auto, rowwise"):
        simclr(batch, form="dual")
    with pytest.raises(ValueError, match="kernel is of dimension 5, the embeddings of 4"):
        mmd(batch, kernel=rbf(1.0, 5))


def test_the_cheaper_form_is_chosen():
    wide, tall = ([torch.randn(n, d)] * 2 for n, d in ((16, 64), (128, 8)))
    for loss in (partial(sfrik, weights=(1, 40)), spectral, vicreg, barlow_twins):
        assert loss(wide).form == "dual"
        assert loss(tall).form == "primal"
