"""Networks: shapes, stems, and initial weights that depend on the seed alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmark.networks.backbones import Encoder, build_backbone
from benchmark.networks.trained import Trained

NETWORK: dict[str, Any] = {
    "method": "vicreg",
    "embedding_dim": 16,
    "batch_size": 8,
    "epochs": 1,
    "data": {"source": "digits"},
    "augmentation": "grey",
    "backbone": {"name": "small_cnn", "width": 4},
    "projector": {"hidden": 12},
    "optimizer": {"base_lr": 0.1},
}


def encoder(channels: int = 1, **changed: Any) -> Encoder:
    return Trained.model_validate({**NETWORK, **changed}).build(channels)


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("backbone", "side", "feature_dim"),
    [
        ({"name": "small_cnn", "width": 4}, 8, 16),
        ({"name": "small_cnn", "width": 4}, 28, 16),
        ({"name": "resnet18", "stem": "small"}, 16, 512),
        ({"name": "resnet34", "stem": "imagenet"}, 32, 512),
        ({"name": "resnet50", "stem": "imagenet"}, 32, 2048),
    ],
)
def test_features_and_embeddings_have_their_shapes(
    backbone: dict[str, Any], side: int, feature_dim: int, channels: int
) -> None:
    network = encoder(channels, backbone=backbone)
    features, embeddings = network(torch.rand(4, channels, side, side))
    assert network.feature_dim == feature_dim
    assert features.shape == (4, feature_dim)
    assert embeddings.shape == (4, 16)
    assert bool((features >= 0).all())


def test_the_small_stem_keeps_the_resolution_and_the_large_one_quarters_it() -> None:
    def side_of_first_stage(stem: str) -> int:
        backbone = encoder(3, backbone={"name": "resnet18", "stem": stem}).backbone
        sizes: list[int] = []
        backbone.layer1.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[-1]))
        backbone(torch.rand(2, 3, 32, 32))
        return sizes[0]

    assert side_of_first_stage("small") == 32
    assert side_of_first_stage("imagenet") == 8


def test_residual_branches_start_at_zero_where_asked() -> None:
    for zero in (True, False):
        network = encoder(3, backbone={"name": "resnet18", "stem": "small", "zero_init_residual": zero})
        last = [block.bn2.weight for stage in (network.backbone.layer1, network.backbone.layer4) for block in stage]
        assert all(bool((weight == (0 if zero else 1)).all()) for weight in last)


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_the_projector_is_as_published(layers: int) -> None:
    projector = encoder(projector={"hidden": 12, "layers": layers}).projector
    kinds = [type(layer) for layer in projector]
    assert kinds == [nn.Linear, nn.BatchNorm1d, nn.ReLU] * layers + [nn.Linear]
    assert projector[-1].bias is None
    assert (projector[0].in_features, projector[-1].out_features) == (16, 16)


def test_an_untrained_backbone_is_the_one_that_training_starts_from() -> None:
    network = Trained.model_validate({**NETWORK, "seed": 3})
    backbone, feature_dim = build_backbone(network.backbone, 1, 3)
    assert same(backbone, network.build(1).backbone)
    assert feature_dim == 16


@pytest.mark.parametrize("name", ["small_cnn", "resnet18"])
def test_the_backbone_starts_alike_for_all_methods_projectors_and_dimensions(name: str) -> None:
    backbone = {"name": name, "stem": "small"}
    first = encoder(backbone=backbone)
    second = encoder(backbone=backbone, method="simclr", embedding_dim=32, projector={"hidden": 20})
    assert same(first.backbone, second.backbone)
    assert same(first, encoder(backbone=backbone))
    assert not same(first.backbone, encoder(backbone=backbone, seed=1).backbone)
    assert not same(first.projector, encoder(backbone=backbone, seed=1).projector)


def test_the_hidden_layers_of_the_projector_start_alike_for_all_dimensions() -> None:
    assert same(encoder().projector[0], encoder(embedding_dim=32).projector[0])


def test_building_leaves_the_global_generator_where_it_was() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    encoder()
    assert torch.equal(torch.rand(3), expected)


def test_a_network_is_built_and_trained_without_memory_under_fake_tensors() -> None:
    with FakeTensorMode():
        network = encoder(3, embedding_dim=2**20, backbone={"name": "resnet50"}, projector={"hidden": 2**15})
        _, embeddings = network(torch.empty(64, 3, 224, 224))
        embeddings.sum().backward()
    assert embeddings.shape == (64, 2**20)
    gradient: Tensor | None = network.projector[-1].weight.grad
    assert gradient is not None
    assert gradient.shape == (2**20, 2**15)
