"""Checkpoints of every published layout come back bit for bit; what is not exactly a backbone is refused."""

from __future__ import annotations

import argparse
import pickle
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision import models

from benchmark.networks.layouts import Architecture, Branch, build, read_backbone, write_backbone
from benchmark.runtime.errors import UserError

State = dict[str, Tensor]
Loaded = tuple[Architecture, State]
OBOW = {"conv1": "0.Conv", "bn1": "0.bn", "layer1": "1", "layer2": "2", "layer3": "3", "layer4": "4"}
CHILDREN = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
HEAD = {"0.weight": torch.ones(8, 4), "1.weight": torch.ones(8), "1.bias": torch.zeros(8), "3.weight": torch.ones(8, 8)}
OPTIMIZER = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}


@cache
def network(name: str = "resnet18", seed: int = 0, channels: int = 3, stem: str = "imagenet") -> nn.Module:
    """torchvision's ResNet, its statistics and affine parameters drawn too: none may be mistaken for another."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made: nn.Module = getattr(models, name)(num_classes=5)
        if stem == "small":
            made.conv1, made.maxpool = nn.Conv2d(channels, 64, 3, padding=1, bias=False), nn.Identity()
        elif channels != 3:
            made.conv1 = nn.Conv2d(channels, 64, 7, 2, padding=3, bias=False)
        return drawn(made)


@cache
def small_cnn(width: int = 6, channels: int = 1) -> nn.Module:
    layers: list[nn.Module] = []
    for stride, wide_in, wide_out in ((1, channels, width), (2, width, 2 * width), (2, 2 * width, 4 * width)):
        layers += [nn.Conv2d(wide_in, wide_out, 3, stride, 1, bias=False), nn.BatchNorm2d(wide_out), nn.ReLU()]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return drawn(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()))


def drawn(made: nn.Module) -> nn.Module:
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            module.num_batches_tracked.fill_(7)
    return made.eval()


def backbone(made: nn.Module) -> State:
    return {key: tensor for key, tensor in made.state_dict().items() if not key.startswith("fc.")}


def under(prefix: str, state: Mapping[str, Tensor]) -> State:
    return {prefix + key: tensor for key, tensor in state.items()}


def renamed(state: State, names: dict[str, str]) -> State:
    parted = [(key.partition("."), tensor) for key, tensor in state.items()]
    return {f"{names[group]}.{rest}": tensor for (group, _, rest), tensor in parted}


def read(checkpoint: Any, folder: Path, branch: Branch = "teacher") -> Loaded:
    path = folder / "checkpoint.pth"
    torch.save(checkpoint, path)
    try:
        return read_backbone(path, branch)
    finally:
        path.unlink()


def assert_same(loaded: Loaded, made: nn.Module, channels: int = 3) -> None:
    """The state is the network's, and so are the features of the network built for it."""
    architecture, state = loaded
    expected = backbone(made)
    assert state.keys() == expected.keys()
    for key, tensor in expected.items():
        assert state[key].dtype == tensor.dtype
        assert torch.equal(state[key], tensor), key
    built = build(architecture)
    built.load_state_dict(state, strict=True)
    with torch.no_grad():
        images = torch.linspace(-1, 1, 2 * channels * 40 * 40).reshape(2, channels, 40, 40).sin()
        features_NF = built.eval()(images)
        assert torch.equal(features_NF, features(made, images))
    assert architecture.feature_dim == features_NF.shape[1]


@torch.no_grad()
def features(made: nn.Module, images: Tensor) -> Tensor:
    if not hasattr(made, "fc"):
        return made(images)
    seen: list[Tensor] = []
    hook = made.fc.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    made(images)
    hook.remove()
    return seen[0]


