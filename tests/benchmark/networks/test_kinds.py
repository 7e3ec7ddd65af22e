"""Every kind of network: its settings and their digest, what it leaves, and what is loaded again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torchvision import models

from benchmark.data import DataSet, DataSpec, ImageSet, load
from benchmark.networks.base import (
    WEIGHTS_NAME,
    Diverged,
    FrozenModule,
    Input,
    Job,
    Network,
    frozen,
    keep_backbone,
    load_weights,
    part_of,
)
from benchmark.networks.kernel import KERNEL_METHODS
from benchmark.networks.kinds import KINDS, Weights, kind_of, method_names, parse_network
from benchmark.networks.layouts import write_backbone
from benchmark.networks.trained import Pretraining, Trained
from benchmark.networks.wide import WIDE_METHODS
from benchmark.runtime.errors import UserError
from benchmark.runtime.process import Process
from benchmark.runtime.signals import Requests
from benchmark.runtime.spec import Execution
from benchmark.suite.config import Settings, merge, nest
from benchmark.suite.run import compose
from benchmark.views.loader import plain_batches
from methods import registry

CPU = torch.device("cpu")
SETTINGS: Settings = {
    "data": {"source": "digits", "limit": 64},
    "embedding_dim": 32,
    "batch_size": 32,
    "epochs": 2,
    "augmentation": "grey",
    "backbone": {"name": "small_cnn", "width": 4},
    "projector": {"hidden": 12},
    "optimizer": {"name": "adamw", "base_lr": 0.01, "warmup_epochs": 1},
    "regime": {"basis_size": 40, "n_views": 4, "n_neighbors": 5, "kernel": {"gamma": 0.1}},
    "evaluation": {"probes": ["knn"], "knn_k": [5]},
}


def network(method: str, **changed: Any) -> Network:
    """The network of :data:`SETTINGS`, with keys such as ``optimizer__base_lr`` changed."""
    dotted = nest({key.replace("__", "."): value for key, value in changed.items()})
    return compose({**merge(SETTINGS, dotted), "method": method}, DataSpec.identified).network


def trained(**changed: Any) -> Trained:
    found = network("vicreg", **changed)
    assert isinstance(found, Trained)
    return found


def job(folder: Path) -> Job:
    return Job(folder, Process(CPU), Requests(), Execution(checkpoint_seconds=1000))


def data_of(network: Network) -> DataSet:
    return load(network.data, Path("nowhere"))  # type: ignore[attr-defined]


def features(loaded: FrozenModule, images: ImageSet) -> Tensor:
    parts, input = torch.arange(len(images)).split(50), loaded.input
    with frozen([loaded.module]):
        made = plain_batches(images, parts, input, CPU)
        found = torch.cat([loaded.module(x_NCHW) for x_NCHW in made])
    assert found.shape == (len(images), loaded.feature_dim)
    return found


@pytest.mark.parametrize("method", method_names())
def test_settings_survive_a_record(method: str) -> None:
    made = network(method)
    again = parse_network(made.model_dump(mode="json"))
    assert type(again) is type(made) is kind_of(method)
    assert again == made
    assert (again.id, again.digest) == (made.id, made.digest)
    assert again.resolved() == made
    assert again.title


def test_every_method_has_one_kind_and_an_unknown_one_lists_them() -> None:
    of_kernels = {*KERNEL_METHODS, *WIDE_METHODS}
    assert sorted(method_names()) == sorted({*registry.names(), *of_kernels, "raw_pixels", "untrained"})
    with pytest.raises(ValueError, match=r"method 'moco' is not known; there are sfrik_l1, .*, raw_pixels, untrained"):
        kind_of("moco")
    assert {kind.__name__ for kind in KINDS} == {kind_of(method).__name__ for method in method_names()}


@pytest.mark.parametrize("method", method_names())
def test_a_kind_has_no_field_of_another(method: str) -> None:
    fields = network(method).model_dump(mode="json")
    for other in KINDS:
        for name in other.model_fields.keys() - fields.keys():
            with pytest.raises(ValidationError, match="Extra inputs"):
                parse_network({**fields, name: 1})
    with pytest.raises(ValidationError):
        parse_network({**fields, "kind": "nothing"})


# Of every key another value, but of the ones that are tested apart.
OTHER = {
    "data__tune_fraction": 0.2,
    "data__limit": 65,
    "embedding_dim": 18,
    "batch_size": 16,
    "epochs": 3,
    "augmentation": "simclr",
    "backbone__width": 8,
    "backbone__zero_init_residual": False,
    "projector__hidden": 16,
    "projector__layers": 1,
    "optimizer__name": "lars",
    "optimizer__base_lr": 0.02,
    "optimizer__weight_decay": 0.5,
    "optimizer__momentum": 0.5,
    "optimizer__trust_coefficient": 0.1,
    "optimizer__warmup_epochs": 0,
    "optimizer__final_lr_fraction": 0.5,
    "seed": 1,
    "precision": "bf16",
    "form": "dual",
    "joint_forward": True,
    "compile": True,
    "loss__published_sim_coeff": 3.0,
}


def test_the_digest_covers_everything_that_decides_the_weights() -> None:
    digests = {trained().digest, network("simclr").digest}
    digests |= {trained(**{key: value}).digest for key, value in OTHER.items()}
    assert len(digests) == 2 + len(OTHER)
    covered = {key.partition("__")[0] for key in OTHER} | {"kind", "method"}
    assert covered == set(Trained.model_fields), "a new field belongs into OTHER"


EVALUATION = ({"split": "tune"}, {"precision": "bf16"}, {"probes": ["logistic"]}, {"knn_temperature": 0.1})


@pytest.mark.parametrize("method", ["vicreg", "raw_pixels", "untrained", "kernel_spectral"])
def test_the_digest_covers_nothing_of_the_evaluation(method: str) -> None:
    for change in EVALUATION:
        settings = merge(SETTINGS, {"evaluation": change, "method": method})
        run, plain = compose(settings, DataSpec.identified), network(method)
        assert run.network == plain
        assert run.id == plain.id


@pytest.mark.parametrize("method", ["raw_pixels", "untrained", "kernel_spectral", "base_kernel"])
def test_what_a_network_is_not_made_with_is_not_in_its_digest(method: str) -> None:
    plain, own = network(method), kind_of(method).model_fields
    for key, value in OTHER.items():
        changed = network(method, **{key: value}) if not key.startswith("loss") else plain
        assert (changed.digest != plain.digest) == (
            key.partition("__")[0] in own and key != "loss__published_sim_coeff"
        )


def test_a_changed_copy_has_a_digest_of_its_own() -> None:
    first = trained()
    second = first.model_copy(update={"seed": 1})
    assert second.digest == trained(seed=1).digest != first.digest
    assert second.id == f"vicreg-d32-s1-{second.digest[:10]}"
    assert first.model_copy().digest == first.digest


def test_loss_options_have_the_methods_defaults() -> None:
    for name in registry.names():
        made = network(name)
        assert isinstance(made, Trained)
        assert made.loss == parse_network({**made.model_dump(mode="json"), "loss": {}}).resolved().loss  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensor, Tensor]:
    """A network's folder, and features and embeddings of the test images by the encoder that was trained."""
    folder = tmp_path_factory.mktemp("trained")
    kept: list[nn.Module] = []

    class Watched(Pretraining):
        def train(self) -> None:
            super().train()
            kept.append(self.step.encoder)

    made = trained()
    data = data_of(made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmark.networks.trained.Pretraining", Watched)
        result = made.make(data, job(folder))
    assert result.cost.train_seconds > 0
    assert result.cost.peak_bytes_step
    assert result.form == "primal"
    (encoder,) = kept
    x_NCHW = torch.cat(list(plain_batches(data.test, torch.arange(500).split(50), Input.of(data), CPU)))
    with frozen([encoder]):
        parts = [encoder(x) for x in x_NCHW.split(50)]
    x_NF, z_ND = (torch.cat(part) for part in zip(*parts, strict=True))
    return folder, x_NF, z_ND


def test_the_trained_encoder_is_loaded_bit_for_bit(finished: tuple[Path, Tensor, Tensor]) -> None:
    folder, x_NF, z_ND = finished
    made = trained()
    data = data_of(made)
    assert made.is_kept(folder)
    loaded = made.load(folder, data, CPU)
    assert (loaded.name, loaded.epochs, loaded.feature_dim) == ("backbone", 2, 16)
    assert loaded.input == Input(1, 8, data.mean, data.std)
    assert torch.equal(features(loaded, data.test), x_NF)
    assert loaded.projector is not None
    with frozen([loaded.projector]):
        embedded = torch.cat([loaded.projector(x) for x in x_NF.split(50)])
    assert torch.equal(embedded, z_ND)


def test_a_network_is_measured_with_the_statistics_that_it_was_trained_with(
    finished: tuple[Path, Tensor, Tensor],
) -> None:
    other = load(DataSpec(source="digits", image_size=12), Path("nowhere"))
    assert trained().load(finished[0], other, CPU).input.image_size == 8


def test_keeping_the_backbone_drops_the_projector(finished: tuple[Path, Tensor, Tensor], tmp_path: Path) -> None:
    shutil.copy(finished[0] / WEIGHTS_NAME, tmp_path)
    size = (tmp_path / WEIGHTS_NAME).stat().st_size
    keep_backbone(tmp_path)
    content = (tmp_path / WEIGHTS_NAME).read_bytes()
    assert len(content) < size
    keep_backbone(tmp_path)
    assert (tmp_path / WEIGHTS_NAME).read_bytes() == content
    made = trained()
    data = data_of(made)
    loaded = made.load(tmp_path, data, CPU)
    assert loaded.projector is None
    assert torch.equal(features(loaded, data.test), finished[1])


def test_weights_that_are_gone_or_damaged_are_one_sentence(
    finished: tuple[Path, Tensor, Tensor], tmp_path: Path
) -> None:
    made = trained()
    data = data_of(made)
    assert not made.is_kept(tmp_path)
    with pytest.raises(UserError, match=r"weights\.safetensors: there is no such file; its weights were not kept"):
        made.load(tmp_path, data, CPU)
    content = (finished[0] / WEIGHTS_NAME).read_bytes()
    for damaged in (content[:50], content[:-7], b""):
        (tmp_path / WEIGHTS_NAME).write_bytes(damaged)
        with pytest.raises(UserError, match=r"weights\.safetensors: is damaged"):
            made.load(tmp_path, data, CPU)


@pytest.mark.parametrize("place", ["backbone.0.weight", "backbone.1.running_var", "projector.3.weight"])
def test_a_weight_that_is_not_finite_after_the_last_step_is_diverged(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Poisoned(Pretraining):
        def train(self) -> None:
            super().train()
            with torch.no_grad():
                self.step.encoder.state_dict()[place].view(-1)[-1] = torch.nan

    monkeypatch.setattr("benchmark.networks.trained.Pretraining", Poisoned)
    made = trained(epochs=1)
    with pytest.raises(Diverged, match="a weight is not finite after 1 epochs, though the loss was"):
        made.make(data_of(made), job(tmp_path))
    assert not made.is_kept(tmp_path)


def test_a_loss_that_is_not_finite_is_diverged(tmp_path: Path) -> None:
    made = trained(optimizer__base_lr=1e30, optimizer__name="sgd", optimizer__warmup_epochs=0)
    with pytest.raises(Diverged, match="the loss became nan by epoch"):
        made.make(data_of(made), job(tmp_path))
    assert not made.is_kept(tmp_path)


def test_pixels_are_the_normalised_images() -> None:
    made = network("raw_pixels")
    data = data_of(made)
    loaded = made.load(Path("nowhere"), data, CPU)
    assert isinstance(loaded, FrozenModule)
    expected = (data.test.pixels.flatten(1) / 255 - data.mean[0]) / data.std[0]
    torch.testing.assert_close(features(loaded, data.test), expected)
    assert (loaded.epochs, loaded.projector) == (0, None)
    assert made.is_kept(Path("nowhere"))


def test_an_untrained_backbone_is_drawn_by_its_seed() -> None:
    first, second = network("untrained"), network("untrained", seed=1)
    data = data_of(first)
    x_NF = features(first.load(Path("nowhere"), data, CPU), data.test)
    assert torch.equal(x_NF, features(first.load(Path("nowhere"), data, CPU), data.test))
    assert not torch.equal(x_NF, features(second.load(Path("nowhere"), data, CPU), data.test))


@pytest.mark.parametrize("method", ["vicreg", "raw_pixels", "untrained"])
def test_points_are_no_images(method: str) -> None:
    made = network(method)
    points = load(DataSpec(source="spirals"), Path("nowhere"))
    with pytest.raises(UserError, match=f"data.source spirals: holds points, not images; {method} needs images"):
        made.check(points, Process(CPU))


def test_a_batch_must_fit_the_data_and_the_ranks() -> None:
    made = trained(batch_size=66)
    with pytest.raises(UserError, match="batch_size is 66, must be at most the number of training images, which is 64"):
        made.check(data_of(made), Process(CPU))
    made = trained(batch_size=63)
    with pytest.raises(UserError, match="must be a multiple of the number of processes, 2"):
        made.check(data_of(made), Process(CPU, 0, 2))


def resnet18(path: Path, channels: int = 3, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    made = models.resnet18()
    made.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    torch.save({name: value for name, value in made.state_dict().items() if not name.startswith("fc.")}, path)
    return path


def weights(path: Path, **changed: Any) -> Weights:
    return Weights(name="own", path=str(path), **changed).resolved()


def test_weights_are_known_by_their_files_content_and_what_is_taken_of_it(tmp_path: Path) -> None:
    path = resnet18(tmp_path / "own.pth")
    first, moved = weights(path), weights(Path(shutil.copy(path, tmp_path / "other.pth")))
    assert first.digest == moved.digest
    assert first.id == f"weights-{first.digest[:10]}"
    assert Weights(name="other", path=str(path)).resolved().digest == first.digest
    changed = [weights(path, branch="student"), weights(path, normalise="imagenet")]
    changed.append(weights(resnet18(tmp_path / "third.pth", seed=1)))
    assert len({first.digest, *(own.digest for own in changed)}) == 4
    assert parse_network(first.model_dump(mode="json")) == first
    with pytest.raises(UserError, match=r"absent\.pth: cannot be read: No such file"):
        weights(tmp_path / "absent.pth")


def test_a_file_of_weights_that_changed_is_not_measured_as_the_same(tmp_path: Path) -> None:
    path = resnet18(tmp_path / "own.pth")
    made = weights(path)
    resnet18(path, seed=1)
    with pytest.raises(UserError, match="is another file than when its measurements began"):
        made.load(tmp_path, load(DataSpec(source="digits"), Path("nowhere")), CPU)


def test_weights_for_colour_take_grey_images_and_none_for_grey_take_colour(tmp_path: Path) -> None:
    grey = load(DataSpec(source="digits", image_size=32), Path("nowhere"))
    some = grey.test.subset(torch.arange(10).numpy())
    for_colour, for_grey = weights(resnet18(tmp_path / "3.pth")), weights(resnet18(tmp_path / "1.pth", 1))
    for made, channels in ((for_colour, 3), (for_grey, 1)):
        loaded = made.load(tmp_path, grey, CPU)
        assert loaded.input == Input(channels, 32, grey.mean * channels, grey.std * channels)
        assert loaded.epochs is None
        assert features(loaded, some).shape == (10, 512)
    with pytest.raises(UserError, match="takes images of 1 channels, those of digits, scaled by imagenet, have 3"):
        weights(tmp_path / "1.pth", normalise="imagenet").load(tmp_path, grey, CPU)


def test_a_trained_resnet_is_torchvisions_but_for_the_classifier(tmp_path: Path) -> None:
    made = trained(backbone={"name": "resnet18", "stem": "imagenet"}, epochs=1, data__limit=32, data__image_size=16)
    data = data_of(made)
    made.make(data, job(tmp_path))
    state, input = load_weights(tmp_path)
    write_backbone(part_of(state, "backbone."), tmp_path / "backbone.pth")
    theirs = models.resnet18()
    theirs.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    missing, unexpected = theirs.load_state_dict(torch.load(tmp_path / "backbone.pth", weights_only=True), strict=False)
    assert (set(missing), unexpected) == ({"fc.weight", "fc.bias"}, [])
    theirs.fc = nn.Identity()
    theirs.load_state_dict(torch.load(tmp_path / "backbone.pth", weights_only=True))
    some = data.test.subset(torch.arange(50).numpy())
    by_theirs = FrozenModule("backbone", theirs, input, 512, None)
    torch.testing.assert_close(
        features(made.load(tmp_path, data, CPU), some), features(by_theirs, some), rtol=1e-6, atol=1e-6
    )


def test_frozen_restores_the_mode_even_after_an_error() -> None:
    modules = nn.BatchNorm1d(2).train(), nn.BatchNorm1d(2).eval()

    def fail_inside() -> None:
        with frozen([*modules, None]):
            assert not any(module.training for module in modules)
            assert not torch.is_grad_enabled()
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    assert [module.training for module in modules] == [True, False]
    assert torch.is_grad_enabled()


def test_what_kinds_offer_is_what_probes_need() -> None:
    offered = {method: network(method).offers for method in method_names()}
    assert offered["vicreg"] == {"features", "rows", "embedding", "backbone"}
    assert offered["untrained"] == {"features", "rows", "backbone"}
    assert offered["raw_pixels"] == {"features", "rows"}
    assert offered["kernel_pca"] == {"features", "rows", "kernel", "views"}
    assert offered["base_kernel_augmented"] == {"rows", "kernel", "views"}
    assert offered["base_kernel"] == {"features", "rows", "kernel"}
    assert get_args(Execution.model_fields["keep"].annotation) == ("encoder", "backbone", "none")
