"""From anybody's checkpoint file to the backbone in it, and back to a file that torchvision reads.

A published checkpoint is a state dict inside some container (``state_dict``, ``model``, ``teacher``, ...), its keys
behind some prefix (``module.encoder_q.``, ``backbone.``, ...), beside projectors, heads and optimizers. Here the
container is opened, the prefix is stripped, everything else is left out, and the architecture is read from the shapes.
Nothing is guessed: a backbone with a key missing, a key too many or a shape that does not fit is refused,
since a loader that skips such keys leaves random weights where they should be.
"""

import argparse
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NoReturn

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from benchmark.networks.backbones import become_backbone, small_cnn
from benchmark.runtime.checkpoints import torch_bytes
from benchmark.runtime.errors import UserError, full_disk_told
from results.record import write_atomically

Branch = Literal["teacher", "student"]
Stem = Literal["imagenet", "small"]
_OTHER: Final[dict[Branch, Branch]] = {"teacher": "student", "student": "teacher"}


@dataclass(frozen=True)
class Architecture:
    """What the shapes of a backbone's weights say of it.

    ``stem`` is "imagenet" for a 7 x 7 convolution of stride 2 and a max-pooling, "small" for a 3 x 3 convolution of
    stride 1 and padding 1 without pooling. Weights tell the kernel's side only: stride, padding and pooling follow from
    it by convention. (solo-learn's CIFAR stem pads 2: its weights load, and pad 1 here.)
    """

    name: str  # torchvision's, or resnet50x2 and resnet200x2 (VICReg's), or small_cnn (this project's)
    stem: Stem
    width: int  # channels out of the first convolution
    channels: int  # channels of the images
    feature_dim: int


# torchvision's ResNets: bottlenecks or not, blocks by layer, channels out of conv1, width of the blocks of layer1.
# The last two are of the VICReg repository: there all channels are doubled, those of conv1 and between blocks too;
# torchvision's wide ones have twice the channels inside a bottleneck only.
_RESNETS: Final = {
    "resnet18": (False, (2, 2, 2, 2), 64, 64),
    "resnet34": (False, (3, 4, 6, 3), 64, 64),
    "resnet50": (True, (3, 4, 6, 3), 64, 64),
    "resnet101": (True, (3, 4, 23, 3), 64, 64),
    "resnet152": (True, (3, 8, 36, 3), 64, 64),
    "wide_resnet50_2": (True, (3, 4, 6, 3), 64, 128),
    "wide_resnet101_2": (True, (3, 4, 23, 3), 64, 128),
    "resnet50x2": (True, (3, 4, 6, 3), 128, 128),
    "resnet200x2": (True, (3, 24, 36, 3), 128, 128),
}
_STEMS: Final[dict[int, Stem]] = {7: "imagenet", 3: "small"}


# How a code base names a backbone's groups of tensors: its name to ours, the first convolution first.
_GROUPS: Final = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
_NAMINGS: Final = {
    "torchvision's names": dict(zip(_GROUPS, _GROUPS, strict=True)),
    "OBoW's names": dict(zip(("0.Conv", "0.bn", "1", "2", "3", "4"), _GROUPS, strict=True)),
    # nn.Sequential(*list(resnet.children())[:-1]), as in lightly's examples.
    "a ResNet's children by number": dict(zip(("0", "1", "4", "5", "6", "7"), _GROUPS, strict=True)),
    "the small CNN's names": {name: name for name in ("0", "1", "3", "4", "6", "7")},
}

# Where state dicts are, in the order in which they are looked for; the branch asked for comes after the first.
_VISSL: Final = ("classy_state_dict", "base_model", "model", "trunk")
_ENTRIES: Final = ("state_dict", "model", "network", "encoder")  # the last is this project's own checkpoints'

# The moving average of a network, and the network, which is what their authors evaluate: MoCo, MoCo v3, solo-learn (by
# two names), lightly, OBoW. DINO's pair is named teacher and student, and is chosen by the branch.
_AVERAGES: Final = (
    ("encoder_k", "encoder_q"),
    ("momentum_encoder", "base_encoder"),
    ("momentum_encoder", "encoder"),
    ("momentum_backbone", "backbone"),
    ("backbone_momentum", "backbone"),
    ("feature_extractor_teacher", "feature_extractor"),
)


