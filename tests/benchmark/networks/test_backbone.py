"""Networks: shapes, stems, and initial weights that depend on the seed alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmark.cost.plan import plan
from benchmark.data import DataSet, PixelImages, load
from benchmark.networks import backbones
from benchmark.networks.backbones import BackboneSpec, Encoder, build_backbone
from benchmark.networks.base import Input, Job
from benchmark.networks.optimizers import build_optimizer
from benchmark.networks.step import SyncBatchNormCPU, synchronise_batch_norm
from benchmark.networks.trained import Trained
from benchmark.runtime.signals import Requests
from benchmark.runtime.spec import Execution, SettingError
from results.record import METRICS_NAME
from tests.benchmark.probes.subjects import ALONE

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


@pytest.mark.parametrize(("stem", "side", "narrow"), [("imagenet", 64, 2), ("small", 32, 1)])
def test_only_the_layout_of_a_network_depends_on_how_narrow_its_maps_are(stem: str, side: int, narrow: int) -> None:
    spec, images = BackboneSpec(name="resnet18", stem=stem), torch.rand(4, 3, side, side)
    (network, _), (wide, _) = (build_backbone(spec, 3, 0, size) for size in (side, None))
    assert same(network, wide)
    last = [not stage[0].conv1.weight.is_contiguous() for stage in list(network.children())[4:8]]
    assert last == [True] * (4 - narrow) + [False] * narrow
    outputs = [module(images) for module in (network, wide)]
    torch.testing.assert_close(*outputs)
    for output in outputs:
        output.square().mean().backward()
    for one, other in zip(network.parameters(), wide.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-6)


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


def vit(**changed: Any) -> dict[str, Any]:
    data = {"source": "digits", "tune_fraction": 0.2, "limit": 64, "image_size": 32}
    own = {"data": data, "batch_size": 16, "epochs": 2, "backbone": {"name": "timm:test_vit"}}
    return {**NETWORK, **own, "optimizer": {"name": "adamw", "base_lr": 1e-2, "warmup_epochs": 0}, **changed}


def test_a_vision_transformer_of_timm_trains_two_epochs_and_is_measured(tmp_path: Path) -> None:
    network = Trained.model_validate(vit()).resolved()
    data = load(network.data, tmp_path)
    network.make(data, Job(tmp_path, ALONE, Requests(), Execution(log_every=1)))
    assert len((tmp_path / METRICS_NAME).read_text().splitlines()) == 8
    frozen = network.load(tmp_path, data, torch.device("cpu"))
    assert frozen.module(torch.rand(2, 1, 32, 32)).shape == (2, frozen.feature_dim) == (2, 64)
    trained, drawn = frozen.module.state_dict(), network.build(1).backbone.state_dict()
    assert trained.keys() == drawn.keys()
    assert not torch.equal(trained["pos_embed"], drawn["pos_embed"])


def test_size_and_scale_of_images_are_the_models_own_where_nobody_says_otherwise() -> None:
    free = Trained.model_validate(vit(data={"source": "cifar10"})).resolved()
    assert free.data.image_size == 160
    assert free.digest != Trained.model_validate(vit()).resolved().digest
    pixels = PixelImages(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), np.zeros(1, dtype=np.int64))
    data = DataSet("given", pixels, pixels, pixels, pixels, 2, 3, 160, (0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    assert free.input(data) == Input(3, 160, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert Trained.model_validate(NETWORK).input(data) == Input.of(data) != free.input(data)


@pytest.mark.parametrize("name", ["lars", "adamw", "sgd"])
def test_what_timm_lists_does_not_decay(name: str) -> None:
    network = Trained.model_validate(vit(optimizer={"name": name, "base_lr": 0.1, "weight_decay": 0.5}))
    encoder = network.build(1)
    listed = {"backbone.pos_embed", "backbone.cls_token"}
    assert listed <= dict(encoder.named_parameters()).keys()
    optimizer = build_optimizer(network.optimizer, encoder)
    before = {name: param.detach().clone() for name, param in encoder.named_parameters()}
    for param in encoder.parameters():
        param.grad = torch.zeros_like(param)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    optimizer.step()
    still = {name for name, param in encoder.named_parameters() if torch.equal(param, before[name])}
    one_dimensional = {name for name, param in before.items() if param.ndim == 1}
    moved = {name for name, param in before.items() if param.ndim > 1 and bool(param.any())} - listed
    assert listed | one_dimensional <= still
    assert not moved & still


def test_a_name_that_nobody_has_is_told_with_those_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"must be small_cnn, resnet18, resnet34, resnet50, or timm:NAME"):
        BackboneSpec(name="resnet19")
    with pytest.raises(SettingError, match=r"is timm:vit_none, which timm .* has not; it has vit_"):
        Trained.model_validate(vit(backbone={"name": "timm:vit_none"})).resolved()
    monkeypatch.setattr(backbones, "find_spec", lambda name: None)
    with pytest.raises(SettingError, match=r"pip install spherebench\[timm\]"):
        Trained.model_validate(vit()).resolved()


def test_a_model_of_timm_is_planned_without_memory() -> None:
    network = Trained.model_validate(vit())
    planned = plan(network, 2)
    assert planned.parameter_bytes == sum(4 * param.numel() for param in network.build(1).parameters())
    with torch.device("meta"):
        network.build(1)


def test_timms_batch_normalisation_over_processes_keeps_its_activation_and_its_names() -> None:
    network = Trained.model_validate(vit(backbone={"name": "timm:test_efficientnet"})).build(3).backbone.eval()
    x_NCHW, keys = torch.rand(2, 3, 32, 32), list(network.state_dict())
    expected = network(x_NCHW)
    synchronised = synchronise_batch_norm(network, torch.device("cpu")).eval()
    normalisations = [module for module in synchronised.modules() if isinstance(module, SyncBatchNormCPU)]
    assert any(len(module.after) for module in normalisations)
    assert list(synchronised.state_dict()) == keys
    torch.testing.assert_close(synchronised(x_NCHW), expected)
