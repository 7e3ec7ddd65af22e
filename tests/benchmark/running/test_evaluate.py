"""What outlives training: networks are measured again, exported, packed and cleaned, and nothing is trained for it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.data.images import Input
from benchmark.networks.backbones import BackboneSpec, build_backbone
from benchmark.networks.base import keep_backbone
from benchmark.running.cli import _how_to_load
from results.record import MeasurementRecord, NetworkRecord
from tests.benchmark.conftest import TINY, Command

pytestmark = pytest.mark.usefixtures("no_figures")
RESNET = """
description: a ResNet for tests
defaults:
  data: {source: "npz:DATA", tune_fraction: 0.2}
  augmentation: simclr_small
  backbone: {name: resnet18, stem: imagenet}
  projector: {hidden: 16}
  epochs: 1
  batch_size: 16
  optimizer: {name: adamw, base_lr: 1e-3, warmup_epochs: 0}
  evaluation: {probes: [knn, linear, logistic], knn_k: [5], linear_epochs: 2}
grid: {method: [sfrik_l2], embedding_dim: [8], seed: [0]}
"""


@pytest.fixture
def runs(undisturbed: Path, tmp_path: Path) -> Path:
    """A runs folder of one's own, whose two networks are measured by three probes."""
    return Path(shutil.copytree(undisturbed, tmp_path / "runs"))


def _measured(runs: Path) -> dict[str, MeasurementRecord]:
    found = [MeasurementRecord.read(path) for path in sorted(runs.glob("*/measurements/*.json"))]
    return {f"{record.network}/{record.id}": record for record in found}


def _trained(runs: Path) -> dict[Path, tuple[bytes, int]]:
    """What training left, and when: bytes and time of each file."""
    kept = ("network.json", "weights.safetensors", "metrics.jsonl")
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for name in kept for path in runs.glob(f"*/{name}")}


def test_another_temperature_takes_no_step_and_stands_beside_the_old(runs: Path, tiny: Path, spherebench) -> None:
    before, trained = _measured(runs), _trained(runs)
    result = spherebench("run", tiny, "--out", runs, "--set", "evaluation.knn_temperature=0.1")
    assert result.exit_code == 0, result.output
    assert _trained(runs) == trained
    after = _measured(runs)
    new = [record for name, record in after.items() if name not in before]
    assert {record.probe for record in new} == {"knn"}
    assert len(new) == 2
    assert {name: after[name] for name in before} == before
    table = (runs / "tables" / "accuracy.md").read_text()
    assert "T=0.07" in table
    assert "T=0.1," in table


def test_the_same_through_evaluate(runs: Path, tiny: Path, tmp_path: Path, spherebench) -> None:
    other = Path(shutil.copytree(runs, tmp_path / "other"))
    assert spherebench("run", tiny, "--out", other, "--set", "evaluation.knn_temperature=0.1").exit_code == 0
    result = spherebench("evaluate", runs, "--set", "evaluation.knn_temperature=0.1")
    assert result.exit_code == 0, result.output
    assert {name: record.metrics for name, record in _measured(runs).items()} == {
        name: record.metrics for name, record in _measured(other).items()
    }


def test_evaluate_measures_with_a_probe_that_was_not_listed(runs: Path, spherebench) -> None:
    before = _measured(runs)
    result = spherebench(
        "evaluate", runs, "--set", "evaluation.probes=[logistic]", "--set", "evaluation.logistic_c=0.5"
    )
    assert result.exit_code == 0, result.output
    new = [record for name, record in _measured(runs).items() if name not in before]
    assert [record.probe for record in new] == ["logistic"] * 2
    assert {record.metrics[0].protocol["C"] for record in new} == {0.5}


def test_evaluate_on_other_data(runs: Path, tmp_path: Path, spherebench) -> None:
    path = _npz(tmp_path / "grey.npz", 1)
    result = spherebench("evaluate", runs, "--data", f"npz:{path}", "--set", "evaluation.probes=[knn]")
    assert result.exit_code == 0, result.output
    new = [record for record in _measured(runs).values() if record.settings["data"]["source"] == f"npz:{path}"]
    assert [record.probe for record in new] == ["knn"] * 2
    assert {record.settings["data"]["tune_fraction"] for record in new} == {0.0}
    assert "npz:grey.npz" in (runs / "tables" / "accuracy.md").read_text()