def layouts(ours: State, others: State) -> dict[str, tuple[Any, str]]:
    """By source: a checkpoint, and where the backbone is in it."""
    full = {"fc.weight": torch.ones(2, 3), "fc.bias": torch.zeros(2)}
    encoders = under("module.encoder_k.", others | full) | under("module.encoder_q.", ours | full)
    head, optimizer = under("module.projector.", HEAD), {"epoch": 3, "optimizer": OPTIMIZER}
    trunk = {"base_model": {"model": {"trunk": under("_feature_blocks.", ours), "heads": HEAD}}, "optimizer": OPTIMIZER}
    extractors = under("feature_extractor._feature_blocks.", renamed(ours, OBOW))
    extractors |= under("feature_extractor_teacher._feature_blocks.", renamed(others, OBOW))
    return {
        "SFRIK, VICReg: backbone": (ours, "the file itself, no prefix"),
        "torchvision with fc": (ours | full, "the file itself, no prefix"),
        "SFRIK, VICReg: checkpoint": (
            {"model": under("module.backbone.", ours) | head, **optimizer},
            "entry model, prefix module.backbone.",
        ),
        "VICReg: linear probe": (
            {"model": under("module.0.", ours) | under("module.1.", {"weight": torch.ones(2, 3)})},
            "entry model, prefix module.0.",
        ),
        "Barlow Twins: checkpoint": (
            {
                "model": under("module.backbone.", ours) | head | under("module.bn.", {"running_mean": torch.ones(4)}),
                **optimizer,
            },
            "entry model, prefix module.backbone.",
        ),
        "SwAV: weights": (
            under("module.", ours | under("projection_head.", HEAD) | {"prototypes.weight": torch.ones(3, 4)}),
            "the file itself, prefix module.",
        ),
        "SwAV: checkpoint": (
            {"state_dict": under("module.", ours | {"prototypes.weight": torch.ones(3, 4)}), **optimizer},
            "entry state_dict, prefix module.",
        ),
        "DINO": (
            {
                "student": under("module.backbone.", others) | under("module.head.", HEAD),
                "teacher": under("backbone.", ours) | under("head.", HEAD),
                "args": argparse.Namespace(arch="resnet18", lr=0.1, local_crops_scale=[0.05, 0.4]),
                "dino_loss": {"center": torch.zeros(1, 4)},
                **optimizer,
            },
            "entry teacher, prefix backbone.",
        ),
        "MoCo": (
            {"state_dict": encoders | {"module.queue": torch.ones(4, 3)}, **optimizer},
            "entry state_dict, prefix module.encoder_q.",
        ),
        "SimSiam": (
            {"state_dict": under("module.encoder.", ours | full) | under("module.predictor.", HEAD)},
            "entry state_dict, prefix module.encoder.",
        ),
        "solo-learn": (
            {"state_dict": under("backbone.", ours) | under("projector.", HEAD), "optimizer_states": [OPTIMIZER]},
            "entry state_dict, prefix backbone.",
        ),
        "solo-learn, first releases": (
            {"state_dict": under("encoder.", ours) | under("momentum_encoder.", others)},
            "entry state_dict, prefix encoder.",
        ),
        "solo-learn with momentum": (
            {"state_dict": under("momentum_backbone.", others) | under("backbone.", ours)},
            "entry state_dict, prefix backbone.",
        ),
        "lightly": (
            {"state_dict": under("backbone.", renamed(ours, CHILDREN)) | under("projection_head.layers.", HEAD)},
            "entry state_dict, prefix backbone.",
        ),
        "VISSL": (
            {"classy_state_dict": trunk, "phase_idx": 3},
            "entry classy_state_dict.base_model.model.trunk, prefix _feature_blocks.",
        ),
        "OBoW": (
            {"network": under("_feature_blocks.", renamed(ours, OBOW)), "epoch": 3, "meters": None},
            "entry network, prefix _feature_blocks.",
        ),
        "OBoW: checkpoint": (
            {"network": extractors | {"bow_extractor.dictionary": torch.ones(4, 3)}},
            "entry network, prefix feature_extractor._feature_blocks.",
        ),
    }