def read_backbone(path: Path, branch: Branch = "teacher") -> tuple[Architecture, dict[str, Tensor]]:
    """The backbone in a checkpoint file, ``.safetensors`` or what ``torch.save`` wrote: its architecture and its state.

    The state has torchvision's names, no prefix and no ``fc``; float32, on the CPU. It is looked for in VISSL's path,
    in the entry of the branch, in ``state_dict``, ``model``, ``network``, ``encoder``, and in the file itself.
    ``branch`` concerns files that hold a teacher and a student by these names. Of a network and its moving average
    (MoCo, OBoW, ...) the network is taken.

    No code of the file is run. Raises :class:`UserError` where the file cannot be read as tensors, holds no backbone or
    several, or one that is incomplete, of unknown architecture, or not finite.
    """
    route, found = _unwrapped(_tensors_of_file(path), branch, path)
    entry = f"entry {'.'.join(route)}" if route else "the file itself"
    prefix, naming = _site(found, branch, f"{path} ({entry})")
    state = {
        ours + key.removeprefix(prefix + theirs): tensor
        for key, tensor in found.items()
        for theirs, ours in _NAMINGS[naming].items()
        if key.startswith(f"{prefix}{theirs}.")
    }
    return _checked(state, f"{path} ({entry}, {f'prefix {prefix}' if prefix else 'no prefix'}, {naming})")


def build(architecture: Architecture) -> nn.Module:
    """Images (N, channels, H, W) to features (N, feature_dim), on torch's default device.

    It takes a state of :func:`read_backbone` strictly. Until then its weights are NaN: no random numbers are drawn, and
    a forgotten load cannot go unseen.
    """
    device = torch.get_default_device()
    with torch.device("meta"):
        network = _network(architecture)
    network.to_empty(device=device)
    for tensor in [*network.parameters(), *network.buffers()]:
        tensor.data.fill_(torch.nan if tensor.is_floating_point() else 0)
    return network


def write_backbone(state: Mapping[str, Tensor], path: Path) -> None:
    """Write what torchvision's ``load_state_dict`` takes strictly, but for ``fc.weight`` and ``fc.bias``.

    ``.pth`` and ``.pt`` by ``torch.save``, ``.safetensors`` by safetensors; float32, contiguous, no storage shared. The
    file is written whole or not at all. Raises :class:`UserError` where the suffix is another, ``state`` is not exactly
    a backbone, or the file cannot be written.
    """
    _, whole = _checked(state, f"weights for {path}")
    write_state(whole, path)


def write_state(state: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors under their names, as :func:`write_backbone` does, which knows what they must be."""
    if path.suffix not in {".pth", ".pt", ".safetensors"}:
        raise UserError(
            f"{path}: weights cannot be written to {path.suffix or 'no suffix'}; .pth, .pt or .safetensors can"
        )
    # Cloned: strides become those of the shape (training has the channels last), and no two tensors share a storage.
    plain = {key: tensor.cpu().clone(memory_format=torch.contiguous_format) for key, tensor in state.items()}
    try:
        with full_disk_told(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, save(plain) if path.suffix == ".safetensors" else torch_bytes(plain))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); name a file in a folder that can be"
        ) from error


def _tensors_of_file(path: Path) -> Any:
    """What a file holds, its tensors on the CPU, without running its code."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}; give one checkpoint file") from error
    try:
        # torch.load warns of foreign pickles and of TorchScript; what they come to is told below.
        with warnings.catch_warnings(action="ignore"):
            if head[8:] == b"{":  # safetensors, whatever its name: the length of a header, and the header
                return load_file(path)
            # DINO's and others' checkpoints hold their command line. A Namespace is attributes and nothing else: it has
            # no __reduce__ or __setstate__ of its own, and what it contains passes the same unpickler.
            with torch.serialization.safe_globals([argparse.Namespace]):
                return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:
        # A damaged or foreign file fails in whatever way its bytes say: KeyError, EOFError, UnicodeDecodeError, ...
        if refused := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{path}: holds {refused[1]}, which only running the file's code could load; allowed are tensors, "
                "plain values and argparse.Namespace, so save the backbone alone, by "
                "torch.save(network.state_dict(), ...), where the file comes from"
            ) from error
        # Without torch's own words, which advise weights_only=False.
        raise UserError(
            f"{path}: damaged, or not what torch.save or safetensors writes; a state dict in such a file can be read"
        ) from error