def test_data_are_what_they_hold_wherever_they_lie(tmp_path: Path, spherebench) -> None:
    first, second, moved = _npz(tmp_path / "own.npz", 1), _npz(tmp_path / "other.npz", 1, side=17), tmp_path / "x.npz"
    suite, out = tmp_path / "own.yaml", tmp_path / "runs"
    suite.write_text(
        TINY.replace("source: digits", "source: digits, image_size: 16").replace("limit: 256", "limit: 36")
    )
    asked = ("--out", out, "--set", "method=vicreg", "--set", "batch_size=12", "--set", "evaluation.probes=[knn]")
    assert spherebench("run", suite, *asked, "--set", f"data.source=npz:{first}").exit_code == 0
    assert spherebench("evaluate", out, "--data", f"npz:{second}").exit_code == 0
    before = _measured(out)
    first.rename(moved)
    again = spherebench("run", suite, *asked, "--set", f"data.source=npz:{moved}")
    assert (again.exit_code, "1 runs, 1 recorded" in again.output) == (0, True), again.output
    # Of what it was trained on nothing is needed to measure it elsewhere.
    result = spherebench("evaluate", out, "--data", f"npz:{second}", "--set", "evaluation.knn_k=[3]")
    assert result.exit_code == 0, result.output
    (new,) = [record for name, record in _measured(out).items() if name not in before]
    assert f"knn_top1 {100 * new.metrics[0].value:.1f} %" in result.output, "told of is what was measured now"
    # Others by the name that the first had are not measured as these.
    second.rename(first)
    result = spherebench("evaluate", out, "--set", "evaluation.knn_k=[7]")
    assert result.exit_code == 2, result.output
    assert f"data.source npz:{first}: holds other data" in " ".join(result.output.split())
    assert len(_measured(out)) == len(before) + 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "epochs=3"], "--set epochs: is no setting of measurements"),
        (["--set", "evaluation.knn_t=3"], "--set evaluation.knn_t: unknown key; allowed are"),
        (["--set", "evaluation.knn_temperature=0"], "--set evaluation.knn_temperature: is 0, should be greater"),
        (["--data", "digits", "--set", "data.content=abc"], "--set data.content: is filled in from the data"),
        (["--data", "nothing"], "must be one of"),
        (["--data", "spirals"], "data.source spirals: holds points, not images; this network sees 1"),
        (["--data", "digits", "--set", "data.source=mnist"], "--set data.source: is what --data says"),
        (["--set", "data.tune_fraction=0.1"], "--set data: is only with --data"),
        (["--set", "normalise=imagenet"], "--set normalise: is a setting of weights:PATH"),
        (["--out", "elsewhere"], "--out: only for weights:PATH"),
    ],
)
def test_what_is_no_measurement_is_refused_and_nothing_is_written(
    runs: Path, spherebench, arguments: list[str], said: str
) -> None:
    before = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    result = spherebench("evaluate", runs, *arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
    assert {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()} == before


def test_a_folder_without_networks_is_refused(tmp_path: Path, spherebench) -> None:
    for command in (["evaluate", tmp_path], ["clean", tmp_path], ["export", tmp_path, "--to", tmp_path / "x.pth"]):
        result = spherebench(*command)
        assert result.exit_code == 2
        assert "holds no network" in " ".join(result.output.split())


def test_only_clean_deletes_weights_and_what_is_measured_then_is_trained_again(
    runs: Path, tiny: Path, spherebench
) -> None:
    before = _measured(runs)
    result = spherebench("clean", runs)
    assert result.exit_code == 0
    assert "removed the weights of 2 networks" in result.output
    assert not list(runs.glob("*/weights.safetensors"))
    assert spherebench("run", tiny, "--out", runs).exit_code == 0
    assert not list(runs.glob("*/weights.safetensors"))
    result = spherebench("evaluate", runs, "--set", "evaluation.knn_temperature=0.1")
    assert result.exit_code == 1
    assert "its weights were not kept" in result.output
    assert spherebench("run", tiny, "--out", runs, "--set", "evaluation.knn_temperature=0.1").exit_code == 0
    after = _measured(runs)
    assert {name: after[name].metrics for name in before} == {name: record.metrics for name, record in before.items()}
    assert len(after) == len(before) + 2


def test_what_nothing_was_listed_for_is_measured_on_its_own_data_and_what_is_not_done_is_not(
    runs: Path, spherebench
) -> None:
    note = json.loads((runs / "suite.json").read_text())
    (runs / "suite.json").write_text(json.dumps(note | {"measurements": {}}))
    before = _measured(runs)
    asked = ("evaluate", runs, "--set", "evaluation.probes=[knn]", "--set", "evaluation.knn_k=[3]")
    assert spherebench(*asked).exit_code == 0
    new = [record for name, record in _measured(runs).items() if name not in before]
    assert [(record.status, record.settings["data"]["source"]) for record in new] == [("done", "digits")] * 2
    for path in runs.glob("*/network.json"):
        NetworkRecord.read(path).model_copy(update={"status": "diverged"}).write(path)
    result = spherebench(*asked)
    assert (result.exit_code, "none of its 2 networks is done" in result.output) == (2, True), result.output


def test_what_a_network_has_no_more_is_refused_and_what_is_damaged_costs_its_own_measurements(
    runs: Path, spherebench
) -> None:
    torn, whole = sorted(runs.glob("*/weights.safetensors"))
    torn.write_bytes(torn.read_bytes()[:1000])
    assert spherebench("evaluate", runs, "--set", "evaluation.knn_k=[3]").exit_code == 1
    asked = [record for record in _measured(runs).values() if record.settings.get("knn_k") == [3]]
    assert [record.status for record in asked] == ["failed", "done"]
    torn.unlink()
    keep_backbone(whole.parent)
    before = _measured(runs)
    result = spherebench("evaluate", runs, "--set", "evaluation.probes=[clustering_embedding]")
    assert result.exit_code == 2
    assert f"{whole.parent}: its projector was not kept" in " ".join(result.output.split())
    assert _measured(runs) == before


@pytest.mark.parametrize(("keep", "kept"), [("encoder", {"backbone", "projector"}), ("backbone", {"backbone"})])
def test_what_is_kept_of_the_weights_is_chosen(
    tiny: Path, tmp_path: Path, undisturbed: Path, spherebench, keep: str, kept: set[str]
) -> None:
    from safetensors import safe_open

    out = tmp_path / "kept"
    assert spherebench("run", tiny, "--out", out, "--set", f"keep={keep}").exit_code == 0
    for path in out.glob("*/weights.safetensors"):
        with safe_open(path, "pt") as file:
            assert {name.partition(".")[0] for name in file.keys()} == kept  # noqa: SIM118
    assert {name: record.metrics for name, record in _measured(out).items()} == {
        name: record.metrics for name, record in _measured(undisturbed).items()
    }


def test_weights_that_are_not_kept_go_once_everything_is_measured(tiny: Path, tmp_path: Path, spherebench) -> None:
    out = tmp_path / "none"
    assert spherebench("run", tiny, "--out", out, "--set", "keep=none").exit_code == 0
    assert not list(out.glob("*/weights.safetensors"))
    assert {record.status for record in _measured(out).values()} == {"done"}
    assert "2 runs, 2 recorded" in spherebench("run", tiny, "--out", out, "--set", "keep=none").output


def _npz(path: Path, channels: int, side: int = 16) -> Path:
    random = np.random.default_rng(0)
    shape = (side, side) if channels == 1 else (side, side, channels)
    y_train, y_test = np.arange(60) % 3, np.arange(30) % 3
    arrays = {
        f"x_{split}": (random.integers(0, 128, (len(y), *shape)) + 60 * y.reshape(-1, *[1] * len(shape))).astype(
            np.uint8
        )
        for split, y in (("train", y_train), ("test", y_test))
    }
    np.savez(path, **arrays, y_train=y_train, y_test=y_test)
    return path


def test_an_exported_resnet_is_torchvisions_and_measures_as_the_record_says(tmp_path: Path, spherebench) -> None:
    from torchvision import models

    data = _npz(tmp_path / "small.npz", 3)
    suite = tmp_path / "resnet.yaml"
    suite.write_text(RESNET.replace("DATA", str(data)))
    out = tmp_path / "runs"
    assert spherebench("run", suite, "--out", out).exit_code == 0
    (folder,) = (path.parent for path in out.glob("*/network.json"))
    exported = tmp_path / "backbone.pth"
    result = spherebench("export", folder, "--to", exported)
    assert result.exit_code == 0
    assert "torchvision.models.resnet18()" in result.output

    network = models.resnet18()
    missing, unexpected = network.load_state_dict(torch.load(exported, weights_only=True), strict=False)
    assert (sorted(missing), unexpected) == (["fc.bias", "fc.weight"], [])
    network.fc = torch.nn.Identity()
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(network.eval()(images), _loaded(folder, data)(images), atol=1e-6)

    result = spherebench(
        *("evaluate", f"weights:{exported}", "--data", f"npz:{data}", "--out", tmp_path / "weights"),
        *("--set", "data.tune_fraction=0.2", "--set", "evaluation.probes=[knn,linear,logistic]"),
        *("--set", "evaluation.knn_k=[5]", "--set", "evaluation.linear_epochs=2"),
    )
    assert result.exit_code == 0, result.output
    own = {record.probe: [metric.value for metric in record.metrics] for record in _measured(out).values()}
    theirs = {
        record.probe: [metric.value for metric in record.metrics] for record in _measured(tmp_path / "weights").values()
    }
    assert own == theirs
    assert "backbone" in (tmp_path / "weights" / "tables" / "accuracy.md").read_text()


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_what_export_says_of_a_model_of_timms_takes_what_it_wrote(name: str) -> None:
    """Also of one that is made for a size of images, and was trained on another."""
    timm = pytest.importorskip("timm")
    spec = BackboneSpec(name=f"timm:{name}")
    module, _ = build_backbone(spec, channels=1, seed=0, image_size=32)
    said = _how_to_load(spec, Input(1, 32, (0.5,), (0.5,))).partition(" takes it")[0]
    assert eval(said, {"timm": timm}).load_state_dict(module.state_dict()).missing_keys == []


def _loaded(folder: Path, data: Path) -> torch.nn.Module:
    from benchmark.data import DataSpec, load
    from benchmark.networks.base import FrozenModule
    from benchmark.networks.kinds import parse_network

    network = parse_network(NetworkRecord.read(folder / "network.json").network)
    frozen = network.load(folder, load(DataSpec(source=f"npz:{data}"), Path("data")), torch.device("cpu"))
    assert isinstance(frozen, FrozenModule)
    return frozen.module.eval()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["weights:nowhere.pth", "--data", "digits"], "nowhere.pth: cannot be read"),
        (["weights:nowhere.pth"], "--data: must be given"),
        (["weights:nowhere.pth", "--data", "digits", "--set", "backbone.name=x"], "--set backbone: is no setting of"),
    ],
)
def test_weights_that_cannot_be_measured_are_refused(
    tmp_path: Path, spherebench, arguments: list[str], said: str
) -> None:
    result = spherebench("evaluate", *arguments, "--out", tmp_path / "weights")
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
    assert not (tmp_path / "weights").exists()


