"""Rank correlations of what was to be expected of augmentations with what few labels found."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results import expectations, style
from results.collect import collect
from results.expectations import rank_correlation
from results.formats import join
from results.record import Metric
from results.summary import summarise

Make = Callable[..., Any]
Write = Callable[..., Path]
ACCURACY = {"none": 0.3, "blur": 0.5, "zoom": 0.4, "mixed": 0.6, "affine": 0.7}


def _records(make: Make, ridges: tuple[float, ...] = (0.0,)) -> list[Any]:
    """Complexity falls as accuracy grows, but for one pair that is exchanged; invariance grows with it."""
    records = []
    for place, (augmentation, accuracy) in enumerate(sorted(ACCURACY.items(), key=lambda item: item[1])):
        for seed, ridge in product((0, 1), ridges):
            where: dict[str, Any] = {"features": "kernel", "split": "test", "epoch": 1}
            few = {"draws": 10, "probe": "svm C=10", **where}
            metrics = [
                Metric(metric="fewshot_top1", protocol={"labels_per_class": n, **few}, value=accuracy + seed / 1e3)
                for n in (1, 5)
            ]
            complexity = 100.0 - 10 * [1, 0, 2, 3, 4][place]
            metrics.append(
                Metric(metric="augmentation_complexity", protocol=where, value=complexity, unit="dimensions")
            )
            metrics.append(Metric(metric="invariance", protocol=where, value=place / 10, unit="correlation"))
            regime = {"augmentation": augmentation, "n_views": 8, "ridge": ridge, "kernel": {"name": "rbf"}}
            axes = {"regime.augmentation": augmentation, "regime.ridge": ridge}
            more = {"axes": axes, "network": {"kind": "kernel", "regime": regime}, "metrics": metrics}
            records.append(make("kernel_a", 16, seed, kind="kernel", title="Kernel A", **more))
    return records


def test_the_correlation_is_over_augmentations_and_told_with_its_interval(make_record: Make, write_runs: Write) -> None:
    collection = collect([write_runs(_records(make_record))])
    summary = summarise(collection)
    found = {(own["measure"], own["shots"]): own for own in expectations.correlations(summary, "digits")}
    assert set(found) == {(measure, shots) for measure in ("augmentation_complexity", "invariance") for shots in (1, 5)}
    own = found["augmentation_complexity", 1]
    assert (own["rho"], own["n"]) == (pytest.approx(-0.9), 5)  # 1 − 6·2/(5·24), turned
    half = 1.959964 * np.sqrt((1 + 0.81 / 2) / 2)
    assert own["low"] == pytest.approx(np.tanh(np.arctanh(-0.9) - half), abs=1e-5)
    assert own["high"] == pytest.approx(np.tanh(np.arctanh(-0.9) + half), abs=1e-5)
    text = join(expectations.table(summary), "md")
    assert "over 5 augmentations" in text
    assert f"-0.90 ({own['low']:.2f} to {own['high']:.2f})" in text
    style.use_style()
    figure = expectations.expectations(collection, summary, "digits")
    assert figure is not None
    complexity, invariance = figure.axes
    assert sorted(line.get_ydata()[0] for line in complexity.lines) == pytest.approx(
        [30.05, 40.05, 50.05, 60.05, 70.05]
    )
    assert invariance.get_title().startswith("● $\\rho$ = 1.00 (")


def test_equal_order_has_an_interval_that_is_no_point() -> None:
    found = rank_correlation(np.arange(7), np.arange(7) ** 3)
    assert found.rho == pytest.approx(1)
    assert 0.7 < found.low < 0.9 < found.high < 1


@pytest.mark.parametrize("ridges", [None, (0.0, 0.1)])
def test_runs_that_differ_in_nothing_or_in_more_have_no_such_figure(
    make_record: Make, write_runs: Write, ridges: tuple[float, ...] | None
) -> None:
    records = _records(make_record, ridges) if ridges else [make_record("vicreg", 64)]
    collection = collect([write_runs(records)])
    summary = summarise(collection)
    assert expectations.expectations(collection, summary, "digits") is None
    assert expectations.table(summary) == []