@pytest.mark.parametrize("source", layouts({}, {}))
def test_every_published_layout_comes_back_bit_for_bit(source: str, tmp_path: Path) -> None:
    ours, others = network(), network(seed=1)
    checkpoint, where = layouts(backbone(ours), backbone(others))[source]
    architecture, _ = loaded = read(checkpoint, tmp_path)
    assert_same(loaded, ours)
    assert architecture == Architecture("resnet18", "imagenet", 64, 3, 512)
    damaged = {**backbone(ours), "layer4.1.bn2.bias": torch.full((512,), torch.nan)}
    assert f"({where}, " in refusal(layouts(damaged, backbone(others))[source][0], tmp_path)


def test_the_branch_asked_for_is_taken(tmp_path: Path) -> None:
    teacher, student = network(), network(seed=1)
    entries = {"teacher": under("backbone.", backbone(teacher)), "student": under("module.", backbone(student))}
    prefixes = under("teacher_backbone.", backbone(teacher)) | under("student_backbone.", backbone(student))
    for checkpoint in (entries, {"state_dict": prefixes}):
        assert_same(read(checkpoint, tmp_path, "teacher"), teacher)
        assert_same(read(checkpoint, tmp_path, "student"), student)
    for alone in ({"student": entries["student"]}, under("student.", backbone(student))):
        assert "with branch student it can be read" in refusal(alone, tmp_path)
        assert_same(read(alone, tmp_path, "student"), student)


@pytest.mark.parametrize(
    ("name", "channels", "stem", "feature_dim"),
    [
        ("resnet34", 3, "imagenet", 512),
        ("resnet50", 3, "imagenet", 2048),
        ("resnet18", 3, "small", 512),
        ("resnet18", 1, "imagenet", 512),
        ("resnet18", 1, "small", 512),
    ],
)
def test_the_architecture_is_read_from_the_shapes(
    name: str, channels: int, stem: Any, feature_dim: int, tmp_path: Path
) -> None:
    made = network(name, channels=channels, stem=stem)
    architecture, _ = loaded = read({"state_dict": under("backbone.", backbone(made))}, tmp_path)
    assert architecture == Architecture(name, stem, 64, channels, feature_dim)
    assert_same(loaded, made, channels)


def test_the_small_cnn_is_read_from_this_projects_checkpoints(tmp_path: Path) -> None:
    made = small_cnn()
    state = under("backbone.", made.state_dict()) | under("projector.", HEAD)
    architecture, _ = loaded = read({"encoder": state, "optimizer": OPTIMIZER}, tmp_path)
    assert architecture == Architecture("small_cnn", "small", 6, 1, 24)
    assert_same(loaded, made, channels=1)
    assert_same(read(made.state_dict(), tmp_path), made, channels=1)


