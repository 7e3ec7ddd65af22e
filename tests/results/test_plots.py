import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import image
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection

from results import plots, style
from results.collect import Collection, collect
from results.record import Metric
from results.runs import Records
from results.summary import summarise

Make = Callable[..., Any]
Write = Callable[..., Path]
Curve = Callable[[bytes], pd.Series]


@pytest.fixture(scope="module")
def drawn(digits: Path) -> Iterator[tuple[Collection, pd.DataFrame]]:
    style.use_style()
    collection = collect([digits])
    yield collection, summarise(collection)
    plt.close("all")


def series(axis: Axes) -> list[tuple[list[float], list[float]]]:
    """x and y of every line that has a marker."""
    lines = [container.lines[0] for container in axis.containers]
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in lines]


def test_accuracy_shows_the_means_of_the_table(drawn: tuple[Collection, pd.DataFrame]) -> None:
    _, summary = drawn
    figure = plots.accuracy(*drawn, "digits")
    assert figure is not None
    (first,) = figure.axes
    assert first.get_title() == "Logistic regression\nC=1.0"
    assert not figure.legends
    assert {*summary.loc[summary["kind"] == "trained", "label"]} <= {text.get_text() for text in first.texts}
    auh = summary[(summary["metric"] == "logistic_top1") & (summary["label"] == "AUH")]
    assert series(first)[0][1] == pytest.approx(100 * auh["mean"])
    assert len(series(first)) == 6


def test_several_figures_that_a_suite_begins_with_have_a_panel_each(drawn: tuple[Collection, pd.DataFrame]) -> None:
    collection, summary = drawn
    wanted = summary.assign(headline=summary["metric"].isin(["knn_top1", "fewshot_top1"]))
    figure = plots.accuracy(collection, wanted, "digits")
    assert figure is not None
    titles = ["k=20", "1 label per class", "5 labels per class", "10 labels per class"]
    assert [axis.get_title().split("\n")[1] for axis in figure.axes] == titles
    assert figure.legends[0].get_title().get_text() == "Mean over seeds; points: each seed"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_names_at_the_ends_do_not_touch_and_keep_their_order(levels: list[float]) -> None:
    placed = style.apart(pd.Series(sorted(levels)), 0.0, 1.0)
    assert [level for level, _ in placed.values()] == sorted(levels)
    places = [place for _, place in placed.values()]
    assert all(after - before > 0.95 / 16 for before, after in pairwise(places))
    assert min(places) > 0
    assert max(places) < 1


def test_dimension_axis_is_logarithmic_with_the_dimensions_as_ticks(drawn: tuple[Collection, pd.DataFrame]) -> None:
    figure = plots.accuracy(*drawn, "digits")
    assert figure is not None
    axis = figure.axes[-1]
    assert axis.get_xscale() == "log"
    assert axis.get_xticks().tolist() == [64, 256, 1024]
    assert axis.get_xlabel() == "Embedding dimension $D$"


def test_methods_stand_side_by_side_near_their_dimension(drawn: tuple[Collection, pd.DataFrame]) -> None:
    figure = plots.accuracy(*drawn, "digits")
    assert figure is not None
    at_64 = [x[0] for x, _ in series(figure.axes[0])]
    assert len(set(at_64)) == len(at_64)
    assert max(abs(np.log2(at_64) - 6)) < 0.25


def test_baselines_below_the_panel_are_remarks_at_its_foot(drawn: tuple[Collection, pd.DataFrame]) -> None:
    figure = plots.accuracy(*drawn, "digits")
    assert figure is not None
    told = [text.get_text() for text in figure.axes[0].texts if text.get_ha() == "right" and text.get_text()]
    assert told == ["↓ Raw pixels 85.0\n↓ Untrained network 78.2"]


@pytest.mark.parametrize(("value", "told"), [(0.99, "↑ Raw pixels 99.0"), (0.5005, "Raw pixels")])
def test_a_baseline_is_a_line_or_a_remark_at_the_head(
    make_record: Make, write_runs: Write, value: float, told: str
) -> None:
    good, poor = (Metric(metric="knn_top1", protocol={"k": 20}, value=value) for value in (value, 0.5))
    pixels = make_record("raw_pixels", None, title="Raw pixels", kind="pixels", metrics=[good])
    collection = collect([write_runs([make_record(metrics=[poor]), pixels])])
    figure = plots.accuracy(collection, summarise(collection), "digits")
    assert figure is not None
    assert told in [text.get_text() for text in figure.axes[0].texts]
    plt.close(figure)


