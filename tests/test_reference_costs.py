"""What the committed cost sweeps show: the claims of methods/README.md, and that the cost model chooses well."""

from __future__ import annotations

import re
import shlex
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from benchmark.cli import main
from benchmark.cost import losses
from benchmark.cost.cli import cost
from benchmark.cost.sweep import Cell, cells
from benchmark.networks.trained import LARGEST_ERROR, Trained, doubt
from benchmark.suite.expand import load_suite
from methods.engine.forms import choose_form, correlation_costs, covariance_costs, kernel_costs
from results.cell import CostCell, cells_in, render
from results.cell_plots import crossing, slope, times_over_rows

ROOT = Path(__file__).parents[1]
PAGE, REFERENCE = ROOT / "methods" / "README.md", ROOT / "results" / "reference"
EPOCHS = cells_in(REFERENCE / "cost-epoch")
SWEEPS = (
    *("cost-cifar10_small", "cost-cpu", "cost-epoch", "cost-family", "cost-fit", "cost-forms", "cost-infomax"),
    *("cost-probe", "cost-step", "cost-views", "precision", "precision-large"),
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


def test_a_small_networks_step_is_faster_than_one_written_plainly() -> None:
    cells = cells_in(REFERENCE / "cost-cifar10_small")
    assert {(cell.method, cell.embedding_dim) for cell in cells} == set(
        product(load_suite("cifar10_small").protocol["methods"], (64, 256, 1024, 4096))
    )
    ratios = {(cell.method, cell.embedding_dim): cell.row()["time_ratio"] for cell in cells}
    small = [ratio for (_, dim), ratio in ratios.items() if dim < 4096]
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert f"goes {min(small):.2f} to {max(small):.2f} times as fast" in page
    vicreg, barlow_twins = ratios["vicreg", 4096], ratios["barlow_twins", 4096]
    assert f"with VICReg {vicreg:.2f} and Barlow Twins {barlow_twins:.2f} times" in page
    assert min(ratios.values()) > 1


FAMILY = cells_in(REFERENCE / "cost-family")
INFOMAX = cells_in(REFERENCE / "cost-infomax")
_COMPARED = {(cell.method, cell.embedding_dim): cell for cell in (*FAMILY, *INFOMAX) if cell.reference_status}
_TESTS = ("sigreg", "susreg", "visreg", "zonal_mmd", "zonal_ksd", "zonal_kl")
_OTHERS = ("frossl", "wasserstein", "vne", "mmcr", "auh", "simclr", "dcl", "vicreg", "barlow_twins")


def family_table() -> str:
    """Of the page: times, and the textbook form's and lightly's over them, at two D."""
    head = [f"Time, D = {dim} | Textbook | lightly | Memory, textbook" for dim in (256, 8192)]
    lines = [f"| Method | {' | '.join(head)} |", "|:--|" + 8 * "--:|"]
    for method in (*_TESTS, *_OTHERS):
        told = [_COMPARED[method, 256].title]
        for row in (_COMPARED[method, dim].row() for dim in (256, 8192)):
            peer = row.get("lightly_seconds")
            time, memory = (f"{row[name]:.2f}x" if row[name] else "" for name in ("time_ratio", "memory_ratio"))
            told += [f"{1e3 * row['seconds']:.0f} ms", time or row["reference_status"]]
            told += [f"{peer / row['seconds']:.2f}x" if peer else "", memory]
        lines.append(f"| {' | '.join(told)} |")
    return "\n".join(lines)


def dimensions_table() -> str:
    """Of the page: VICReg and Barlow Twins over D, the textbook form's time over theirs, and their part in products."""
    dims = sorted(dim for method, dim in _COMPARED if method == "vicreg")
    lines = [f"| D | {' | '.join(map(str, dims))} |", "|:--|" + len(dims) * "--:|"]
    for method in ("vicreg", "barlow_twins"):
        rows = [_COMPARED[method, dim].row() for dim in dims]
        title = _COMPARED[method, 256].title
        told = {title: [f"{row['time_ratio']:.2f}x" for row in rows]}
        told[f"{title}, in products"] = [f"{100 * row['rate_fraction']:.0f} %" for row in rows]
        lines += [f"| {name} | {' | '.join(values)} |" for name, values in told.items()]
    return "\n".join(lines)


def test_the_page_shows_the_familys_costs() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, table in (("family", family_table()), ("dimensions", dimensions_table())):
        assert f"<!-- {name} -->\n{table}\n<!-- end -->" in page


def test_no_test_of_the_family_is_slower_than_as_published_or_in_lightly() -> None:
    for (method, dim), cell in _COMPARED.items():
        row = cell.row()
        assert (row["batch_size"], row["clock"], row["threads"]) == (1024, "cpu", 1)
        assert (row["time_ratio"] or 1) >= 0.995, (method, dim)
        assert row.get("lightly_seconds", row["seconds"]) >= 0.995 * row["seconds"], (method, dim)
        if (method, dim) not in {("auh", 256), ("vicreg", 64)}:  # as the page says
            assert row.get("lightly_peak_bytes", row["peak_bytes"]) >= 0.99 * row["peak_bytes"], (method, dim)
    for dim, time in ((256, 6.0), (8192, 1.6)):
        row = _COMPARED["sigreg", dim].row()
        assert row["time_ratio"] > time
        assert min(row["reference_peak_bytes"], row["lightly_peak_bytes"]) > 5 * row["peak_bytes"]
    assert _COMPARED["vicreg", 8192].row()["time_ratio"] > 16


def test_slices_overtake_the_dual_form_in_large_batches_and_the_primal_one_at_large_d_alone() -> None:
    dual, primal, sliced = "SFRIK, L = 2, dual", "SFRIK, L = 2, primal", "LeJEPA (SIGReg), sliced"
    small, large = (times_over_rows(FAMILY)[dim] for dim in (256, 8192))
    for lines in (small, large):
        assert 1024 < (crossing(lines[dual], lines[sliced]) or 0) < 8192
    assert (small[primal] < small[sliced]).all()
    assert (large[primal] > large[sliced]).all()


def test_the_pages_commands_make_these_cells() -> None:
    made: list[tuple[object, ...]] = []
    for line in re.findall(r"^\$cost (.*)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE):
        asked = cost.make_context("cost", shlex.split(line)).params
        axes = {name: asked[name] or (1024,) for name in ("method", "form", "batch_size", "embedding_dim")}
        for cell in cells(axes, {"settings": asked["assignments"], "reference": asked["reference"]})[0]:
            settings = tuple(setting.removeprefix("loss.") for setting in cell.settings)
            made.append((cell.method, cell.batch_size, cell.embedding_dim, settings, cell.reference))
    found = [(*_shape(cell), cell.settings, cell.reference_status is not None) for cell in (*FAMILY, *INFOMAX)]
    assert sorted(made) == sorted(found)


def _shape(cell: CostCell) -> tuple[str, int, int]:
    return cell.method, cell.batch_size, cell.embedding_dim


@given(st.floats(300, 8000), st.floats(0.2, 2))
def test_lines_that_are_powers_cross_where_they_are_equal(count: float, power: float) -> None:
    at = pd.Series([256.0, 1024, 4096, 8192], [256, 1024, 4096, 8192])
    line, other = 3.0 * (at / count) ** power, 3.0 * (at / count) ** 0.1
    assert crossing(line, other) == pytest.approx(count)
    assert crossing(other, line) is None


def test_a_streamed_fit_takes_time_in_proportion_to_the_rows_and_no_more_memory() -> None:
    cells = cells_in(REFERENCE / "cost-fit")
    streamed = pd.DataFrame([cell.row() for cell in cells if cell.method == "streaming"])
    large = streamed[streamed["batch_size"] >= 65_536]  # below, solving for the landmarks is most of it
    assert large["batch_size"].max() >= 250_000
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
