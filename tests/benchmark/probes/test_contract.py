"""What every registered probe keeps to: a new one is tested here without a change."""

from __future__ import annotations

import json
import math
import shutil
import types
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np
import pytest
import torch

from benchmark.data import DataSet, DataSpec, load
from benchmark.networks.base import WEIGHTS_NAME, FrozenModule, Input, Job, Network, keep_backbone, save_weights
from benchmark.networks.online import initial_head
from benchmark.networks.trained import Trained
from benchmark.probes import transfer
from benchmark.probes.base import Measurement, Probe, probes, register
from benchmark.probes.finetune import FineTune
from benchmark.probes.linear import Cached, Crops, Linear
from benchmark.probes.subject import Features
from benchmark.probes.training import LabelledViews
from benchmark.running.stages import _subject, measure
from benchmark.runtime.process import Process
from benchmark.runtime.seeds import fork_rng
from benchmark.runtime.signals import Interrupted, Requests
from benchmark.runtime.spec import Execution
from benchmark.suite.run import compose, evaluation_schema, measurements
from results.record import MeasurementRecord, measurement_path
from tests.benchmark import ranks
from tests.benchmark.probes.subjects import ALONE, AskedAfter

PROBES = sorted(probes())
# Options small enough for a test, by name; another option is as it is by default.
SMALL: dict[str, Any] = {"linear_epochs": 3, "draws": 2, "labels_per_class": (1, 2), "knn_k": (1, 5), "batch_size": 24}
# Of 70 images all, in batches of 24, 24 and 22.
SMALL |= {"finetune_percent": 99, "finetune_epochs": 2, "finetune_head_lr": 0.1}
SMALL |= {"transfer_shots": (1, 2), "transfer_ridges": 4, "multilabel_c": (0.1, 1.0)}
# Of data of many classes, or of accuracies by class.
MAY_BE = {"finetune_top5", "linear_top5", "transfer_mean_per_class"}
RESERVED = {"probe", "split", "precision", "data", "tested_on", "version", "probes"}
# Two processes add gradients in another order than one: float32, over a few steps.
FLOAT_ERROR = 1e-4


@pytest.fixture(scope="module", autouse=True)
def few_steps() -> Iterator[None]:
    """Of the fits of transfer, which look before each: those of the weakest ridges take hundreds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "WEAKEST", 1.0)
        yield


def network_for(probe: type[Probe]) -> Network:
    """Of those that follow, the first that offers what the probe needs."""
    return next(network for network in (encoder(), kernel(), wide(), noisy()) if probe.needs <= network.offers)


def encoder() -> Network:
    """A small CNN before digits."""
    settings: dict[str, Any] = {
        "method": "sfrik_l2",
        "embedding_dim": 16,
        "epochs": 3,
        "batch_size": 32,
        "data": {"source": "digits", "tune_fraction": 0.3, "limit": 70},
        "augmentation": "grey",
        "backbone": {"name": "small_cnn", "width": 4},
        "projector": {"hidden": 16},
        "optimizer": {"name": "adamw", "base_lr": 1e-3, "warmup_epochs": 3},
    }
    return compose(settings, lambda data: data).network


def kernel() -> Network:
    """A closed form on points in the plane, of which there are pictures."""
    regime = {"kernel": {"gamma": 20.0}, "basis": "exact", "relation": "neighbours", "n_neighbors": 5, "ridge": 1e-3}
    settings = {
        "method": "kernel_spectral",
        "embedding_dim": 3,
        "data": {"source": "spirals", "tune_fraction": 0.2},
        "regime": regime,
    }
    return compose(settings, lambda data: data).network


def wide() -> Network:
    """A network in the kernel regime."""
    settings = {
        "method": "wide_barlow_twins",
        "embedding_dim": 2,
        "data": {"source": "digits", "tune_fraction": 0.3, "limit": 20},
        "regime": {"n_views": 2},
        "mlp": {"width": 16},
        "descent": {"steps": 30},
    }
    return compose(settings, lambda data: data).network


def noisy() -> Network:
    """A closed form on noisy views, of which the ground truth is known."""
    settings = {
        "method": "kernel_spectral",
        "embedding_dim": 2,
        "data": {"source": "circle", "tune_fraction": 0.0, "limit": 40},
        "regime": {"relation": "noise", "noise": 0.3, "n_views": 2, "basis_size": 20},
    }
    return compose(settings, lambda data: data).network


def make(network: Network, folder: Path) -> None:
    """Leave its weights in the folder; an encoder's are those it begins with."""
    folder.mkdir(parents=True)
    if isinstance(network, Trained):
        with fork_rng("test"):
            save_weights(folder, network.build(1).state_dict(), Input.of(data_of(network.data)))
    else:
        network.make(data_of(network.data), job_in(folder))  # type: ignore[attr-defined]