def test_panel_says_what_sets_it_apart_and_not_what_its_rows_differ_in(make_record: Make, write_runs: Write) -> None:
    def seen(features: str, epoch: int) -> Metric:
        protocol = {"labels_per_class": 1, "probe": "logistic C=1", "features": features, "epoch": epoch}
        return Metric(metric="fewshot_top1", protocol=protocol, value=0.5)

    trained = make_record(metrics=[seen("backbone", 60), seen("embedding", 60)])
    pixels = make_record("raw_pixels", None, kind="pixels", metrics=[seen("pixels", 0)])
    collection = collect([write_runs([trained, pixels])])
    figure = plots.accuracy(collection, summarise(collection).assign(headline=True), "digits")
    assert figure is not None
    titles = [axis.get_title().partition("\n")[2] for axis in figure.axes]
    assert titles == ["features=backbone", "features=embedding"]
    plt.close(figure)


@pytest.mark.parametrize("seeds", [2, 4])
def test_every_seed_is_shown_and_no_interval_drowns_them(make_record: Make, write_runs: Write, seeds: int) -> None:
    values = {(64, seed): 0.5 if seed % 2 else 0.6 for seed in range(seeds)} | {(256, 0): 0.55}
    records = [
        make_record(dim=dim, seed=seed, metrics=[Metric(metric="knn_top1", protocol={"k": 20}, value=value)])
        for (dim, seed), value in values.items()
    ]
    collection = collect([write_runs(records)])
    figure = plots.accuracy(collection, summarise(collection), "digits")
    assert figure is not None
    low, high = figure.axes[0].get_ylim()
    assert low < 50 < 60 < high
    assert high - low < 35, "the interval of two seeds 10 points apart is 127 points wide"
    counts = [len(points.get_offsets()) for points in figure.axes[0].collections if isinstance(points, PathCollection)]
    assert counts == [seeds, 1]
    assert ("interval" in figure.get_supxlabel()) == (seeds > 3)
    plt.close(figure)


def test_configuration_that_never_finished_is_a_cross(make_record: Make, write_runs: Write) -> None:
    records = [
        make_record(),
        make_record(dim=256),
        make_record("vicreg"),
        make_record("vicreg", 256, status="out-of-memory"),
    ]
    collection = collect([write_runs(records)])
    figure = plots.accuracy(collection, summarise(collection), "digits")
    assert figure is not None
    assert [line.get_marker() for line in figure.axes[0].lines].count("x") == 1
    assert figure.get_supxlabel() == "Mean over seeds; points: each seed; ×: no run finished"
    plt.close(figure)


def test_tradeoff_has_one_point_a_method_and_dimension(drawn: tuple[Collection, pd.DataFrame]) -> None:
    figure = plots.tradeoff(*drawn, "digits")
    assert figure is not None
    assert [axis.get_title() for axis in figure.axes] == ["Training step", "Loss and its gradient"]
    points = [line for line in figure.axes[0].lines if line.get_marker() not in ("", "None")]
    assert len(points) == 18
    assert {axis.get_xlabel() for axis in figure.axes} == {"Time (ms)"}
    assert figure.legends[0].get_title().get_text().endswith("marks grow with $D$ = 64, 256, 1024")


def test_tradeoff_gives_each_machine_its_panels(make_record: Make, write_runs: Write) -> None:
    here = make_record()
    device = "another, of a name that would reach into the next panel"
    there = make_record("vicreg", provenance=here.provenance.model_copy(update={"device": device}))
    collection = collect([write_runs([here, there])])
    figure = plots.tradeoff(collection, summarise(collection), "digits")
    assert figure is not None
    assert len(figure.axes) == 4
    name, *told = figure.axes[1].get_title().split("\n")
    assert (name, " ".join(told)) == ("Training step", f"device={device}, threads=2, processes=1")
    assert max(map(len, told)) <= 50
    plt.close(figure)


def test_what_differs_by_a_byte_is_drawn_as_the_same() -> None:
    (axis,) = style.grid(1)[1]
    points = pd.DataFrame({"milliseconds": [1.0, 9.0], "mib": [183.0, 183 + 2**-20], "embedding_dim": 64})
    style.tradeoff(axis, [({}, points)], {64: 4.0}, "Peak memory (MiB)")
    low, high = axis.get_ylim()
    assert high == pytest.approx(1.02 * low)
    assert axis.get_xlim()[1] > 9