def test_a_file_that_holds_no_backbone_is_refused_before_anything_is_written(tmp_path: Path, spherebench) -> None:
    path = tmp_path / "text.pth"
    path.write_text("no weights")
    result = spherebench("evaluate", f"weights:{path}", "--data", "digits", "--out", tmp_path / "weights")
    assert result.exit_code == 2
    assert "text.pth" in " ".join(result.output.split())
    assert not (tmp_path / "weights").exists()


def test_a_file_that_nothing_is_asked_of_is_refused(tmp_path: Path, spherebench) -> None:
    from benchmark.networks.backbones import BackboneSpec, build_backbone
    from benchmark.networks.layouts import write_backbone

    path = tmp_path / "small.pth"
    write_backbone(build_backbone(BackboneSpec(name="small_cnn", width=4), channels=1, seed=0)[0].state_dict(), path)
    command = ["evaluate", f"weights:{path}", "--data", "digits", "--out", tmp_path / "weights"]
    result = spherebench(*command, "--set", "evaluation.probes=[embedding]")
    assert result.exit_code == 2
    assert "evaluation.probes: name none that is for a backbone alone" in " ".join(result.output.split())
    assert not (tmp_path / "weights").exists()


def test_a_packed_file_stands_for_its_folder(runs: Path, tmp_path: Path, spherebench) -> None:
    packed = tmp_path / "packed" / "records.jsonl"
    assert spherebench("pack", runs, "--to", packed).exit_code == 0
    assert {json.loads(line)["line"] for line in packed.read_text().splitlines()} >= {"network", "measurement", "curve"}
    for format in ("md", "csv", "json"):
        tables = [spherebench("tables", place, "--format", format).output for place in (runs, packed, packed.parent)]
        assert tables[0]
        assert tables[1] == tables[2]
        if format == "md":
            assert tables[0] == tables[1]
    assert spherebench("plots", packed, "--out", tmp_path / "plots").exit_code == 0
    assert (tmp_path / "plots" / "loss_curves.png").exists()


def test_what_no_data_can_give_is_refused_before_anything_is_trained(
    tiny: Path, tmp_path: Path, spherebench: Command
) -> None:
    options = ("--set", "evaluation.probes=[retrieval]", "--set", "evaluation.retrieval_k=[1,257]")
    result = spherebench("run", tiny, "--out", tmp_path / "runs", *options)
    assert result.exit_code == 2, result.output
    assert "evaluation.retrieval_k: is [1, 257], must be at most the 256 images" in result.output
    assert not (tmp_path / "runs").exists()