def spec_for(probe: type[Probe], network: Network) -> DataSpec:
    """What the probe is measured on: the network's data, or images of several labels."""
    own: DataSpec = network.data  # type: ignore[attr-defined]
    return own.model_copy(update={"source": "voc07"}) if probe.several_labels else own


def data_of(spec: DataSpec) -> DataSet:
    """A hundred to test on. Of VOC's images digits, each of two classes that follow, every seventh of one that is not
    counted."""
    read = spec.model_copy(update={"source": "digits", "tune_fraction": 0.0}) if spec.several_labels else spec
    data = load(read, Path("nowhere"))
    data = replace(data, test=data.test.subset(np.arange(min(100, len(data.test)))))
    if not spec.several_labels:
        return data
    shown = {}
    for split in ("train", "labelled", "tune", "test"):
        images = getattr(data, split)
        present_NC = np.full((len(images), data.classes), -1, dtype=np.int8)
        for further in (0, 1):
            present_NC[np.arange(len(images)), (images.labels + further) % data.classes] = 1
        sevenths = np.arange(0, len(images), 7)
        present_NC[sevenths, (images.labels[sevenths] + 5) % data.classes] = 0
        shown[split] = copy(images)
        object.__setattr__(shown[split], "present", present_NC)
    return replace(data, name=spec.source, **shown)


def job_in(folder: Path, process: Process = ALONE, requests: Requests | None = None) -> Job:
    execution = Execution(checkpoint_seconds=0, feature_batch_size=16)
    return Job(folder, process, requests or Requests(), execution)


def measurement_of(name: str, **changed: Any) -> Measurement:
    kind = probes()[name]
    options = {option: value for option, value in SMALL.items() if option in kind.model_fields}
    network = network_for(kind)
    place = {"split": "test", "precision": "fp32", "data": spec_for(kind, network), **changed}
    return Measurement(probe=kind(**options), **place)


def record_of(measurement: Measurement, job: Job) -> MeasurementRecord:
    (record,) = measure(network_for(type(measurement.probe)), [measurement], data_of, job)
    return record


def figures(record: MeasurementRecord) -> Any:
    assert record.status == "done", record.message
    return [metric.model_dump() for metric in record.metrics], record.details


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of the networks, never measured in."""
    folder = tmp_path_factory.mktemp("networks")
    for network in (encoder(), kernel(), wide(), noisy()):
        make(network, folder / network.id)
    return folder


@pytest.fixture(scope="module")
def whole(networks: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, MeasurementRecord]:
    """Every probe's record, undisturbed."""
    folder = tmp_path_factory.mktemp("whole")
    return {name: record_of(measurement_of(name), job_in(copied(networks, name, folder))) for name in PROBES}


def copied(networks: Path, name: str, to: Path) -> Path:
    """A copy of the folder of the network that the probe is for."""
    network = network_for(probes()[name]).id
    shutil.copytree(networks / network, to / name)
    return to / name


@pytest.mark.parametrize("name", PROBES)
def test_it_finds_finite_figures_each_with_its_protocol(name: str, whole: dict[str, MeasurementRecord]) -> None:
    record = whole[name]
    assert record.status == "done", record.message
    assert record.metrics or record.details
    assert len({metric.name for metric in record.metrics}) == len(record.metrics)
    for metric in record.metrics:
        assert math.isfinite(metric.value)
        assert metric.unit != "fraction" or 0 <= metric.value <= 1
        assert metric.protocol["split"] == "test"
        assert metric.protocol["features"]
        assert "epoch" in metric.protocol
    json.dumps(record.details, allow_nan=False)


@pytest.mark.parametrize("name", PROBES)
def test_it_tells_its_figures_beforehand(name: str, whole: dict[str, MeasurementRecord]) -> None:
    told = measurement_of(name).probe.figures()
    found = [(metric.metric, metric.protocol.items()) for metric in whole[name].metrics]
    for metric, protocol in found:
        assert [known for of, known in told if of == metric and known.items() <= protocol]
    for of, known in told:
        fitting = [protocol for metric, protocol in found if metric == of and known.items() <= protocol]
        assert len(fitting) == 1 or of in MAY_BE or (of, known) == ("rankme", {})


