"""The trained network: a backbone whose features are evaluated, and a projector whose embeddings the loss sees."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from benchmark.runtime.seeded import seeded
from benchmark.suite.run import BackboneSpec, ProjectorSpec, Run


class Encoder(nn.Module):
    """Images (N, C, H, W) to features (N, feature_dim) and embeddings (N, D)."""

    def __init__(self, backbone: nn.Module, projector: nn.Module, feature_dim: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = projector
        self.feature_dim = feature_dim

    def forward(self, x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """(features, embeddings)."""
        features = self.backbone(x_NCHW)
        return features, self.projector(features)


def build_encoder(run: Run, channels: int) -> Encoder:
    """The network of a Run, on the CPU.

    The backbone's initial weights are drawn by the seed alone: they are the same for all methods, projectors and
    embedding dimensions. Without an embedding dimension, the embeddings are the features.
    """
    with seeded(run.seed, "init", "backbone"):
        backbone, feature_dim = _backbone(run.backbone, channels)
    if run.embedding_dim is None:
        return Encoder(backbone, nn.Identity(), feature_dim)
    with seeded(run.seed, "init", "projector"):
        projector = _projector(run.projector, feature_dim, run.embedding_dim)
    return Encoder(backbone, projector, feature_dim)


def _backbone(spec: BackboneSpec, channels: int) -> tuple[nn.Module, int]:
    network, feature_dim = _small_cnn(spec, channels) if spec.name == "small_cnn" else _resnet(spec, channels)
    return _channels_last(network), feature_dim


def _channels_last(network: nn.Module) -> nn.Module:
    """Convolutions are faster with the channels last, on the CPU as on tensor cores; the input follows the weights."""
    # Not Module.to, which cannot convert fake tensors; and cloned, since weights of one input channel are contiguous in
    # both formats, while their strides decide which one the convolution's output has.
    for param in network.parameters():
        if param.ndim == 4:
            param.data = param.data.clone(memory_format=torch.channels_last)
    return network


def _resnet(spec: BackboneSpec, channels: int) -> tuple[nn.Module, int]:
    """torchvision's, without its classifier. The small stem: a 3 x 3 convolution of stride 1, no max-pooling."""
    from torchvision import models

    network = getattr(models, spec.name)(zero_init_residual=spec.zero_init_residual)
    feature_dim = network.fc.in_features
    network.fc = nn.Identity()
    if spec.stem == "small":
        network.conv1 = _stem(channels, kernel_size=3, stride=1)
        network.maxpool = nn.Identity()
    elif channels != network.conv1.in_channels:
        network.conv1 = _stem(channels, kernel_size=7, stride=2)
    return network, feature_dim


def _stem(channels: int, kernel_size: int, stride: int) -> nn.Conv2d:
    stem = nn.Conv2d(channels, 64, kernel_size, stride, padding=kernel_size // 2, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    return stem


def _small_cnn(spec: BackboneSpec, channels: int) -> tuple[nn.Module, int]:
    """Three 3 x 3 convolutions with batch normalisation, of w, 2w and 4w channels, the second and third of stride 2."""
    widths = (channels, spec.width, 2 * spec.width, 4 * spec.width)
    layers: list[nn.Module] = []
    for stride, (wide_in, wide_out) in zip((1, 2, 2), pairwise(widths), strict=True):
        convolution = nn.Conv2d(wide_in, wide_out, 3, stride, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(wide_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), widths[-1]


def _projector(spec: ProjectorSpec, feature_dim: int, embedding_dim: int) -> nn.Module:
    """hidden-...-hidden-D: Linear, BatchNorm and ReLU for every hidden layer, then a Linear without bias."""
    widths = [feature_dim, *[spec.hidden] * spec.layers]
    layers: list[nn.Module] = []
    for wide_in, wide_out in pairwise(widths):
        layers += [nn.Linear(wide_in, wide_out), nn.BatchNorm1d(wide_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], embedding_dim, bias=False))
