"""What the committed cost sweeps show: the claims of methods/README.md, and that the cost model chooses well."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from benchmark.cli import main
from benchmark.cost import losses
from benchmark.cost.sweep import Cell
from benchmark.networks.trained import LARGEST_ERROR, Trained, doubt
from benchmark.suite.expand import load_suite
from methods.engine.forms import choose_form, correlation_costs, covariance_costs, kernel_costs
from results.cell import CostCell, cells_in, render
from results.cell_plots import crossing, slope

ROOT = Path(__file__).parents[1]
PAGE, REFERENCE = ROOT / "methods" / "README.md", ROOT / "results" / "reference"
EPOCHS = cells_in(REFERENCE / "cost-epoch")
SWEEPS = (
    *("cost-cpu", "cost-epoch", "cost-family", "cost-fit", "cost-forms", "cost-peers", "cost-probe", "cost-step"),
    *("cost-views", "precision", "precision-large"),
)


def _cell(sweep: str, method: str, form: str, dim: int, count: int) -> CostCell:
    (found,) = [
        cell
        for cell in cells_in(REFERENCE / sweep)
        if (cell.method, cell.form, cell.embedding_dim, cell.batch_size) == (method, form, dim, count)
    ]
    return found


@pytest.mark.parametrize("sweep", SWEEPS)
def test_a_sweep_is_of_one_clean_commit_and_its_tables_are_current(sweep: str) -> None:
    folder = REFERENCE / sweep
    cells = cells_in(folder)
    assert cells
    assert {(cell.provenance.dirty, cell.status) for cell in cells} <= {(False, "done")}
    assert len({cell.provenance.commit for cell in cells}) == 1
    assert (folder / "tables" / "cost.md").read_text() == render(cells, "md")


def test_a_loading_process_takes_a_fifth_of_torchvisions_time_or_less() -> None:
    ratios: dict[int, list[float]] = {}
    for cell in cells_in(REFERENCE / "cost-views"):
        ratios.setdefault(cell.embedding_dim, []).append(cell.row()["time_ratio"])
    large, (small,) = ratios[224], ratios[32]
    assert min(large) >= 5
    told = (
        f"{min(large):.1f} to {max(large):.1f} times the loading processes' time at 224 pixels, {small:.1f} times at 32"
    )
    assert told in " ".join((ROOT / "benchmark" / "README.md").read_text(encoding="utf-8").split())


def test_an_epoch_is_told_beside_lightlys() -> None:
    rows = {(row["method"], "in files" in row["network"]): row for row in map(CostCell.row, EPOCHS)}
    page = " ".join((ROOT / "benchmark" / "README.md").read_text(encoding="utf-8").split())
    assert {in_files for _, in_files in rows} == {False, True}
    assert 2 * len(rows) == len(re.findall(r"\d\.\d\d times", page))
    for row in rows.values():
        for ratio in (row["time_ratio"], row["reference_wall_seconds"] / row["wall_seconds"]):
            assert ratio > 1
            assert f"{ratio:.2f} times" in page


@pytest.mark.parametrize("cell", [*cells_in(REFERENCE / "cost-views"), *EPOCHS], ids=lambda cell: cell.title)
def test_no_step_waits_longer_than_another_by_more_than_a_batch_takes(cell: CostCell) -> None:
    row = cell.row()
    assert row["longest_wait_seconds"] - row["shortest_wait_seconds"] <= row["batch_seconds"]


def test_transfers_fits_are_faster_than_scikit_learns_and_end_no_higher() -> None:
    page = (ROOT / "benchmark" / "README.md").read_text(encoding="utf-8")
    for row in (cell.row() for cell in cells_in(REFERENCE / "cost-probe")):
        assert f"{row['batch_size']:,} x {row['embedding_dim']:,} features" in page
        assert f"{row['seconds']:.0f} s" in page
        assert f"{row['peak_bytes'] / 1e6:.0f} MB" in page
        if row.get("reference_seconds"):
            assert row["time_ratio"] > 1.5
            assert row["objective_ratio"] > 0.999
            assert f"{row['reference_seconds']:.0f} s" in page
            assert f"{row['reference_peak_bytes'] / 1e6:.0f} MB" in page


def test_sweeps_and_runs_are_shown_apart() -> None:
    sweep, runs = str(REFERENCE / "cost-step"), str(REFERENCE / "regime_spirals")
    done = CliRunner().invoke(main, ["tables", sweep, runs])
    assert done.exit_code == 2
    assert "no cost sweep, as the others are" in done.output
    for folder in (sweep, runs):
        assert CliRunner().invoke(main, ["tables", folder, folder]).exit_code == 0


def test_plots_says_where_there_is_nothing_to_draw(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["plots", str(REFERENCE / "precision"), "--out", str(tmp_path)])
    assert (done.exit_code, done.output) == (0, "nothing to draw: the tables say what there is\n")


_TOLD = [
    ("sfrik_l3", "dual", 8192, 1024),
    ("auh", "dual", 8192, 1024),
    ("simclr", "rowwise", 8192, 1024),
    ("vicreg", "dual", 8192, 1024),
    ("barlow_twins", "dual", 8192, 1024),
    ("sfrik_l2", "primal", 512, 8192),
]


# Time over the textbook form's at least, extra memory over the bytes of the two embeddings at most.
@pytest.mark.parametrize(
    ("method", "form", "dim", "count", "time", "memory"),
    [
        ("sfrik_l3", "dual", 8192, 1024, 1.9, 2.0),
        ("auh", "dual", 8192, 1024, 1.9, 2.0),
        ("simclr", "rowwise", 8192, 1024, 2.0, 2.0),
        ("vicreg", "dual", 8192, 1024, 16.0, 2.0),
        ("barlow_twins", "dual", 8192, 1024, 7.0, 2.0),
        ("sfrik_l2", "primal", 512, 8192, 5.0, 1.5),
    ],
)
def test_the_claimed_ratios(method: str, form: str, dim: int, count: int, time: float, memory: float) -> None:
    row = _cell("cost-cpu", method, form, dim, count).row()
    assert row["time_ratio"] >= time
    assert row["peak_bytes"] <= memory * row["input_bytes"]


def test_the_page_tells_what_the_records_hold() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for method, form, dim, count in _TOLD:
        cell = _cell("cost-cpu", method, form, dim, count)
        row = cell.row()
        told = [
            *(cell.title, form, str(count), str(dim)),
            *(f"{1e3 * row[name]:.0f} ms" for name in ("seconds", "reference_seconds")),
            f"{row['time_ratio']:.1f}x",
            *(f"{row[name] / 2**20:.0f} MiB" for name in ("peak_bytes", "reference_peak_bytes")),
            f"{row['peak_bytes'] / row['input_bytes']:.2f}x",
        ]
        assert f"| {' | '.join(told)} |" in page


def test_a_large_batch_needs_little_beyond_its_embeddings() -> None:
    row = _cell("cost-cpu", "sfrik_l3", "dual", 1024, 16384).row()
    assert row["peak_bytes"] <= 2 * 2**30


@pytest.mark.parametrize(("method", "dim", "time"), [("sfrik_l3", 2048, 1.0), ("vicreg", 8192, 1.5)])
def test_a_whole_step_is_faster_than_one_written_plainly(method: str, dim: int, time: float) -> None:
    rows = [cell.row() for cell in cells_in(REFERENCE / "cost-step")]
    told = {
        row["network"].endswith("compiled"): row["time_ratio"]
        for row in rows
        if (row["method"], row["embedding_dim"]) == (method, dim)
    }
    assert told[False] >= time
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert all(f"{ratio:.2f} times" in page for ratio in told.values())


def test_no_peer_is_as_fast_or_as_small() -> None:
    cells = cells_in(REFERENCE / "cost-peers")
    assert {cell.method for cell in cells} == {"simclr", "vicreg", "barlow_twins"}
    for row in (cell.row() for cell in cells):
        assert row["lightly_seconds"] > row["seconds"]
        assert row["lightly_peak_bytes"] > row["peak_bytes"]
        if row["embedding_dim"] == 8192:
            assert f"{row['lightly_seconds'] / row['seconds']:.1f}" in PAGE.read_text(encoding="utf-8")


def test_no_test_of_the_family_is_slower_than_as_published_or_in_lightly() -> None:
    rows = {cell.method: cell.row() for cell in cells_in(REFERENCE / "cost-family") if cell.reference}
    assert {*rows} >= {"sigreg", "susreg", "dcl", "frossl", "wasserstein", "vne", "mmcr", "zonal_mmd", "zonal_kl"}
    for row in rows.values():
        assert (row["batch_size"], row["clock"], row["threads"]) == (1024, "cpu", 1)
        assert row["time_ratio"] > 1
        assert row.get("lightly_seconds", row["seconds"]) >= row["seconds"]
    assert rows["sigreg"]["time_ratio"] > 5
    assert (
        min(rows["sigreg"][f"{other}_peak_bytes"] for other in ("reference", "lightly"))
        > 5 * rows["sigreg"]["peak_bytes"]
    )


@given(st.floats(300, 8000), st.floats(0.2, 2))
def test_lines_that_are_powers_cross_where_they_are_equal(count: float, power: float) -> None:
    at = pd.Series([256.0, 1024, 4096, 8192], [256, 1024, 4096, 8192])
    line, other = 3.0 * (at / count) ** power, 3.0 * (at / count) ** 0.1
    assert crossing(line, other) == pytest.approx(count)
    assert crossing(other, line) is None


def test_a_streamed_fit_takes_time_in_proportion_to_the_rows_and_no_more_memory() -> None:
    cells = cells_in(REFERENCE / "cost-fit")
    streamed = pd.DataFrame([cell.row() for cell in cells if cell.method == "streaming"])
    large = streamed[streamed["batch_size"] >= 16384]
    assert large["batch_size"].max() >= 1_000_000
    assert slope(large["batch_size"], large["seconds"]) == pytest.approx(1.0, abs=0.1)
    assert large["peak_bytes"].max() < 1.01 * large["peak_bytes"].min()
    assert large["peak_rss_bytes"].max() < 2 * 2**30
    exact = next(cell.row() for cell in cells if (cell.method, cell.batch_size) == ("exact", 10_000))
    assert exact["seconds"] < 120
    assert exact["peak_rss_bytes"] < 3e9


_COSTS = {
    "sfrik_l2": lambda count, dim: kernel_costs(count, dim, 1, primal=True),
    "vicreg": lambda count, dim: covariance_costs(count, dim, 1),
    "barlow_twins": lambda count, dim: correlation_costs(count, dim, 1),
}


def test_the_cost_model_chooses_the_faster_form_or_one_nearly_as_fast() -> None:
    seconds = {
        (cell.method, cell.batch_size, cell.embedding_dim, cell.form): cell.measured.seconds.median
        for cell in cells_in(REFERENCE / "cost-forms")
        if cell.measured
    }
    shapes = {key[:3] for key in seconds}
    assert len(shapes) == 24
    for method, count, dim in shapes:
        chosen = choose_form("auto", _COSTS[method](count, dim))
        other = "primal" if chosen == "dual" else "dual"
        assert seconds[method, count, dim, chosen] <= 1.1 * seconds[method, count, dim, other], (method, count, dim)


def test_every_precision_keeps_the_gradient_within_a_per_cent() -> None:
    cells = cells_in(REFERENCE / "precision")
    assert {cell.precision for cell in cells} == {"fp32", "bf16", "fp16"}
    assert len({(cell.method, cell.batch_size, cell.embedding_dim) for cell in cells}) == 6 * 7
    large = cells_in(REFERENCE / "precision-large")
    assert {(cell.method, cell.precision, cell.embedding_dim) for cell in large} == {
        (cell.method, cell.precision, dim) for cell in cells for dim in (8192, 32768)
    }
    assert max(cell.gradient_error or 1.0 for cell in [*cells, *large]) < LARGEST_ERROR


@pytest.mark.parametrize(("count", "warned"), [(16, True), (64, False)])
def test_a_run_beyond_that_is_warned_of(count: int, warned: bool) -> None:
    asked = {"method": "barlow_twins", "precision": "bf16", "embedding_dim": 4096, "batch_size": count}
    error = losses.errors(Cell(scope="errors", **asked), torch.device("cpu"))["gradient_error"]
    assert (error > LARGEST_ERROR) == warned
    network = load_suite("cifar10", [f"{name}={value}" for name, value in asked.items()]).cells[0].run.network
    assert isinstance(network, Trained)
    assert (doubt(network) is not None) == warned
    assert doubt(network.model_copy(update={"precision": "fp16"})) is None
