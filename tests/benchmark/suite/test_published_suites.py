"""The suites with published recipes, for a few steps, on small data of the layout that they read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmark.networks.trained import Trained
from benchmark.running.folder import state_of
from benchmark.running.runner import execute_suite
from benchmark.runtime.process import Process
from benchmark.runtime.signals import Requests
from benchmark.suite.expand import load_suite
from results.collect import collect
from results.plots import loss_curves
from results.summary import summarise
from tests.benchmark import layouts

Writer = Callable[[Path, pytest.MonkeyPatch], None]

WRITERS: dict[str, Writer] = {
    "cifar10": layouts.write_cifar,
    "imagenette": lambda root, _: layouts.write_imagenette(root),
    "stl10": layouts.write_stl10,
    "imagenet": lambda root, _: layouts.write_imagenet(root),
    "imagenet20": lambda root, _: layouts.write_imagenet(root, train_per_class=270),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_published_recipe_trains_and_is_evaluated(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    WRITERS[name](tmp_path / "data", monkeypatch)
    batch = 240 if name == "imagenet20" else 10
    suite = load_suite(
        name,
        [
            *("method=vicreg", "embedding_dim=16", "seed=0", f"batch_size={batch}", "projector.hidden=32"),
            *("epochs=1", "optimizer.warmup_epochs=1", "data.limit=null" if batch > 10 else "data.limit=20"),
            *("data.image_size=16", "evaluation.probes=[knn,logistic,embedding]", "evaluation.knn_k=[1]"),
            *("data.tune_fraction=0.2", "precision=fp32", "workers=0", f"data_root={tmp_path / 'data'}", "device=cpu"),
        ],
    )
    cell = next(cell for cell in suite.cells if cell.run.network.method == "vicreg")
    trained, alone = cell.run, replace(suite, cells=(cell,))  # without what it is compared with
    assert execute_suite(
        alone, tmp_path / "runs", Process(torch.device("cpu")), Requests(), retry=False, report=lambda text: None
    )
    state = state_of(trained, tmp_path / "runs" / trained.id)
    assert state.is_done
    assert isinstance(trained.network, Trained)
    assert trained.network.optimizer.name == "lars"
    metrics = {metric.metric for record in state.measurements.values() if record for metric in record.metrics}
    assert metrics >= {"knn_top1", "logistic_top1", "alignment", "rankme"}
    assert (tmp_path / "runs" / trained.id / "metrics.jsonl").read_text().count("\n") >= 1


@pytest.mark.parametrize(
    ("augmentation", "methods"), [("obow", ()), ("swav", ("method=sfrik_l3,vicreg",)), ("lejepa", ("method=sigreg",))]
)
def test_several_crops_train_with_every_method(augmentation: str, methods: tuple[str, ...], tmp_path: Path) -> None:
    layouts.write_imagenet(tmp_path / "data", train_per_class=270)
    suite = load_suite(
        "imagenet20",
        [
            *(
                f"augmentation={augmentation}",
                *methods,
                "embedding_dim=16",
                "seed=0",
                "batch_size=8",
                "projector.hidden=16",
            ),
            *("epochs=2", "optimizer.warmup_epochs=1", "backbone.name=small_cnn", "backbone.width=8", "data.limit=16"),
            *("data.image_size=32", "evaluation.probes=[knn,embedding]", "evaluation.knn_k=[1]", "precision=fp32"),
            *("workers=0", f"data_root={tmp_path / 'data'}", "device=cpu", "online_probe=true", "log_every=1"),
        ],
    )
    process = Process(torch.device("cpu"))
    assert execute_suite(suite, tmp_path / "runs", process, Requests(), retry=False, report=lambda text: None)
    collection = collect([tmp_path / "runs"])
    assert set(collection.runs["status"]) == {"done"}
    for cell in suite.cells:
        log = tmp_path / "runs" / cell.run.id / "metrics.jsonl"
        lines = list(map(json.loads, log.read_text().splitlines()))
        assert [line["step"] for line in lines] == [1, 2, 3, 4]
        assert all(math.isfinite(line["loss"]) and 0 <= line["online_probe"]["top1"] <= 1 for line in lines)
    figure = loss_curves(collection, summarise(collection), "imagenet20")
    assert figure is not None
    assert {axis.get_ylabel() for axis in figure.axes} >= {"Loss", "Online top-1 (%)"}