def _unwrapped(content: Any, branch: Branch, path: Path) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """The way to the state dict, and its tensors."""
    for route in (_VISSL, (branch,), *((entry,) for entry in _ENTRIES), ()):
        inner = content
        for step in route:
            inner = inner.get(step) if isinstance(inner, Mapping) else None
        if found := _tensors(inner):
            return route, found
    other = _OTHER[branch]
    if isinstance(content, Mapping) and _tensors(content.get(other)):
        raise UserError(f"{path}: has an entry {other} but no {branch}; with branch {other} it can be read")
    holds = f"a dict of {_some(content)}" if isinstance(content, Mapping) else f"a {type(content).__name__}"
    allowed = ", ".join((".".join(_VISSL), branch, *_ENTRIES))
    raise UserError(f"{path}: holds {holds}, not a backbone's tensors; allowed are a state dict, or one in {allowed}")


def _tensors(value: Any) -> dict[str, Tensor]:
    """The tensors by name in a state dict; empty for everything else."""
    entries = value.items() if isinstance(value, Mapping) else ()
    return {key: tensor for key, tensor in entries if isinstance(key, str) and isinstance(tensor, Tensor)}


def _site(found: Mapping[str, Tensor], branch: Branch, where: str) -> tuple[str, str]:
    """The one prefix, and the naming, under which there is a whole backbone."""
    paths = {key[: dot.start()] for key in found for dot in re.finditer(r"\.", key)}
    sites: list[tuple[str, str]] = []
    fragments: list[tuple[int, str]] = []
    for prefix, naming in _stems(found):
        groups = _NAMINGS[naming]
        missing = [prefix + group for group in groups if prefix + group not in paths]
        if not missing:
            sites.append((prefix, naming))
        elif 2 * len(missing) < len(groups):
            fragments.append((len(missing), f"{' and '.join(missing)} missing (of {naming})"))
    if not sites and fragments:
        raise UserError(f"{where}: keys of {min(fragments)[1]}; a backbone is read whole or not at all")
    if not sites:
        raise UserError(
            f"{where}: no backbone among the keys of {_some({key.split('.')[0] for key in found})}; allowed are "
            "a ResNet (conv1, bn1, layer1 to layer4 behind one prefix) and this project's small_cnn"
        )

    prefixes = {prefix for prefix, _ in sites}
    sites = [(prefix, naming) for prefix, naming in sites if not _of_average(prefix) & prefixes]
    other = _OTHER[branch]
    asked = [site for site in sites if branch in site[0]] or [site for site in sites if other not in site[0]]
    if not asked:
        raise UserError(
            f"{where}: has a backbone of the {other} but none of the {branch}; with branch {other} it can be read"
        )
    if len(asked) > 1:
        raise UserError(
            f"{where}: several backbones, behind the prefixes {', '.join(repr(prefix) for prefix, _ in asked)}; "
            "one is allowed, so save the one that is meant alone"
        )
    return asked[0]