@pytest.mark.parametrize("name", ["resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2"])
def test_large_networks_of_torchvision(name: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        expected = backbone(getattr(models, name)())
    architecture, _ = loaded = read(expanded(expected), tmp_path)
    assert architecture == Architecture(name, "imagenet", 64, 3, 2048)
    loads_strictly(loaded)


@pytest.mark.parametrize(("name", "blocks"), [("resnet50x2", (3, 4, 6, 3)), ("resnet200x2", (3, 24, 36, 3))])
def test_the_doubled_networks_of_vicreg(name: str, blocks: tuple[int, ...], tmp_path: Path) -> None:
    architecture, state = loaded = read(expanded(doubled(blocks)), tmp_path)
    assert architecture == Architecture(name, "imagenet", 128, 3, 4096)
    assert (
        tuple(1 + max(int(key.split(".")[1]) for key in state if key[:6] == f"layer{n}") for n in (1, 2, 3, 4))
        == blocks
    )
    loads_strictly(loaded)
    with torch.device("meta"):
        assert build(architecture)(torch.empty(2, 3, 224, 224)).shape == (2, 4096)


def doubled(blocks: tuple[int, ...]) -> State:
    """Shapes of VICReg's ``ResNet(Bottleneck, blocks, widen=2)``, written out: planes of 128, 256, 512, 1024."""
    convolutions = {"conv1": (128, 3, 7, 7)}
    into = 128
    for number, (count, planes) in enumerate(zip(blocks, (128, 256, 512, 1024), strict=True), start=1):
        for block in range(count):
            at = f"layer{number}.{block}"
            convolutions[f"{at}.conv1"] = (planes, into, 1, 1)
            convolutions[f"{at}.conv2"] = (planes, planes, 3, 3)
            convolutions[f"{at}.conv3"] = (4 * planes, planes, 1, 1)
            if block == 0:
                convolutions[f"{at}.downsample.0"] = (4 * planes, into, 1, 1)
            into = 4 * planes
    state: State = {}
    for name, shape in convolutions.items():
        norm = name.replace("conv", "bn").replace("downsample.0", "downsample.1")
        state[f"{name}.weight"] = torch.empty(shape, device="meta")
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{norm}.{part}"] = torch.empty(shape[0], device="meta")
    return state


def expanded(shapes: Mapping[str, Tensor]) -> State:
    """Tensors of these shapes and of one number each, so that a gigabyte takes a kilobyte."""
    return {key: torch.ones((), dtype=meta.dtype).expand(meta.shape) for key, meta in shapes.items()}


def loads_strictly(loaded: Loaded) -> None:
    architecture, state = loaded
    with torch.device("meta"):
        built = build(architecture)
    built.load_state_dict(state, strict=True, assign=True)


def test_a_built_network_draws_nothing_and_shows_a_forgotten_load() -> None:
    before = torch.get_rng_state()
    built = build(Architecture("resnet18", "small", 64, 1, 512))
    assert torch.equal(torch.get_rng_state(), before)
    assert bool(built.eval()(torch.ones(1, 1, 8, 8)).isnan().all())


def test_counters_may_be_missing_and_half_precision_is_widened(tmp_path: Path) -> None:
    state = {key: tensor.half() for key, tensor in backbone(network()).items() if "num_batches" not in key}
    _, found = read(state, tmp_path)
    assert found.keys() == backbone(network()).keys()
    assert all(torch.equal(found[key], tensor.float()) for key, tensor in state.items())
    assert int(found["bn1.num_batches_tracked"]) == 0


def test_safetensors_and_old_files_are_read(tmp_path: Path) -> None:
    state = under("module.", backbone(network()))
    save_file(state, tmp_path / "weights.bin")
    assert_same(read_backbone(tmp_path / "weights.bin"), network())
    torch.save({"state_dict": state}, tmp_path / "old.pth.tar", _use_new_zipfile_serialization=False)
    assert_same(read_backbone(tmp_path / "old.pth.tar"), network())


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_torchvision_takes_what_is_written(suffix: str, tmp_path: Path) -> None:
    made = network()
    state = {
        key: tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
        for key, tensor in backbone(made).items()
    }
    path = tmp_path / "exported" / f"backbone{suffix}"
    write_backbone(state, path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]

    written = load_file(path) if suffix == ".safetensors" else torch.load(path, weights_only=True)
    assert type(written) is dict
    assert all(tensor.is_contiguous() and tensor.device.type == "cpu" for tensor in written.values())
    assert len({tensor.untyped_storage().data_ptr() for tensor in written.values()}) == len(written)
    fresh = models.resnet18()
    missing, unexpected = fresh.load_state_dict(written, strict=False)
    assert (missing, unexpected) == (["fc.weight", "fc.bias"], [])
    images = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    assert torch.equal(features(fresh.eval(), images), features(made, images))
    assert_same(read_backbone(path), made)


def test_tensors_of_one_storage_are_written_apart(tmp_path: Path) -> None:
    made = small_cnn()
    flat = torch.cat([tensor.flatten() for tensor in made.state_dict().values() if tensor.is_floating_point()])
    state, start = dict(made.state_dict()), 0
    for key, tensor in made.state_dict().items():
        if tensor.is_floating_point():
            state[key] = flat[start : start + tensor.numel()].view(tensor.shape)
            start += tensor.numel()
    path = tmp_path / "backbone.safetensors"
    write_backbone(state, path)
    assert_same(read_backbone(path), made, channels=1)
    write_backbone(state, path.with_suffix(".pth"))
    written = torch.load(path.with_suffix(".pth"), weights_only=True)
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in written.values())


