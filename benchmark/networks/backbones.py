"""An encoder: a backbone whose features are measured, and a projector whose embeddings the loss sees."""

from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from benchmark.runtime.seeds import fork_rng
from benchmark.runtime.spec import Spec


class BackboneSpec(Spec):
    """The network whose features are measured. ``stem`` concerns the ResNets only."""

    name: Literal["small_cnn", "resnet18", "resnet34", "resnet50"]
    stem: Literal["imagenet", "small"] = "imagenet"
    width: int = Field(32, ge=1, description="channels of the small CNN's first layer")
    zero_init_residual: bool = True


class ProjectorSpec(Spec):
    """``hidden-hidden-D``: ``layers`` of Linear, BatchNorm, ReLU, then a Linear without bias."""

    hidden: int = Field(8192, ge=2)
    layers: int = Field(2, ge=0)


class Encoder(nn.Module):
    """Images (N, C, H, W) to (features (N, feature_dim), embeddings (N, D))."""

    def __init__(self, backbone: nn.Module, projector: nn.Module, feature_dim: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = projector
        self.feature_dim = feature_dim

    def forward(self, x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(x_NCHW)
        return features, self.projector(features)


def build_backbone(spec: BackboneSpec, channels: int, seed: int) -> tuple[nn.Module, int]:
    """A backbone on the CPU, and how many features it gives.

    Its initial weights are drawn by the seed alone: they are the same for all methods, projectors and dimensions.
    """
    with fork_rng(seed, "init", "backbone"):
        if spec.name == "small_cnn":
            network, feature_dim = small_cnn(spec.width, channels)
        else:
            from torchvision import models

            network = getattr(models, spec.name)(zero_init_residual=spec.zero_init_residual)
            feature_dim = network.fc.in_features
            become_backbone(network, spec.stem, channels)
    # Convolutions are faster with the channels last, on the CPU as on tensor cores; the input follows the weights. Not
    # Module.to, which cannot convert fake tensors; and cloned, since weights of one input channel are contiguous in
    # both formats, while their strides decide which one the convolution's output has.
    for param in network.parameters():
        if param.ndim == 4:
            param.data = param.data.clone(memory_format=torch.channels_last)
    return network, feature_dim


def build_encoder(
    backbone: BackboneSpec, projector: ProjectorSpec, embedding_dim: int, channels: int, seed: int
) -> Encoder:
    """The network that is trained, on the CPU."""
    network, feature_dim = build_backbone(backbone, channels, seed)
    widths = [feature_dim, *[projector.hidden] * projector.layers]
    layers: list[nn.Module] = []
    with fork_rng(seed, "init", "projector"):
        for wide_in, wide_out in pairwise(widths):
            layers += [nn.Linear(wide_in, wide_out), nn.BatchNorm1d(wide_out), nn.ReLU(inplace=True)]
        layers.append(nn.Linear(widths[-1], embedding_dim, bias=False))
    return Encoder(network, nn.Sequential(*layers), feature_dim)


def become_backbone(resnet: nn.Module, stem: str, channels: int) -> None:
    """Take torchvision's classifier off. The small stem: a 3 x 3 convolution of stride 1, no max-pooling."""
    resnet.fc = nn.Identity()
    side, stride = (3, 1) if stem == "small" else (7, 2)
    if stem == "small":
        resnet.maxpool = nn.Identity()
    first = resnet.conv1
    assert isinstance(first, nn.Conv2d)
    if stem == "small" or channels != first.in_channels:
        resnet.conv1 = nn.Conv2d(channels, first.out_channels, side, stride, padding=side // 2, bias=False)
        nn.init.kaiming_normal_(resnet.conv1.weight, mode="fan_out", nonlinearity="relu")


def small_cnn(width: int, channels: int) -> tuple[nn.Module, int]:
    """Three 3 x 3 convolutions with batch normalisation, of w, 2w and 4w channels, the second and third of stride 2."""
    widths = (channels, width, 2 * width, 4 * width)
    layers: list[nn.Module] = []
    for stride, (wide_in, wide_out) in zip((1, 2, 2), pairwise(widths), strict=True):
        convolution = nn.Conv2d(wide_in, wide_out, 3, stride, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(wide_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), widths[-1]
