"""The kernel regime's figures: each shown only where the records hold the data, and showing the tables' means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from results import plots, regime, regime_width, style
from results.collect import Collection, collect
from results.record import Metric
from results.summary import summarise

Make = Callable[..., Any]
Write = Callable[..., Path]
Drawn = tuple[Collection, pd.DataFrame]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    style.use_style()
    yield
    plt.close("all")


def _kernel(
    make: Make,
    method: str,
    value: float,
    seed: int = 0,
    dim: int | None = 16,
    measurements: Iterable[dict[str, Any]] = (),
    **spec: Any,
) -> Any:
    """A record whose few-label accuracy at one label is ``value`` + 0.01 by SVM, and 0.1 more by ridge."""
    settings = {"kernel": {"name": "rbf", "gamma": 0.1}, "n_views": 16, "ridge": 0.01, **spec}
    place: dict[str, Any] = {"features": "kernel", "split": "test", "epoch": 0 if method == "base_kernel" else 1}
    metrics = [
        Metric(
            metric="fewshot_top1",
            protocol={"labels_per_class": labels, "draws": 10, "probe": probe, **place},
            value=value + more + labels / 100,
            sd=0.02,
        )
        for probe, more in (("svm C=10", 0.0), ("kernel ridge alpha=0.3", 0.1))
        for labels in (1, 5)
    ]
    axes = {f"regime.{key}": settings[key] for key in spec}
    named: dict[str, Any] = {"kind": "kernel", "title": method.replace("_", " "), "axes": axes}
    return make(method, dim, seed, **named, network={"regime": settings}, metrics=metrics, measurements=measurements)


def _drawn(records: Iterable[Any], write: Write) -> Drawn:
    collection = collect([write(records)])
    return collection, summarise(collection)


def test_few_labels_marks_each_probe_on_the_rows_of_the_methods(make_record: Make, write_runs: Write) -> None:
    records = [_kernel(make_record, "kernel_a", 0.7, seed) for seed in range(3)]
    records += [_kernel(make_record, "base_kernel", 0.5, dim=None), make_record("vicreg", 64)]
    figure = regime.few_labels(*_drawn(records, write_runs), "digits")
    assert figure is not None
    one, five, *_ = figure.axes
    assert [one.get_title(), five.get_title()] == ["1 label per class", "5 labels per class"]
    assert [text.get_text() for text in one.get_yticklabels()] == ["base kernel", "VICReg", "kernel a"]
    (svm,) = [bar.lines[0] for bar in one.containers if len(bar.lines[0].get_xdata()) == 2][:1]
    assert sorted(svm.get_xdata()) == pytest.approx([51.0, 71.0])


def test_accuracy_over_views_has_a_line_a_method_and_levels(make_record: Make, write_runs: Write) -> None:
    records = [
        _kernel(make_record, "kernel_a", 0.6 + views / 100, seed, n_views=views) for views in (2, 8) for seed in (0, 1)
    ]
    records.append(_kernel(make_record, "base_kernel", 0.5, dim=None, n_views=1))
    drawn = _drawn(records, write_runs)
    figure = regime.over(*drawn, "digits", "regime.n_views")
    assert figure is not None
    (line,) = [bar.lines[0] for bar in figure.axes[0].containers]
    assert list(line.get_xdata()) == [2, 8]
    assert list(line.get_ydata()) == pytest.approx([63.0, 69.0])
    assert 51.0 in [pytest.approx(level.get_ydata()[0]) for level in figure.axes[0].lines]
    assert regime.over(*drawn, "digits", "data.limit") is None
    assert regime.heat_map(*drawn, "digits", "embedding_dim") is None


def test_variants_of_a_method_have_panels_of_their_own(make_record: Make, write_runs: Write) -> None:
    records = [
        _kernel(make_record, method, 0.4 + views / 100, n_views=views, augmentation=augmentation)
        for method in ("kernel_a", "kernel_b")
        for augmentation in ("blur", "zoom")
        for views in (2, 8)
    ]
    others = ("kernel_a, NTK", "kernel_pca")
    records += [_kernel(make_record, method, 0.3, n_views=views) for method in others for views in (2, 8)]
    figure = regime.over(*_drawn(records, write_runs), "digits", "regime.n_views")
    assert figure is not None
    assert [axis.get_title() for axis in figure.axes] == [
        f"{method}\n{labels} per class" for method in ("kernel a", "kernel b") for labels in ("1 label", "5 labels")
    ]
    assert [len(axis.containers) for axis in figure.axes] == [4, 4, 3, 3]
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["augmentation=blur", "augmentation=zoom", "NTK", "kernel pca"]


def test_the_heat_map_tells_every_cell_and_the_base_kernel(make_record: Make, write_runs: Write) -> None:
    cells = {(ridge, rank): 0.4 + 0.1 * ridge + rank / 1000 for ridge in (0.0, 0.1, 0.5) for rank in (4, 16, 64)}
    records = [_kernel(make_record, "kernel_a", value, dim=rank, ridge=ridge) for (ridge, rank), value in cells.items()]
    records.append(_kernel(make_record, "base_kernel", 0.45, dim=None, ridge=0.0))
    figure = regime.heat_map(*_drawn(records, write_runs), "digits", "embedding_dim")
    assert figure is not None
    shown = {(text.get_position()[1], text.get_position()[0]): float(text.get_text()) for text in figure.axes[0].texts}
    for row, ridge in enumerate((0.0, 0.1, 0.5)):
        for column, rank in enumerate((4, 16, 64)):
            assert shown[row, column] == pytest.approx(100 * cells[ridge, rank] + 1, abs=0.051)
    assert figure.axes[0].get_title() == "1 label per class; base kernel 46.0"


def test_of_times_the_last_is_the_minimum(make_record: Make, write_runs: Write) -> None:
    times = {**{str(time): {"time": time} for time in (10.0, 2.0)}, "∞": {}}
    cells = [
        (method, ridge, told) for method in ("kernel_a", "kernel_b") for ridge in (0.0, 0.1, 0.2) for told in times
    ]
    records = [_kernel(make_record, method, 0.4 + ridge, ridge=ridge, **times[told]) for method, ridge, told in cells]
    figure = regime.heat_map(*_drawn(records, write_runs), "digits", "regime.time")
    assert figure is not None
    titles = [
        f"{method}\n{labels} per class" for labels in ("1 label", "5 labels") for method in ("kernel a", "kernel b")
    ]
    assert sorted(axis.get_title() for axis in figure.axes) == sorted(titles)
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["2", "10", "∞"]
    assert regime.few_labels(*_drawn(records, write_runs), "digits") is None


def test_the_spectrum_is_a_measurement(make_record: Make, write_runs: Write) -> None:
    shares = {"kernel_a": [0.3, *[0.1] * 7, 0.0], "kernel_b": [0.125] * 8, "kernel_c": [0.5, 0.5]}
    assert regime.spectrum(*_drawn([_kernel(make_record, name, 0.6) for name in shares], write_runs), "digits") is None
    measured = {name: [{"probe": "spectrum", "details": {"eigenvalues": own}}] for name, own in shares.items()}
    records = [_kernel(make_record, name, 0.6, measurements=own) for name, own in measured.items()]
    figure = regime.spectrum(*_drawn(records, write_runs), "digits")
    assert figure is not None
    assert [list(line.get_ydata()) for line in figure.axes[0].lines] == [[0.3, *[0.1] * 7], [0.125] * 8]


def _picture(induced: float) -> dict[str, Any]:
    points = [[0.0, 0.0], [1.0, 1.0]]
    grids = {"base": [[0.0] * 4] * 4, "induced": [[induced] * 4] * 4}
    return {"points": points, "labels": [0, 1], "origin": points[0], "edge": 1.0, **grids}


def test_the_kernels_picture_by_neighbourhood(make_record: Make, write_runs: Write) -> None:
    counts = (2, 40, 5)
    alone = [_kernel(make_record, "kernel_a", 0.6, n_neighbors=count) for count in counts]
    assert regime.neighbourhoods(*_drawn(alone, write_runs), "digits") is None
    pictures = [[{"probe": "kernel_picture", "details": _picture(count / 100)}] for count in counts]
    own = [
        _kernel(make_record, "kernel_a", 0.6, n_neighbors=count, measurements=picture)
        for count, picture in zip(counts, pictures, strict=True)
    ]
    figure = regime.neighbourhoods(*_drawn(own, write_runs), "digits")
    assert figure is not None
    panels = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in panels] == ["Base kernel", "2 neighbours", "5 neighbours", "40 neighbours"]
    assert [axis.images[0].get_array().mean() for axis in panels] == pytest.approx([0, 0.02, 0.05, 0.4], abs=1e-3)


def _wide(make: Make, method: str, units: int, seed: int) -> Any:
    """A network whose distance from its own kernel is 8/√width, and from the infinite one twice that."""
    place = {"images": 64, "features": "wide", "split": "test", "epoch": 100}
    metrics = [
        Metric(
            metric="kernel_distance",
            protocol={"kernel": kernel, "of": of, **place},
            value=factor * (8 + seed) / units**0.5,
            unit="relative",
        )
        for kernel, factor in (("own", 1), ("infinite", 2))
        for of in ("gram", "predictions")
    ]
    ways = {"time": [0, 1, 2, 4], "network": [[0, 0], [0.5, 0], [1, 0.5], [1, 1]], "learned_at": [1.0, 2.0]}
    own = [{"probe": "kernel_limit", "details": {**ways, "flow": ways["network"]}}] if method == "wide b" else []
    named: dict[str, Any] = {"kind": "wide", "title": method, "axes": {"mlp.width": units}, "measurements": own}
    return make(method, 6, seed, **named, network={"mlp": {"width": units, "depth": 1}}, metrics=metrics)


def test_the_exponent_of_the_distance_in_the_width(make_record: Make, write_runs: Write) -> None:
    records = [_wide(make_record, name, units, 0) for name in ("wide a", "wide b") for units in (64, 256, 1024)]
    collection, summary = _drawn(records, write_runs)
    found = regime_width.exponents(summary, "digits")
    assert len(found) == 8
    assert list(found.values()) == pytest.approx([-0.5] * 8)
    figure = regime_width.width(collection, summary, "digits")
    assert figure is not None
    assert [len(axis.containers) for axis in figure.axes] == [4, 4]
    assert "wide a, own NTK (−0.50, −0.50)" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_modes_are_learned_in_steps(make_record: Make, write_runs: Write) -> None:
    assert regime_width.stepwise(*_drawn([_wide(make_record, "wide a", 64, 0)], write_runs), "digits") is None
    records = [_wide(make_record, "wide b", units, seed) for units in (64, 256) for seed in (0, 1)]
    collection, summary = _drawn(records, write_runs)
    figure = regime_width.stepwise(collection, summary, "digits")
    assert figure is not None
    assert [axis.get_title() for axis in figure.axes] == ["Width 64", "Width 256"]
    assert regime_width.width(collection, summary, "digits") is None


def test_the_figures_are_written_with_the_others(tmp_path: Path, make_record: Make, write_runs: Write) -> None:
    records = [_kernel(make_record, "kernel_a", 0.6), make_record("vicreg", 64)]
    collection, _ = _drawn(records, write_runs)
    assert {path.name for path in plots.write(collection, tmp_path / "plots")} == {"few_labels.png", "few_labels.pdf"}
