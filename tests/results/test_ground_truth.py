"""The figure of what was recovered of the ground truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results import ground_truth, style
from results.collect import collect
from results.record import Metric
from results.summary import summarise

Make = Callable[..., Any]
Write = Callable[..., Path]


def _record(make: Make, noise: float, limit: int, kernel: str, seed: int) -> Any:
    place: dict[str, Any] = {"eigenfunctions": 6, "features": "kernel", "split": "test", "epoch": 1}
    fresh = 0.5 + noise / 10 + limit / 1e4 + (0.1 if kernel == "ntk" else 0) + seed / 100
    metrics = [
        Metric(metric="recovery", protocol={"views": views, **place}, value=fresh + more)
        for views, more in (("fresh", 0.0), ("fitted", 0.05))
    ]
    settings = {"data": {"source": "circle", "limit": limit}, "regime": {"noise": noise, "kernel": {"name": kernel}}}
    axes = {"regime.noise": noise, "data.limit": limit, "regime.kernel.name": kernel}
    network = {**settings, "kind": "kernel"}
    return make("kernel_a", 6, seed, kind="kernel", title="Kernel A", axes=axes, network=network, metrics=metrics)


def test_each_axis_has_a_panel_at_the_usual_values_of_the_others(make_record: Make, write_runs: Write) -> None:
    style.use_style()
    cells = [(noise, limit, "rbf") for noise in (0.2, 0.4, 0.6) for limit in (50, 200)] + [(0.4, 200, "ntk")]
    collection = collect([write_runs([_record(make_record, *cell, seed) for cell in cells for seed in (0, 1)])])
    figure = ground_truth.recovery(collection, summarise(collection), "circle")
    assert figure is not None
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [
        "training images 200, base kernel rbf",
        "noise 0.4, base kernel rbf",
        "noise 0.4, training images 200",
    ]
    for axis, expected in zip(figure.axes, ([54.5, 56.5, 58.5], [55.0, 56.5], [66.5, 56.5]), strict=True):
        (bar,) = axis.containers
        fitted, fresh = axis.lines[0].get_ydata(), bar.lines[0].get_ydata()
        assert list(fresh) == pytest.approx(expected)
        assert list(fitted - fresh) == pytest.approx([5.0] * len(expected))


def test_without_a_ground_truth_there_is_no_figure(make_record: Make, write_runs: Write) -> None:
    collection = collect([write_runs([make_record("vicreg", 64)])])
    assert ground_truth.recovery(collection, summarise(collection), "digits") is None