def test_loss_curves_have_a_panel_a_method_and_mark_divergence(drawn: tuple[Collection, pd.DataFrame]) -> None:
    figure = plots.loss_curves(*drawn, "digits")
    assert figure is not None
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["AUH", "Barlow Twins", "SFRIK L=2", "SFRIK L=3", "SimCLR", "VICReg"]
    crosses = [[line.get_marker() for line in axis.lines].count("x") for axis in figure.axes]
    assert crosses == [0, 1, 0, 0, 0, 0]


def test_nothing_to_draw_is_no_figure(make_record: Make, write_runs: Write, tmp_path: Path) -> None:
    collection = collect([write_runs([make_record(status="failed", cost=make_record().network.cost)])])
    assert plots.write(collection, tmp_path / "plots") == []


def test_data_that_no_figure_of_accuracy_is_of_have_none(make_record: Make, write_runs: Write) -> None:
    """Of a data set that networks were only transferred to, say: nothing that figures begin with was measured on it."""
    collection = collect([write_runs([make_record()])])
    summary = summarise(collection)
    other = summary.assign(metric="transfer_top1")
    assert plots.accuracy(collection, other, str(summary["dataset"].iloc[0])) is None


def test_files_are_written_as_png_and_pdf_and_do_not_change(
    make_record: Make, write_runs: Write, tmp_path: Path
) -> None:
    collection = collect([write_runs([make_record()])])
    paths = plots.write(collection, tmp_path)
    assert [path.name for path in paths] == ["accuracy.png", "accuracy.pdf", "tradeoff.png", "tradeoff.pdf"]
    first = [path.read_bytes() for path in paths]
    assert all(content.startswith((b"\x89PNG", b"%PDF")) for content in first)
    assert image.imread(paths[0]).shape[1] == 1530, "three quarters of a page at 300 dots an inch"
    plots.write(collection, tmp_path)
    assert [path.read_bytes() for path in paths] == first


def test_two_data_sets_have_their_own_files(make_record: Make, write_runs: Write, tmp_path: Path) -> None:
    records = [make_record(network={"data": {"source": source}}) for source in ("digits", "npz:/a/own.npz")]
    paths = plots.write(collect([write_runs(records)]), tmp_path / "plots")
    assert {path.name for path in paths if path.suffix == ".png"} == {
        "digits_accuracy.png",
        "digits_tradeoff.png",
        "npz-own.npz_accuracy.png",
        "npz-own.npz_tradeoff.png",
    }


@pytest.fixture
def logged(make_record: Callable[..., Any], tmp_path: Path) -> Curve:
    """The curve of a network that wrote these lines."""

    def read(lines: bytes) -> pd.Series:
        (tmp_path / "metrics.jsonl").write_bytes(lines)
        return plots.curve(Records(make_record().network, (), tmp_path))

    return read


def test_curve_by_step(logged: Curve) -> None:
    assert logged(b'{"step": 10, "loss": 0.5}\n{"step": 0, "loss": 1.0}\n').to_dict() == {0: 1.0, 10: 0.5}


def test_torn_line_is_passed_over(logged: Curve) -> None:
    assert logged(b'{"step": 0, "loss": 1.0}\n{"step": 10, "lo').to_dict() == {0: 1.0}
    assert logged(b'\xff\xfe\n7\n{"step": 0, "loss": 1.0}\n').to_dict() == {0: 1.0}


def test_step_logged_again_after_a_resumption_counts_once(logged: Curve) -> None:
    lines = b'{"step": 5, "loss": 1.0}\n{"step": 6, "loss": 0.9}\n{"step": 6, "loss": 0.8}\n'
    assert logged(lines).to_dict() == {5: 1.0, 6: 0.8}


@pytest.mark.parametrize("text", [b"NaN", b'"nan"', b"Infinity"])
def test_loss_that_is_not_finite_ends_the_curve(logged: Curve, text: bytes) -> None:
    assert math.isnan(logged(b'{"step": 0, "loss": 1.0}\n{"step": 1, "loss": %s}\n' % text)[1])


def test_network_that_logged_nothing(make_record: Callable[..., Any], tmp_path: Path) -> None:
    assert plots.curve(Records(make_record().network, (), tmp_path)).empty
