"""Records as the harness leaves them, without running it."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from results.record import Cost, Metric, Provenance, Quartiles, Record

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
        evaluation_seconds=1.25,
    )


def _record(
    method: str = "sfrik_l2",
    dim: int | None = 64,
    seed: int = 0,
    *,
    title: str | None = None,
    status: str = "done",
    axes: dict[str, Any] | None = None,
    run: dict[str, Any] | None = None,
    **fields: Any,
) -> Record:
    """One record; ``run`` overrides fields of the resolved Run, ``fields`` those of the record."""
    resolved = {
        "method": method,
        "loss": {"align_weight": 1.0},
        "embedding_dim": dim,
        "batch_size": 256,
        "epochs": 60,
        "seed": seed,
        "precision": "fp32",
        "form": "auto",
        "data": {"source": "digits", "tune_fraction": 0.1, "image_size": None, "limit": None},
        "backbone": {"name": "small_cnn", "stem": "imagenet", "width": 32, "zero_init_residual": True},
        "evaluation": {"split": "test", "knn_k": [10, 20, 100]},
        **(run or {}),
    }
    digest = hashlib.sha256(json.dumps(resolved, sort_keys=True).encode()).hexdigest()[:10]
    done = status == "done"
    return Record(
        **{
            "id": f"{method}{f'-d{dim}' if dim else ''}-s{seed}-{digest}",
            "suite": "digits",
            "status": status,
            "message": "" if done else f"{status} at step 12",
            "title": title or METHODS.get(method, (method,))[0],
            "run": resolved,
            "axes": {"method": method, "seed": seed, **({"embedding_dim": dim} if dim else {}), **(axes or {})},
            "form": "dual",
            "metrics": _metrics(0.9) if done else (),
            "cost": _cost(30.0, 90.0) if done else Cost(train_seconds=1.0),
            "provenance": _provenance(),
            **fields,
        }
    )


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


def _write(folder: Path, records: Iterable[Record]) -> Path:
    """A runs folder that holds ``records``."""
    for record in records:
        place = folder / record.id
        place.mkdir(parents=True)
        record.write(place)
    return folder


def _digits_records(seeds: int = 2) -> list[Record]:
    """A suite like ``digits``: six methods at three dimensions, one of them diverging once, and two baselines."""
    noise = random.Random(0)
    records = []
    for method, (_, low, high, milliseconds, mib) in METHODS.items():
        for place, dim in enumerate(DIMENSIONS):
            for seed in range(seeds):
                if (method, dim, seed) == ("barlow_twins", 1024, 1):
                    records.append(_record(method, dim, seed, status="diverged"))
                    continue
                top1 = low + (high - low) * place / 2 + noise.gauss(0, 0.003)
                wide = 4 if method == "vicreg" else 9
                took = _cost(milliseconds + dim / 40 + noise.gauss(0, 0.4), mib + dim / wide)
                records.append(_record(method, dim, seed, metrics=_metrics(top1), cost=took))
    for seed in range(seeds):
        records.append(_baseline("untrained", "Untrained network", seed, 0.78 + noise.gauss(0, 0.004), "backbone"))
    records.append(_baseline("raw_pixels", "Raw pixels", 0, 0.85, "pixels"))
    return records


def _baseline(method: str, title: str, seed: int, top1: float, features: str) -> Record:
    measured = _metrics(top1, epoch=0, features=features)
    return _record(method, None, seed, title=title, run={"epochs": 0}, metrics=measured, cost=Cost(), form=None)


def _write_curves(folder: Path, records: Iterable[Record], steps: int = 60) -> None:
    """``metrics.jsonl`` beside each trained record, logged every fifth step; a diverged run's stops at NaN."""
    for record in records:
        if record.run["epochs"] == 0:
            continue
        scale = 1 + 0.3 * list(METHODS).index(record.run["method"]) - record.run["embedding_dim"] / 3000
        lines = []
        for step in range(0, steps * 5, 5):
            loss = scale * (0.3 + math.exp(-step / 80)) + 0.01 * math.sin(step + record.run["seed"])
            lost = record.status == "diverged" and step > 100
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
def make_record() -> Callable[..., Record]:
    """Makes one record: ``make_record(method, dim, seed, title=, status=, axes=, run=, **fields of the record)``."""
    return _record


@pytest.fixture
def write_runs(tmp_path: Path) -> Callable[[Iterable[Record]], Path]:
    """Writes records into a runs folder and returns it."""
    return lambda records: _write(tmp_path / "runs", records)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder of a suite like ``digits``, with loss curves; not to be written into."""
    records = _digits_records()
    folder = _write(tmp_path_factory.mktemp("runs") / "digits", records)
    _write_curves(folder, records)
    return folder