@pytest.mark.parametrize(
    ("changed", "name", "sentence"),
    [
        ({}, "weights.npz", "cannot be written to .npz; .pth, .pt or .safetensors can"),
        ({}, "weights", "cannot be written to no suffix"),
        ({"0.weight": None}, "weights.pth", "no first convolution"),
        ({"fc.weight": torch.ones(2, 2)}, "weights.pth", "key fc.weight is not of a small_cnn"),
        ({"1.bias": torch.full((6,), torch.nan)}, "weights.pth", "key 1.bias holds NaN or infinity"),
        ({}, "file/weights.pth", "cannot be written (File exists); name a file in a folder that can be"),
    ],
)
def test_what_is_not_written(changed: dict[str, Any], name: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    state = {key: tensor for key, tensor in {**small_cnn().state_dict(), **changed}.items() if tensor is not None}
    with pytest.raises(UserError) as raised:
        write_backbone(state, tmp_path / name)
    assert sentence in one_sentence(raised.value)
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]


def one_sentence(error: UserError) -> str:
    text = str(error)
    assert "\n" not in text
    assert "Traceback" not in text
    return text


def refusal(checkpoint: Any, folder: Path) -> str:
    with pytest.raises(UserError) as raised:
        read(checkpoint, folder)
    text = one_sentence(raised.value)
    assert text.startswith(str(folder / "checkpoint.pth"))
    return text


def without(*starts: str) -> Callable[[State], State]:
    return lambda state: {key: tensor for key, tensor in state.items() if not key.startswith(starts)}


def with_(key: str, change: Callable[[Tensor], Tensor]) -> Callable[[State], State]:
    return lambda state: {**state, key: change(state[key])}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without("layer2.1.bn1.running_mean"), "key layer2.1.bn1.running_mean is missing of a resnet18"),
        (without("bn1"), "keys of bn1 missing (of torchvision's names)"),
        (without("layer4"), "keys of layer4 missing"),
        (without("conv1"), "no backbone among the keys of bn1, layer1, layer2, layer3, layer4"),
        (without("layer3.1"), "no known ResNet has 2, 2, 1 and 2 basic blocks"),
        (
            without("layer1.0.conv1"),
            "no known ResNet has 2, 2, 2 and 2 basic blocks, 64 channels in conv1.weight and 0",
        ),
        (lambda state: {**state, "layer1.0.se.weight": torch.ones(2)}, "key layer1.0.se.weight is not of a resnet18"),
        (lambda state: {**state, "conv1.bias": torch.ones(64)}, "key conv1.bias is not of a resnet18"),
        (with_("layer4.1.conv2.weight", lambda t: t[:, :256]), "has shape (512, 256, 3, 3), where (512, 512, 3, 3) is"),
        (with_("conv1.weight", lambda t: t[:, :, 1:6, 1:6]), "conv1.weight is 5 x 5; a stem of 7 x 7 or 3 x 3"),
        (with_("conv1.weight", lambda t: t[:, :, :3]), "conv1.weight is 3 x 7"),
        (with_("conv1.weight", lambda t: t.repeat(2, 1, 1, 1)), "128 channels in conv1.weight and 64"),
        (with_("layer1.0.bn2.bias", lambda t: t / 0), "key layer1.0.bn2.bias holds NaN or infinity"),
        (with_("layer1.0.bn2.bias", lambda t: t.int()), "key layer1.0.bn2.bias is int32, where float32 is needed"),
        (with_("layer1.0.bn2.bias", lambda t: t.to_sparse()), "key layer1.0.bn2.bias is a sparse tensor"),
        (with_("conv1.weight", lambda t: t[:, :0]), "no first convolution"),
        (with_("bn1.num_batches_tracked", lambda t: t.float()), "is float32, where int64 is needed"),
        (lambda state: under("a.", state) | under("b.", state), "several backbones, behind the prefixes 'a.', 'b.'"),
    ],
)
def test_what_is_not_exactly_a_backbone_is_refused(
    change: Callable[[State], State], sentence: str, tmp_path: Path
) -> None:
    assert sentence in refusal({"state_dict": change(backbone(network()))}, tmp_path)


