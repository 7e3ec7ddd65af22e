"""Losses as modules: what a training script does with them, and a peer's examples with ours in place of theirs."""

import copy
import importlib.util
import inspect
import pickle
from dataclasses import replace

import pytest
import torch
from torch import nn

from methods import Pairing, modules, registry, sfrik
from methods.losses.contrastive import simclr_textbook
from methods.losses.infomax import vicreg_textbook
from tests.methods.small import OPTIONS

DRAWING = ("SIGReg", "SUSReg", "VISReg")


def make(name, **settings):
    """The module of a method, with what it needs at a small dimension."""
    return getattr(modules, modules.class_name(name))(**OPTIONS.get(name, {}), **settings)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 16))


def inputs(seed=0, count=24):
    return torch.randn(2, count, 12, generator=torch.Generator().manual_seed(seed))


def gradient_of(model):
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("name", registry.names())
def test_every_method_is_a_module_of_the_same_value(name, make_views, assert_same_derivative):
    views, criterion = make_views(12, 6, 3), make(name).eval()
    value = criterion(*views)
    assert value.shape == ()
    assert isinstance(criterion, nn.Module)
    drawn = {"seed": modules._key(0, "evaluation")} if registry.get(name).draws else {}
    method = registry.get(name)
    options = {**method.resolve(OPTIONS.get(name, {}), 6), **drawn}
    assert_same_derivative(views, value, method.loss(views, **options).value)
    assert method.title in type(criterion).__doc__
    assert set(criterion.loss(*views).terms) == set(method.loss(views, **options).terms)


def test_names_are_those_of_the_papers():
    expected = {"SFRIKL1", "SFRIKL2", "SFRIKL3", "MMD", "AUH", "VICReg", "BarlowTwins", "SimCLR", "SimCLRSFRIK", "DCL"}
    expected |= {"Spectral", "ZonalMMD", "ZonalKSD", "ZonalKL", "SIGReg", "SUSReg", "VISReg"}
    expected |= {"FroSSL", "Wasserstein", "VNE", "MMCR"}
    assert {modules.class_name(name) for name in registry.names()} == expected
    assert modules.SFRIK is modules.SFRIKL3
    assert expected < set(dir(modules))
    with pytest.raises(ImportError, match="cannot import name 'BYOL'"):
        from methods.modules import BYOL  # noqa: F401
    with pytest.raises(AttributeError, match="no attribute 'BYOL': it has SFRIK, SFRIKL1, "):
        modules.BYOL  # noqa: B018


def test_options_are_the_methods(make_views):
    views = make_views(12, 6)
    assert modules.SFRIK(align_weight=0.5)(*views) == sfrik(views, align_weight=0.5).value
    assert modules.SFRIK(published_sim_coeff=3)(*views) == sfrik(views, align_weight=0.5).value
    pairing = Pairing.centre(2, 0)
    assert modules.SFRIK(pairing=pairing)(*views) == sfrik(views, align_weight=4000 / 8192, pairing=pairing).value
    assert modules.SFRIKL2(form="primal").loss(*views).form == "primal"
    with pytest.raises(ValueError, match="method 'sfrik_l3' has no option 'weight': it takes weights, align_weight"):
        modules.SFRIK(weight=1.0)
    with pytest.raises(ValueError, match="give align_weight or published_sim_coeff"):
        modules.VICReg(align_weight=1.0, published_sim_coeff=25)
    with pytest.raises(ValueError, match="at least 2 views"):
        modules.SFRIK()(views[0])


def test_a_method_that_is_registered_later_is_a_module_too(make_views, monkeypatch):
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    registry.register(replace(registry.get("auh"), name="my_uniformity", title="Mine"))
    assert modules.MyUniformity(scale=1.0)(*make_views(12, 6)) == modules.AUH(scale=1.0)(*make_views(12, 6))
    vars(modules).pop("MyUniformity")


def test_a_module_tells_its_options_and_can_be_copied(make_views):
    views = make_views(12, 6)
    criterion = modules.SIGReg(weight=0.3, slices=64, seed=5)
    assert repr(criterion) == "SIGReg(weight=0.3, slices=64, seed=5)"
    criterion(*views)
    copies = [copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion))]
    expected = criterion(*views)
    assert [one(*views) for one in copies] == [expected, expected]
    assert list(inspect.signature(modules.SIGReg).parameters)[:2] == ["weight", "slices"]


@pytest.mark.parametrize("name", DRAWING)
def test_a_loss_that_draws_draws_anew_in_training_and_goes_on_from_its_state(name, make_views):
    views, state = make_views(12, 6), torch.get_rng_state()
    criterion = getattr(modules, name)(slices=64, seed=3)
    values = [criterion(*views).item() for _ in range(3)]
    assert len(set(values)) == 3
    again = getattr(modules, name)(slices=64, seed=3)
    assert [again(*views).item() for _ in range(3)] == values
    other = getattr(modules, name)(slices=64, seed=4)
    assert other(*views).item() != values[0]
    resumed = getattr(modules, name)(slices=64)
    resumed.load_state_dict(criterion.state_dict())
    in_evaluation = {resumed.eval()(*views).item() for _ in range(2)}
    assert len(in_evaluation) == 1
    assert in_evaluation.isdisjoint(values)
    assert resumed.train()(*views).item() == criterion(*views).item()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", registry.names())