@pytest.mark.parametrize("name", PROBES)
def test_its_record_is_on_disk_and_nothing_else_is_left(name: str, networks: Path, tmp_path: Path) -> None:
    folder = copied(networks, name, tmp_path)
    before = (folder / WEIGHTS_NAME).read_bytes()
    record = record_of(measurement_of(name), job_in(folder))
    assert MeasurementRecord.read(measurement_path(folder, record.id)) == record
    assert (folder / WEIGHTS_NAME).read_bytes() == before
    assert not list((folder / "measuring").rglob(f"{name}-*"))


@pytest.mark.parametrize("name", PROBES)
def test_the_same_network_has_the_same_figures(
    name: str, networks: Path, tmp_path: Path, whole: dict[str, MeasurementRecord]
) -> None:
    torch.rand(3)
    np.random.random(3)
    again = record_of(measurement_of(name), job_in(copied(networks, name, tmp_path)))
    assert figures(again) == figures(whole[name])


@pytest.mark.parametrize("name", PROBES)
def test_settings_come_back_from_a_record(name: str) -> None:
    for measurement in (measurement_of(name), measurement_of(name, split="tune", precision="bf16")):
        written = json.loads(json.dumps(measurement.settings()))
        assert Measurement.parse(written) == measurement
        assert Measurement.parse(written).id == measurement.id
        assert Measurement.parse(written).digest == measurement.digest


@pytest.mark.parametrize("name", PROBES)
def test_every_option_counts_in_the_digest_and_nothing_else_does(name: str) -> None:
    measurement = measurement_of(name)
    probe = measurement.probe
    found = [measurement.digest]
    for option, field in type(probe).model_fields.items():
        others = [{**probe.model_dump(), option: value} for value in varied(getattr(probe, option), field.annotation)]
        found += [measurement.model_copy(update={"probe": type(probe)(**options)}).digest for options in others]
    for place in ({"split": "tune"}, {"precision": "bf16"}, {"data": DataSpec(source="mnist")}):
        found.append(measurement.model_copy(update=place).digest)
    assert len(set(found)) == len(found)
    assert measurement_of(name).digest == measurement.digest


def varied(value: Any, annotation: Any) -> Sequence[Any]:
    """Other values that an option may have."""
    if get_origin(annotation) is Literal:
        return [other for other in get_args(annotation) if other != value]
    if get_origin(annotation) in (Union, types.UnionType):
        (inner,) = (kind for kind in get_args(annotation) if kind is not type(None))
        return [None] if value is not None else varied({int: 1, str: "/one"}[inner], inner)
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1]
    if isinstance(value, float):
        return [value * 0.5 or 0.5]
    if isinstance(value, str):
        return [f"{value}/other"]
    if isinstance(value, tuple):
        return [(*value, value[0] + 7), value[:1]] if value else [(7,)]
    return pytest.fail(f"say here how an option of type {annotation} varies")


@pytest.mark.parametrize("name", PROBES)
def test_a_newer_version_of_it_is_another_measurement(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = measurement_of(name).digest
    monkeypatch.setattr(probes()[name], "version", probes()[name].version + 1)
    assert measurement_of(name).digest != before


@pytest.mark.parametrize("name", PROBES)
def test_it_can_be_asked_for_in_a_suite_and_only_where_it_is_for_the_network(name: str) -> None:
    kind = probes()[name]
    assert kind.name == name
    assert not RESERVED & kind.model_fields.keys()
    assert kind.model_fields.keys() <= evaluation_schema().model_fields.keys()
    for network in (encoder(), kernel(), wide(), noisy()):
        data = spec_for(kind, network)
        asked = measurements({"probes": [name]}, network, data)
        expected = [Measurement(probe=kind(), data=data)] if kind.needs <= network.offers else []
        assert list(asked) == expected


def test_options_of_one_name_are_one_option() -> None:
    seen: dict[str, tuple[Any, Any, Any]] = {}
    for kind in probes().values():
        for option, field in kind.model_fields.items():
            own = (field.annotation, field.default, tuple(map(repr, field.metadata)))
            assert seen.setdefault(option, own) == own, f"{option} of {kind.name} is not that of another probe"


def test_two_probes_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="'knn' is registered already"):
        register(probes()["knn"])


