"""``spherebench plan``: predictions against the published table, against measurements, and against counts by hand."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import torch

from benchmark.cost.plan import largest_dimension, plan
from benchmark.networks.step import TrainingStep
from benchmark.runtime.memory import PeakMemory
from benchmark.runtime.process import Process
from benchmark.suite.expand import load_suite

PUBLISHED = Path(__file__).parents[3] / "results" / "published" / "published.csv"
CPU = torch.device("cpu")
TINY = ("data.source=digits", "data.image_size=null", "backbone.name=small_cnn", "projector.hidden=64")


def _published_peaks() -> dict[tuple[str, int], float]:
    """(method, batch) -> GB on each of 8 GPUs: ResNet-50, D=32768."""
    with PUBLISHED.open() as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "peak_memory_per_gpu"]
    return {
        (row["method"], int(row["batch_size"])): float(row["value"])
        for row in rows
        if (row["dataset"], row["backbone"], row["embedding_dim"], row["unit"])
        == ("imagenet", "resnet50", "32768", "GB")
    }


@pytest.mark.parametrize("batch", [256, 1024, 2048])
@pytest.mark.parametrize(("method", "name", "form"), [("sfrik_l3", "sfrik", "auto"), ("vicreg", "vicreg", "primal")])
def test_the_published_table(method: str, name: str, form: str, batch: int) -> None:
    published = _published_peaks().get((name, batch), math.inf)
    settings = (f"method={method}", f"form={form}", f"batch_size={batch}", "embedding_dim=32768")
    found = plan(load_suite("imagenet", settings).cells[0].run, 8)
    if published == math.inf:  # "VICReg does not fit" 32 GB
        assert found.peak_bytes_published > 32e9
    else:
        assert found.peak_bytes_published / 1e9 == pytest.approx(published, rel=0.02)
    # Ours saves one copy of the gradients, of 376 million parameters in float32.
    assert found.peak_bytes_published - found.peak_bytes == pytest.approx(1.503e9, rel=0.001)


@pytest.mark.parametrize("optimizer", ["lars", "adamw", "sgd"])
@pytest.mark.parametrize("method", ["sfrik_l3", "vicreg", "simclr", "barlow_twins"])
def test_predicted_is_measured(method: str, optimizer: str) -> None:
    settings = (*TINY, f"method={method}", f"optimizer.name={optimizer}", "embedding_dim=512", "batch_size=64")
    run = load_suite("cifar10", [*settings, "precision=fp32", "seed=0"]).cells[0].run
    step = TrainingStep(run, 1, Process(CPU))
    views = tuple(torch.randn(64, 1, 8, 8) for _ in range(2))
    step(views)
    with PeakMemory(step.encoder, step.optimizer, *views) as memory:
        step(views)
    assert plan(run, 1).peak_bytes == pytest.approx(memory.baseline_bytes + memory.peak_bytes, rel=0.03)


def test_flop_of_a_linear_layer_counts_forward_and_backward() -> None:
    settings = (*TINY, "projector.layers=0", "method=sfrik_l3", "batch_size=64")
    narrow, wide = (
        plan(load_suite("cifar10", [*settings, f"embedding_dim={dim}", "seed=0"]).cells[0].run, 1) for dim in (64, 128)
    )
    # Of two views, 64 more outputs of the last layer: forward, both gradients; and of the loss, 3 N² D a view.
    layer, loss = 3 * 2 * 64 * 128 * 64, 3 * 64**2 * 64
    assert wide.flop_per_step - narrow.flop_per_step == pytest.approx(2 * (layer + loss), rel=0.1)


def test_the_largest_dimension_fits_and_twice_does_not() -> None:
    run = load_suite("cifar10", [*TINY, "method=sfrik_l3", "embedding_dim=64", "batch_size=64", "seed=0"]).cells[0].run
    room = plan(run.model_copy(update={"embedding_dim": 1024}), 1).peak_bytes
    assert largest_dimension(run, 1, room) == 1024
    assert largest_dimension(run.model_copy(update={"embedding_dim": 8192}), 1, room) == 1024
    assert largest_dimension(run, 1, 1000) is None


def test_the_command_tells_programs_and_readers(spherebench) -> None:
    suite = ("digits", "--set", "embedding_dim=64", "--set", "method=vicreg,simclr", "--gpus", "2")
    told = json.loads(spherebench("plan", *suite, "--memory", "3MB", "--rate", "1", "--format", "json").stdout)
    shown = [(row["method"], row["form"], row["embedding_dim"], row["batch_size"], row["gpus"]) for row in told]
    assert shown == [("vicreg", "primal", 64, 256, 2), ("simclr", "rowwise", 64, 256, 2)]
    for row in told:
        assert row["fits"] == (row["peak_bytes"] <= 3e6)
        assert row["steps"] == 60 * (1037 // 256)
        assert row["gpu_hours"] == pytest.approx(row["flop_per_step"] * row["steps"] * 2 / 1e12 / 3600)
    text = spherebench("plan", *suite, "--memory", "1kB").stdout
    assert "NO" in text
    assert "none" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["digits", "--gpus", "3"], "batch_size is 256, must be a multiple of the number of GPUs, 3"),
        (["digits", "--memory", "lots"], "is 'lots', must be a size such as 32GB or 80GiB"),
        (
            ["digits", "--set", "data.source=npz:x.npz"],
            "data.source: is 'npz:x.npz'; costs are told of named images: digits",
        ),
        (["digits", "--set", "data.source=spirals"], "data.source: is 'spirals'; costs are told of named images"),
        (["digits", "--gpus", "256"], "batch_size is 256, must be at least two images for each of 256 GPUs"),
        (["digits", "--set", "method=simclr", "--set", "form=primal"], "nothing in it trains a network in this form"),
        (["nosuch"], "suite 'nosuch' is not known"),
    ],
)
def test_bad_input_is_one_sentence(spherebench, arguments: list[str], sentence: str) -> None:
    result = spherebench("plan", *arguments)
    assert result.exit_code == 2
    assert sentence in " ".join(result.output.split())