@pytest.mark.parametrize(
    ("checkpoint", "sentence"),
    [
        ({}, "holds a dict of nothing, not a backbone's tensors"),
        ({"epoch": 3, "model": {}}, "holds a dict of epoch, model, not"),
        ({"classy_state_dict": torch.ones(2)}, "no backbone among the keys of classy_state_dict"),
        (torch.ones(3), "holds a Tensor, not"),
        ([torch.ones(3)], "holds a list, not"),
        ({"blocks.0.attn.qkv.weight": torch.ones(6, 2), "cls_token": torch.ones(2)}, "the keys of blocks, cls_token"),
        (under("projector.", HEAD), "the keys of projector"),
    ],
)
def test_a_file_without_a_backbone_is_refused(checkpoint: Any, sentence: str, tmp_path: Path) -> None:
    assert sentence in refusal(checkpoint, tmp_path)


class Runs:
    """Unpickling it calls :func:`sys.exit`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return sys.exit, (3,)


@pytest.mark.parametrize(
    ("beside", "named"),
    [
        (nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        (argparse.Namespace(folder=Path("runs")), f"pathlib.{type(Path()).__name__}"),
        (Runs(), "sys.exit"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_would_run_code_is_refused(beside: Any, named: str, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"model": small_cnn().state_dict(), "args": beside}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError) as raised:
        read_backbone(path)
    text = one_sentence(raised.value)
    assert f"holds {named}, which only running the file's code could load" in text
    assert "torch.save(network.state_dict(), ...)" in text


def test_a_namespace_is_allowed_nowhere_else(tmp_path: Path) -> None:
    torch.save({"args": argparse.Namespace(lr=0.1)}, tmp_path / "args.pth")
    with pytest.raises(UserError, match="holds a dict of args"):
        read_backbone(tmp_path / "args.pth")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "args.pth", weights_only=True)


def files(folder: Path) -> dict[str, Path]:
    from sklearn.linear_model import LogisticRegression

    whole, tensors = folder / "whole.pth", folder / "whole.safetensors"
    torch.save(small_cnn().state_dict(), whole)
    save_file(small_cnn().state_dict(), tensors)
    contents = {
        "cut.pth": whole.read_bytes()[: whole.stat().st_size // 2],
        "cut.safetensors": tensors.read_bytes()[: tensors.stat().st_size // 2],
        "foreign.safetensors": whole.read_bytes(),
        "empty.pth": b"",
        "notes.txt": b"these are not weights\n",
        "page.pth": b"<!DOCTYPE html><html></html>",
        "model.pkl": pickle.dumps(LogisticRegression()),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    for path in files(tmp_path).values():
        with pytest.raises(UserError) as raised:
            read_backbone(path)
        assert one_sentence(raised.value).startswith(f"{path}: damaged, or not what torch.save or safetensors writes")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_file_is_refused(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"folder{suffix}").mkdir()
    for name, reason in (("folder", "Is a directory"), ("nowhere", "No such file or directory")):
        with pytest.raises(UserError) as raised:
            read_backbone(tmp_path / f"{name}{suffix}")
        assert f"{name}{suffix}: cannot be read: {reason}; give one checkpoint file" in one_sentence(raised.value)
