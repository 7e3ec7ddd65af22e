"""Records as the harness leaves them, without running it."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from results.record import (
    Cost,
    MeasurementCost,
    MeasurementRecord,
    Metric,
    NetworkRecord,
    Provenance,
    Quartiles,
    measurement_path,
    network_path,
)

METHODS = {
    # name: (title, accuracy at the smallest and the largest dimension, ms a step, MiB a step)
    "sfrik_l2": ("SFRIK L=2", 0.90, 0.932, 31.0, 95.0),
    "sfrik_l3": ("SFRIK L=3", 0.905, 0.938, 33.0, 96.0),
    "auh": ("AUH", 0.898, 0.929, 32.0, 95.0),
    "vicreg": ("VICReg", 0.86, 0.926, 36.0, 110.0),
    "barlow_twins": ("Barlow Twins", 0.872, 0.921, 35.0, 108.0),
    "simclr": ("SimCLR", 0.893, 0.915, 38.0, 120.0),
}
DIMENSIONS = (64, 256, 1024)


def _metrics(top1: float, *, epoch: int = 60, features: str = "backbone") -> tuple[Metric, ...]:
    """The metrics of one run whose logistic probe reaches ``top1``."""
    place: dict[str, Any] = {"features": features, "split": "test", "epoch": epoch}
    knn = [
        Metric(metric="knn_top1", protocol={"k": k, "T": 0.07, **place}, value=top1 - k / 1e4) for k in (10, 20, 100)
    ]
    fewshot = [
        Metric(
            metric="fewshot_top1",
            protocol={"labels_per_class": labels, "draws": 10, "probe": "logistic C=1", **place},
            value=top1 - 0.12 / labels,
            sd=0.02 / labels,
        )
        for labels in (1, 5, 10)
    ]
    logistic = Metric(metric="logistic_top1", protocol={"C": 1.0, **place}, value=top1)
    rank = [
        Metric(metric="rankme", protocol={**place, "features": what}, value=value, unit="dimensions")
        for what, value in (("backbone", 40 * top1), ("embedding", 55 * top1))
        if features == "backbone"
    ]
    return (*knn, logistic, *fewshot, *rank)


def _cost(milliseconds: float, mib: float) -> Cost:
    """A cost whose step takes ``milliseconds`` and ``mib``, and whose loss a fifth of both."""
    step = Quartiles(median=milliseconds / 1e3, q1=0.98 * milliseconds / 1e3, q3=1.05 * milliseconds / 1e3, n=300)
    loss = Quartiles(median=step.median / 5, q1=step.q1 / 5, q3=step.q3 / 5, n=300)
    return Cost(
        step_seconds=step,
        loss_seconds=loss,
        images_per_second=256 / step.median,
        peak_bytes_step=int(mib * 2**20),
        peak_bytes_loss=int(mib * 2**20 / 5),
        memory_counter="tensor storages",
        train_seconds=300 * step.median,
    )


@dataclass(frozen=True)
class Made:
    """A network with its measurements, as they are written."""

    network: NetworkRecord
    measurements: tuple[MeasurementRecord, ...] = ()

    @property
    def id(self) -> str:
        return self.network.id

    @property
    def provenance(self) -> Provenance:
        return self.network.provenance

    def write(self, folder: Path) -> Path:
        """Write the network's folder."""
        self.network.write(network_path(folder))
        for record in self.measurements:
            record.write(measurement_path(folder, record.id))
        return folder


def _made(
    method: str = "sfrik_l2",
    dim: int | None = 64,
    seed: int | None = 0,
    *,
    kind: str = "trained",
    title: str | None = None,
    status: str = "done",
    axes: dict[str, Any] | None = None,
    network: dict[str, Any] | None = None,
    metrics: Iterable[Metric] | None = None,
    measurements: Iterable[dict[str, Any]] = (),
    **fields: Any,
) -> Made:
    """A network and its measurements: ``network`` overrides its settings, ``fields`` its record's fields.

    ``metrics`` are split by probe, as the harness does it; ``measurements`` are others, as arguments of
    :func:`_measurement`.
    """
    settings: dict[str, Any] = {"kind": kind, "method": method}
    if kind != "weights":
        settings["data"] = {"source": "digits", "tune_fraction": 0.1, "image_size": None, "limit": None}
    if kind in ("trained", "random_init"):
        settings["backbone"] = {"name": "small_cnn", "stem": "imagenet", "width": 32, "zero_init_residual": True}
    if kind == "trained":
        settings |= {
            "loss": {"align_weight": 1.0},
            "batch_size": 256,
            "epochs": 60,
            "precision": "fp32",
            "form": "auto",
        }
    settings |= {"embedding_dim": dim} if dim else {}
    settings |= {"seed": seed} if kind not in ("pixels", "weights") else {}
    settings |= network or {}
    name = f"{method}{f'-d{dim}' if dim else ''}{f'-s{seed}' if 'seed' in settings else ''}-{_digest(settings)}"
    done = status == "done"
    record = NetworkRecord(
        **{
            "id": name,
            "suite": "digits",
            "status": status,
            "message": "" if done else f"{status} at step 12",
            "title": title or METHODS.get(method, (method,))[0],
            "network": settings,
            "axes": {"method": method, "seed": seed, **({"embedding_dim": dim} if dim else {}), **(axes or {})},
            "form": "dual" if kind == "trained" else None,
            "cost": Cost() if kind != "trained" else _cost(30.0, 90.0) if done else Cost(train_seconds=1.0),
            "provenance": _provenance(),
            **fields,
        }
    )
    found = (_metrics(0.9) if metrics is None else tuple(metrics)) if done else ()
    by_probe = {probe: [metric for metric in found if _probe(metric) == probe] for probe in map(_probe, found)}
    own = [{"probe": probe, "metrics": tuple(metrics)} for probe, metrics in by_probe.items()]
    return Made(record, tuple(_measurement(record, **arguments) for arguments in [*own, *measurements]))


