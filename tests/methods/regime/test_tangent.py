"""Tangent kernels: the empirical one against its definition, and the limit of wide networks."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from methods.regime import NTK, EmpiricalNTK, KernelSpectral, WideReLU


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(6, 4))


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 3, 2), nn.BatchNorm1d(3), nn.Tanh(), nn.Flatten(), nn.Linear(9, 2)
    )


def test_it_is_the_inner_product_of_the_derivatives_of_every_output(rows):
    network = small_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    kernel = EmpiricalNTK(network)
    twin = small_network().double().eval()
    derivatives = []
    for x in torch.from_numpy(rows):
        for output in twin(x[None])[0]:
            gradients = torch.autograd.grad(output, list(twin.parameters()), retain_graph=True)
            derivatives.append(torch.cat([gradient.flatten() for gradient in gradients]))
    J_NCP = torch.stack(derivatives).view(len(rows), 2, -1).numpy()
    expected = np.einsum("ncp,mcp->nm", J_NCP, J_NCP) / 2
    np.testing.assert_allclose(kernel(rows), expected, rtol=1e-10)
    phi = kernel.features(rows)
    np.testing.assert_allclose(phi @ phi.T, expected, rtol=1e-10)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_parts_of_the_rows_give_the_whole(rows, monkeypatch):
    kernel = EmpiricalNTK(small_network())
    whole = kernel(rows)
    monkeypatch.setattr("methods.regime.tangent.ENTRIES", 40)
    np.testing.assert_allclose(kernel(rows), whole, rtol=1e-12)
    np.testing.assert_allclose(kernel(rows[:4], rows), whole[:4], rtol=1e-12)


def test_parameters_that_are_fixed_do_not_count(rows):
    network = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 1, bias=False))
    network[1].requires_grad_(False)
    weight = float(network[1].weight.square().sum())
    np.testing.assert_allclose(EmpiricalNTK(network)(rows), weight * rows @ rows.T, rtol=1e-6)


@pytest.mark.parametrize("depth", [1, 2])
def test_the_tangent_kernel_of_a_wide_network_is_the_infinite_one(depth, rows):
    """Its deviation falls as 1/√width: over 16 times the width, to a quarter, give or take draws."""
    limit = NTK(depth)(rows)

    def deviation(width):
        kernels = [EmpiricalNTK(WideReLU(4, width, depth, 1, seed))(rows) for seed in range(8)]
        return np.sqrt(np.mean([(K - limit) ** 2 for K in kernels])) / np.abs(limit).max()

    narrow, wide = deviation(32), deviation(512)
    assert 0.15 < wide / narrow < 0.4
    assert wide < 0.1


def test_an_estimator_takes_it_and_clones_it(rows):
    learner = KernelSpectral(2, base_kernel=EmpiricalNTK(small_network()))
    z = learner.fit_transform(rows, groups=[0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(clone(learner).fit_transform(rows, groups=[0, 0, 1, 1, 2, 2]), z)


def test_outputs_that_are_no_vectors_are_one_sentence(rows):
    with pytest.raises(ValueError, match=r"maps \(N, D\) to \(1, 1, 4\), must be \(N, C\): flatten it"):
        EmpiricalNTK(nn.Unflatten(1, (1, 4)))(rows)
