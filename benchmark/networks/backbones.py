"""An encoder: a backbone whose features are measured, and a projector whose embeddings the loss sees.

A backbone is one entry of ``BACKBONES``. Of timm's models, an optional extra, all with pooled features are one entry,
``timm:NAME``; what a user leaves open, the images' size and scale, and which parameters decay, is the library's to say.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from benchmark.data import DataSpec
from benchmark.runtime.seeds import fork_rng
from benchmark.runtime.spec import SettingError, Spec

TIMM = "timm:"
RESNETS = ("resnet18", "resnet34", "resnet50")
NARROW = 6  # pixels a side


def _known(name: str) -> str:
    if name not in BACKBONES and not (name.startswith(TIMM) and name != TIMM):
        names = ", ".join(other for other in BACKBONES if other != TIMM)
        raise ValueError(f"is {name!r}, must be {names}, or {TIMM}NAME, a model of timm's")
    return name


class BackboneSpec(Spec):
    """The network whose features are measured. ``stem`` concerns the ResNets only, ``width`` the small CNN."""

    name: Annotated[str, AfterValidator(_known)]
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


def build_backbone(
    spec: BackboneSpec, channels: int, seed: int, image_size: int | None = None
) -> tuple[nn.Module, int]:
    """A backbone on the CPU, and how many features it gives; of some the images' size decides the parameters.

    Its initial weights are drawn by the seed alone: they are the same for all methods, projectors and dimensions.
    """
    with fork_rng(seed, "init", "backbone"):
        network, feature_dim = BACKBONES[entry_of(spec.name)](spec, channels, image_size)
    # Convolutions are faster with the channels last, on the CPU as on tensor cores; the input follows the weights.
    _lay_out(network, torch.channels_last)
    for stage in _narrow_stages(network, spec, image_size):
        _lay_out(stage, torch.contiguous_format)
        stage.register_forward_pre_hook(_channels_first)
    return network, feature_dim


def _lay_out(module: nn.Module, layout: torch.memory_format) -> None:
    """Not by Module.to, which cannot convert fake tensors.

    Cloned, since weights of one input channel are contiguous in both formats, while their strides decide which one the
    convolution's output has.
    """
    for param in module.parameters():
        if param.ndim == 4:
            param.data = param.data.clone(memory_format=layout)


def _narrow_stages(network: nn.Module, spec: BackboneSpec, image_size: int | None) -> list[nn.Module]:
    """Of a ResNet's stages those that are faster on the CPU with the channels first.

    On maps of at most :data:`NARROW` pixels a side, of 256 channels and more, oneDNN's 3 x 3 convolutions and their
    gradients take 1.0 to 2.0 times as long with the channels last; from 7 pixels on, or of 128 channels, 0.9 times.
    """
    if spec.name not in RESNETS or image_size is None:
        return []
    stem, reduced = {"imagenet": 4, "small": 1}[spec.stem], {"layer3": 4, "layer4": 8}
    return [network.get_submodule(name) for name in reduced if image_size <= NARROW * stem * reduced[name]]


def _channels_first(stage: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """On a GPU the layout of the input is kept, which convolutions then take."""
    return (inputs[0].contiguous() if inputs[0].device.type == "cpu" else inputs[0],)


def build_encoder(
    backbone: BackboneSpec,
    projector: ProjectorSpec,
    embedding_dim: int,
    channels: int,
    seed: int,
    image_size: int | None = None,
) -> Encoder:
    """The network that is trained, on the CPU."""
    network, feature_dim = build_backbone(backbone, channels, seed, image_size)
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


def _small_cnn(spec: BackboneSpec, channels: int, image_size: int | None) -> tuple[nn.Module, int]:
    return small_cnn(spec.width, channels)


def _resnet(spec: BackboneSpec, channels: int, image_size: int | None) -> tuple[nn.Module, int]:
    from torchvision import models

    network = getattr(models, spec.name)(zero_init_residual=spec.zero_init_residual)
    feature_dim = network.fc.in_features
    become_backbone(network, spec.stem, channels)
    return network, feature_dim


def _of_timm(spec: BackboneSpec, channels: int, image_size: int | None) -> tuple[nn.Module, int]:
    """As timm draws it, without its classifier. One that is made for a size of images is made for theirs.

    timm looks at values while it builds, which tensors without memory have not: they take the place of real ones.
    """
    import timm

    config = timm_config(spec.name)
    size: dict[str, Any] = {"img_size": image_size} if config.fixed_input_size and image_size is not None else {}
    with torch.device("cpu"), unset_fake_temporarily() as fake:
        network: Any = timm.create_model(spec.name.removeprefix(TIMM), num_classes=0, in_chans=channels, **size)
        if isinstance(fake, FakeTensorMode):
            for module in network.modules():
                for name, param in module.named_parameters(recurse=False):
                    module._parameters[name] = nn.Parameter(fake.from_tensor(param.data))
                for name, buffer in module.named_buffers(recurse=False):
                    module._buffers[name] = fake.from_tensor(buffer)
    return network, getattr(network, "head_hidden_size", network.num_features)


Maker = Callable[[BackboneSpec, int, int | None], tuple[nn.Module, int]]
BACKBONES: dict[str, Maker] = {
    "small_cnn": _small_cnn,
    **dict.fromkeys(RESNETS, _resnet),
    TIMM: _of_timm,
}
"""From the spec, the images' channels and their size to the module and how many features it gives."""


def entry_of(name: str) -> str:
    """The key of ``BACKBONES`` that makes the backbone of this name."""
    return TIMM if name.startswith(TIMM) else name


def timm_config(name: str) -> Any:
    """What timm says of a model: ``input_size``, ``mean``, ``std``, ``fixed_input_size``.

    Raises :class:`SettingError` where timm is not installed, or has no such model.
    """
    if find_spec("timm") is None:
        raise SettingError("backbone.name", f"is {name}, for which timm is needed: pip install spherebench[timm]")
    import timm

    model = name.removeprefix(TIMM)
    if not timm.is_model(model):
        near = ", ".join(timm.list_models(f"{model.partition('_')[0]}*")[:5]) or "resnet18, vit_small_patch16_224"
        raise SettingError("backbone.name", f"is {name}, which timm {timm.__version__} has not; it has {near}, ...")
    return timm.get_pretrained_cfg(model)


def sized(data: DataSpec, backbone: BackboneSpec) -> DataSpec:
    """The data in the size that a model of timm's was made for, where nobody gave another."""
    if entry_of(backbone.name) != TIMM:
        return data
    own = timm_config(backbone.name).input_size[-1]
    return data if data.image_size is not None else data.model_copy(update={"image_size": own})


def scale_of(backbone: BackboneSpec) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and deviation by which a model of timm's has its images scaled; None of others: the data set's."""
    if entry_of(backbone.name) != TIMM:
        return None
    config = timm_config(backbone.name)
    return tuple(config.mean), tuple(config.std)


def undecayed(module: nn.Module) -> set[str]:
    """The parameters, by name, that a library says shall not decay, whatever their shape: a ViT's positions, say."""
    own = {name: getattr(child, "no_weight_decay", None) for name, child in module.named_children()}
    return {f"{name}.{param}" for name, listed in own.items() if listed is not None for param in listed()}