def test_a_probe_that_is_not_known_is_told_of() -> None:
    with pytest.raises(ValueError, match="probe 'zoom' is not known; there are agreement, "):
        Measurement.parse({**measurement_of("knn").settings(), "probe": "zoom"})


# ---- stopped, and gone on with


@pytest.mark.parametrize("name", PROBES)
def test_stopped_anywhere_it_goes_on_to_the_undisturbed_figures(
    name: str, networks: Path, tmp_path: Path, whole: dict[str, MeasurementRecord]
) -> None:
    measurement, counter = measurement_of(name), AskedAfter()
    record_of(measurement, job_in(copied(networks, name, tmp_path / "counted"), requests=counter))
    assert counter.looks, "it never looks at what was asked"
    for after in sorted({0, counter.looks // 2, counter.looks - 1}):
        folder = copied(networks, name, tmp_path / str(after))
        stopped = record_of(measurement, job_in(folder, requests=AskedAfter(after)))
        assert stopped.status == "interrupted"
        assert not stopped.metrics
        on = AskedAfter()
        assert figures(record_of(measurement, job_in(folder, requests=on))) == figures(whole[name])
        assert on.looks <= counter.looks + 1


@pytest.mark.parametrize("what", ["data", "precision", "split"])
def test_what_a_stop_left_is_not_taken_for_that_of_another_measurement(
    what: str, networks: Path, tmp_path: Path
) -> None:
    measurement = measurement_of("logistic")
    other_data = measurement.data.model_copy(update={"tune_fraction": 0.35})
    changed = {"data": other_data, "precision": "bf16", "split": "tune"}[what]
    other = measurement_of("logistic", **{what: changed})
    expected = record_of(other, job_in(copied(networks, "logistic", tmp_path / "fresh")))
    folder = copied(networks, "logistic", tmp_path / "left")
    counter = AskedAfter()
    record_of(measurement, job_in(copied(networks, "logistic", tmp_path / "counted"), requests=counter))
    assert record_of(measurement, job_in(folder, requests=AskedAfter(counter.looks - 1))).status == "interrupted"
    assert list(folder.rglob("part-*"))
    assert figures(record_of(other, job_in(folder))) == figures(expected)


# ---- several processes


def measure_all(this: Process, networks: Path, out: Path) -> None:
    """Every probe, and features and classifiers as every process has them."""
    looks = {}
    for name in PROBES:
        folder = out / f"{name}"
        if this.is_main:
            copied(networks, name, out)
        this.barrier()
        requests = AskedAfter()
        record_of(measurement_of(name), job_in(folder, this, requests))
        looks[name] = requests.looks
    (out / f"looks-{this.rank}.json").write_text(json.dumps(looks))
    own = out / "features"
    if this.is_main:
        shutil.copytree(networks / encoder().id, own)
    this.barrier()
    torch.save(features(job_in(own, this)), out / f"features-{this.rank}.pt")
    torch.save(classifiers(job_in(own, this)), out / f"classifiers-{this.rank}.pt")


def features(job: Job) -> dict[str, torch.Tensor]:
    subject = _subject(encoder(), measurement_of("knn"), data_of, job)
    found: dict[str, Features] = {"bank": subject.bank(), "bilinear": subject.queries("bilinear")}
    return {name: of.x for name, of in found.items()}


def classifiers(job: Job) -> dict[str, torch.Tensor]:
    """Of the linear probe and of fine-tuning: weights after three epochs, whose last batch is smaller, or of one image.

    Of a fine-tuned network one process of two has 12 images of 24, then 11 of 22, or 11 of 23.
    """
    found, network = {}, encoder()
    for batch_size in (24, 23):
        own = _subject(network, measurement_of("linear"), data_of, job)
        subjects = {
            name: replace(own, own=own.folder / f"{name} {batch_size}") for name in ("Crops", "Cached", "tuned")
        }
        for batches in (Crops, Cached):
            subject = subjects[batches.__name__]
            head = initial_head(network.build(1).feature_dim, 10, job.process.device)  # type: ignore[attr-defined]
            Linear(linear_epochs=3).train(head, batches(subject, batch_size), subject)
            found[f"{batches.__name__} {batch_size}"] = head.weight.detach()
        subject = subjects["tuned"]
        assert isinstance(subject.network, FrozenModule)
        images = LabelledViews(subject, subject.data.labelled, batch_size, smallest=2)
        tuned = FineTune(finetune_epochs=3, finetune_head_lr=0.1).trained(subject.network, 10, images, subject)
        weights = {
            f"{part} {name}": value for part, own in enumerate(tuned) for name, value in own.state_dict().items()
        }
        found |= {f"{name} {batch_size}": value for name, value in weights.items() if value.is_floating_point()}
    return found


@pytest.fixture(scope="module")
def two(networks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes measure."""
    out = tmp_path_factory.mktemp("two")
    assert ranks.together(2, partial(measure_all, networks=networks, out=out)) == [0, 0]
    return out


@pytest.mark.parametrize("name", PROBES)
def test_two_processes_measure_what_one_does(name: str, two: Path, whole: dict[str, MeasurementRecord]) -> None:
    (path,) = (two / name / "measurements").glob("*.json")
    record = MeasurementRecord.read(path)
    assert record.provenance.world_size == 2
    (metrics, details), (expected, expected_details) = figures(record), figures(whole[name])
    assert [metric.pop("value") for metric in metrics] == pytest.approx(
        [metric.pop("value") for metric in expected], abs=FLOAT_ERROR
    )
    assert metrics == expected
    assert details == expected_details


def test_features_of_two_processes_are_those_of_one_to_the_last_bit(two: Path, networks: Path, tmp_path: Path) -> None:
    shutil.copytree(networks / encoder().id, tmp_path / "own")
    alone = features(job_in(tmp_path / "own"))
    for rank in (0, 1):
        of_rank = torch.load(two / f"features-{rank}.pt", weights_only=True)
        assert of_rank.keys() == alone.keys()
        for name, x_NF in alone.items():
            assert torch.equal(of_rank[name], x_NF)


def test_two_processes_train_as_one_does(two: Path, networks: Path, tmp_path: Path) -> None:
    """The weights themselves: an accuracy does not see a gradient of another length."""
    shutil.copytree(networks / encoder().id, tmp_path / "own")
    alone = classifiers(job_in(tmp_path / "own"))
    first, second = (torch.load(two / f"classifiers-{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, weight_CF in alone.items():
        torch.testing.assert_close(first[name], weight_CF, rtol=1e-5, atol=1e-6)
        assert torch.equal(first[name], second[name]), "the processes have trained apart"


# Each probe meets both, one on each process; what it takes for both to hear is the same for all probes.
DISTURBED = [
    (name, how, (place + further) % 2)
    for place, name in enumerate(PROBES)
    for further, how in enumerate(("stopped", "failed"))
]


def disturbed_all(this: Process, networks: Path, out: Path, looks: list[dict[str, int]]) -> None:
    """Every probe, disturbed on one of the processes at a time, and measured again: how it went is in ``out``.

    It fails in its first third, and is stopped before its last look.
    """
    for name, how, rank in DISTURBED:
        folder = out / f"{name}-{how}-{rank}"
        if this.is_main:
            shutil.copytree(networks / network_for(probes()[name]).id, folder)
        this.barrier()
        after = looks[rank][name] // 3 if how == "failed" else max(0, looks[rank][name] - 2)
        requests = AskedAfter(after, raises=how == "failed") if this.rank == rank else Requests()
        first = record_of(measurement_of(name), job_in(folder, this, requests))
        second = record_of(measurement_of(name), job_in(folder, this))
        asked = any(this.all_gather(isinstance(requests, AskedAfter) and requests.looks > after))
        if this.is_main:
            (folder / "found.json").write_text(json.dumps([asked, first.status, first.message, second.status]))


@pytest.fixture(scope="module")
def disturbed(networks: Path, two: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("disturbed")
    looks = [json.loads((two / f"looks-{rank}.json").read_text()) for rank in (0, 1)]
    assert ranks.together(2, partial(disturbed_all, networks=networks, out=out, looks=looks)) == [0, 0]
    return out


@pytest.mark.parametrize(("name", "how", "rank"), DISTURBED)
def test_what_one_process_meets_both_hear_and_go_on_from(
    name: str, how: str, rank: int, disturbed: Path, whole: dict[str, MeasurementRecord]
) -> None:
    folder = disturbed / f"{name}-{how}-{rank}"
    asked, status, message, then = json.loads((folder / "found.json").read_text())
    if how == "failed" and asked:
        assert (status, message) == ("failed", f"process {rank} of 2: RuntimeError: {AskedAfter.BREAKS}")
    else:
        assert status == ("interrupted" if asked else "done")
    assert asked or rank > 0, "the main process has looked at nothing"
    assert then == "done"
    (path,) = (folder / "measurements").glob("*.json")
    metrics, expected = MeasurementRecord.read(path).metrics, whole[name].metrics
    assert [metric.value for metric in metrics] == pytest.approx([metric.value for metric in expected], abs=FLOAT_ERROR)


def make_stopped(this: Process, out: Path) -> None:
    """A closed form, of which only the main process is asked to stop: both hear of it."""
    folder = out / "kernel"
    folder.mkdir(exist_ok=True)
    job = job_in(folder, this, AskedAfter(0) if this.is_main else Requests())
    with pytest.raises(Interrupted):
        kernel().make(data_of(kernel().data), job)  # type: ignore[attr-defined]
    assert this.broadcast("together") == "together"


def test_a_closed_form_that_is_stopped_lets_no_process_wait(tmp_path: Path) -> None:
    assert ranks.together(2, partial(make_stopped, out=tmp_path)) == [0, 0]


# ---- what cannot be measured is one sentence


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize("damage", ["none", "cut", "flipped header", "other tensors"])
def test_weights_that_are_not_there_or_damaged_are_told_of(
    name: str, damage: str, networks: Path, tmp_path: Path
) -> None:
    folder = copied(networks, name, tmp_path)
    path = folder / WEIGHTS_NAME
    content = path.read_bytes()
    if damage == "none":
        path.unlink()
    elif damage == "other tensors":
        save_weights(folder, {"backbone.other": torch.ones(3)}, Input(1, 8, (0.5,), (0.5,)))
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"\xff" * 8 + content[8:])
    before = path.read_bytes() if path.exists() else None
    record = record_of(measurement_of(name), job_in(folder))
    assert record.status == "failed"
    assert record.message.startswith(f"{path}: {'there is no such file' if damage == 'none' else 'is damaged'}")
    assert "\n" not in record.message
    assert (path.read_bytes() if path.exists() else None) == before


@pytest.mark.parametrize("name", PROBES)
def test_a_split_without_images_is_told_of(name: str, networks: Path, tmp_path: Path) -> None:
    measurement = measurement_of(name)
    nothing = measurement.data.model_copy(update={"tune_fraction": 0.0})
    measurement = measurement.model_copy(update={"data": nothing, "split": "tune"})
    record = record_of(measurement, job_in(copied(networks, name, tmp_path)))
    assert (record.status, record.message) == (
        "failed",
        f"evaluation.split tune: {nothing.source} has 0 images in it, must have two or more; "
        "data.tune_fraction holds some out",
    )


@pytest.mark.parametrize("name", PROBES)
def test_images_of_other_channels_are_told_of(name: str, networks: Path, tmp_path: Path) -> None:
    """Colours before a network for grey images; points before an encoder, and images before a kernel of points."""
    pixels = np.random.RandomState(0).randint(256, size=(60, 8, 8, 3), dtype=np.uint8)
    path, labels = tmp_path / "colours.npz", np.arange(60) % 4
    np.savez(path, x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    colours = DataSpec(source=f"npz:{path}", tune_fraction=0.0).identified()
    spirals = DataSpec(source="spirals", tune_fraction=0.0)
    expected = {
        colours: f"data.source npz:{path}: holds images of 3 channels; this network sees 1",
        spirals: "data.source spirals: holds points, not images; this network sees 1",
    }
    if (kind := network_for(probes()[name]).kind) == "kernel":
        expected = {colours: f"data.source npz:{path}: its rows are of 192 numbers; this network sees 2"}
    if kind == "wide":
        expected = {colours: f"data.source npz:{path}: its rows are of 192 numbers; this network sees 64"}
    if probes()[name].several_labels:
        expected = {
            data: f"data.source {data.source}: an image has one label, {name} is for images of several"
            for data in (colours, spirals)
        }
    for number, (data, message) in enumerate(expected.items()):
        folder = copied(networks, name, tmp_path / str(number))
        record = record_of(measurement_of(name, data=data), job_in(folder))
        assert (record.status, record.message) == ("failed", message)


@pytest.mark.parametrize("name", [name for name in PROBES if "embedding" in probes()[name].needs])
def test_a_projector_that_was_not_kept_is_told_of(name: str, networks: Path, tmp_path: Path) -> None:
    folder = copied(networks, name, tmp_path)
    keep_backbone(folder)
    record = record_of(measurement_of(name), job_in(folder))
    assert record.status == "failed"
    assert record.message == f"{folder}: its projector was not kept (keep=backbone), so no embedding"