def test_only_a_loss_that_draws_has_a_state(name):
    criterion = make(name)
    assert not list(criterion.parameters())
    assert (set(criterion.state_dict()) == {"_extra_state"}) == registry.get(name).draws
    assert bool(criterion.state_dict()) == registry.get(name).draws


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", registry.names())
def test_under_autocast_with_a_scaler(name, dtype):
    """The scaler's gradient, unscaled, is that of single precision but for the rounding of network and loss."""
    gradients = []
    for enabled in (False, True):
        model, criterion = network(), make(name).eval()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=enabled)
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            loss = criterion(*(model(view) for view in inputs()))
        assert loss.dtype == torch.float32
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        gradients.append(gradient_of(model))
        before = model[0].weight.detach().clone()
        scaler.step(optimizer)
        scaler.update()
        assert not torch.equal(model[0].weight, before)
    exact, half = gradients
    # VISReg's gradient jumps where two projections change places.
    assert (half - exact).norm() < (0.3 if name == "visreg" else 0.08) * exact.norm()


@pytest.mark.parametrize("name", ["sfrik_l3", "sigreg", "mmcr", "simclr"])
def test_accumulated_gradients_are_the_sum_of_the_batches(name):
    model, criterion = network(), make(name)
    for seed in range(3):
        criterion(*(model(view) for view in inputs(seed))).backward()
    accumulated = gradient_of(model)
    total, criterion = torch.zeros_like(accumulated), make(name)
    for seed in range(3):
        model.zero_grad()
        criterion(*(model(view) for view in inputs(seed))).backward()
        total += gradient_of(model)
    torch.testing.assert_close(accumulated, total)


@pytest.mark.parametrize("name", ["sfrik_l3", "sigreg", "vne", "barlow_twins"])
def test_with_torch_compile_around_it(name):
    """The training step is compiled, the network in one graph; two steps, so that a loss that draws draws twice."""

    def train(compiled):
        model, criterion = network(), make(name)

        def step(views):
            loss = criterion(*(model(view) for view in views))
            loss.backward()
            return loss

        call = torch.compile(step, backend="aot_eager") if compiled else step
        values = [call(inputs(seed)).item() for seed in range(2)]
        return values, gradient_of(model), getattr(criterion, "calls", None)

    torch._dynamo.reset()
    (expected, gradient, calls), (found, compiled_gradient, compiled_calls) = train(False), train(True)
    assert found == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(compiled_gradient, gradient, rtol=1e-4, atol=1e-6)
    assert compiled_calls == calls
    criterion = torch.compile(make(name).eval(), backend="aot_eager")
    assert criterion(*inputs()).item() == make(name).eval()(*inputs()).item()


class _WrittenOut(nn.Module):
    """A published loss as lightly has it, for where lightly is not installed."""

    def __init__(self, textbook, **options):
        super().__init__()
        self.textbook, self.options = textbook, options

    def forward(self, z0, z1):
        return self.textbook((z0, z1), **self.options)


# A method -> lightly's loss; the same written out; ours, by one line.
LOOPS = {
    "SimCLR": (
        lambda lightly: lightly.NTXentLoss(temperature=0.5),
        lambda: _WrittenOut(simclr_textbook, temperature=0.5),
        lambda: modules.SimCLR(temperature=0.5),
    ),
    "VICReg": (
        lambda lightly: lightly.VICRegLoss(),
        lambda: _WrittenOut(vicreg_textbook, align_weight=25 / 16, variance_weight=25.0, covariance_weight=1.0),
        lambda: modules.VICReg(),
    ),
}


def train_as_in_the_examples(criterion):
    """Losses and weights of the loop of lightly's examples: two epochs over pairs of views of small images."""
    torch.manual_seed(1)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
            self.projection_head = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 16))

        def forward(self, x):
            return self.projection_head(self.backbone(x).flatten(start_dim=1))

    images = torch.rand(64, 3, 12, 12, dtype=torch.float64)
    dataset = torch.utils.data.TensorDataset(images + 0.1 * torch.randn_like(images), images.flip(3))
    dataloader = torch.utils.data.DataLoader(dataset, batch_size=16, drop_last=True)
    model = Model().double()  # so that rounding does not grow with the steps
    optimizer = torch.optim.SGD(model.parameters(), lr=0.06)
    losses = []
    for _ in range(2):
        for x0, x1 in dataloader:
            z0, z1 = model(x0), model(x1)
            loss = criterion(z0, z1)
            losses.append(loss.detach().item())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return losses, model.state_dict()


@pytest.mark.parametrize("theirs", ["lightly", "written out"])
@pytest.mark.parametrize("name", LOOPS)
def test_the_loop_of_the_examples_trains_the_same_with_ours_in_place_of_theirs(name, theirs):
    of_lightly, written_out, ours = LOOPS[name]
    if theirs == "lightly":
        if importlib.util.find_spec("lightly") is None:
            pytest.skip("lightly is not installed")
        import lightly.loss

        peer = of_lightly(lightly.loss)
    else:
        peer = written_out()
    (expected, expected_state), (found, state) = train_as_in_the_examples(peer), train_as_in_the_examples(ours())
    assert found == pytest.approx(expected, rel=1e-6)
    assert found[-1] < found[0]
    torch.testing.assert_close(state, expected_state, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", registry.names())
def test_every_module_trains_in_that_loop(name):
    criterion = make(name)
    losses, state = train_as_in_the_examples(criterion)
    assert all(value.isfinite().all() for value in state.values())
    assert torch.tensor(losses).isfinite().all()