def _stems(found: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Prefix and naming of every convolution that might be a backbone's first; a projector's 0.weight is a matrix."""
    for naming, groups in _NAMINGS.items():
        stem = f"{next(iter(groups))}.weight"
        for key, tensor in found.items():
            prefix = key.removesuffix(stem)
            if prefix != key and (not prefix or prefix.endswith(".")) and tensor.ndim == 4:
                yield prefix, naming


def _of_average(prefix: str) -> set[str]:
    """The prefixes that the network may have whose moving average stands behind ``prefix``."""
    steps = prefix.split(".")
    return {
        ".".join([network if step == average else step for step in steps])
        for average, network in _AVERAGES
        if average in steps
    }


def _some(names: Mapping[Any, Any] | set[str]) -> str:
    listed = sorted(map(str, names))
    return ", ".join(listed[:6]) + (", ..." if len(listed) > 6 else "") or "nothing"


def _checked(state: Mapping[str, Tensor], where: str) -> tuple[Architecture, dict[str, Tensor]]:
    """The architecture, and the state in its order: complete, nothing else, finite, floats as float32."""
    architecture = _architecture(state, where)
    with torch.device("meta"):
        expected = _network(architecture).state_dict()

    def refused(what: str) -> NoReturn:
        raise UserError(f"{where}: {what} {architecture.name} with the {architecture.stem} stem")

    if unexpected := state.keys() - expected.keys():
        refused(f"key {min(unexpected)} is not of a")
    whole: dict[str, Tensor] = {}
    for key, wanted in expected.items():
        if key not in state and not key.endswith("num_batches_tracked"):
            refused(f"key {key} is missing of a")
        # The count of batches is read by no forward pass.
        tensor = state[key].detach() if key in state else torch.zeros(wanted.shape, dtype=wanted.dtype)
        if tensor.shape != wanted.shape:
            refused(f"key {key} has shape {tuple(tensor.shape)}, where {tuple(wanted.shape)} is that of a")
        if tensor.is_floating_point() != wanted.is_floating_point():
            refused(f"key {key} is {tensor.dtype}, where {wanted.dtype} is needed in a".replace("torch.", ""))
        if tensor.layout != torch.strided or tensor.is_meta:
            refused(f"key {key} is a sparse tensor or has no values, where a dense one is needed in a")
        whole[key] = tensor.to(wanted.dtype)
        # NaN comes through minimum and maximum, which unlike isfinite() make no copy.
        if wanted.is_floating_point() and not all(end.isfinite() for end in whole[key].aminmax()):
            refused(f"key {key} holds NaN or infinity, where finite weights are needed in a")
    return architecture, whole


def _architecture(state: Mapping[str, Tensor], where: str) -> Architecture:
    """Read from the first convolution, the blocks a layer, and whether these have a third convolution."""
    resnet = "conv1.weight" in state
    first = state.get("conv1.weight" if resnet else "0.weight")
    if first is None or first.ndim != 4 or not first.numel():
        raise UserError(
            f"{where}: no first convolution; conv1.weight (ResNets) or 0.weight (small_cnn) of 4 axes is needed"
        )
    width, channels, tall, wide = first.shape
    if not resnet:
        return Architecture("small_cnn", "small", width, channels, feature_dim=4 * width)
    if tall != wide or tall not in _STEMS:
        raise UserError(f"{where}: conv1.weight is {tall} x {wide}; a stem of 7 x 7 or 3 x 3 can be read")

    found = [block.groups() for key in state if (block := re.match(r"layer([1-4])\.(\d+)\.", key))]
    one, two, three, four = (max((int(block) + 1 for n, block in found if n == layer), default=0) for layer in "1234")
    bottleneck = "layer1.0.conv3.weight" in state
    block_conv = state.get("layer1.0.conv1.weight")
    inner = 0 if block_conv is None or block_conv.ndim != 4 else block_conv.shape[0]
    for name, known in _RESNETS.items():
        if known == (bottleneck, (one, two, three, four), width, inner):
            return Architecture(name, _STEMS[tall], width, channels, width * 8 * (4 if bottleneck else 1))
    raise UserError(
        f"{where}: no known ResNet has {one}, {two}, {three} and {four} {'bottleneck' if bottleneck else 'basic'} "
        f"blocks, {width} channels in conv1.weight and {inner} in layer1.0.conv1.weight; "
        f"known are {', '.join(_RESNETS)}"
    )


def _network(architecture: Architecture) -> nn.Module:
    if architecture.name == "small_cnn":
        return small_cnn(architecture.width, architecture.channels)[0]
    from torchvision import models

    _, blocks, width, _ = _RESNETS[architecture.name]
    if width == 64:
        network = getattr(models, architecture.name)()
    else:
        network = models.ResNet(models.resnet.Bottleneck, list(blocks))
        _double_channels(network)
    become_backbone(network, architecture.stem, architecture.channels)
    return network


def _double_channels(network: nn.Module) -> None:
    """Twice the channels in and out of every convolution and normalisation."""
    for name, child in list(network.named_modules()):
        if isinstance(child, nn.Conv2d):
            wide_in, wide_out, side = 2 * child.in_channels, 2 * child.out_channels, child.kernel_size[0]
            wider = nn.Conv2d(wide_in, wide_out, side, child.stride[0], padding=side // 2, bias=False)
            network.set_submodule(name, wider)
        elif isinstance(child, nn.BatchNorm2d):
            network.set_submodule(name, nn.BatchNorm2d(2 * child.num_features))