def _probe(metric: Metric) -> str:
    if metric.metric == "fewshot_top1":
        kind = str(metric.protocol.get("probe", "logistic")).split()[0]
        return {"svm": "fewshot_svm", "kernel": "fewshot_ridge"}.get(kind, "fewshot")
    return "embedding" if metric.metric == "rankme" else metric.metric.split("_")[0]


def _measurement(
    network: NetworkRecord, probe: str, status: str = "done", settings: dict[str, Any] | None = None, **fields: Any
) -> MeasurementRecord:
    data = {"data": network.network["data"]} if "data" in network.network else {}
    resolved = {"probe": probe, "split": "test", "precision": "fp32", **data, **(settings or {})}
    return MeasurementRecord(
        id=f"{probe}-{_digest(resolved)}",
        network=network.id,
        probe=probe,
        status=status,
        message="" if status == "done" else f"{probe} ran out of patience",
        settings=resolved,
        cost=fields.pop("cost", MeasurementCost(seconds=0.25)),
        provenance=network.provenance,
        **fields,
    )


def _digest(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]


def _provenance(device: str = "cpu") -> Provenance:
    """Where the synthetic numbers come from."""
    return Provenance(
        commit="0" * 40,
        dirty=False,
        versions={"python": "3.12.1", "torch": "2.11.0"},
        device=device,
        host="node1",
        threads=2,
        started="2025-01-01T00:00:00+00:00",
        finished="2025-01-01T00:01:00+00:00",
    )


def _write(folder: Path, records: Iterable[Made]) -> Path:
    """A runs folder that holds ``records``, and its suite."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "suite.json").write_text(json.dumps({"suite": folder.name}) + "\n")
    for record in records:
        record.write(folder / record.id)
    return folder


def _digits_records(seeds: int = 2) -> list[Made]:
    """A suite like ``digits``: six methods at three dimensions, one of them diverging once, and two baselines."""
    noise = random.Random(0)
    records = []
    for method, (_, low, high, milliseconds, mib) in METHODS.items():
        for place, dim in enumerate(DIMENSIONS):
            for seed in range(seeds):
                if (method, dim, seed) == ("barlow_twins", 1024, 1):
                    records.append(_made(method, dim, seed, status="diverged"))
                    continue
                top1 = low + (high - low) * place / 2 + noise.gauss(0, 0.003)
                wide = 4 if method == "vicreg" else 9
                took = _cost(milliseconds + dim / 40 + noise.gauss(0, 0.4), mib + dim / wide)
                records.append(_made(method, dim, seed, metrics=_metrics(top1), cost=took))
    for seed in range(seeds):
        top1 = 0.78 + noise.gauss(0, 0.004)
        untrained = {"kind": "random_init", "title": "Untrained network"}
        records.append(_made("untrained", None, seed, **untrained, metrics=_metrics(top1, epoch=0)))
    pixels = _metrics(0.85, epoch=0, features="pixels")
    records.append(_made("raw_pixels", None, kind="pixels", title="Raw pixels", metrics=pixels))
    return records


def _write_curves(folder: Path, records: Iterable[Made], steps: int = 60) -> None:
    """``metrics.jsonl`` beside each trained record, logged every fifth step; a diverged run's stops at NaN."""
    for record in records:
        settings = record.network.network
        if settings["kind"] != "trained":
            continue
        scale = 1 + 0.3 * list(METHODS).index(settings["method"]) - settings["embedding_dim"] / 3000
        lines = []
        for step in range(0, steps * 5, 5):
            loss = scale * (0.3 + math.exp(-step / 80)) + 0.01 * math.sin(step + settings["seed"])
            lost = record.network.status == "diverged" and step > 100
            line: dict[str, Any] = {
                "epoch": step // 5,
                "step": step,
                "loss": math.nan if lost else loss,
                "terms": {},
                "lr": 1e-3,
            }
            lines.append(json.dumps(line | {"images_per_second": 7000.0}))
            if lost:
                break
        (folder / record.id / "metrics.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Made]:
    """Makes a network with its measurements: ``make_record(method, dim, seed, kind=, network=, metrics=, ...)``."""
    return _made


@pytest.fixture
def write_runs(tmp_path: Path) -> Callable[[Iterable[Made]], Path]:
    """Writes records into a runs folder and returns it."""
    return lambda records: _write(tmp_path / "runs", records)


@pytest.fixture(scope="session")
def digits_records() -> Callable[[int], list[Made]]:
    """The records of a suite like ``digits`` with so many seeds."""
    return _digits_records


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder of a suite like ``digits``, with loss curves; not to be written into."""
    records = _digits_records()
    folder = _write(tmp_path_factory.mktemp("runs") / "digits", records)
    _write_curves(folder, records)
    return folder
